//! When the allocator gives memory back to the system.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Connections that have released their buffers since memory was last given back.
static FREED: AtomicU32 = AtomicU32::new(0);

/// Releases from which giving memory back is worth its cost, a fraction of a millisecond.
const ENOUGH: u32 = 16;

/// Counts a connection that has released its buffers.
pub(crate) fn note_freed() {
    FREED.fetch_add(1, Relaxed);
}

/// Gives memory back to the system when many connections have released their buffers. The allocator does so only when
/// it is called, and a process whose clients are all idle does not call it.
pub(crate) fn give_back() {
    if FREED.load(Relaxed) < ENOUGH {
        return;
    }
    FREED.store(0, Relaxed);
    #[expect(unsafe_code, reason = "the allocator's own function, which has no safe form")]
    // SAFETY: it may be called at any time, by any thread; it looks only at this thread's memory.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}
