//! Connections of a worker, for the fuzz targets.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::config::{self, ComponentSource, Overrides};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::connection::Connection;
use super::http;
use crate::control::scoreboard::Slot;
use crate::drain::Drain;
use crate::engine::Compiler;
use crate::load::{self, Surroundings};
use crate::worker::Worker;

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
        let config = config::single(ComponentSource::File(component.to_owned()), &Overrides::default());
        let said = |errors: Vec<_>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let artefacts = load::artefacts(&config, &Compiler::new(None)?, &[]).map_err(said)?;
        let around =
            Surroundings { connection_limit: Semaphore::MAX_PERMITS, drain: Drain::new(), counters: Slot::unshared() };
        let worker = Arc::new(load::worker(&config, &artefacts, around).map_err(said)?);
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
        self.runtime.block_on(async {
            let (client, accepted) =
                tokio::join!(TcpStream::connect(self.listener.local_addr()?), self.listener.accept());
            let (mut client, (stream, _)) = (client?, accepted?);
            let connection = Connection::new(stream, &self.worker.limits, self.worker.dev, self.worker.drain.clone());
            let serving = tokio::spawn(http::serve(connection, Arc::clone(&self.worker)));
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
                let _ = client.shutdown().await;
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
