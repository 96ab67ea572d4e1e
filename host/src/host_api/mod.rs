//! What guests may import.

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

/// The length that a head says; one that says it otherwise is refused elsewhere.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The path and query that a guest gives an outgoing request: an absolute path, a query, or nothing, which is the path
/// `/` (RFC 9112 §3.2.1). `*` is not a guest's to ask for, and a fragment would not reach the origin (RFC 9110 §7.1).
fn path_with_query(text: &str) -> Option<PathAndQuery> {
    match text.as_bytes().first() {
        None => Some(PathAndQuery::from_static("/")),
        Some(b'/' | b'?') if !text.contains('#') => PathAndQuery::try_from(text).ok(),
        Some(_) => None,
    }
}

/// The longest method that a guest may give an outgoing request; RFC 9110 §9 has none over 7.
const MAX_METHOD_BYTES: usize = 64;

/// The longest authority that a guest may give an outgoing request: user information, a name of DNS (at most 253 bytes)
/// and a port have room. One of any length would be memory of the host's that no limit covers.
const MAX_AUTHORITY_BYTES: usize = 1 << 10;
