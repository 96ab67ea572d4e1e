//! How a worker ends: it stops accepting, finishes what is in progress, and cuts what takes too long.
//!
//! All parts of a worker check one [`Drain`]: the connections (which close when they are idle), the responses (which
//! have `connection: close`), the queue and the watchdogs of the guests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The phase of a worker's drain. Cheap to clone; all clones share it.
#[derive(Clone)]
pub(crate) struct Drain(Arc<Shared>);

struct Shared {
    phase: watch::Sender<Phase>,
    /// Responses close their connections: since the drain has begun, or before.
    closes_connections: AtomicBool,
    /// Connections and requests in progress; a guest may run on after its response.
    unfinished: TaskTracker,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Serving,
    Draining(DrainPolicy),
    /// Everything that is still in progress is ended now.
    Cut,
}

/// A drain policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DrainPolicy {
    pub(crate) began: Instant,
    /// How long a connection may be idle before it is closed. A request within that time gets `connection: close` in
    /// its response; a connection that is closed without it may lose a request that the client is just sending.
    pub(crate) idle_patience: Duration,
}

impl Drain {
    /// For a worker that serves.
    pub(crate) fn new() -> Self {
        let phase = watch::Sender::new(Phase::Serving);
        Self(Arc::new(Shared { phase, closes_connections: AtomicBool::new(false), unfinished: TaskTracker::new() }))
    }

    /// From now on, responses close their connections. Everything else goes on as before.
    pub(crate) fn close_connections(&self) {
        self.0.closes_connections.store(true, Relaxed);
    }

    /// Starts the drain: no more work is accepted. Later calls are ignored.
    pub(crate) fn begin(&self, farewell: DrainPolicy) {
        self.close_connections();
        self.0.phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Draining(farewell);
            }
            serving
        });
        self.0.unfinished.close();
    }

    /// Ends everything that is still in progress.
    pub(crate) fn cut(&self) {
        self.close_connections();
        self.0.phase.send_replace(Phase::Cut);
        self.0.unfinished.close();
    }

    /// Whether a response has to close its connection.
    pub(crate) fn closes_connections(&self) -> bool {
        self.0.closes_connections.load(Relaxed)
    }

    pub(crate) fn is_cut(&self) -> bool {
        *self.0.phase.borrow() == Phase::Cut
    }

    /// When the drain closes a connection that has been idle since `since`.
    pub(crate) fn idle_limit(&self, since: Instant) -> Option<Instant> {
        match *self.0.phase.borrow() {
            Phase::Draining(farewell) => Some(farewell.began.max(since) + farewell.idle_patience),
            Phase::Serving | Phase::Cut => None,
        }
    }

    /// Resolves at the cut. Cancel safe.
    pub(crate) async fn cut_off(&self) {
        // Cannot fail: the sender is in `self`.
        let _ = self.0.phase.subscribe().wait_for(|phase| *phase == Phase::Cut).await;
    }

    /// Subscribes to the changes of the phase.
    pub(crate) fn steps(&self) -> Steps {
        Steps(self.0.phase.subscribe())
    }

    /// Registers work that [`Drain::finished`] waits for, until the token is dropped.
    pub(crate) fn begin_task(&self) -> TaskTrackerToken {
        self.0.unfinished.token()
    }

    /// Resolves when the drain has begun and no registered work is left. Cancel safe.
    pub(crate) async fn finished(&self) {
        self.0.unfinished.wait().await;
    }
}

/// The changes of a drain's phase, for one task.
pub(crate) struct Steps(watch::Receiver<Phase>);

impl Steps {
    /// Resolves at the next change. Cancel safe.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn farewell(began: Instant) -> DrainPolicy {
        DrainPolicy { began, idle_patience: PATIENCE }
    }

    fn is_ready(future: impl Future<Output = ()>) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn steps_come_in_order() {
        let drain = Drain::new();
        let mut steps = drain.steps();
        assert!(!drain.closes_connections() && !drain.is_cut() && !is_ready(steps.next()));
        drain.begin(farewell(Instant::now()));
        assert!(is_ready(steps.next()) && !is_ready(steps.next()));
        assert!(drain.closes_connections() && !drain.is_cut() && !is_ready(drain.cut_off()));
        drain.cut();
        assert!(is_ready(steps.next()) && is_ready(drain.cut_off()));
        assert!(drain.closes_connections() && drain.is_cut());
        drain.begin(farewell(Instant::now()));
        assert!(drain.is_cut(), "a drain after the cut undid it");
    }

    #[test]
    fn connections_close_before_the_drain_if_asked() {
        let drain = Drain::new();
        let mut steps = drain.steps();
        drain.close_connections();
        assert!(drain.closes_connections() && !is_ready(steps.next()));
        assert_eq!(drain.idle_limit(Instant::now()), None);
        drain.begin(farewell(Instant::now()));
        assert!(is_ready(steps.next()));
    }

    #[test]
    fn ends_when_everything_is_finished() {
        let drain = Drain::new();
        let (first, second) = (drain.begin_task(), drain.begin_task());
        drop(first);
        assert!(!is_ready(drain.finished()), "finished before the drain began");
        drain.begin(farewell(Instant::now()));
        assert!(!is_ready(drain.finished()), "finished with one task left");
        drop(second);
        assert!(is_ready(drain.finished()));
    }

    #[test]
    fn patience_counts_from_the_drain_or_from_the_last_answer() {
        let drain = Drain::new();
        let began = Instant::now();
        let (before, later) = (began - Duration::from_secs(5), began + Duration::from_secs(3));
        assert_eq!(drain.idle_limit(before), None);
        drain.begin(farewell(began));
        assert_eq!(drain.idle_limit(before), Some(began + PATIENCE));
        assert_eq!(drain.idle_limit(later), Some(later + PATIENCE));
        drain.begin(farewell(later));
        assert_eq!(drain.idle_limit(before), Some(began + PATIENCE), "a second drain replaced the first");
    }
}
