//! Checks and prepares a request before the guest gets it: the rules of RFC 9112 and RFC 9110 for its target and
//! `Host`, the header fields that guests do not get, and the limits on its body.

mod body;

use std::sync::Arc;

use daylily_core::authority::{self, Authority};
use daylily_core::config::RouteLimits;
use daylily_core::error_response::ErrorResponse;
use daylily_core::excerpt::Excerpt;
use daylily_core::internal;
use daylily_core::route::Target;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::{Method, Request, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;

use crate::http::admission::RouteShare;
use crate::http::connection::InRequest;
use crate::http::exchange::Exchange;
use crate::http::requester::Requester;
use crate::message::fields::named_by_connection;
use crate::message::transfer_coding::{self, CodingError};
use crate::wasi::http::client::RequestBody;

pub(crate) use self::body::InboundBody;
use self::body::Source;

/// Rejects requests that hyper accepts although they are invalid.
///
/// # Errors
///
/// `Malformed` for a target with a fragment, for an invalid `Transfer-Encoding`, for a head whose end is ambiguous, and
/// for a request whose response could not be cut visibly;
/// `UnknownCoding` for a coding other than `chunked` before `chunked`.
pub(crate) fn check_framing(request: &Request<Incoming>, in_request: &InRequest) -> Result<(), ErrorResponse> {
    let malformed = |detail: &str| ErrorResponse::Malformed { detail: detail.into() };
    if !in_request.head().is_agreed {
        return Err(malformed("the end of the head is ambiguous"));
    }
    if in_request.head().has_fragment {
        return Err(malformed("the target has a fragment"));
    }
    if !in_request.can_be_cut() {
        return Err(malformed("HTTP/1.0 follows HTTP/1.1 on one connection of a Unix socket"));
    }
    if request.body().size_hint().exact().is_some() {
        // hyper reads a body as chunked only if there is a Transfer-Encoding.
        return Ok(());
    }
    let codings = request.headers().get_all(TRANSFER_ENCODING);
    transfer_coding::judge(codings.iter().map(http::HeaderValue::as_bytes)).map_err(|error| match error {
        CodingError::Malformed(detail) => malformed(detail),
        CodingError::Unknown => ErrorResponse::UnknownCoding,
    })
}

/// Reads the target. The authority of an absolute-form target takes precedence over `Host` (RFC 9112 §3.2.2).
///
/// # Errors
///
/// `Malformed` for a missing (HTTP/1.1), repeated or invalid `Host` (RFC 9112 §3.2), for `CONNECT`, and for a target
/// whose scheme is not http or https; `ReservedHost` for a host that only guests may use.
pub(crate) fn target<B>(request: &Request<B>) -> Result<Target<'_>, ErrorResponse> {
    let malformed = |detail: Excerpt| ErrorResponse::Malformed { detail };
    if request.method() == Method::CONNECT {
        return Err(malformed("the method CONNECT is not supported".into()));
    }
    let uri = request.uri();
    if let Some(scheme) = uri.scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        return Err(malformed(Excerpt::display(format_args!("the target's scheme is `{scheme}`, not http or https"))));
    }
    let path = uri.path();
    let is_server_wide = path == "*" && request.method() == Method::OPTIONS;
    if !path.starts_with('/') && !is_server_wide {
        return Err(malformed("the target is not a path".into()));
    }
    let field = host_field(request)?;
    let authority = match uri.authority().map(|authority| authority::parse(authority.as_str())) {
        None => field,
        Some(Ok(authority)) => Some(authority),
        Some(Err(error)) => {
            return Err(malformed(Excerpt::display(format_args!("the target's authority is invalid: {error}"))));
        }
    };
    let host = authority.map(|authority| authority.host);
    if host.is_some_and(internal::is_reserved) {
        return Err(ErrorResponse::ReservedHost);
    }
    Ok(Target { host, path })
}

