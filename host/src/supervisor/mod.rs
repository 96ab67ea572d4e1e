//! The supervisor process, and how it sees the workers and the observer that it starts, watches and replaces.
//!
//! Start, crash recovery, reload and upgrade are one mechanism: start workers with a configuration, wait until all are
//! ready, and then drain the previous ones.

mod account;
mod admin;
pub(crate) mod build;
pub(crate) mod control_socket;
mod develop;
mod end;
mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod generation;
mod heartbeats;
mod journals;
pub(crate) mod observer;
mod orphans;
pub(crate) mod prepare;
mod process;
mod reload;
mod reloading;
mod retire;
mod signal;
pub(crate) mod storage;
pub(crate) mod supervise;
mod surroundings;
mod systemd;
pub(crate) mod upgrade;
mod watch;
mod worker_session;
