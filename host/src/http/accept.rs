//! The accept loop. No error ends it, and it waits only for `accept` and for a free connection permit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::connection_end::NotAccepted;
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
/// `name` is that of the listener, for the metrics.
pub(crate) async fn run(listener: Accepting, name: u32, worker: Arc<Worker>) {
    loop {
        let permit = match Arc::clone(&worker.connections).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                worker.metrics.note_not_accepted(name, NotAccepted::Limit);
                let Ok(permit) = Arc::clone(&worker.connections).acquire_owned().await else { return };
                permit
            }
        };
        let accepted = accept(&listener, name, &worker).await;
        begin(accepted, permit, name, &worker);
    }
}

fn begin(stream: Stream, permit: OwnedSemaphorePermit, name: u32, worker: &Arc<Worker>) {
    let connection = Connection::new(stream, worker);
    let worker = Arc::clone(worker);
    let unfinished = worker.drain.begin_task();
    tokio::task::spawn(async move {
        let _counted = worker.counters.begin_connection();
        let open = worker.metrics.begin_connection(name);
        open.end(h1::serve(connection, worker).await);
        drop((permit, unfinished));
    });
}

async fn accept(listener: &Accepting, name: u32, worker: &Worker) -> Stream {
    loop {
        let error = match listener.accept().await {
            Ok(stream) => return stream,
            Err(error) => error,
        };
        let why = why_not_accepted(&error);
        worker.metrics.note_not_accepted(name, why);
        if why == NotAccepted::Exhausted {
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
pub(crate) fn empty_backlog(listener: &Listener, name: u32, worker: &Arc<Worker>) {
    while let Ok(permit) = Arc::clone(&worker.connections).try_acquire_owned() {
        match listener.accept_now() {
            Ok(stream) => begin(stream, permit, name, worker),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                worker.metrics.note_not_accepted(name, why_not_accepted(&error));
                // The client gave up.
                if error.kind() == io::ErrorKind::ConnectionAborted {
                    continue;
                }
                tracing::error!(
                    target: log_target::CONNECTION,
                    %error, "failed to accept a connection from the backlog"
                );
                return;
            }
        }
    }
}

/// Whether `accept` failed because this process or the machine ran out of descriptors or memory, or because of the
/// client.
fn why_not_accepted(error: &io::Error) -> NotAccepted {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => NotAccepted::Exhausted,
        _ => NotAccepted::Aborted,
    }
}
