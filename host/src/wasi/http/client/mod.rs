//! The HTTP client for the outgoing requests of guests.
//!
//! ```text
//! hooks     called by wasmtime-wasi-http            ← start here
//!   policy    may this route reach that origin?     HttpRequestDenied
//!   slot      one of the instance's max_outgoing    ConnectionLimitReached
//!   send      reuse or connect, then one exchange
//!     upload    the request's body, framed
//!     pool      idle connections, one pool per route
//!     connect   resolve → check every address → TCP → TLS
//!       watched   scans received bytes before hyper parses them
//!         framing   the limits and checks of that scan
//!   download  the response's body, under its time-out
//!   inner     instead of send: another guest of this worker answers
//! ```
//!
//! Every outgoing request satisfies these rules:
//! - It is denied unless the route lists its origin. Every address that the name resolves to is checked, and the
//!   connection goes to a checked address; the name is not resolved a second time.
//! - Connections are reused within one route only, since another route may not be allowed to reach that origin.
//! - Nothing of it outlives the instance, except an idle connection in the pool, and a name lookup, which the system
//!   cannot cancel.
//! - An incomplete body, in either direction, is never presented as complete.
//!
//! There are no redirects, proxies, cookies or decompression: the guest receives what the origin sent.

mod connect;
mod download;
mod error;
mod framing;
mod hooks;
mod inner;
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
pub(crate) use hooks::{BODY_CHUNK_BYTES, Hooks};
pub(crate) use inner::{Answering, Inner, Outgoing, To};
pub(crate) use policy::{Callee, OutgoingPolicy};
pub(crate) use slot::Alive;
pub(crate) use upload::RequestBody;

/// The state that all routes of the process share: the resolver and the trusted certificates.
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
    /// A client that trusts the certificates of the system. They are read on the first connection to an https origin;
    /// if there are none, that is logged and the request fails.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[cfg(test)]
    fn for_test(resolver: resolve::Resolver, trust: tls::Trust) -> Self {
        Self { shared: Arc::new(Shared { resolver, trust }) }
    }
}
