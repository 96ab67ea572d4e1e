//! The messages between a supervisor and its observer. Both are the same version of the program.

use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use daylily_core::config::{AccessLog, LogFilter};
use serde::{Deserialize, Serialize};

use crate::ipc::fd_message;

/// A message to the observer.
#[derive(Serialize, Deserialize)]
pub(crate) enum Message {
    /// The first message, and one after each reload. Files are opened anew.
    Settings(Settings),
    /// A worker that starts. The descriptors are its journal, and a pipe whose other end is open as long as it lives.
    Journal { id: u64, facts: WorkerFacts },
}

/// What the observer does.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) log: LogFilter,
    pub(crate) access_log: AccessLog,
}

/// What the records of a worker do not repeat.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct WorkerFacts {
    pub(crate) generation: u64,
    pub(crate) worker: u32,
    /// By the index of the route.
    pub(crate) routes: Vec<RouteFacts>,
    /// The request's fields whose values its records have, in this order.
    pub(crate) headers: Vec<String>,
}

/// One route of a worker.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RouteFacts {
    pub(crate) name: String,
    pub(crate) component: String,
    /// The digest of the component's file.
    pub(crate) digest: String,
}

/// # Errors
///
/// When the observer has ended, or does not read.
pub(crate) fn send(observer: &UnixStream, message: &Message, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let payload = postcard::to_stdvec(message).map_err(io::Error::other)?;
    fd_message::send(observer, &payload, files)
}

/// Blocks until there is a message.
///
/// # Errors
///
/// When the supervisor has ended.
pub(crate) fn receive(supervisor: &UnixStream) -> io::Result<(Message, Vec<OwnedFd>)> {
    let (payload, files) = fd_message::receive(supervisor)?;
    Ok((postcard::from_bytes(&payload).map_err(io::Error::other)?, files))
}

/// Tells the supervisor that everything in a journal has been taken care of, and its worker has ended.
pub(crate) fn tell_done(mut supervisor: &UnixStream, id: u64) -> io::Result<()> {
    supervisor.write_all(&id.to_le_bytes())
}
