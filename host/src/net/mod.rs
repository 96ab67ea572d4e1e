//! Sockets that listen, and the byte streams of their clients.

pub(crate) mod listen;
pub(crate) mod sockets;
