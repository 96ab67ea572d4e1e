//! The HTTP client behind guests' outgoing requests.
//!
//! ```text
//! hooks     what wasmtime-wasi-http asks of us      ← start here
//!   policy    may this route reach that origin?     HttpRequestDenied
//!   slot      one of the instance's max_outgoing    ConnectionLimitReached
//!   send      reuse or connect, then one exchange
//!     upload    the request's body, framed
//!     pool      idle connections, one pool per route
//!     connect   resolve → check every address → TCP → TLS
//!       watched   the bytes before hyper gets them
//!         framing   what of a response has a limit there
//!   download  the response's body, under its time-out
//! ```
//!
//! What holds for every outgoing request:
//! - it is denied unless the route lists its origin, and every address the name resolves to is
//!   checked; the connection goes to a checked address, never to a second resolution of the name;
//! - connections are reused within one route only, since another route's list may not permit them;
//! - nothing of it outlives the instance, except the idle connection it may leave in the pool and a
//!   name lookup that the system cannot be told to stop;
//! - a body that was not finished, in either direction, is never presented as complete.
//!
//! There are no redirects, proxies, cookies or decompression: the guest gets what the origin sent.

mod connect;
mod download;
mod error;
mod framing;
mod headers;
mod hooks;
mod policy;
mod pool;
mod resolve;
mod send;
mod slot;
#[cfg(test)]
mod tests;
mod tls;
mod upload;
mod watched;

use std::sync::Arc;

pub(crate) use connect::MAX_BUFFER_BYTES as MAX_HEAD_BYTES;
pub(crate) use error::error_from_hyper;
pub(crate) use headers::{named_by_connection, remove_forbidden};
pub(crate) use hooks::{BODY_CHUNK_BYTES, Hooks};
pub(crate) use policy::OutgoingPolicy;

/// What all routes of the process share: how names are resolved and which certificates are trusted.
///
/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct OutgoingClient {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    resolver: resolve::Resolver,
    trust: tls::Trust,
}

impl OutgoingClient {
    /// A client that trusts the machine's certificates. They are read when an https origin is first
    /// connected to; that there are none is then logged, and fails the request.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[cfg(test)]
    fn for_test(resolver: resolve::Resolver, trust: tls::Trust) -> Self {
        Self { shared: Arc::new(Shared { resolver, trust }) }
    }
}