fn host_field<B>(request: &Request<B>) -> Result<Option<Authority<'_>>, ErrorResponse> {
    let malformed = |detail: Excerpt| ErrorResponse::Malformed { detail };
    let mut values = request.headers().get_all(HOST).iter();
    let Some(value) = values.next() else {
        return match request.version() {
            Version::HTTP_09 | Version::HTTP_10 => Ok(None),
            _ => Err(malformed("the Host field is missing".into())),
        };
    };
    if values.next().is_some() {
        return Err(malformed("there is more than one Host field".into()));
    }
    let value = value.to_str().map_err(|_| malformed("Host has characters that are not ASCII".into()))?;
    let authority = authority::parse(value);
    authority.map(Some).map_err(|error| malformed(Excerpt::display(format_args!("Host is invalid: {error}"))))
}

/// Makes the request that the guest gets: without hop-by-hop fields, and with limits on its body.
///
/// # Errors
///
/// `BodyTooLarge` when the announced length is over the limit.
pub(crate) fn prepare(
    mut request: Request<Incoming>,
    limits: &RouteLimits,
    share: &RouteShare,
    exchange: &Arc<Exchange>,
    requester: &Requester,
) -> Result<Request<InboundBody>, ErrorResponse> {
    let announced = request.body().size_hint().exact();
    // `Expect` is ignored in a request without a body (RFC 9110 §10.1.1).
    let is_expected = announced != Some(0) && request.headers().contains_key(EXPECT);
    // `target` has rejected an HTTP/1.1 request without `Host`.
    let may_lack_host = request.version() < Version::HTTP_11;
    let headers = request.headers_mut();
    let nominated = named_by_connection(headers);
    remove_nominated(headers, &nominated);
    if may_lack_host
        && !headers.contains_key(HOST)
        && let Requester::Client(connection) = requester
    {
        // Guests see the address that the client connected to.
        headers.insert(HOST, connection.local_authority());
    }
    let (mut parts, body) = request.into_parts();
    root_path(&mut parts.uri);
    let mut body = InboundBody::new(Source::Client(body), limits, share, exchange, requester);
    (body.is_expected, body.nominated) = (is_expected, nominated);
    if announced.is_some_and(|announced| announced > limits.max_body_bytes) {
        return Err(ErrorResponse::BodyTooLarge);
    }
    Ok(Request::from_parts(parts, body))
}

/// Makes the request that a guest gets from another guest of this worker.
///
/// # Errors
///
/// As [`prepare`].
pub(crate) fn prepare_inner(
    request: Request<RequestBody>,
    limits: &RouteLimits,
    share: &RouteShare,
    exchange: &Arc<Exchange>,
    requester: &Requester,
) -> Result<Request<InboundBody>, ErrorResponse> {
    if request.body().size_hint().exact().is_some_and(|announced| announced > limits.max_body_bytes) {
        return Err(ErrorResponse::BodyTooLarge);
    }
    Ok(request.map(|body| InboundBody::new(Source::Guest(body), limits, share, exchange, requester)))
}

