//! A block: the numbers of a route, of a listener, or of a schedule. One row for each of its numbers.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use daylily_core::connection_end::{ConnectionEnd, NotAccepted};
use daylily_core::process_role::ProcessRole;
use daylily_core::request_outcome::RequestOutcome;
use daylily_core::schedule::RunOutcome;
use serde::{Deserialize, Serialize};

use super::histogram::{SIZE_BUCKETS, TIME_BUCKETS};
use crate::observe::request_id::RequestId;

/// A field of a block: one number, or an array of numbers such as the buckets of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(super) name: &'static str,
    pub(super) at: usize,
    pub(super) len: usize,
}

/// Classes of statuses: 0 for none, which no client received, then 1xx to 5xx.
pub(crate) const CLASSES: usize = 6;

/// A histogram has its buckets, then the sum of its values.
const TIMES: usize = TIME_BUCKETS + 1;
const SIZES: usize = SIZE_BUCKETS + 1;

/// Declares the fields of a block in their order. A row is `NAME: length`.
macro_rules! fields {
    ($($(#[$meta:meta])* $name:ident: $len:expr;)+) => {
        /// The order of the fields, for their positions.
        #[repr(C)]
        #[allow(non_snake_case, dead_code, reason = "only the positions of its fields are used")]
        struct Layout {
            $($name: [u64; $len],)+
        }

        /// The fields of a block.
        pub(crate) mod fields {
            use super::*;

            $($(#[$meta])* pub(crate) const $name: Field =
                Field { name: stringify!($name), at: std::mem::offset_of!(Layout, $name) / 8, len: $len };)+
        }

        /// All fields that are sums.
        pub(super) const FIELDS: &[Field] = &[$(fields::$name,)+];
    };
}

fields! {
    /// Requests that have this route. In the block of requests without a route: all.
    BEGUN: 1;
    /// Requests that have got a route and are counted in its block from then on.
    ROUTED: 1;
    /// Requests whose guest has begun.
    ADMITTED: 1;
    /// Requests that have ended and whose guest had not begun.
    NEVER_ADMITTED: 1;
    /// Requests whose whole response went to the connection, and those of them that have ended.
    DELIVERED: 1;
    DELIVERED_ENDED: 1;
    /// Requests that have ended, by the number of their outcome.
    OUTCOMES: RequestOutcome::ALL.len();
    /// The same by the class of their status.
    STATUSES: CLASSES;
    BYTES_IN: 1;
    BYTES_OUT: 1;
    OUTGOING: 1;
    OUTGOING_FAILED: 1;
    OUTGOING_NS: 1;
    STORES: 1;
    STORES_FAILED: 1;
    STORES_NS: 1;
    TOTAL: TIMES;
    QUEUED: TIMES;
    INSTANTIATE: TIMES;
    GUEST_CPU: TIMES;
    PEAK_MEMORY: SIZES;
    /// Connections, in the blocks of listeners: those that were accepted, and those that have ended, by the number of
    /// how.
    CONNECTIONS_OPENED: 1;
    CONNECTIONS_ENDED: ConnectionEnd::ALL.len();
    NOT_ACCEPTED: NotAccepted::ALL.len();
    /// Of the whole worker, in the block of requests without a route. CPU time of processes, by the number of their
    /// role.
    CPU_NS: ProcessRole::ALL.len();
    /// Records that were not kept because nothing read the journal fast enough.
    RECORDS_DROPPED: 1;
    /// Lines of the access log that could not be written. The observer writes it.
    LINES_DROPPED: 1;
    /// In the blocks of schedules: runs, and ticks that had none, by the number of their outcome.
    RUNS: RunOutcome::ALL.len();
}

/// Words of a block that are sums.
const SUMS: usize = size_of::<Layout>() / 8;

/// After the sums: the exemplar's duration in nanoseconds, id and time; and the worker's pid, in the first block.
const EXEMPLAR: usize = SUMS;
const PID: usize = SUMS + 4;

/// Words of a block.
pub(super) const WORDS: usize = SUMS + 5;

/// A block in shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a>(pub(super) &'a [AtomicU64; WORDS]);

/// An exemplar: the id and duration of the slowest request of about the last minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exemplar {
    pub(crate) ns: u64,
    pub(crate) id: RequestId,
    pub(crate) unix_us: u64,
}

/// How long an exemplar stays if no slower request comes, in microseconds.
const EXEMPLAR_US: u64 = 60_000_000;

impl<'a> Block<'a> {
    /// Adds to the number `index` of a field. Only one thread may write a field.
    #[inline]
    pub(crate) fn add(self, field: Field, index: usize, count: u64) {
        debug_assert!(index < field.len, "{field:?} has no number {index}");
        if let Some(word) = self.0.get(field.at + index) {
            word.store(word.load(Relaxed).wrapping_add(count), Relaxed);
        }
    }

    /// Sets the number `index` of a field.
    pub(crate) fn set(self, field: Field, index: usize, value: u64) {
        debug_assert!(index < field.len, "{field:?} has no number {index}");
        if let Some(word) = self.0.get(field.at + index) {
            word.store(value, Relaxed);
        }
    }

    pub(crate) fn set_pid(self, pid: u32) {
        self.0[PID].store(pid.into(), Relaxed);
    }

    /// The pid of the worker; 0 before it has begun.
    pub(crate) fn pid(self) -> u32 {
        u32::try_from(self.0[PID].load(Relaxed)).unwrap_or(0)
    }

    /// Keeps a request as the exemplar, if it is slower than the last one, or that one is old.
    #[inline]
    pub(super) fn offer_exemplar(self, ns: u64, id: [u64; 2], unix_us: u64) {
        let [duration, high, low, time] = self.exemplar_words();
        let last = (duration.load(Relaxed), time.load(Relaxed));
        if ns < last.0 && unix_us < last.1.saturating_add(EXEMPLAR_US) {
            return;
        }
        // A reader that sees 0, or another duration afterwards, discards what it has read in between.
        duration.store(0, Relaxed);
        high.store(id[0], Release);
        low.store(id[1], Release);
        time.store(unix_us, Release);
        duration.store(ns, Release);
    }

    pub(crate) fn exemplar(self) -> Option<Exemplar> {
        let [duration, high, low, time] = self.exemplar_words();
        let ns = duration.load(Acquire);
        let id = RequestId::from_words([high.load(Acquire), low.load(Acquire)]);
        let unix_us = time.load(Acquire);
        (ns > 0 && duration.load(Relaxed) == ns).then_some(Exemplar { ns, id, unix_us })
    }

    fn exemplar_words(self) -> [&'a AtomicU64; 4] {
        let words = self.0;
        [&words[EXEMPLAR], &words[EXEMPLAR + 1], &words[EXEMPLAR + 2], &words[EXEMPLAR + 3]]
    }

    /// The sums as they are now. A request that ends meanwhile may be counted in some of them only.
    pub(crate) fn snapshot(self) -> Snapshot {
        // From the last one to the first: a request is counted as begun before it is counted as ended.
        let mut words: Vec<u64> = self.0.iter().take(SUMS).rev().map(|word| word.load(Relaxed)).collect();
        words.reverse();
        Snapshot(words)
    }
}

/// The sums of a block, or of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot(Vec<u64>);

impl Default for Snapshot {
    fn default() -> Self {
        Self(vec![0; SUMS])
    }
}

impl Snapshot {
    pub(crate) fn one(&self, field: Field) -> u64 {
        self.number(field, 0)
    }

    pub(crate) fn number(&self, field: Field, index: usize) -> u64 {
        self.all(field).get(index).copied().unwrap_or(0)
    }

    /// All numbers of a field; of a histogram, its buckets and the sum of its values.
    pub(crate) fn all(&self, field: Field) -> &[u64] {
        self.0.get(field.at..field.at + field.len).unwrap_or_default()
    }

    pub(super) fn add_to(&mut self, field: Field, index: usize, count: u64) {
        if let Some(word) = self.0.get_mut(field.at + index) {
            *word = word.saturating_add(count);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word = word.saturating_add(*other);
        }
    }

    /// What was counted since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(word, before)| word.saturating_sub(*before)).collect())
    }

    /// The sum of all numbers of a field.
    fn total(&self, field: Field) -> u64 {
        self.all(field).iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(crate) fn in_progress(&self) -> u64 {
        self.one(fields::BEGUN).saturating_sub(self.one(fields::ROUTED)).saturating_sub(self.total(fields::OUTCOMES))
    }

    /// Requests in progress that wait for a permit.
    pub(crate) fn queued(&self) -> u64 {
        let came = self.one(fields::BEGUN).saturating_sub(self.one(fields::ROUTED));
        came.saturating_sub(self.one(fields::ADMITTED)).saturating_sub(self.one(fields::NEVER_ADMITTED))
    }

    pub(crate) fn connections_open(&self) -> u64 {
        self.one(fields::CONNECTIONS_OPENED).saturating_sub(self.total(fields::CONNECTIONS_ENDED))
    }

    /// The sums once the worker has ended: its connections and its requests in progress are lost, except requests whose
    /// response was complete.
    pub(crate) fn at_death(mut self) -> Self {
        let open = self.in_progress();
        let delivered = self.one(fields::DELIVERED).saturating_sub(self.one(fields::DELIVERED_ENDED)).min(open);
        self.add_to(fields::OUTCOMES, usize::from(RequestOutcome::Ok.number()), delivered);
        self.add_to(fields::OUTCOMES, usize::from(RequestOutcome::Lost.number()), open - delivered);
        self.add_to(fields::DELIVERED_ENDED, 0, delivered);
        self.add_to(fields::STATUSES, 0, open);
        let queued = self.queued();
        self.add_to(fields::NEVER_ADMITTED, 0, queued);
        let connections = self.connections_open();
        self.add_to(fields::CONNECTIONS_ENDED, usize::from(ConnectionEnd::Lost.number()), connections);
        self
    }

    /// What is not 0, with names that other versions know: `FIELD`, or `FIELD.NUMBER`, or `FIELD.WORD`.
    pub(super) fn to_named(&self) -> BTreeMap<String, u64> {
        let mut named = BTreeMap::new();
        for field in FIELDS {
            for (index, &count) in self.all(*field).iter().enumerate().filter(|(_, count)| **count > 0) {
                named.insert(field.number_name(index), count);
            }
        }
        named
    }

    /// The counterpart of [`Self::to_named`]. Names that this version does not know are left out.
    pub(super) fn from_named(named: &BTreeMap<String, u64>) -> Self {
        let mut snapshot = Self::default();
        for field in FIELDS {
            for index in 0..field.len {
                snapshot.add_to(*field, index, named.get(&field.number_name(index)).copied().unwrap_or(0));
            }
        }
        snapshot
    }
}

impl Field {
    fn number_name(self, index: usize) -> String {
        let name = self.name.to_ascii_lowercase();
        let number = u8::try_from(index).unwrap_or(u8::MAX);
        let word = match self {
            fields::OUTCOMES => RequestOutcome::from_number(number).map(RequestOutcome::as_str),
            fields::CONNECTIONS_ENDED => ConnectionEnd::from_number(number).map(ConnectionEnd::as_str),
            fields::CPU_NS => ProcessRole::from_number(number).map(ProcessRole::as_str),
            fields::RUNS => RunOutcome::from_number(number).map(RunOutcome::as_str),
            fields::NOT_ACCEPTED => NotAccepted::from_number(number).map(NotAccepted::as_str),
            _ if self.len == 1 => return name,
            _ => None,
        };
        word.map_or_else(|| format!("{name}.{index}"), |word| format!("{name}.{word}"))
    }
}
