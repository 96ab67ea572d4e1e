//! From sockets to requests: listening, accepting, and HTTP/1.1 on one connection.

pub(crate) mod accept;
pub(crate) mod arrival;
pub(crate) mod connection;
pub(crate) mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod http;
mod io;
pub(crate) mod listen;
