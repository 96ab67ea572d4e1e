//! A record as words: what a worker writes of a request, and what is read from it.
//!
//! The first words are numbers; then come the texts, each with a word that says which one it is, how many of its bytes
//! follow, and how many it had. The reader does not trust a record, because a worker runs untrusted code.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};

use daylily_core::config::MAX_HEADERS;
use daylily_core::request_outcome::RequestOutcome;

use super::layout::RECORD_WORDS;
use crate::observe::request_id::RequestId;

/// Numbers at the beginning of a record.
const NUMBERS: usize = 22;

/// The word with the record's length and kind; 0 in a free place.
pub(super) const HEAD: usize = 0;

/// The words that change while a request goes.
const PEER: usize = 6;
const END: usize = 7;

/// The words of which some are not 0 when a request begins.
const KNOWN: usize = END + 1;

/// The texts of a record, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Text {
    Method = 1,
    Host = 2,
    Path = 3,
    Query = 4,
    /// The 16 bytes of the trace id of a trusted client.
    Trace = 5,
    /// The `x-request-id` of a trusted client.
    XRequestId = 6,
    /// The name of the schedule that sent the request.
    Schedule = 7,
    /// Values of the request's fields that the access log has been told to name: this number and the following ones.
    Field = 16,
}

/// Most bytes of each text that are kept.
pub(crate) const MAX_METHOD_BYTES: usize = 32;
pub(crate) const MAX_HOST_BYTES: usize = 128;
pub(crate) const MAX_PATH_BYTES: usize = 384;
pub(crate) const MAX_QUERY_BYTES: usize = 128;
pub(crate) const MAX_FIELD_BYTES: usize = 128;
pub(crate) const MAX_SCHEDULE_BYTES: usize = 64;

/// The numbers of a record. Times are in nanoseconds, unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) id: [u64; 2],
    pub(crate) began_unix_us: u64,
    pub(crate) client: [u64; 2],
    pub(crate) client_port: u16,
    /// Whether the client has an address: those of Unix sockets have none.
    pub(crate) has_client: bool,
    /// 10 for HTTP/1.0, 11 for HTTP/1.1, 0 when unknown, or for a request of a schedule.
    pub(crate) protocol: u8,
    pub(crate) status: u16,
    pub(crate) outcome: u8,
    /// How the guest ended, which may be after its response; 255 if none ran to an end.
    pub(crate) guest: u8,
    pub(crate) was_refused_memory: bool,
    /// The whole response went to the connection; the guest may still run.
    pub(crate) is_delivered: bool,
    /// The index of the route, plus one; 0 before the request was routed.
    pub(crate) route: u32,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) queued: u64,
    pub(crate) instantiate: u64,
    pub(crate) guest_cpu: u64,
    pub(crate) guest_wait: u64,
    pub(crate) streaming: u64,
    pub(crate) total: u64,
    pub(crate) peak_memory: u64,
    pub(crate) outgoing: u32,
    pub(crate) outgoing_failed: u32,
    pub(crate) outgoing_time: u64,
    /// Operations on key-value stores, those of them that failed, and their time.
    pub(crate) stores: u32,
    pub(crate) stores_failed: u32,
    pub(crate) stores_time: u64,
    /// How many requests this record stands for, in thousandths.
    pub(crate) weight_milli: u64,
}

impl Numbers {
    fn peer_word(&self) -> u64 {
        let flags =
            u64::from(self.has_client) | u64::from(self.was_refused_memory) << 1 | u64::from(self.is_delivered) << 2;
        u64::from(self.client_port) | u64::from(self.protocol) << 32 | flags << 40
    }

    fn end_word(&self) -> u64 {
        u64::from(self.status)
            | u64::from(self.outcome) << 16
            | u64::from(self.guest) << 24
            | u64::from(self.route) << 32
    }

    fn words(&self) -> [u64; NUMBERS] {
        [
            0,
            self.id[0],
            self.id[1],
            self.began_unix_us,
            self.client[0],
            self.client[1],
            self.peer_word(),
            self.end_word(),
            self.bytes_in,
            self.bytes_out,
            self.queued,
            self.instantiate,
            self.guest_cpu,
            self.guest_wait,
            self.streaming,
            self.total,
            self.peak_memory,
            u64::from(self.outgoing) | u64::from(self.outgoing_failed) << 32,
            self.outgoing_time,
            u64::from(self.stores) | u64::from(self.stores_failed) << 32,
            self.stores_time,
            self.weight_milli,
        ]
    }

    #[expect(clippy::cast_possible_truncation, reason = "the parts of words")]
    fn from_words(words: &[u64; NUMBERS]) -> Self {
        let [_, id0, id1, began_unix_us, client0, client1, peer, end, bytes_in, bytes_out, queued, rest @ ..] = *words;
        let [instantiate, guest_cpu, guest_wait, streaming, total, peak_memory, rest @ ..] = rest;
        let [outgoing, outgoing_time, stores, stores_time, weight_milli] = rest;
        let flags = peer >> 40;
        Self {
            id: [id0, id1],
            began_unix_us,
            client: [client0, client1],
            client_port: peer as u16,
            protocol: (peer >> 32) as u8,
            has_client: flags & 1 != 0,
            was_refused_memory: flags & 2 != 0,
            is_delivered: flags & 4 != 0,
            status: end as u16,
            outcome: (end >> 16) as u8,
            guest: (end >> 24) as u8,
            route: (end >> 32) as u32,
            bytes_in,
            bytes_out,
            queued,
            instantiate,
            guest_cpu,
            guest_wait,
            streaming,
            total,
            peak_memory,
            outgoing: outgoing as u32,
            outgoing_failed: (outgoing >> 32) as u32,
            outgoing_time,
            stores: stores as u32,
            stores_failed: (stores >> 32) as u32,
            stores_time,
            weight_milli,
        }
    }

