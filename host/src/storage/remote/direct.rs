//! A store on a server, for one command: one operation after the other.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use daylily_core::config::{Store, StoreServer};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::{Connection, Ended, Failure, Server, Until};
use crate::storage::message::{Answer, Operation, StoreError};

/// How long connecting may take, and each operation.
const PATIENCE: Duration = Duration::from_secs(10);

/// A store with a connection of its own.
pub(crate) struct Direct {
    server: Server,
    connection: Connection,
    runtime: Runtime,
    /// Ends the connection when it is dropped.
    _ended: Ended,
}

impl Direct {
    /// Connects to the server of a store.
    ///
    /// # Errors
    ///
    /// If it cannot be reached, in words.
    pub(crate) fn open(store: &Store, server: &StoreServer) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let unreachable = |why: String| format!("{server} cannot be reached: {why}");
        let opened = Server::new(store, server);
        let (connection, ended) = runtime.block_on(opened.connect_within(PATIENCE)).map_err(unreachable)?;
        Ok(Self { server: opened, connection, runtime, _ended: ended })
    }

    /// Checks that the server can have an entry.
    ///
    /// # Errors
    ///
    /// If its key or its value is too long for the server.
    pub(crate) fn check(&self, (key, value): &(String, Bytes)) -> Result<(), StoreError> {
        match &self.connection {
            Connection::Redis(..) => Ok(()),
            Connection::Nats(bucket) => bucket.check(key, value),
        }
    }

    /// Does an operation.
    ///
    /// # Errors
    ///
    /// If it fails, in words.
    pub(crate) fn call(&self, operation: Operation) -> Result<Answer, String> {
        let call = self.server.run(&self.connection, operation, Until::EVER);
        match self.runtime.block_on(async { timeout(PATIENCE, call).await }) {
            Ok(result) => result.map_err(|failure| match failure {
                Failure::Operation(error) => error.to_string(),
                Failure::Server(reason) => reason,
                Failure::Lost => StoreError::Disconnected.to_string(),
            }),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).to_string()),
        }
    }
}
