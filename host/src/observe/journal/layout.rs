//! Where things are in a journal: a page of positions, the requests in progress, the ring of finished records.
//!
//! All of it is 64-bit words, which one process writes and another reads.

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use rustix::process::{Resource, getrlimit};

use crate::sys::sealed::shared;
use crate::sys::shared_words::SharedWords;

/// The words of the first page. Each position has a cache line of its own, because two processes write them.
pub(super) const WRITTEN: usize = 0;
pub(super) const READ: usize = 8;
pub(super) const DROPPED: usize = 16;
pub(super) const TOLD_DROPPED: usize = 24;
const HEADER_WORDS: usize = 512;

/// The longest record: 1 KiB.
pub(super) const RECORD_WORDS: usize = 128;

/// The size of a journal. Its pages are used only once something was written to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Requests in progress that have a place. Further ones have a record without texts, and none if the worker dies.
    pub(super) places: usize,
    /// A power of two.
    pub(super) ring_words: usize,
}

impl Size {
    /// A record of an ordinary request takes about 250 bytes, so the 16 MiB of this ring are over a second at 50,000
    /// requests per second.
    pub(super) const FULL: Self = Self { places: 8_192, ring_words: 2 << 20 };

    /// The sizes, of which the largest within the limit of file sizes (`ulimit -f`) is used.
    const ALL: [Self; 4] = [
        Self::FULL,
        Self { places: 1_024, ring_words: 128 << 10 },
        Self { places: 128, ring_words: 16 << 10 },
        Self { places: 16, ring_words: 2 << 10 },
    ];

    const fn words(self) -> usize {
        HEADER_WORDS + self.places * RECORD_WORDS + self.ring_words
    }

    const fn bytes(self) -> usize {
        self.words() * 8
    }

    /// The byte of the file that a place begins at.
    pub(super) const fn place_at(self, index: usize) -> u64 {
        ((HEADER_WORDS + index * RECORD_WORDS) * 8) as u64
    }

    /// The places with a byte in a part of the file.
    pub(super) fn places_within(self, bytes: &Range<u64>) -> Range<usize> {
        let place = |byte: u64| {
            let words = usize::try_from(byte / 8).unwrap_or(usize::MAX).saturating_sub(HEADER_WORDS);
            (words / RECORD_WORDS).min(self.places)
        };
        place(bytes.start)..place(bytes.end.saturating_add(RECORD_WORDS as u64 * 8 - 1))
    }
}

/// A file for the journal of one worker.
///
/// # Errors
///
/// When shared memory cannot be created.
pub(crate) fn create() -> io::Result<OwnedFd> {
    let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    let [.., smallest] = Size::ALL;
    let size = Size::ALL.into_iter().find(|size| size.bytes() as u64 <= limit).unwrap_or(smallest);
    shared("daylily-journal", size.bytes() as u64)
}

/// A journal in the memory of this process. Dropping it unmaps it.
pub(super) struct Mapping {
    words: SharedWords,
    pub(super) size: Size,
}

impl Mapping {
    /// # Errors
    ///
    /// When the file is no journal, or mmap(2) fails.
    pub(super) fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        let words = SharedWords::map(file)?;
        let size = Size::ALL.into_iter().find(|size| size.words() == words.all().len());
        let size = size.ok_or_else(|| io::Error::other("the file has no size of a journal"))?;
        Ok(Self { words, size })
    }

    #[inline]
    fn all(&self) -> &[AtomicU64] {
        self.words.all()
    }

    /// One of the positions of the first page.
    #[inline]
    pub(super) fn position(&self, at: usize) -> &AtomicU64 {
        #[expect(clippy::indexing_slicing, reason = "constants below the size of the page")]
        &self.all()[at]
    }

    /// The record of a request in progress. `index` is below the number of places.
    #[inline]
    pub(super) fn place(&self, index: usize) -> &[AtomicU64] {
        let start = HEADER_WORDS + index * RECORD_WORDS;
        self.all().get(start..start + RECORD_WORDS).unwrap_or_default()
    }

    /// The word of the ring at a position, which counts on beyond the end of the ring.
    #[inline]
    pub(super) fn ring(&self, position: u64) -> &AtomicU64 {
        #[expect(clippy::cast_possible_truncation, reason = "the ring's size is a power of two")]
        let at = position as usize & (self.size.ring_words - 1);
        #[expect(clippy::indexing_slicing, reason = "`at` is below the ring's size")]
        &self.all()[HEADER_WORDS + self.size.places * RECORD_WORDS + at]
    }
}

const _: () = {
    let mut at = 0;
    while at < Size::ALL.len() {
        #[expect(clippy::indexing_slicing, reason = "within its length")]
        let size = Size::ALL[at];
        assert!(size.ring_words.is_power_of_two() && size.ring_words > 8 * RECORD_WORDS && size.places <= 1 << 16);
        at += 1;
    }
};
