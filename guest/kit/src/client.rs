//! Outgoing requests described by a query.

use query::Target;

use crate::wasi::http::types::{Fields, Method, OutgoingRequest, RequestOptions, Scheme};

/// The request that `url`, `path` and `method` describe, with the fields `traceparent` and `tracestate` if these are
/// given.
pub fn request(target: &Target) -> Result<OutgoingRequest, String> {
    let url = target.get("url").ok_or("no url")?;
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A url without a path makes a request without a path. `path` is set without changes.
    let path = target.get("path").or(Some(path).filter(|path| !path.is_empty()));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    let method = Method::Other(target.get("method").unwrap_or("GET").into());
    let fields = Fields::new();
    for name in ["traceparent", "tracestate"] {
        if let Some(value) = target.get(name) {
            fields.append(name, value.as_bytes()).map_err(|error| format!("{error:?}"))?;
        }
    }
    let request = OutgoingRequest::new(fields);
    let set = |what: &'static str| move |()| format!("{what} refused");
    request.set_scheme(Some(&scheme)).map_err(set("scheme"))?;
    request.set_authority(Some(authority)).map_err(set("authority"))?;
    request.set_path_with_query(path).map_err(set("path"))?;
    request.set_method(&method).map_err(set("method"))?;
    Ok(request)
}

/// The time-outs in `connect_ms`, `first_byte_ms` and `between_ms`.
pub fn options(target: &Target) -> RequestOptions {
    let nanos = |name| target.number(name).map(|ms| ms * 1_000_000);
    let options = RequestOptions::new();
    options.set_connect_timeout(nanos("connect_ms")).unwrap();
    options.set_first_byte_timeout(nanos("first_byte_ms")).unwrap();
    options.set_between_bytes_timeout(nanos("between_ms")).unwrap();
    options
}
