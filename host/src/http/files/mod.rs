//! Static files: a route that answers from a directory, without a guest.

mod body;
mod coding;
mod conditions;
mod name;
mod open;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use daylily_core::config::{FilePattern, Route, StaticFiles};
use daylily_core::error_response::ErrorResponse;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
    LOCATION, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

pub(crate) use self::body::FileBody;
use self::coding::Coding;
use self::conditions::{Part, Version};
use self::name::Name;
use self::open::{Found, OpenFile, Root};
use crate::http::body::Body;
use crate::http::exchange::{Abort, Exchange};
use crate::http::navigation::is_navigation;
use crate::http::requester::Requester;
use crate::sys::drain::Drain;
use crate::wasi::file_threads::RouteFiles;

/// How long a file may take to be sent altogether. A client that takes nothing is cut off much earlier, after
/// `body_timeout`.
const MAX_TRANSFER: Duration = Duration::from_secs(24 * 3600);

/// The files of one route.
pub(crate) struct Files {
    root: Root,
    /// Bytes of a request's path before what the `*` of the route's stands for.
    prefix_bytes: usize,
    fallback: Option<Name>,
    cache_control: Vec<(FilePattern, HeaderValue)>,
    /// There is no component that gets what is not a file.
    is_alone: bool,
    stall: Duration,
}

/// What is asked for.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
}

/// A file that answers a request.
struct Selected {
    file: OpenFile,
    /// The file, or the one that it is a compressed form of.
    name: Name,
    coding: Option<Coding>,
    is_fallback: bool,
}

impl Files {
    /// Opens the directory of a route with `files`. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub(crate) fn open(route: &Route, files: &StaticFiles, threads: Arc<RouteFiles>) -> io::Result<Self> {
        let stall = route.limits.body_timeout;
        let root = Root::open(&files.dir, threads, stall)?;
        if let Some(fallback) = &files.fallback
            && !root.has_file(fallback)
        {
            return Err(io::Error::other(format!("there is no file `{fallback}`, which is its `fallback`")));
        }
        let rules = files.cache_control.iter();
        Ok(Self {
            root,
            prefix_bytes: route.path.prefix().map_or(0, str::len),
            fallback: files.fallback.as_deref().map(Name::configured),
            cache_control: rules
                .filter_map(|rule| Some((rule.files.clone(), HeaderValue::from_str(&rule.value).ok()?)))
                .collect(),
            is_alone: route.component.is_none(),
            stall,
        })
    }

    /// Answers a request if there is a file for it. None: the route's component gets it. Cancel safe.
    ///
    /// # Errors
    ///
    /// Without a component, `NoFile` and `MethodNotAllowed`. `Internal` when the file system fails.
    pub(crate) async fn answer(
        &self,
        asked: &Asked<'_>,
        requester: &Requester,
        exchange: &Arc<Exchange>,
        drain: &Drain,
    ) -> Result<Option<Response<Body>>, Abort> {
        if !matches!(*asked.method, Method::GET | Method::HEAD) {
            return if self.is_alone { Err(ErrorResponse::MethodNotAllowed.into()) } else { Ok(None) };
        }
        let selected = tokio::select! {
            biased;
            selected = self.select(asked) => selected?,
            () = requester.gone() => return Err(Abort::ClientGone),
            () = drain.cut_off() => return Err(ErrorResponse::ShuttingDown.into()),
        };
        let response = match selected {
            Selection::File(selected) => self.response(*selected, asked, exchange, drain),
            Selection::Redirect(location) => {
                exchange.mark_delivered();
                redirect(location)
            }
            Selection::Nothing if self.is_alone => return Err(ErrorResponse::NoFile.into()),
            Selection::Nothing => return Ok(None),
        };
        requester.bound_writes(tokio::time::Instant::now(), MAX_TRANSFER, self.stall);
        exchange.record().note_answered_by_file();
        exchange.record().set_status(response.status().as_u16());
        Ok(Some(response))
    }

    async fn select(&self, asked: &Asked<'_>) -> Result<Selection, ErrorResponse> {
        let path = asked.uri.path();
        let below = path.get(self.prefix_bytes..).unwrap_or_default();
        if let Some(name) = Name::parse(below).filter(|_| path.starts_with('/')) {
            let file = if name.is_directory() { name.index() } else { name.clone() };
            match self.root.find(&file).await? {
                Found::File(open) => {
                    return Ok(Selection::File(Box::new(self.with_coding(open, file, false, asked).await?)));
                }
                Found::Directory if !name.is_directory() && self.has_index(&name).await? => {
                    return Ok(Selection::Redirect(with_slash(asked)));
                }
                Found::Directory | Found::Nothing => {}
            }
        }
        match &self.fallback {
            Some(fallback) if is_navigation(asked.headers) => match self.root.find(fallback).await? {
                Found::File(open) => {
                    let selected = self.with_coding(open, fallback.clone(), true, asked).await?;
                    Ok(Selection::File(Box::new(selected)))
                }
                _ => Ok(Selection::Nothing),
            },
            _ => Ok(Selection::Nothing),
        }
    }

    async fn has_index(&self, directory: &Name) -> Result<bool, ErrorResponse> {
        Ok(matches!(self.root.find(&directory.index()).await?, Found::File(_)))
    }

    /// Selects a compressed sibling instead, if there is one that the client accepts and that is not older than the file.
    async fn with_coding(
        &self,
        file: OpenFile,
        name: Name,
        is_fallback: bool,
        asked: &Asked<'_>,
    ) -> Result<Selected, ErrorResponse> {
        if !is_compressed(content_type(&name)) {
            for coding in coding::accepted(asked.headers) {
                match self.root.find(&name.with(coding.suffix())).await? {
                    Found::File(sibling) if sibling.modified >= file.modified => {
                        return Ok(Selected { file: sibling, name, coding: Some(coding), is_fallback });
                    }
                    _ => {}
                }
            }
        }
        Ok(Selected { file, name, coding: None, is_fallback })
    }

    fn response(
        &self,
        selected: Selected,
        asked: &Asked<'_>,
        exchange: &Arc<Exchange>,
        drain: &Drain,
    ) -> Response<Body> {
        let Selected { file, name, coding, is_fallback } = selected;
        let version = Version::new(file.length, file.modified, SystemTime::now());
        let is_get = *asked.method == Method::GET;
        let (status, range) = match version.part(is_get, asked.headers) {
            Part::Whole => (StatusCode::OK, 0..version.length),
            Part::Bytes(range) => (StatusCode::PARTIAL_CONTENT, range),
            Part::NotModified => (StatusCode::NOT_MODIFIED, 0..0),
            Part::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, 0..0),
            Part::NotSatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
        };
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut set = |name, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(ETAG, &version.tag);
        set(LAST_MODIFIED, &version.date);
        set(ACCEPT_RANGES, "bytes");
        match status {
            StatusCode::PARTIAL_CONTENT => {
                set(CONTENT_RANGE, &format!("bytes {}-{}/{}", range.start, range.end - 1, version.length));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => set(CONTENT_RANGE, &format!("bytes */{}", version.length)),
            _ => {}
        }
        let length = range.end - range.start;
        if status.is_success() {
            set(CONTENT_TYPE, content_type(&name));
            set(CONTENT_LENGTH, &length.to_string());
            if let Some(coding) = coding {
                set(CONTENT_ENCODING, coding.name());
            }
        }
        let vary = if is_fallback { "accept-encoding, accept, sec-fetch-mode" } else { "accept-encoding" };
        headers.insert(VARY, HeaderValue::from_static(vary));
        if let Some((_, value)) = self.cache_control.iter().find(|(files, _)| files.matches(name.bytes())) {
            headers.insert(CACHE_CONTROL, value.clone());
        }
        let range = if is_get { range } else { 0..0 };
        let body = FileBody::new(file.file, range, self.root.threads(), exchange, drain);
        response.map(|()| Body::file(body))
    }
}

