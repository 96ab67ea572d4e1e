//! Messages between the processes of one server.

pub(crate) mod child;
pub(crate) mod command;
pub(crate) mod doorbell;
pub(crate) mod fd_message;
