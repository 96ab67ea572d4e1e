//! How many outgoing requests an instance has open, and whether there still is an instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What an instance's outgoing requests share. Made by the first of them.
#[derive(Default)]
pub(super) struct Instance {
    open: AtomicU32,
    gone: AtomicBool,
}

impl Instance {
    /// Takes one of the instance's slots, unless `max_open` are taken.
    pub(super) fn open(self: &Arc<Self>, max_open: u32) -> Option<Arc<Slot>> {
        self.open
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < max_open).then(|| open.saturating_add(1))
            })
            .ok()?;
        Some(Arc::new(Slot(Arc::clone(self))))
    }

    /// Says that the instance is no more: a body that now ends was cut off, not finished.
    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

/// One open outgoing request: held by its request body and its response body, given back when both
/// are done with.
pub(super) struct Slot(Arc<Instance>);

impl Slot {
    /// Whether the instance that made this request is no more.
    pub(super) fn instance_is_gone(&self) -> bool {
        self.0.gone.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
