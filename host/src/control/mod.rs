//! Several processes that serve as one: a supervisor, and workers that it starts, watches and replaces.
//!
//! Everything is one mechanism: start, crash recovery, reload and upgrade all start workers with a
//! configuration, wait until they are ready, and then drain those that were there before.

mod account;
mod admin;
pub(crate) mod client;
mod end;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod generation;
mod handover;
mod looks;
mod order;
mod orphans;
mod pace;
mod parcel;
mod process;
mod reception;
mod reload;
pub(crate) mod report;
mod retire;
pub(crate) mod scoreboard;
mod seat;
mod signal;
mod sockets;
mod status;
pub(crate) mod supervise;
mod systemd;
pub(crate) mod upgrade;
mod watch;
pub(crate) mod worker;

use serde::{Deserialize, Serialize};

/// Which part of the work a worker does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Share {
    /// Counts up with every reload, over upgrades too.
    pub(crate) generation: u64,
    /// From 0; a worker that is replaced gives its number to the one that replaces it.
    pub(crate) worker: u32,
}
