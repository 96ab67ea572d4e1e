//! The messages between a supervisor and its observer. Both are the same version of the program.

use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use daylily_core::config::{AccessLog, Config};
use serde::{Deserialize, Serialize};

use crate::ipc::fd_message;
use crate::observe::journal::WorkerFacts;
use crate::observe::log::LogSettings;
use crate::observe::metrics::Sums;
use crate::observer::metrics::Limits;

/// A message to the observer.
#[derive(Serialize, Deserialize)]
pub(crate) enum Message {
    /// The first message, and one after each reload. Log files are reopened. The first one has a descriptor: that of the
    /// memory for the numbers of the observer itself, which the supervisor reads when it has ended.
    Settings(Box<Settings>),
    /// Adds what was counted by workers that have no journal any more, or by the predecessor's.
    Counted(Sums),
    /// Workers that start, or all of them if the observer is a new one. For each there are [`FILES`] descriptors: its
    /// journal, its metrics, a pipe whose other end is open as long as the worker lives, and a socket with its lines of
    /// daylily's own log.
    Journals(Vec<(u64, WorkerFacts)>),
    /// What the admin listener is from now on; None if there is none. The descriptors are the server page and, if there
    /// is a listener, its socket.
    Admin(Option<AdminSettings>),
    /// Another process accepts on the admin listener from now on. Confirmed with [`tell_admin_left`].
    LeaveAdmin,
}

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Descriptors of each worker in [`Message::Journals`].
pub(crate) const FILES: usize = 4;

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdminSettings {
    /// What clients must send to see more than whether the server is ready.
    pub(crate) token: Option<String>,
    /// Requests must name a host of this machine.
    pub(crate) is_loopback: bool,
}

/// The report of [`tell_admin_left`]: no journal has this id.
pub(crate) const ADMIN_LEFT: u64 = 0;

/// Sent each second. No journal has this id.
pub(crate) const HEARTBEAT: u64 = u64::MAX;

/// What the observer does.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) log: LogSettings,
    pub(crate) access_log: AccessLog,
    pub(crate) limits: Limits,
}

impl Settings {
    /// Of a generation with so many workers.
    pub(crate) fn of(config: &Config, workers: u32) -> Self {
        let limits = Limits::of(config, workers);
        Self { log: LogSettings::of(config), access_log: config.access_log.clone(), limits }
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

/// Sends the heartbeat until the supervisor has ended.
pub(crate) fn beat(mut supervisor: &UnixStream) {
    while supervisor.write_all(&HEARTBEAT.to_le_bytes()).is_ok() {
        std::thread::sleep(HEARTBEAT_INTERVAL);
    }
}

/// Confirms [`Message::LeaveAdmin`]: this process accepts no more clients of the admin listener, and sends nothing more
/// to those that it had.
pub(crate) fn tell_admin_left(mut supervisor: &UnixStream) -> io::Result<()> {
    supervisor.write_all(&ADMIN_LEFT.to_le_bytes())
}
