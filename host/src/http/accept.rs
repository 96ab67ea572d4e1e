//! The accept loop. No error ends it, and it waits only for `accept` and for a free connection permit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::log_target;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::Connection;
use super::h1;
use crate::http::server::Worker;
use crate::net::listener::{Accepting, Listener};
use crate::net::stream::Stream;

/// How long to wait before the next `accept` after one failed because file descriptors or memory ran out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections for as long as it is polled. Each connection is served in its own task on this thread. Cancel
/// safe: a connection that has not been accepted stays in the backlog.
pub(crate) async fn run(listener: Accepting, worker: Arc<Worker>) {
    loop {
        let Ok(permit) = Arc::clone(&worker.connections).acquire_owned().await else { return };
        let accepted = accept(&listener).await;
        begin(accepted, permit, &worker);
    }
}

fn begin(stream: Stream, permit: OwnedSemaphorePermit, worker: &Arc<Worker>) {
    let connection = Connection::new(stream, worker);
    let worker = Arc::clone(worker);
    let unfinished = worker.drain.begin_task();
    tokio::task::spawn(async move {
        let _counted = (worker.counters.begin_connection(), worker.metrics.begin_connection());
        h1::serve(connection, worker).await;
        drop((permit, unfinished));
    });
}

async fn accept(listener: &Accepting) -> Stream {
    loop {
        let error = match listener.accept().await {
            Ok(stream) => return stream,
            Err(error) => error,
        };
        if is_exhausted(&error) {
            tracing::error!(
                target: log_target::CONNECTION,
                %error, "failed to accept a connection; trying again in {EXHAUSTED_PAUSE:?}"
            );
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
        } else {
            // The client gave up while it was waiting in the backlog (accept(2), "Error handling").
            tracing::debug!(target: log_target::CONNECTION, %error, "a connection ended before it was accepted");
        }
    }
}

/// Accepts the connections in the backlog, because the kernel resets them when the listener closes. Connections over
/// the connection limit stay in the backlog.
///
/// Must be called within a tokio runtime.
pub(crate) fn empty_backlog(listener: &Listener, worker: &Arc<Worker>) {
    while let Ok(permit) = Arc::clone(&worker.connections).try_acquire_owned() {
        match listener.accept_now() {
            Ok(stream) => begin(stream, permit, worker),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // The client gave up.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::error!(
                    target: log_target::CONNECTION,
                    %error, "failed to accept a connection from the backlog"
                );
                return;
            }
        }
    }
}

/// Whether `accept` failed because this process or the machine ran out of descriptors or memory.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}
