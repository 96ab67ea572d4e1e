//! Header fields that guests may neither set nor see.

use http::header::{self, HeaderMap, HeaderName};

/// Fields that belong to one connection and not to the message (RFC 9110 §7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether guests may neither set nor see this field: those that wasmtime-wasi-http forbids by default, and `te`, which
/// belongs to the connection, too (RFC 9110 §10.1.4).
///
/// Called for each field of each request and response, so it neither allocates nor hashes.
pub(crate) fn is_forbidden_header(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes the fields that guests may not set.
pub(crate) fn remove_forbidden(headers: &mut HeaderMap) {
    let forbidden: Vec<_> = headers.keys().filter(|name| is_forbidden_header(name)).cloned().collect();
    for name in forbidden {
        headers.remove(name);
    }
}

/// Removes the fields that belong to one connection, with those that `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether `Connection` has this option (RFC 9110 §7.6.1).
pub(crate) fn has_connection_option(headers: &HeaderMap, option: &str) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(option))
}

/// The fields that `Connection` names (RFC 9110 §7.6.1). Allocates only if there are any.
pub(crate) fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbids_the_defaults_and_te() {
        for name in &wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS {
            assert!(is_forbidden_header(name), "{name}");
        }
        assert!(is_forbidden_header(&header::TE));
        for name in [header::ACCEPT, header::TRAILER, header::CONTENT_LENGTH] {
            assert!(!is_forbidden_header(&name), "{name}");
        }
    }

    #[test]
    fn removes_what_connection_names() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("connection", "\t x-other ,, bad name"),
            ("x-hop", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("x-end", "3"),
        ] {
            headers.append(HeaderName::from_static(name), http::HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-end"]);
    }
}
