//! How many requests may be in progress, and how many may wait for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use daylily_core::config::ServerLimits;
use daylily_core::refusal::Refusal;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The server's gate. First come, first served.
pub(crate) struct Admission {
    turns: Arc<Semaphore>,
    waiting: AtomicU32,
    max_waiting: u32,
    max_wait: Duration,
}

/// A route's share of the server's requests in progress; without one, all of them.
#[derive(Clone, Default)]
pub(crate) struct RouteShare(Option<Arc<Semaphore>>);

/// The right of one request to be in progress, until this is dropped.
pub(crate) struct Permit {
    _server: OwnedSemaphorePermit,
    _route: Option<OwnedSemaphorePermit>,
}

/// A place in the queue; gone when dropped, so that cancellation cannot leak it.
struct Place<'a>(&'a AtomicU32);

impl RouteShare {
    pub(crate) fn new(max_concurrency: Option<u32>) -> Self {
        Self(max_concurrency.map(|share| Arc::new(Semaphore::new(share as usize))))
    }
}

impl Admission {
    pub(crate) fn new(limits: &ServerLimits) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(limits.max_concurrency as usize)),
            waiting: AtomicU32::new(0),
            max_waiting: limits.max_queue,
            max_wait: limits.queue_timeout,
        }
    }

    /// Waits for a permit. Cancel safe: dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// `QueueFull` at once, or `QueueTimeout` after the longest wait.
    pub(crate) async fn admit(&self, share: &RouteShare) -> Result<Permit, Refusal> {
        if let Some(permit) = self.try_admit(share) {
            return Ok(permit);
        }
        let _place = self.take_place().ok_or(Refusal::QueueFull)?;
        match tokio::time::timeout(self.max_wait, self.wait(share)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(closed)) => Err(Refusal::Internal { detail: closed.to_string().into() }),
            Err(_elapsed) => Err(Refusal::QueueTimeout),
        }
    }

    fn try_admit(&self, share: &RouteShare) -> Option<Permit> {
        let route = match &share.0 {
            Some(share) => Some(Arc::clone(share).try_acquire_owned().ok()?),
            None => None,
        };
        let server = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        Some(Permit { _server: server, _route: route })
    }

    /// The route's permit first: a route over its share must not hold what others could use.
    async fn wait(&self, share: &RouteShare) -> Result<Permit, AcquireError> {
        let route = match &share.0 {
            Some(share) => Some(Arc::clone(share).acquire_owned().await?),
            None => None,
        };
        let server = Arc::clone(&self.turns).acquire_owned().await?;
        Ok(Permit { _server: server, _route: route })
    }

    fn take_place(&self) -> Option<Place<'_>> {
        let place = Place(&self.waiting);
        let before = self.waiting.fetch_add(1, Relaxed);
        (before < self.max_waiting).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
