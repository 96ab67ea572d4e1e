//! The accept loop. It never ends because of an error, and never waits for anything but `accept` and
//! a free connection permit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::connection::Connection;
use super::http;
use crate::worker::Worker;

/// How long to leave the backlog alone after `accept` failed for want of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the process ends; each is served in its own task on this thread.
pub(crate) async fn run(listener: TcpListener, worker: Arc<Worker>) {
    let permits = Arc::new(Semaphore::new(worker.connection_limit));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = accept(&listener).await;
        let connection = Connection::new(stream, &worker.limits, worker.dev);
        let worker = Arc::clone(&worker);
        tokio::task::spawn(async move {
            http::serve(connection, worker).await;
            drop(permit);
        });
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        let error = match listener.accept().await {
            Ok((stream, _peer)) => {
                // Heads and small bodies go out at once; a failure only costs latency.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => error,
        };
        if is_exhausted(&error) {
            tracing::error!(%error, "failed to accept a connection; trying again in {EXHAUSTED_PAUSE:?}");
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
        } else {
            // The client gave up while it was waiting in the backlog (accept(2), "Error handling").
            tracing::debug!(%error, "a connection ended before it was accepted");
        }
    }
}

/// Whether this process or the machine is out of what `accept` needs.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}
