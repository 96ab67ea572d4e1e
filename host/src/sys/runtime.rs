//! The event loop of a process.

use std::future::poll_fn;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::coop;

/// Task polls between two polls of the sockets. With tokio's default of 61, many guests that each use up their first
/// slice would delay every socket by tens of milliseconds.
const EVENT_INTERVAL: u32 = 8;

/// Socket pairs that take at least as many descriptors as an event loop: two for its poller, one to wake it, two for
/// signals.
const SOCKET_PAIRS: usize = 3;

/// Runs `main` on a new event loop, on this thread. Blocking work that is still running at the end (a name lookup, a
/// guest's read from a FIFO) is not waited for.
///
/// # Errors
///
/// When the system has no descriptors for the event loop, and the errors of `main`.
pub(crate) fn run<T, E: From<io::Error>>(main: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    // tokio panics when it gets no descriptors for signals, so check first that there are enough.
    let enough = (0..SOCKET_PAIRS).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>()?;
    drop(enough);
    let runtime = Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?;
    let outcome = runtime.block_on(main);
    runtime.shutdown_background();
    outcome
}

/// Resolves when the event loop has polled all sockets, and the tasks that this woke are ahead in its queue. Cancel
/// safe.
///
/// tokio wakes a task that yields only then. But its `yield_now` completes at any second poll, and a request is polled
/// for other reasons, too: every waiting request is polled at each beat of the pulse.
pub(crate) async fn poll_sockets() {
    let polled = Arc::new(Polled(Notify::new()));
    let waker = Waker::from(Arc::clone(&polled));
    let first_poll = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
    if first_poll.is_pending() {
        polled.0.notified().await;
    }
}

/// Polls without tokio's cooperative budget, so that `Pending` means that there is nothing yet. Within the budget, a
/// channel returns `Pending` also for what was sent to it, once the task has polled often enough (128 times) since it
/// was last scheduled. For polls whose `Pending` decides something, such as that a guest did not finish its body.
pub(crate) fn poll_unbudgeted<T>(cx: &mut Context<'_>, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    pin!(coop::unconstrained(poll_fn(poll))).poll(cx)
}

/// Woken when the event loop has polled all sockets.
struct Polled(Notify);

impl Wake for Polled {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}