    pub(crate) fn set_client(&mut self, client: SocketAddr) {
        let address = match client.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let bits = address.to_bits();
        #[expect(clippy::cast_possible_truncation, reason = "halves")]
        let halves = [(bits >> 64) as u64, bits as u64];
        self.client = halves;
        self.client_port = client.port();
        self.has_client = true;
    }

    /// The client's address; an IPv4 address is written as one also on a dual-stack socket.
    pub(crate) fn client(&self) -> Option<SocketAddr> {
        let bits = u128::from(self.client[0]) << 64 | u128::from(self.client[1]);
        self.has_client.then(|| SocketAddr::new(Ipv6Addr::from_bits(bits).to_canonical(), self.client_port))
    }

    pub(crate) fn request_id(&self) -> RequestId {
        RequestId::from_words(self.id)
    }

    /// The outcome; `internal` for a number that no outcome has.
    pub(crate) fn outcome(&self) -> RequestOutcome {
        RequestOutcome::from_number(self.outcome).unwrap_or(RequestOutcome::Internal)
    }
}

/// Writes the texts of a record into its place, while the request goes.
pub(super) struct PlaceWriter {
    /// Words in use.
    pub(super) used: usize,
}

impl PlaceWriter {
    /// Nothing but the numbers that are known at the begin. The others are 0 in all places, always: a request's numbers at
    /// its end go to the ring only.
    pub(super) fn begin(place: &[AtomicU64], numbers: &Numbers) -> Self {
        if let Some(place) = place.first_chunk::<KNOWN>() {
            let words = numbers.words();
            for (word, value) in place.iter().zip(&words) {
                word.store(*value, Relaxed);
            }
        }
        Self { used: NUMBERS }
    }

    /// Writes the numbers that become known while the request goes: its route and status, and whether it was answered.
    pub(super) fn note_progress(place: &[AtomicU64], numbers: &Numbers) {
        if let Some(place) = place.first_chunk::<NUMBERS>() {
            place[END].store(numbers.end_word(), Release);
            place[PEER].store(numbers.peer_word(), Release);
        }
    }

    /// Appends the first `max_bytes` of a text, as far as there is room.
    pub(super) fn text(&mut self, place: &[AtomicU64], kind: u8, text: &[u8], max_bytes: usize) {
        let Some(room) = place.get(self.used..).filter(|room| !room.is_empty()) else { return };
        let most = max_bytes.min((room.len() - 1) * 8);
        let kept = text.get(..most).unwrap_or(text);
        let mut words = room.iter();
        if let Some(head) = words.next() {
            let original = u64::try_from(text.len()).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
            head.store(u64::from(kind) | (kept.len() as u64) << 8 | original << 32, Relaxed);
        }
        self.used += 1;
        let mut pieces = kept.chunks_exact(8);
        for piece in &mut pieces {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(piece);
            if let Some(word) = words.next() {
                word.store(u64::from_le_bytes(bytes), Relaxed);
            }
            self.used += 1;
        }
        let rest = pieces.remainder();
        if let (false, Some(word)) = (rest.is_empty(), words.next()) {
            // Cheaper than a call that copies up to 7 bytes.
            word.store(rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)), Relaxed);
            self.used += 1;
        }
    }
}

/// The words of a finished record: its numbers, then the texts in its place.
pub(super) fn finished<'a>(
    numbers: &Numbers,
    place: &'a [AtomicU64],
    used: usize,
) -> (usize, impl Iterator<Item = u64> + use<'a>) {
    let texts = place.get(NUMBERS..used).unwrap_or_default();
    let words = NUMBERS + texts.len();
    let mut numbers = numbers.words();
    if let Some(head) = numbers.get_mut(HEAD) {
        *head = words as u64;
    }
    (words, numbers.into_iter().chain(texts.iter().map(|word| word.load(Relaxed))))
}

/// A record, as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) numbers: Numbers,
    texts: Vec<(u8, u32, Vec<u8>)>,
}

impl Entry {
    /// Reads a record of so many words. Texts that do not fit into it are left out.
    pub(super) fn read(words: &[u64]) -> Option<Self> {
        let numbers = Numbers::from_words(words.first_chunk()?);
        let mut texts = Vec::new();
        let mut rest = words.get(NUMBERS..)?.iter();
        while let Some(&head) = rest.next() {
            #[expect(clippy::cast_possible_truncation, reason = "the parts of a word")]
            let (kind, len, original) = (head as u8, (head >> 8) as usize & 0xffff, (head >> 32) as u32);
            if kind == 0 || len.div_ceil(8) > rest.len() {
                break;
            }
            let mut bytes: Vec<u8> = rest.by_ref().take(len.div_ceil(8)).flat_map(|word| word.to_le_bytes()).collect();
            bytes.truncate(len);
            texts.push((kind, original, bytes));
        }
        Some(Self { numbers, texts })
    }

    /// A text, and how many bytes it had.
    pub(crate) fn text(&self, text: Text) -> Option<(&[u8], u32)> {
        self.text_of(text as u8)
    }

    /// The value of the request's field with this number in the access log's list.
    pub(crate) fn field(&self, number: usize) -> Option<(&[u8], u32)> {
        self.text_of(u8::try_from(number).ok()?.checked_add(Text::Field as u8)?)
    }

    fn text_of(&self, kind: u8) -> Option<(&[u8], u32)> {
        self.texts.iter().find(|(of, ..)| *of == kind).map(|(_, original, bytes)| (bytes.as_slice(), *original))
    }
}

const _: () = assert!(NUMBERS < RECORD_WORDS && MAX_HEADERS + (Text::Field as usize) < 256);
