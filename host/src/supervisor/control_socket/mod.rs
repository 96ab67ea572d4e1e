//! The control socket: its server, its client, and the messages between them.

pub(crate) mod admin;
pub(crate) mod client;
pub(crate) mod report;
pub(crate) mod status;
