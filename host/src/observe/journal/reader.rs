//! The observer's side of a worker's journal.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use daylily_core::request_outcome::RequestOutcome;

use super::layout::{DROPPED, Mapping, READ, RECORD_WORDS, TOLD_DROPPED, WRITTEN};
use super::record::{Entry, HEAD};
use crate::sys::shared_words::next_written;

/// The journal of one worker.
pub(crate) struct JournalReader {
    file: OwnedFd,
    mapping: Mapping,
    /// Where the next record is; the shared position follows it once the record has been taken care of.
    at: u64,
    /// The id of the last record that was read.
    last: Option<[u64; 2]>,
    /// The first place that was not read yet.
    next_place: usize,
    /// The end of the places in memory that were written to, from the one that was read last on.
    written_places: usize,
    /// The places whose records were read and not released.
    read_places: Vec<usize>,
}

impl JournalReader {
    /// # Errors
    ///
    /// When the file cannot be mapped, or the process has no descriptor left.
    pub(crate) fn open(file: BorrowedFd<'_>) -> io::Result<Self> {
        let mapping = Mapping::of(file)?;
        let at = mapping.position(READ).load(Relaxed);
        let (file, read_places) = (file.try_clone_to_owned()?, Vec::new());
        Ok(Self { file, mapping, at, last: None, next_place: 0, written_places: 0, read_places })
    }

    /// The next record in the ring, if there is one. If the ring is invalid, skips what was written so far.
    pub(crate) fn next(&mut self) -> Option<Entry> {
        let written = self.mapping.position(WRITTEN).load(Acquire);
        let ring_words = self.mapping.size.ring_words as u64;
        loop {
            let waiting = written.checked_sub(self.at).filter(|waiting| *waiting <= ring_words);
            match waiting {
                Some(0) => return None,
                Some(waiting) => {
                    let words = self.mapping.ring(self.at).load(Relaxed);
                    if words == 0 {
                        let past_start = self.at & (ring_words - 1);
                        self.at = self.at.saturating_add(ring_words - past_start);
                        continue;
                    }
                    if words <= waiting && words <= RECORD_WORDS as u64 {
                        let record: Vec<u64> =
                            (self.at..self.at + words).map(|at| self.mapping.ring(at).load(Relaxed)).collect();
                        self.at += words;
                        let entry = Entry::read(&record);
                        self.last = entry.as_ref().map(|entry| entry.numbers.id).or(self.last);
                        if entry.is_some() {
                            return entry;
                        }
                        continue;
                    }
                    self.at = written;
                }
                None => self.at = written,
            }
        }
    }

    /// Marks everything that was read so far as done: the worker may overwrite it, and no reader reads it again.
    pub(crate) fn release(&mut self) {
        self.mapping.position(READ).store(self.at, Release);
        for index in self.read_places.drain(..) {
            if let Some(head) = self.mapping.place(index).get(HEAD) {
                head.store(0, Release);
            }
        }
    }

    /// Whether the ring is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.mapping.position(WRITTEN).load(Acquire) == self.at
    }

    /// Records that were dropped since the last call, by this reader or one before it, because the ring was full.
    pub(crate) fn dropped(&mut self) -> u64 {
        let dropped = self.mapping.position(DROPPED).load(Relaxed);
        dropped.saturating_sub(self.mapping.position(TOLD_DROPPED).swap(dropped, Relaxed))
    }

    /// The next request that was in progress when the worker died. To be called when the worker has ended and its ring
    /// was read.
    pub(crate) fn next_lost(&mut self) -> Option<Entry> {
        while let Some(index) = self.next_used_place() {
            let place = self.mapping.place(index);
            self.next_place = index + 1;
            let words = place.first().map_or(0, |head| head.load(Acquire));
            let used = usize::try_from(words).ok().filter(|words| *words > 0).and_then(|words| place.get(..words));
            let Some(used) = used else { continue };
            self.read_places.push(index);
            let words: Vec<u64> = used.iter().map(|word| word.load(Relaxed)).collect();
            // The last record may have been written in the middle of its request's end.
            if let Some(mut entry) = Entry::read(&words).filter(|entry| Some(entry.numbers.id) != self.last) {
                let outcome = if entry.numbers.is_delivered { RequestOutcome::Ok } else { RequestOutcome::Lost };
                entry.numbers.outcome = outcome.number();
                entry.numbers.weight_milli = 1_000;
                return Some(entry);
            }
        }
        None
    }

    /// The next place that may have been used. The others are not read, because that would take memory.
    fn next_used_place(&mut self) -> Option<usize> {
        let size = self.mapping.size;
        if self.next_place < size.places && self.next_place >= self.written_places {
            let written = next_written(self.file.as_fd(), size.place_at(self.next_place));
            let Range { start, end } = written.map_or(size.places..size.places, |written| size.places_within(&written));
            (self.next_place, self.written_places) = (start.max(self.next_place), end);
        }
        Some(self.next_place).filter(|index| *index < size.places)
    }

    /// Whether everything was read, of a worker that has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.is_empty() && self.next_place >= self.mapping.size.places
    }
}
