//! The paths of the admin listener, and the rules that all of them have in common.

use bytes::Bytes;
use daylily_core::authority;
use http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::OwnedSemaphorePermit;

use super::{MAX_SCRAPES, Server, health};
use crate::observer::metrics::{self, Format, Page};

/// The value of `cache-control` in every response.
pub(super) const NOT_STORED: &str = "no-store";

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// A path, and what answers it.
struct Path {
    path: &'static str,
    /// Whether it is answered only with the token, if there is one.
    needs_token: bool,
    handler: Handler,
}

enum Handler {
    Quick(fn(&Question<'_>) -> Answer),
    /// What takes long to make, which is done in a thread of its own.
    Metrics,
}

const fn open(path: &'static str, handler: fn(&Question<'_>) -> Answer) -> Path {
    Path { path, needs_token: false, handler: Handler::Quick(handler) }
}

const fn guarded(path: &'static str, handler: fn(&Question<'_>) -> Answer) -> Path {
    Path { path, needs_token: true, handler: Handler::Quick(handler) }
}

const PATHS: &[Path] = &[
    open("/livez", health::live),
    open("/readyz", health::ready),
    open("/startupz", health::started),
    Path { path: "/metrics", needs_token: true, handler: Handler::Metrics },
    guarded("/status", health::status),
];

/// What a handler is asked.
pub(super) struct Question<'a> {
    pub(super) server: &'a Server,
}

/// What a handler answers.
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    field: Option<(HeaderName, &'static str)>,
}

impl Answer {
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, body: body.into(), field: None }
    }

    pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::new(status, TEXT, text)
    }

    fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { field: Some((name, value)), ..self }
    }
}

/// A page of metrics, and the permit that it takes until its client has it.
struct Permitted {
    page: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Permitted {
    fn as_ref(&self) -> &[u8] {
        &self.page
    }
}

/// What all workers have counted, in the form that the client prefers. Health checks do not wait for it, and clients that
/// do not read their pages can make few of them.
async fn metrics(server: &Arc<Server>, accept: Option<&HeaderValue>) -> Answer {
    let Ok(permit) = Arc::clone(&server.scrapes).try_acquire_owned() else {
        let text = format!("{MAX_SCRAPES} clients are reading this page; try again later\n");
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, text).with(RETRY_AFTER, "1");
    };
    let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default());
    let of = Arc::clone(server);
    let written = tokio::task::spawn_blocking(move || {
        let server = of.page.read();
        let scrape = of.collected.scrape(server.as_ref());
        metrics::write(&Page::new(scrape, server), format)
    });
    match written.await {
        Ok(page) => {
            let body = Bytes::from_owner(Permitted { page, _permit: permit });
            Answer::new(StatusCode::OK, format.content_type(), body)
        }
        Err(_) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"),
    }
}

/// Answers a request. No request changes the server's state.
pub(super) async fn answer(server: &Arc<Server>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let accept = request.headers().get(ACCEPT);
    let answer = match check_host(server, request).and_then(|()| dispatch(server, request)) {
        Ok(Handler::Quick(handler)) => handler(&Question { server }),
        Ok(Handler::Metrics) => metrics(server, accept).await,
        Err(refusal) => refusal,
    };
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    *response.version_mut() = request.version();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(NOT_STORED));
    if let Some((name, value)) = answer.field {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if server.is_closing.load(Relaxed) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Finds what answers a request.
fn dispatch(server: &Server, request: &Request<Incoming>) -> Result<&'static Handler, Answer> {
    let Some(path) = PATHS.iter().find(|path| path.path == request.uri().path()) else {
        let paths: Vec<&str> = PATHS.iter().map(|path| path.path).collect();
        let text = format!("not found; the paths are {}\n", paths.join(", "));
        return Err(Answer::text(StatusCode::NOT_FOUND, text));
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let refusal = Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed here\n");
        return Err(refusal.with(ALLOW, "GET, HEAD"));
    }
    if path.needs_token && !has_token(server, request) {
        let text = "this path needs the token: send it as `authorization: Bearer TOKEN`\n";
        return Err(Answer::text(StatusCode::UNAUTHORIZED, text).with(WWW_AUTHENTICATE, "Bearer"));
    }
    Ok(&path.handler)
}

/// A web page can make a browser of this machine send requests to a loopback address, under a name of its own that
/// resolves to that address (DNS rebinding). Such a request has that name as its host.
fn check_host(server: &Server, request: &Request<Incoming>) -> Result<(), Answer> {
    let malformed = |text: &'static str| Answer::text(StatusCode::BAD_REQUEST, text);
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match hosts.next().map(HeaderValue::to_str) {
        Some(Ok(host)) => Some(host),
        Some(Err(_)) => return Err(malformed("malformed request: the host is not valid\n")),
        None if request.version() >= Version::HTTP_11 => return Err(malformed("malformed request: no host\n")),
        None => None,
    };
    if hosts.next().is_some() {
        return Err(malformed("malformed request: more than one host\n"));
    }
    let is_local = |host: &str| authority::parse(host).is_ok_and(|parsed| authority::is_loopback(parsed.host));
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    if !server.settings.is_loopback || host.into_iter().chain(target).all(is_local) {
        return Ok(());
    }
    let text = "the host is no name of this machine (localhost, 127.0.0.1 or [::1]): refused, because a web page can \
                make a browser send such a request (DNS rebinding)\n";
    Err(Answer::text(StatusCode::MISDIRECTED_REQUEST, text))
}

/// Whether there is no token, or the request has it. Digests are compared, in constant time: how long that takes says
/// nothing about the token.
fn has_token(server: &Server, request: &Request<Incoming>) -> bool {
    let Some(token) = &server.settings.token else { return true };
    let mut given = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return false };
    let Some((scheme, credentials)) = value.as_bytes().split_at_checked(b"bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && blake3::hash(credentials.trim_ascii()) == blake3::hash(token.as_bytes())
}
