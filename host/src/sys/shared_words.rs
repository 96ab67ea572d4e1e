//! Memory that several processes have mapped, as 64-bit words: one process writes each of them, others read it.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::null_mut;
use std::sync::atomic::AtomicU64;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A file of [`shared`](super::sealed::shared) in the memory of this process. Dropping it unmaps it.
pub(crate) struct SharedWords {
    start: *const AtomicU64,
    len: usize,
}

#[expect(unsafe_code, reason = "there is no other way to share memory between processes")]
// SAFETY: the memory is mapped until the drop, and consists of atomics, which any thread may use.
unsafe impl Send for SharedWords {}

#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps a whole file.
    ///
    /// # Errors
    ///
    /// When the file is empty, or mmap(2) fails.
    pub(crate) fn map(file: BorrowedFd<'_>) -> io::Result<Self> {
        let bytes = usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
        #[expect(unsafe_code, reason = "there is no other way to share memory between processes")]
        // SAFETY: the kernel chooses the address, and the size of the file is sealed.
        let start = unsafe { mmap(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)? };
        Ok(Self { start: start.cast(), len: bytes / size_of::<AtomicU64>() })
    }

    #[inline]
    pub(crate) fn all(&self) -> &[AtomicU64] {
        #[expect(unsafe_code, reason = "there is no other way to share memory between processes")]
        // SAFETY: so many words are mapped at this address, aligned to a page, for as long as `self` lives. Atomics have
        // no invalid value, and may be changed by other processes at any time.
        unsafe {
            std::slice::from_raw_parts(self.start, self.len)
        }
    }
}

/// The next part of a file of [`shared`](super::sealed::shared) from the byte `at` on that was written to; None if there
/// is none. To read another part would allocate its memory.
pub(crate) fn next_written(file: BorrowedFd<'_>, at: u64) -> Option<Range<u64>> {
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return None,
        // Any other file: all of it counts as written.
        Err(_) => return Some(at..u64::MAX),
    };
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(u64::MAX);
    Some(start..end.max(start + 1))
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the counterpart of `mmap`")]
        // SAFETY: mapped in `map`; nothing borrows it any more. The kernel rounds the size up to pages.
        let _ = unsafe { munmap(self.start.cast_mut().cast(), self.len * size_of::<AtomicU64>()) };
    }
}
