//! Whose turn it is to burn CPU.
//!
//! A guest that has used up its first slice takes turns with the others that have: one of them runs
//! one slice, then the event loop looks at every socket and runs everything that became ready, then
//! the next one runs a slice. So ten spinning guests delay a small request by about as much as one. Of a
//! component whose calls always take more than that, even the first slice waits for its turn.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::runtime;

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
        runtime::look_at_sockets().await;
        Turn { _permit: permit }
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
    fn a_turn_comes_after_a_look_at_the_sockets_however_often_one_asks() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let taken = runtime.block_on(async {
            let mut turn = pin!(Turns::new().take());
            poll_fn(|cx| {
                for _ in 0..3 {
                    assert!(turn.as_mut().poll(cx).is_pending(), "the event loop did not run in between");
                }
                Poll::Ready(())
            })
            .await;
            tokio::time::timeout(Duration::from_secs(10), turn).await
        });
        assert!(taken.is_ok(), "a turn did not come");
    }
}
