//! The event loop of a process.

use std::io;

use tokio::runtime::Builder;

/// Task polls between two looks at the sockets. tokio's default of 61 would make a flood of guests that
/// each use up their first slice deaf for tens of milliseconds.
const EVENT_INTERVAL: u32 = 8;

/// Runs `main` on an event loop of its own, on this thread. Blocking work that is still going on at the
/// end (a name look-up, a guest's read from a FIFO) is not waited for.
///
/// # Errors
///
/// When the system has no descriptors for the event loop, and what `main` gives.
pub(crate) fn run<T, E: From<io::Error>>(main: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?;
    let outcome = runtime.block_on(main);
    runtime.shutdown_background();
    outcome
}
