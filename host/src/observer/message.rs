//! The messages between a supervisor and its observer. Both are the same version of the program.

use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use daylily_core::config::{AccessLog, Config};
use serde::{Deserialize, Serialize};

use crate::ipc::fd_message;
use crate::observe::journal::WorkerFacts;
use crate::observe::log::LogSettings;

/// A message to the observer.
#[derive(Serialize, Deserialize)]
pub(crate) enum Message {
    /// The first message, and one after each reload. Files are opened anew.
    Settings(Settings),
    /// Workers that start, or all of them if the observer is a new one. For each there are three descriptors: its journal,
    /// a pipe whose other end is open as long as the worker lives, and a socket with its lines of daylily's own log.
    Journals(Vec<(u64, WorkerFacts)>),
}

/// What the observer does.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) log: LogSettings,
    pub(crate) access_log: AccessLog,
}

impl Settings {
    pub(crate) fn of(config: &Config) -> Self {
        Self { log: LogSettings::of(config), access_log: config.access_log.clone() }
    }
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
