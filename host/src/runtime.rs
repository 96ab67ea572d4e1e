//! The event loop of a process.

use std::io;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use tokio::runtime::Builder;
use tokio::sync::Notify;

/// Task polls between two looks at the sockets. tokio's default of 61 would make a flood of guests that
/// each use up their first slice deaf for tens of milliseconds.
const EVENT_INTERVAL: u32 = 8;

/// Pairs of sockets that take as many descriptors as an event loop: two of its poller, one to wake it, two for signals.
const SOCKET_PAIRS: usize = 3;

/// Runs `main` on an event loop of its own, on this thread. Blocking work that is still going on at the
/// end (a name look-up, a guest's read from a FIFO) is not waited for.
///
/// # Errors
///
/// When the system has no descriptors for the event loop, and what `main` gives.
pub(crate) fn run<T, E: From<io::Error>>(main: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    // tokio panics where it gets no descriptors for signals, so as many as it takes are asked for first.
    let enough = (0..SOCKET_PAIRS).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>()?;
    drop(enough);
    let runtime = Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?;
    let outcome = runtime.block_on(main);
    runtime.shutdown_background();
    outcome
}

/// Resolves when the event loop has looked at every socket, and what that woke is ahead in its queue. Cancel safe.
///
/// tokio wakes a task that yields only then. But its `yield_now` takes any second poll for that, and a request
/// is polled for other reasons, too: all that wait are at each beat of the pulse.
pub(crate) async fn look_at_sockets() {
    let looked = Arc::new(Looked(Notify::new()));
    let waker = Waker::from(Arc::clone(&looked));
    let first_poll = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
    if first_poll.is_pending() {
        looked.0.notified().await;
    }
}

/// Is woken when the event loop has looked at every socket.
struct Looked(Notify);

impl Wake for Looked {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}
