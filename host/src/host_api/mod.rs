//! What guests may import.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

pub(crate) mod direct;
pub(crate) mod http02;
pub(crate) mod http03;
pub(crate) mod link;
pub(crate) mod outgoing;
pub(crate) mod output;

/// The length that a head says; one that says it otherwise is refused elsewhere.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The longest method that a guest may give an outgoing request; RFC 9110 §9 has none over 7.
const MAX_METHOD_BYTES: usize = 64;

/// The longest authority that a guest may give an outgoing request: user information, a name of DNS (at most 253 bytes)
/// and a port have room. One of any length would be memory of the host's that no limit covers.
const MAX_AUTHORITY_BYTES: usize = 1 << 10;