/// The path of `http://host?query` is `/` (RFC 9110 §4.2.3).
fn root_path(uri: &mut Uri) {
    let Some(path) = uri.path_and_query().filter(|path| path.as_str().starts_with('?')) else { return };
    let rooted = format!("/{}", path.as_str()).parse().ok();
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = rooted;
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// Removes the fields that `Connection` nominates (RFC 9110 §7.6.1). The well-known hop-by-hop fields are removed
/// elsewhere, with the other fields that guests never see. `Content-Length` and `Host` stay: a sender may not nominate
/// them.
fn remove_nominated(headers: &mut HeaderMap, nominated: &[HeaderName]) {
    for name in nominated {
        if *name != CONTENT_LENGTH && *name != HOST {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Frame;

    use super::body::clean_trailers;
    use super::*;

    /// `expected` is `Ok((host, path))`, or a part of the error's text.
    fn check(head: &str, expected: Result<(Option<&str>, &str), &str>) {
        let mut lines = head.split('\n');
        let mut first = lines.next().unwrap_or_default().split(' ');
        let mut next = || first.next().unwrap_or_default();
        let mut request = Request::builder().method(next()).uri(next()).version(match next() {
            "1.0" => Version::HTTP_10,
            _ => Version::HTTP_11,
        });
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            request = request.header(name, value);
        }
        let request = request.body(()).unwrap_or_default();
        let seen = target(&request).map(|target| (target.host, target.path)).map_err(|refusal| refusal.to_string());
        match (seen, expected) {
            (Err(seen), Err(expected)) => assert!(seen.contains(expected), "{head}: {seen}"),
            (seen, expected) => assert_eq!(seen, expected.map_err(str::to_owned), "{head}"),
        }
    }

    #[test]
    fn reads_targets() {
        check("GET / 1.1\nhost: a.example", Ok((Some("a.example"), "/")));
        check("GET /x?y 1.1\nhost: a.example:8080", Ok((Some("a.example"), "/x")));
        check("GET / 1.0", Ok((None, "/")));
        check("GET http://b.example/p 1.1\nhost: a.example", Ok((Some("b.example"), "/p")));
        check("OPTIONS * 1.1\nhost: a.example", Ok((Some("a.example"), "*")));
        check("GET / 1.1\nhost: users.daylily.internal.example", Ok((Some("users.daylily.internal.example"), "/")));
        check("GET / 1.1\nhost: [::1]:80", Ok((Some("[::1]"), "/")));
    }

    #[test]
    fn refuses_what_rfc_9112_forbids() {
        check("GET / 1.1", Err("the Host field is missing"));
        check("GET / 1.1\nhost: a\nhost: a", Err("more than one Host"));
        check("GET / 1.0\nhost: a\nhost: b", Err("more than one Host"));
        check("GET / 1.1\nhost: a b", Err("Host is invalid"));
        check("GET / 1.1\nhost: ", Err("Host is invalid"));
        check("GET / 1.1\nhost: user@a", Err("Host is invalid"));
        check("GET http://a/ 1.1", Err("the Host field is missing"));
        check("GET http://a/ 1.1\nhost: b/c", Err("Host is invalid"));
        check("GET ftp://a/ 1.1\nhost: a", Err("scheme is `ftp`"));
        check("GET * 1.1\nhost: a", Err("not a path"));
        check("CONNECT a:80 1.1\nhost: a:80", Err("CONNECT"));
    }

    #[test]
    fn refuses_reserved_hosts() {
        check("GET / 1.1\nhost: users.daylily.internal:80", Err("reserved"));
        check("GET / 1.1\nhost: Daylily.Internal.", Err("reserved"));
        check("GET http://a.daylily.internal/ 1.1\nhost: a", Err("reserved"));
    }

    #[test]
    fn removes_what_connection_names() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("connection", "content-length"),
            ("x-hop", "1"),
            ("x-end", "2"),
            ("content-length", "3"),
        ] {
            headers.append(HeaderName::from_static(name), http::HeaderValue::from_static(value));
        }
        let nominated = named_by_connection(&headers);
        remove_nominated(&mut headers, &nominated);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert!(!left.contains(&"x-hop") && left.contains(&"x-end") && left.contains(&"content-length"), "{left:?}");
    }

    #[test]
    fn trailers_are_not_about_framing_or_the_connection() {
        let mut trailers = HeaderMap::new();
        for name in ["x-hop", "x-end", "connection", "content-length", "transfer-encoding", "host", "te", "tracestate"]
        {
            trailers.append(HeaderName::from_static(name), http::HeaderValue::from_static("1"));
        }
        let frame = clean_trailers(Frame::trailers(trailers), &[HeaderName::from_static("x-hop")]);
        let left: Vec<String> = frame.into_trailers().unwrap().keys().map(ToString::to_string).collect();
        assert_eq!(left, ["x-end"]);
    }
}
