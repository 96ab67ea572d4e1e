//! How many outgoing requests an instance has open, and how far the instance is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// An instance that makes outgoing requests. Dropped with it.
pub(super) struct Instance {
    open: Arc<AtomicU32>,
    /// Whether the guest has returned. Dropped with the instance.
    returned: watch::Sender<bool>,
    /// The tasks that see bodies of requests to their end.
    uploads: TaskTracker,
}

impl Instance {
    pub(super) fn new() -> Self {
        Self { open: Arc::default(), returned: watch::Sender::new(false), uploads: TaskTracker::new() }
    }

    /// How many are taken.
    pub(super) fn count(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes one of the instance's slots, unless `max_open` are taken.
    pub(super) fn open(&self, max_open: u32) -> Option<Arc<Slot>> {
        let taken = self.open.fetch_add(1, Ordering::Relaxed);
        // Gives itself back if it is one too many.
        let slot = Slot {
            open: Arc::clone(&self.open),
            alive: Alive(self.returned.subscribe()),
            uploads: self.uploads.clone(),
        };
        (taken < max_open).then(|| Arc::new(slot))
    }

    /// The guest has returned: what is still to be sent is sent without it, or not at all. Resolves when all of that
    /// has ended. Cancel safe.
    pub(super) fn finish_uploads(&self) -> impl Future<Output = ()> + Send + use<> {
        self.returned.send_replace(true);
        self.uploads.close();
        let uploads = self.uploads.clone();
        async move { uploads.wait().await }
    }
}

/// One open outgoing request: held by its request body and its response body, given back when both
/// are done with.
pub(super) struct Slot {
    open: Arc<AtomicU32>,
    alive: Alive,
    uploads: TaskTracker,
}

impl Slot {
    /// The instance that made this request.
    pub(super) fn instance(&self) -> &Alive {
        &self.alive
    }

    /// Runs `upload` to its end; the instance is kept for as long.
    pub(super) fn spawn_upload(&self, upload: impl Future<Output = ()> + Send + 'static) {
        self.uploads.spawn(upload);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an instance still is. What ends after it was cut off, not finished.
#[derive(Clone)]
pub(super) struct Alive(watch::Receiver<bool>);

impl Alive {
    pub(super) fn is_gone(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Whether the guest has returned: it writes no more.
    pub(super) fn has_returned(&self) -> bool {
        *self.0.borrow() || self.is_gone()
    }

    /// Waits until the guest has returned, or was ended.
    pub(super) async fn returned(mut self) {
        let _ = self.0.wait_for(|returned| *returned).await;
    }

    /// Waits for the instance's end.
    pub(super) async fn gone(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
