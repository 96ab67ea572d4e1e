//! Byte streams to requests, and requests to responses. The path of a request begins in `request.rs`.

pub(crate) mod accept;
pub(crate) mod admission;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod date;
pub(crate) mod dev_server;
pub(crate) mod dispatch;
mod ending;
pub(crate) mod exchange;
pub(crate) mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod h1;
pub(crate) mod inbound;
pub(crate) mod inner;
mod moment;
pub(crate) mod navigation;
pub(crate) mod phase;
pub(crate) mod pulse;
pub(crate) mod request;
pub(crate) mod requester;
pub(crate) mod response;
pub(crate) mod server;
pub(crate) mod stall;
pub(crate) mod watchdog;
