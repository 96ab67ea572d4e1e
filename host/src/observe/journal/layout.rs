//! Where things are in a journal: a page of positions, the requests in progress, the ring of finished records.
//!
//! All of it is 64-bit words, which one process writes and another reads.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::sys::sealed::shared;

/// The words of the first page. Each position has a cache line of its own, because two processes write them.
pub(super) const WRITTEN: usize = 0;
pub(super) const READ: usize = 8;
pub(super) const DROPPED: usize = 16;
const HEADER_WORDS: usize = 512;

/// Requests in progress of one worker that have a place. Requests beyond are counted only.
pub(super) const PLACES: usize = 8_192;

/// The longest record: 1 KiB.
pub(super) const RECORD_WORDS: usize = 128;

/// The ring: 16 MiB. A record of an ordinary request takes about 250 bytes, so this is over a second at 50,000 requests
/// per second. Pages are used only once something was written to them.
pub(super) const RING_WORDS: usize = 2 << 20;

const WORDS: usize = HEADER_WORDS + PLACES * RECORD_WORDS + RING_WORDS;
const BYTES: usize = WORDS * 8;

/// A file for the journal of one worker.
///
/// # Errors
///
/// When shared memory cannot be created.
pub(crate) fn create() -> io::Result<OwnedFd> {
    shared("daylily-journal", BYTES as u64)
}

/// A journal in the memory of this process. Dropping it unmaps it.
pub(super) struct Mapping {
    words: *const AtomicU64,
}

#[expect(unsafe_code, reason = "there is no other way to share memory between processes")]
// SAFETY: the memory is mapped until the drop, and consists of atomics, which any thread may use.
unsafe impl Send for Mapping {}

#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// # Errors
    ///
    /// When the file is shorter than a journal, or mmap(2) fails.
    pub(super) fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        if u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0) < BYTES as u64 {
            return Err(io::Error::other("the file is shorter than a journal"));
        }
        #[expect(unsafe_code, reason = "there is no other way to share memory between processes")]
        // SAFETY: the kernel chooses the address, and the size of the file is sealed.
        let start = unsafe { mmap(null_mut(), BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)? };
        Ok(Self { words: start.cast() })
    }

    #[inline]
    fn all(&self) -> &[AtomicU64] {
        #[expect(unsafe_code, reason = "there is no other way to share memory between processes")]
        // SAFETY: `WORDS` words are mapped at this address, aligned to a page, for as long as `self` lives. Atomics have
        // no invalid value, and may be changed by other processes at any time.
        unsafe {
            std::slice::from_raw_parts(self.words, WORDS)
        }
    }

    /// One of the positions of the first page.
    #[inline]
    pub(super) fn position(&self, at: usize) -> &AtomicU64 {
        #[expect(clippy::indexing_slicing, reason = "constants below the size of the page")]
        &self.all()[at]
    }

    /// The record of a request in progress. `index` is below [`PLACES`].
    #[inline]
    pub(super) fn place(&self, index: usize) -> &[AtomicU64] {
        let start = HEADER_WORDS + index * RECORD_WORDS;
        self.all().get(start..start + RECORD_WORDS).unwrap_or_default()
    }

    /// The word of the ring at a position, which counts on beyond the end of the ring.
    #[inline]
    pub(super) fn ring(&self, position: u64) -> &AtomicU64 {
        #[expect(clippy::cast_possible_truncation, reason = "the ring's size is a power of two")]
        let at = position as usize & (RING_WORDS - 1);
        #[expect(clippy::indexing_slicing, reason = "`at` is below the ring's size")]
        &self.all()[HEADER_WORDS + PLACES * RECORD_WORDS + at]
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the counterpart of `mmap`")]
        // SAFETY: mapped in `of` with this size; nothing borrows it any more.
        let _ = unsafe { munmap(self.words.cast_mut().cast(), BYTES) };
    }
}

const _: () = assert!(RING_WORDS.is_power_of_two() && RECORD_WORDS < 1 << 16);