/// What answers a request.
enum Selection {
    File(Box<Selected>),
    /// To the same path with a slash at its end.
    Redirect(Option<HeaderValue>),
    Nothing,
}

/// The path and query with a slash after the path. The path begins with exactly one slash, so it stays on this host.
fn with_slash(asked: &Asked<'_>) -> Option<HeaderValue> {
    let query = asked.uri.query().map_or_else(String::new, |query| format!("?{query}"));
    HeaderValue::from_str(&format!("{}/{query}", asked.uri.path())).ok()
}

fn redirect(location: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::text(String::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Some(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The value of `content-type`, by the end of the name. Text is taken to be UTF-8.
fn content_type(name: &Name) -> &'static str {
    match mime_guess::from_path(name.path()).first_raw() {
        Some("text/html") => "text/html; charset=utf-8",
        Some("text/css") => "text/css; charset=utf-8",
        Some("text/javascript" | "application/javascript") => "text/javascript; charset=utf-8",
        Some("text/plain") => "text/plain; charset=utf-8",
        Some("text/markdown") => "text/markdown; charset=utf-8",
        Some("text/csv") => "text/csv; charset=utf-8",
        Some("text/xml") => "text/xml; charset=utf-8",
        Some(other) => other,
        None => "application/octet-stream",
    }
}

/// Whether files of a type are compressed already, so that they have no siblings.
fn is_compressed(content_type: &str) -> bool {
    let is_image = content_type.starts_with("image/") && !content_type.starts_with("image/svg");
    is_image
        || ["video/", "audio/"].iter().any(|family| content_type.starts_with(family))
        || matches!(content_type, "font/woff" | "font/woff2" | "application/zip" | "application/gzip")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        fn check(name: &str, expected: &str, is_compressed_type: bool) {
            let found = content_type(&Name::configured(name));
            assert_eq!((found, is_compressed(found)), (expected, is_compressed_type), "{name}");
        }
        check("index.html", "text/html; charset=utf-8", false);
        check("a/b.CSS", "text/css; charset=utf-8", false);
        check("app.js", "text/javascript; charset=utf-8", false);
        check("app.mjs", "text/javascript; charset=utf-8", false);
        check("data.json", "application/json", false);
        check("app.wasm", "application/wasm", false);
        check("logo.svg", "image/svg+xml", false);
        check("photo.jpg", "image/jpeg", true);
        check("photo.webp", "image/webp", true);
        check("font.woff2", "font/woff2", true);
        check("site.webmanifest", "application/manifest+json", false);
        check("LICENSE", "application/octet-stream", false);
        check("unknown.zzz", "application/octet-stream", false);
    }
}
