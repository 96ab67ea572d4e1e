//! Stores that a server keeps: what is common to all kinds of servers.

mod address;
mod direct;
mod link;
mod nats;
mod redis;
mod service;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use daylily_core::config::{Protocol, Store, StoreServer};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(super) use self::direct::Direct;
use self::nats::{Bucket, Nats};
use self::redis::Redis;
pub(super) use self::service::Remote;
use super::message::{Answer, Operation, StoreError, now_ns};

/// A store on a server.
enum Server {
    Redis(Redis),
    Nats(Nats),
}

/// A connection to a server, which all operations share. Cheap to clone.
#[derive(Clone)]
enum Connection {
    /// With the number of bytes that it has received.
    Redis(MultiplexedConnection, Arc<AtomicU64>),
    Nats(Box<Bucket>),
}

impl Connection {
    /// The bytes that it has received so far: a server that sends some is not silent.
    fn received(&self) -> u64 {
        match self {
            Self::Redis(_, received) => received.load(Relaxed),
            Self::Nats(bucket) => bucket.received(),
        }
    }
}

/// Until when the commands of an operation may be sent, by [`now_ns`]. None is sent later.
#[derive(Debug, Clone, Copy)]
struct Until(u64);

impl Until {
    /// No time: the caller has a limit of its own.
    const EVER: Self = Self(u64::MAX);

    /// Called before each command.
    fn check(self) -> Result<(), Failure> {
        if self.0 <= now_ns() { Err(StoreError::Expired.into()) } else { Ok(()) }
    }
}

/// Resolves when a connection has ended. When it is dropped, it ends the connection.
type Ended = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why an operation was not done, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    /// It cannot be done.
    Operation(StoreError),
    /// The server refuses what it should do, and has not done it.
    Server(String),
    /// The connection has ended, or what is received on it cannot be understood. It may have been done.
    Lost,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Operation(error)
    }
}

impl Server {
    fn new(store: &Store, server: &StoreServer) -> Self {
        match &server.protocol {
            Protocol::Redis { database, prefix } => Self::Redis(Redis::new(store, server, *database, prefix)),
            Protocol::Nats { bucket } => Self::Nats(Nats::new(store, server, bucket)),
        }
    }

    /// Connects. Returns when the server has answered. Cancel safe.
    async fn connect(&self) -> Result<(Connection, Ended), String> {
        match self {
            Self::Redis(redis) => {
                let (connection, received, ended) = redis.connect().await?;
                Ok((Connection::Redis(connection, received), ended))
            }
            Self::Nats(nats) => {
                let (bucket, ended) = nats.connect().await?;
                Ok((Connection::Nats(Box::new(bucket)), ended))
            }
        }
    }

    /// The same, within a time.
    async fn connect_within(&self, limit: Duration) -> Result<(Connection, Ended), String> {
        match timeout(limit, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }

    /// Does an operation. Sends nothing twice, and nothing after `until`. If it is dropped, the operation may be done
    /// nevertheless.
    async fn run(&self, connection: &Connection, operation: Operation, until: Until) -> Result<Answer, Failure> {
        match (self, connection) {
            (Self::Redis(redis), Connection::Redis(connection, _)) => {
                redis.run(connection.clone(), operation, until).await
            }
            (Self::Nats(nats), Connection::Nats(bucket)) => nats.run(&bucket.until(until), operation).await,
            (Self::Redis(_), Connection::Nats(_)) | (Self::Nats(_), Connection::Redis(..)) => Err(Failure::Lost),
        }
    }
}

/// Runs what drives a connection.
fn ended(driver: impl Future<Output = ()> + Send + 'static) -> Ended {
    let driver = Driver(tokio::spawn(driver));
    Box::pin(async move {
        let mut driver = driver;
        let _ = (&mut driver.0).await;
    })
}

/// Ended when it is dropped.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
