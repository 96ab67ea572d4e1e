//! What `daylily dev` adds to a worker: pages that reload themselves, errors as pages, and a check of `Host`.

mod events;
mod page;

use std::net::Ipv4Addr;

use bytes::Bytes;
use daylily_core::authority;
use daylily_core::error_response::ErrorResponse;
use daylily_core::route::{HostPattern, Target};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

pub(crate) use self::events::Events;
use crate::http::body::Body;
use crate::http::exchange::Exchange;
use crate::http::navigation::is_navigation;
use crate::http::server::Worker;

/// The script in each page, and the events that it waits for. Requests for them do not reach the application.
const SCRIPT: &str = "/.daylily/dev.js";
const EVENTS: &str = "/.daylily/events";

/// What the supervisor tells the workers of one generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DevSettings {
    /// Differs for each generation: a page of another one is outdated.
    pub(crate) version: String,
    /// Why the generation does not serve the present sources.
    pub(crate) notice: Option<Notice>,
    /// The hosts of the addresses and of the routes in the configuration, which are names of this server.
    pub(crate) hosts: Vec<HostPattern>,
}

/// What browsers are shown instead of a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Notice {
    pub(crate) title: String,
    pub(crate) text: String,
}

/// The part of a worker that only `daylily dev` has.
pub(crate) struct DevServer {
    settings: DevSettings,
    /// What is appended to pages.
    tag: Bytes,
}

/// A request, as far as what is added to its response depends on it.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    is_head: bool,
    /// GET or HEAD: a page that answers another method cannot be loaded again.
    is_get: bool,
    /// A browser loads a page, which may be in a frame.
    is_navigation: bool,
    /// The page in a frame is loaded again by the page that it is in.
    is_framed: bool,
}

impl DevServer {
    pub(crate) fn new(settings: DevSettings) -> Self {
        let tag = format!("\n<script src=\"{SCRIPT}?{}\"></script>\n", settings.version).into();
        Self { settings, tag }
    }

    /// What the response to a request depends on. A browser that loads a page gets all of it, since a page that it has
    /// may be without the script.
    pub(crate) fn asked<B>(request: &mut Request<B>) -> Asked {
        let headers = request.headers();
        let is_framed = headers.get("sec-fetch-dest").is_some_and(|dest| dest != "document");
        let is_navigation = is_navigation(headers);
        if is_navigation && !is_framed {
            for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE] {
                request.headers_mut().remove(name);
            }
        }
        let is_head = request.method() == Method::HEAD;
        Asked { is_head, is_get: is_head || request.method() == Method::GET, is_navigation, is_framed }
    }

    /// The response of the development server itself, if the request is not for the application. `is_remote` says that
    /// the client has an address: no name leads to a Unix socket.
    ///
    /// # Errors
    ///
    /// When the request has a host that is no name of this server.
    pub(crate) fn answer<B>(
        &self,
        worker: &Worker,
        target: &Target<'_>,
        (request, asked): (&Request<B>, Asked),
        exchange: &Exchange,
        is_remote: bool,
    ) -> Result<Option<Response<Body>>, ErrorResponse> {
        if is_remote && target.host.is_some_and(|host| !self.is_own(host)) {
            return Err(ErrorResponse::ForeignHost);
        }
        let is_get = asked.is_get && !asked.is_head;
        let response = match request.uri().path() {
            SCRIPT if is_get => own("text/javascript; charset=utf-8", Body::text(page::SCRIPT.to_owned())),
            EVENTS if is_get => {
                own("text/event-stream", Body::events(Events::new(&self.settings.version, &worker.drain)))
            }
            _ => match &self.settings.notice {
                Some(notice) if is_get && asked.is_navigation => {
                    let page = page::error(&notice.title, "", &notice.text);
                    failed(own("text/html; charset=utf-8", Body::text(page)))
                }
                Some(notice) if worker.routes.is_empty() => {
                    let text = format!("{}\n\n{}\n", notice.title, notice.text);
                    failed(own("text/plain; charset=utf-8", Body::text(text)))
                }
                _ => return Ok(None),
            },
        };
        let record = exchange.record();
        record.set_status(response.status().as_u16());
        record.add_bytes_out(response.body().len());
        exchange.mark_delivered();
        Ok(Some(response))
    }

    /// Whether a browser that has this host in its address bar was sent here on purpose, and not by a page whose name
    /// resolves to this machine (DNS rebinding). An address cannot be such a name.
    fn is_own(&self, host: &str) -> bool {
        let name = host.strip_suffix('.').unwrap_or(host);
        name.starts_with('[')
            || name.parse::<Ipv4Addr>().is_ok()
            || authority::is_loopback(name)
            || name.to_ascii_lowercase().ends_with(".localhost")
            || self.settings.hosts.iter().any(|own| own.matches(host))
    }

    /// Makes a page of an error response, adds the script to pages, and makes browsers ask for files again after a reload.
    pub(crate) fn finish(&self, asked: Asked, mut response: Response<Body>) -> Response<Body> {
        if response.body().is_file() {
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        if !asked.is_navigation || asked.is_framed {
            return response;
        }
        if !asked.is_head && is_error_response(&response) {
            response = as_page(response);
        }
        if asked.is_get && is_page(&response) {
            self.add_script(asked, &mut response);
        }
        response
    }

    fn add_script(&self, asked: Asked, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        // They are those of the page without the script.
        for name in [ETAG, LAST_MODIFIED, ACCEPT_RANGES] {
            headers.remove(name);
        }
        if let Some(length) = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok()) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length.saturating_add(self.tag.len() as u64)));
        }
        if !asked.is_head {
            response.body_mut().append(self.tag.clone());
        }
    }
}

/// Whether the response is an error that no guest has sent, as text.
fn is_error_response(response: &Response<Body>) -> bool {
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let kind = response.headers().get(CONTENT_TYPE);
    is_error && response.body().is_by_host() && kind.is_some_and(|kind| kind == "text/plain")
}

/// The text of an error response as a page. Its first line is the title, and the lines up to an empty one say more.
fn as_page(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let text = body.into_text();
    let (first, sections) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let (title, reason) = first.split_once('\n').unwrap_or((first, ""));
    let page = page::error(title, reason, sections);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    Response::from_parts(head, Body::text(page))
}

/// Whether a script can be appended: the response is a whole page in HTML, without a coding.
fn is_page(response: &Response<Body>) -> bool {
    let headers = response.headers();
    let is_html = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html")));
    let has_body = !matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT
    );
    is_html && has_body && !headers.contains_key(CONTENT_ENCODING)
}

fn own(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn failed(mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
