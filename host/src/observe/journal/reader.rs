//! The observer's side of a worker's journal.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use daylily_core::request_outcome::RequestOutcome;

use super::layout::{DROPPED, Mapping, READ, RECORD_WORDS, WRITTEN};
use super::record::{Entry, HEAD};

/// The journal of one worker.
pub(crate) struct JournalReader {
    mapping: Mapping,
    /// Where the next record is; the shared position follows it once the record has been taken care of.
    at: u64,
    /// The id of the last record that was read.
    last: Option<[u64; 2]>,
    told_dropped: u64,
}

impl JournalReader {
    /// # Errors
    ///
    /// When the file cannot be mapped.
    pub(crate) fn open(file: BorrowedFd<'_>) -> io::Result<Self> {
        let mapping = Mapping::of(file)?;
        let at = mapping.position(READ).load(Relaxed);
        Ok(Self { mapping, at, last: None, told_dropped: 0 })
    }

    /// The next record in the ring, if there is one. A ring that makes no sense is skipped.
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

    /// What was read so far has been taken care of: its room may be used again.
    pub(crate) fn release(&self) {
        self.mapping.position(READ).store(self.at, Release);
    }

    /// Whether the ring is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.mapping.position(WRITTEN).load(Acquire) == self.at
    }

    /// Records that were dropped since the last call, because the ring was full.
    pub(crate) fn dropped(&mut self) -> u64 {
        let dropped = self.mapping.position(DROPPED).load(Relaxed);
        dropped.saturating_sub(std::mem::replace(&mut self.told_dropped, dropped))
    }

    /// The requests that were in progress when the worker died, each once: they are freed.
    pub(crate) fn lost(&self) -> Vec<Entry> {
        let mut lost = Vec::new();
        for index in 0..self.mapping.size.places {
            let place = self.mapping.place(index);
            let words = place.first().map_or(0, |head| head.load(Acquire));
            let Some(place) =
                usize::try_from(words).ok().filter(|words| *words > 0).and_then(|words| place.get(..words))
            else {
                continue;
            };
            let words: Vec<u64> = place.iter().map(|word| word.load(Relaxed)).collect();
            if let Some(mut entry) = Entry::read(&words).filter(|entry| Some(entry.numbers.id) != self.last) {
                entry.numbers.outcome = RequestOutcome::Lost.number();
                entry.numbers.weight_milli = 1_000;
                lost.push(entry);
            }
            if let Some(head) = place.get(HEAD) {
                head.store(0, Release);
            }
        }
        lost
    }
}
