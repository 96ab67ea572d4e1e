//! When the allocator gives memory back to the system.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Connections that gave up their buffers since memory was last given back.
static FREED: AtomicU32 = AtomicU32::new(0);

/// From so many on, it is worth the work: a fraction of a millisecond.
const ENOUGH: u32 = 16;

/// A connection has given up its buffers.
pub(crate) fn note_freed() {
    FREED.fetch_add(1, Relaxed);
}

/// Gives memory back to the system when much of it was freed: the allocator does so only while it is asked for
/// more, which nobody does in a process whose clients are all silent.
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
