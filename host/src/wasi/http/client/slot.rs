//! Counts the open outgoing requests of an instance, and tracks whether the instance is alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// An instance that makes outgoing requests. Dropped with it.
pub(super) struct Instance {
    open: Arc<AtomicU32>,
    /// Whether the guest has returned. Dropped with the instance.
    returned: watch::Sender<bool>,
    /// The tasks that send request bodies.
    uploads: TaskTracker,
}

impl Instance {
    pub(super) fn new() -> Self {
        Self { open: Arc::default(), returned: watch::Sender::new(false), uploads: TaskTracker::new() }
    }

    /// The number of slots in use.
    pub(super) fn count(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes one of the instance's slots, unless `max_open` are in use.
    pub(super) fn open(&self, max_open: u32) -> Option<Arc<OutgoingPermit>> {
        let taken = self.open.fetch_add(1, Ordering::Relaxed);
        // Dropping the slot releases it, also if it exceeds the limit.
        let slot = OutgoingPermit {
            open: Arc::clone(&self.open),
            alive: Alive(self.returned.subscribe()),
            uploads: self.uploads.clone(),
        };
        (taken < max_open).then(|| Arc::new(slot))
    }

    /// To be called when the guest has returned: uploads continue without the guest, or end. Returns a future that
    /// resolves when all have ended; cancel safe.
    pub(super) fn finish_uploads(&self) -> impl Future<Output = ()> + Send + use<> {
        self.returned.send_replace(true);
        self.uploads.close();
        let uploads = self.uploads.clone();
        async move { uploads.wait().await }
    }
}

/// One open outgoing request: held by its request body and its response body, released when both are dropped.
pub(super) struct OutgoingPermit {
    open: Arc<AtomicU32>,
    alive: Alive,
    uploads: TaskTracker,
}

impl OutgoingPermit {
    /// The instance that made this request.
    pub(super) fn instance(&self) -> &Alive {
        &self.alive
    }

    /// Spawns `upload`, during which the instance is kept.
    pub(super) fn spawn_upload(&self, upload: impl Future<Output = ()> + Send + 'static) {
        self.uploads.spawn(upload);
    }
}

impl Drop for OutgoingPermit {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an instance is alive. A body that ends after the instance was cut off, not finished.
#[derive(Clone)]
pub(crate) struct Alive(watch::Receiver<bool>);

impl Alive {
    pub(crate) fn is_gone(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Whether the guest has returned, and so writes nothing more.
    pub(super) fn has_returned(&self) -> bool {
        *self.0.borrow() || self.is_gone()
    }

    /// Waits until the guest has returned, or the instance was dropped.
    pub(super) async fn returned(mut self) {
        let _ = self.0.wait_for(|returned| *returned).await;
    }

    /// Waits until the instance is dropped.
    pub(crate) async fn gone(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
