//! The processes: a supervisor, and the workers that it starts, watches and replaces.
//!
//! Start, crash recovery, reload and upgrade are one mechanism: start workers with a configuration, wait until all are
//! ready, and then drain the previous ones.

mod account;
mod admin;
pub(crate) mod client;
mod end;
#[cfg(any(test, feature = "fuzzing"))]
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

/// Identifies a worker: its generation and its number in it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Share {
    /// Increases with every reload, also across upgrades.
    pub(crate) generation: u64,
    /// From 0. A worker's replacement has the same number.
    pub(crate) worker: u32,
}
