//! `wasi:http`, P2 and P3, and the client of outgoing requests.

pub(crate) mod client;
pub(crate) mod fields;
pub(crate) mod p2;
pub(crate) mod p3;
pub(crate) mod received;
pub(crate) mod received_fields;

use bytes::Bytes;
use daylily_core::excerpt::Excerpt;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime::component::Linker;
use wasmtime_wasi_http::Error as HttpError;

use super::direct::MAX_TEXT_BYTES;
use super::state::State;
use crate::observe::mask::Mask;

/// A body in the type that wasmtime-wasi-http uses.
pub(crate) type GuestBody = UnsyncBoxBody<Bytes, HttpError>;

/// The guest's response, whose body may still be being written, or its error code.
pub(crate) type GuestResponse = Result<http::Response<GuestBody>, Excerpt>;

/// Adds `wasi:http` 0.2 to the linker of components.
pub(super) fn add_to_linker_p2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    p2::amend(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Adds `wasi:http` 0.3 to the linker of components.
pub(super) fn add_to_linker_p3(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p3::add_to_linker(linker)?;
    linker.allow_shadowing(true);
    p3::amend(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Why a body could not be read, for the log. If the text is of a guest, it has no secret that `mask` has.
pub(crate) fn describe_error(mut error: HttpError, mask: Option<&Mask>) -> Excerpt {
    let text = match &mut error {
        HttpError::DnsError { rcode: text, .. }
        | HttpError::TlsAlertReceived { alert_message: text, .. }
        | HttpError::HttpRequestHeaderSize { field_name: text, .. }
        | HttpError::HttpRequestTrailerSize { field_name: text, .. }
        | HttpError::HttpResponseHeaderSize { field_name: text, .. }
        | HttpError::HttpResponseTrailerSize { field_name: text, .. }
        | HttpError::HttpResponseTransferCoding(text)
        | HttpError::HttpResponseContentCoding(text)
        | HttpError::InternalError(text) => text.as_mut(),
        _ => None,
    };
    if let (Some(mask), Some(text)) = (mask, text) {
        // It may have been cut already, to no less than this.
        *text = mask.beginning(text, MAX_TEXT_BYTES - char::MAX_LEN_UTF8);
    }
    Excerpt::display(error)
}

/// The content-length of a head. An invalid one is rejected elsewhere.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The path and query that a guest sets for an outgoing request: an absolute path, a query, or nothing, which means the
/// path `/` (RFC 9112 §3.2.1). `*` is not allowed, and neither is a fragment, which is not sent to an origin (RFC 9110
/// §7.1).
pub(crate) fn path_with_query(text: &str) -> Option<PathAndQuery> {
    match text.as_bytes().first() {
        None => Some(PathAndQuery::from_static("/")),
        Some(b'/' | b'?') if !text.contains('#') => PathAndQuery::try_from(text).ok(),
        Some(_) => None,
    }
}

/// The longest method that a guest may set for an outgoing request; the methods of RFC 9110 §9 have at most 7 bytes.
pub(crate) const MAX_METHOD_BYTES: usize = 64;

/// The longest authority that a guest may set for an outgoing request: enough for user information, a DNS name (at most
/// 253 bytes) and a port. The limit exists because no memory limit of the host covers an authority.
pub(crate) const MAX_AUTHORITY_BYTES: usize = 1 << 10;
