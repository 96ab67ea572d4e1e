//! Connections of a worker, for the fuzz targets.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::config::{self, ComponentSource, Overrides};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::coop;

use super::connection::Connection;
use super::h1;
use crate::artifact::compile::Compiler;
use crate::engine::pool::StackDetail;
use crate::http::server::Worker;
use crate::net::peer::Peer;
use crate::net::stream::Stream;
use crate::worker::load::{self, WorkerContext};

/// How long a connection may take to end after its client has sent everything.
const DEADLINE: Duration = Duration::from_secs(10);

/// Event-loop turns between two pieces that the client sends.
const TURNS: usize = 8;

/// A worker in this process that serves on loopback.
pub struct Server {
    worker: Arc<Worker>,
    listener: TcpListener,
    runtime: Runtime,
}

impl Server {
    /// Serves `component` at every path.
    ///
    /// # Errors
    ///
    /// When the component cannot be served, or no socket can be opened.
    pub fn new(component: &Path) -> Result<Self, Box<dyn Error>> {
        let component = ComponentSource::File(component.to_owned());
        let config = config::single(&config::NoSurroundings, component, &Overrides::default())?;
        let said = |errors: Vec<_>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let artifacts =
            load::artifacts(&config, &Compiler::new(None, StackDetail::Names, config.missing_imports)?, &[])
                .map_err(said)?;
        let around = WorkerContext::unshared(Semaphore::MAX_PERMITS)?;
        let worker = load::worker(&config, &artifacts, around).map_err(said)?.share();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        Ok(Self { worker, listener, runtime })
    }

    /// Sends `pieces` as a client and then closes its sending side. Returns everything that the client reads until the
    /// connection ends, and whether it ended in a reset, which means that the last response is cut.
    ///
    /// # Errors
    ///
    /// When the connection cannot be made or does not end.
    pub fn exchange(&self, pieces: &[&[u8]]) -> io::Result<(Vec<u8>, bool)> {
        self.exchange_after(0, pieces)
    }

    /// [`Self::exchange`] on a connection whose task has spent `units` of tokio's cooperative budget at the begin of
    /// each of its first polls, as if it had done as much for other requests in the same poll. The client of such a
    /// connection does not close its sending side.
    fn exchange_after(&self, units: usize, pieces: &[&[u8]]) -> io::Result<(Vec<u8>, bool)> {
        self.runtime.block_on(async {
            let (client, accepted) =
                tokio::join!(TcpStream::connect(self.listener.local_addr()?), self.listener.accept());
            let (mut client, (stream, peer)) = (client?, accepted?);
            let stream = Stream::tcp(stream, Peer::Tcp(peer));
            let connection = Connection::new(stream, &self.worker);
            let serving = tokio::spawn(spending(units, h1::serve(connection, Arc::clone(&self.worker))));
            let exchange = async {
                for piece in pieces {
                    // The server may close the connection before all pieces are sent.
                    if client.write_all(piece).await.is_err() {
                        break;
                    }
                    for _ in 0..TURNS {
                        tokio::task::yield_now().await;
                    }
                }
                if units == 0 {
                    let _ = client.shutdown().await;
                }
                let mut answers = Vec::new();
                let is_reset = client.read_to_end(&mut answers).await.is_err();
                (answers, is_reset)
            };
            let answers = tokio::time::timeout(DEADLINE, exchange).await;
            serving.abort();
            answers.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the connection does not end"))
        })
    }
}

/// Polls in which [`Server::exchange_after`] spends budget. The last ones have all of it, so that everything ends.
const SPENDING_POLLS: usize = 8;

/// `future`, which finds `units` of tokio's cooperative budget spent in its first polls.
async fn spending<F: Future>(units: usize, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(move |cx| {
        polls += 1;
        if polls <= SPENDING_POLLS {
            for _ in 0..units {
                let _ = pin!(coop::consume_budget()).poll(cx);
            }
        }
        future.as_mut().poll(cx)
    })
    .await
}

#[cfg(test)]
mod tests {
    use residue_guest::Wasi;

    use super::*;

    /// tokio's cooperative budget of one poll of a task.
    const BUDGET: usize = 128;

    /// A channel of tokio's returns `Pending` when the budget is spent, also for what was sent to it. That must not be
    /// taken for a body that its guest has not finished.
    #[test]
    fn responses_do_not_depend_on_the_budget_that_is_left() {
        let guest = include_str!("../../../fuzz/src/guests/echo.wat");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("echo.wasm");
        std::fs::write(&path, residue_guest::encode(guest, Wasi::P2).expect("a component")).expect("a file");
        let server = Server::new(&path).expect("a server");
        let request = b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
            1\r\nx\r\n1\r\ny\r\n0\r\n\r\n";
        let mut wrong = Vec::new();
        for spent in 1..=BUDGET {
            let (response, is_reset) = server.exchange_after(spent, &[request]).expect("a connection that ends");
            let response = String::from_utf8_lossy(&response).into_owned();
            let body: String = response.split_once("\r\n\r\n").map_or("", |(_, body)| body).lines().collect();
            if is_reset || !response.starts_with("HTTP/1.1 200 ") || !body.contains('y') {
                wrong.push((spent, is_reset, response));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
