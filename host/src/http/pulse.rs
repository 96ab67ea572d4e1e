//! One timer for all requests in progress that periodically check on their clients and deadlines. A timer for each
//! request would cost two system calls and an event-loop turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// How often a running request checks whether its client is still connected. hyper only notices that a client has left
/// while it reads from the connection, which it does not do while a body is unread or pipelined bytes are buffered.
pub(crate) const PERIOD: Duration = Duration::from_millis(25);

/// Wakes all waiting tasks every [`PERIOD`], while [`Pulse::beat`] runs. Cheap to clone; all clones are the same timer.
#[derive(Clone, Default)]
pub(crate) struct Pulse(Arc<Shared>);

#[derive(Default)]
struct Shared {
    beat: Notify,
    /// Number of tasks in [`Pulse::next`].
    waiting: AtomicUsize,
    /// Notified by the first task that waits, to start the timer.
    wanted: Notify,
}

/// Counts a waiting task; dropping it decrements the count.
struct Waiting<'a>(&'a Shared);

impl Pulse {
    /// Runs the timer forever. It does not tick while no task waits.
    pub(crate) async fn beat(self) {
        let shared = &self.0;
        loop {
            if shared.waiting.load(Relaxed) == 0 {
                shared.wanted.notified().await;
            }
            sleep(PERIOD).await;
            shared.beat.notify_waiters();
        }
    }

    /// Resolves at the next tick, or at `deadline` if that is within one [`PERIOD`] of `now`. Cancel safe.
    pub(crate) async fn next(&self, now: Instant, deadline: Instant) {
        if deadline.saturating_duration_since(now) <= PERIOD {
            return sleep_until(deadline).await;
        }
        let _waiting = Waiting::new(&self.0);
        self.0.beat.notified().await;
    }
}

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        if shared.waiting.fetch_add(1, Relaxed) == 0 {
            shared.wanted.notify_one();
        }
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Duration = Duration::from_secs(3600);

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), test).await });
        assert!(ended.is_ok(), "a beat did not come");
    }

    #[test]
    fn beats_for_all_who_wait_and_again_after_a_rest() {
        run(async {
            let pulse = Pulse::default();
            tokio::spawn(pulse.clone().beat());
            let now = Instant::now();
            let far = now + FAR;
            for _ in 0..3 {
                tokio::join!(pulse.next(now, far), pulse.next(now, far), async {
                    // A cancelled wait does not affect the others.
                    let _ = tokio::time::timeout(Duration::ZERO, pulse.next(now, far)).await;
                });
                assert_eq!(pulse.0.waiting.load(Relaxed), 0);
                // No task waits, so the timer pauses.
                sleep(PERIOD * 2).await;
            }
        });
    }

    #[test]
    fn is_not_early_at_a_deadline() {
        run(async {
            let begun = Instant::now();
            Pulse::default().next(begun, begun + PERIOD / 2).await;
            assert!(begun.elapsed() >= PERIOD / 2);
        });
    }
}
