//! Sockets that listen, and the byte streams of their clients.

pub(crate) mod address;
pub(crate) mod listen;
pub(crate) mod listener;
mod passed;
pub(crate) mod peer;
pub(crate) mod sockets;
mod start_lock;
pub(crate) mod stream;
mod unix;
mod unix_stream;
