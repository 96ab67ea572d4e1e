//! A worker's side of its journal: the places of its requests in progress, and the ring of those that have ended.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex};

use super::layout::{DROPPED, Mapping, READ, RECORD_WORDS, WRITTEN};
use super::record::{HEAD, MAX_FIELD_BYTES, Numbers, PlaceWriter, Text, finished};
use crate::sys::lock::lock;

/// When the ring is empty and more than this was written since its start, writing begins at its start again. So while
/// the reader keeps up, most pages of the ring are never used.
const FRESH_WORDS: u64 = 64 << 10;

/// The journal that a worker writes. Only the thread that serves requests uses it.
pub(crate) struct Journal {
    mapping: Mapping,
    /// Places that no request has. The last one was used most recently, and is in the processor's cache.
    free: Mutex<Vec<u16>>,
}

/// The place of one request in progress.
pub(crate) struct Place {
    journal: Arc<Journal>,
    /// None for a request beyond the number of places.
    index: Option<u16>,
    /// Words of its record so far.
    used: usize,
}

/// A text of a record, and how many bytes of it are kept at most.
pub(crate) struct TextOf<'a> {
    pub(crate) kind: u8,
    pub(crate) bytes: &'a [u8],
    pub(crate) max_bytes: usize,
}

impl<'a> TextOf<'a> {
    pub(crate) fn new(text: Text, bytes: &'a [u8], max_bytes: usize) -> Self {
        Self { kind: text as u8, bytes, max_bytes }
    }

    /// The value of a field of the request, by its number in the access log's list.
    pub(crate) fn field(number: u8, bytes: &'a [u8]) -> Self {
        Self { kind: (Text::Field as u8).saturating_add(number), bytes, max_bytes: MAX_FIELD_BYTES }
    }
}

impl Journal {
    /// # Errors
    ///
    /// When the file cannot be mapped.
    pub(crate) fn open(file: BorrowedFd<'_>) -> io::Result<Arc<Self>> {
        let mapping = Mapping::of(file)?;
        let free = (0..mapping.size.places).rev().filter_map(|index| u16::try_from(index).ok()).collect();
        Ok(Arc::new(Self { mapping, free: Mutex::new(free) }))
    }

    /// The place for a request that begins. If the worker is killed from here on, the record survives.
    pub(crate) fn begin<'a>(self: &Arc<Self>, numbers: &Numbers, texts: impl IntoIterator<Item = TextOf<'a>>) -> Place {
        let index = lock(&self.free).pop();
        let used = index.map_or(0, |index| {
            let place = self.mapping.place(index.into());
            let mut writer = PlaceWriter::begin(place, numbers);
            let publish = |writer: &PlaceWriter| {
                if let Some(head) = place.get(HEAD) {
                    head.store(writer.used as u64, Release);
                }
            };
            publish(&writer);
            for TextOf { kind, bytes, max_bytes } in texts {
                writer.text(place, kind, bytes, max_bytes);
            }
            publish(&writer);
            writer.used
        });
        Place { journal: Arc::clone(self), index, used }
    }

    /// Writes the record of a request that had no place. Returns whether there was room for it.
    pub(crate) fn write(&self, numbers: &Numbers) -> bool {
        let (words, record) = finished(numbers, &[], 0);
        self.push(words, record)
    }

    /// Appends a record to the ring, or counts it as dropped when there is no room.
    fn push(&self, words: usize, record: impl Iterator<Item = u64>) -> bool {
        let mapping = &self.mapping;
        let ring_words = mapping.size.ring_words as u64;
        let written = mapping.position(WRITTEN);
        let (mut at, read) = (written.load(Relaxed), mapping.position(READ).load(Acquire));
        let past_start = at & (ring_words - 1);
        if read == at && past_start > FRESH_WORDS {
            // A length of 0 sends the reader to the start of the ring.
            mapping.ring(at).store(0, Relaxed);
            at += ring_words - past_start;
        }
        let end = at + words as u64;
        if end.saturating_sub(read) > ring_words {
            let dropped = mapping.position(DROPPED);
            dropped.store(dropped.load(Relaxed) + 1, Relaxed);
            return false;
        }
        for (position, word) in (at..).zip(record) {
            mapping.ring(position).store(word, Relaxed);
        }
        written.store(end, Release);
        true
    }
}

impl Place {
    /// Writes what is known by now, for the case that the worker dies.
    pub(crate) fn note_progress(&self, numbers: &Numbers) {
        let Some(index) = self.index else { return };
        PlaceWriter::note_progress(self.journal.mapping.place(index.into()), numbers);
    }

    /// Ends the request. Its record goes to the ring if `is_logged`. Returns whether there was room for it.
    pub(crate) fn end(&self, numbers: &Numbers, is_logged: bool) -> bool {
        let place = self.index.map_or(&[][..], |index| self.journal.mapping.place(index.into()));
        let was_kept = !is_logged || {
            let (words, record) = finished(numbers, place, self.used);
            self.journal.push(words, record)
        };
        if let (Some(head), Some(index)) = (place.get(HEAD), self.index) {
            head.store(0, Release);
            lock(&self.journal.free).push(index);
        }
        was_kept
    }
}

const _: () = assert!(RECORD_WORDS as u64 * 4 < FRESH_WORDS);
