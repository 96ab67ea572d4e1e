//! How many outgoing requests an instance has open, and whether there still is an instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

/// An instance that makes outgoing requests. Dropped with it.
pub(super) struct Instance {
    open: Arc<AtomicU32>,
    /// Carries no value: that it is there says that the instance is.
    alive: watch::Sender<()>,
}

impl Instance {
    pub(super) fn new() -> Self {
        Self { open: Arc::default(), alive: watch::Sender::new(()) }
    }

    /// How many are taken.
    pub(super) fn count(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes one of the instance's slots, unless `max_open` are taken.
    pub(super) fn open(&self, max_open: u32) -> Option<Arc<Slot>> {
        let taken = self.open.fetch_add(1, Ordering::Relaxed);
        // Gives itself back if it is one too many.
        let slot = Slot { open: Arc::clone(&self.open), alive: Alive(self.alive.subscribe()) };
        (taken < max_open).then(|| Arc::new(slot))
    }
}

/// One open outgoing request: held by its request body and its response body, given back when both
/// are done with.
pub(super) struct Slot {
    open: Arc<AtomicU32>,
    alive: Alive,
}

impl Slot {
    /// The instance that made this request.
    pub(super) fn instance(&self) -> &Alive {
        &self.alive
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an instance still is. What ends after it was cut off, not finished.
#[derive(Clone)]
pub(super) struct Alive(watch::Receiver<()>);

impl Alive {
    pub(super) fn is_gone(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits for the instance's end.
    pub(super) async fn gone(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
