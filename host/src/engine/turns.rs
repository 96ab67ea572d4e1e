//! Whose turn it is to burn CPU.
//!
//! A guest that has used up its first slice takes turns with the others that have: one of them runs
//! one slice, then the event loop looks at every socket and runs everything that became ready, then
//! the next one runs a slice. So ten spinning guests delay a small request by about as much as one. Of a
//! component whose calls always take more than that, even the first slice waits for its turn.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The queue of guests that have used up their first slice. First come, first served.
#[derive(Clone)]
pub(super) struct Turns(Arc<Semaphore>);

/// The right to run one slice.
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Waits for a turn. Cancel safe: dropping the future leaves the queue.
    pub(super) async fn take(self) -> Turn {
        // The semaphore is never closed; were it, turns would be free.
        let permit = self.0.acquire_owned().await.ok();
        // tokio wakes a task that yields only after it has polled for I/O, and behind what that woke.
        tokio::task::yield_now().await;
        Turn { _permit: permit }
    }
}
