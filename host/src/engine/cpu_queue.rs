//! The CPU queue.
//!
//! Guests that have used up their first slice take turns: one of them runs for one slice, then the event loop polls
//! every socket and runs everything that became ready, then the next guest runs for a slice. So ten spinning guests
//! delay a small request by about as much as one. If a component's calls always take longer than a first slice, its
//! first slices wait in the queue, too.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sys::runtime;

/// The queue of guests that have used up their first slice: first in, first out.
#[derive(Clone)]
pub(crate) struct CpuQueue(Arc<Semaphore>);

/// The right to run one slice.
pub(crate) struct CpuPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

impl CpuQueue {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Waits in the queue. Cancel safe: dropping the future leaves the queue.
    pub(crate) async fn take(self) -> CpuPermit {
        // The semaphore is never closed. If it were, guests would not wait.
        let permit = self.0.acquire_owned().await.ok();
        runtime::poll_sockets().await;
        CpuPermit { _permit: permit }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_permit_comes_only_after_the_sockets_were_polled() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let taken = runtime.block_on(async {
            let mut permit = pin!(CpuQueue::new().take());
            poll_fn(|cx| {
                for _ in 0..3 {
                    assert!(permit.as_mut().poll(cx).is_pending(), "the event loop did not run in between");
                }
                Poll::Ready(())
            })
            .await;
            tokio::time::timeout(Duration::from_secs(10), permit).await
        });
        assert!(taken.is_ok(), "no permit came");
    }
}
