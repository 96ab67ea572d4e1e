//! The interfaces that guests may import.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;

pub(crate) mod direct;
pub(crate) mod files;
pub(crate) mod http02;
pub(crate) mod http03;
pub(crate) mod link;
pub(crate) mod outgoing;
pub(crate) mod output;
pub(crate) mod outside;

/// The content-length of a head. An invalid one is rejected elsewhere.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The path and query that a guest sets for an outgoing request: an absolute path, a query, or nothing, which means the
/// path `/` (RFC 9112 §3.2.1). `*` is not allowed, and neither is a fragment, which is not sent to an origin (RFC 9110
/// §7.1).
fn path_with_query(text: &str) -> Option<PathAndQuery> {
    match text.as_bytes().first() {
        None => Some(PathAndQuery::from_static("/")),
        Some(b'/' | b'?') if !text.contains('#') => PathAndQuery::try_from(text).ok(),
        Some(_) => None,
    }
}

/// The longest method that a guest may set for an outgoing request; the methods of RFC 9110 §9 have at most 7 bytes.
const MAX_METHOD_BYTES: usize = 64;

/// The longest authority that a guest may set for an outgoing request: enough for user information, a DNS name (at most
/// 253 bytes) and a port. The limit exists because no memory limit of the host covers an authority.
const MAX_AUTHORITY_BYTES: usize = 1 << 10;
