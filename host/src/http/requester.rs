//! Who sent a request: a client on its connection, a guest of this worker, or the worker for a schedule.

use std::time::Duration;

use tokio::time::Instant;

use crate::http::connection::Connection;
use crate::http::pulse;
use crate::wasi::http::client::Alive;

/// The sender of a request. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Requester {
    Client(Connection),
    /// An instance of this worker.
    Guest(Alive),
    /// The worker itself, which reads the response to its end.
    Schedule,
}

impl Requester {
    /// Whether the client has closed its side or reset the connection, or the instance has been dropped.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Client(connection) => connection.is_gone(),
            Self::Guest(caller) => caller.is_gone(),
            Self::Schedule => false,
        }
    }

    pub(crate) fn is_guest(&self) -> bool {
        matches!(self, Self::Guest(_))
    }

    /// Resolves when it is gone. Cancel safe.
    pub(crate) async fn gone(&self) {
        while !self.is_gone() {
            tokio::time::sleep(pulse::PERIOD).await;
        }
    }

    /// Limits the writes of the response in progress, as [`Connection::bound_writes`] does. A guest that does not read
    /// has limits of its own.
    pub(crate) fn bound_writes(&self, now: Instant, whole: Duration, stall: Duration) {
        match self {
            Self::Client(connection) => connection.bound_writes(now, whole, stall),
            Self::Guest(_) | Self::Schedule => {}
        }
    }
}
