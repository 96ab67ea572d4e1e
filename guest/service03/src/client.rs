//! Outgoing requests. The query is that of the guest `outgoing`.

use query::Target;
use wit_bindgen::FutureReader;

use crate::wasi::http::client;
use crate::wasi::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme};
use crate::wit_future;

/// A request and the result of its transmission.
type Made = (Request, FutureReader<Result<(), ErrorCode>>);

/// The request that `url`, `path` and `method` describe; a POST has the body of the incoming request, with `length` as
/// its content-length.
fn request(target: &Target, incoming: Request) -> Result<Made, String> {
    let url = target.get("url").ok_or("no url")?;
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let options = RequestOptions::new();
    let nanos = |name| target.number(name).map(|ms| ms * 1_000_000);
    options.set_connect_timeout(nanos("connect_ms")).map_err(|e| format!("{e:?}"))?;
    options.set_first_byte_timeout(nanos("first_byte_ms")).map_err(|e| format!("{e:?}"))?;
    options.set_between_bytes_timeout(nanos("between_ms")).map_err(|e| format!("{e:?}"))?;
    let method = target.get("method").unwrap_or("GET");
    let fields = length(target, "length");
    for name in ["traceparent", "tracestate"] {
        if let Some(value) = target.get(name) {
            fields.append(name, value.as_bytes()).map_err(|error| format!("{error:?}"))?;
        }
    }
    let (request, sent) = if method == "POST" {
        let (body, end) = Request::consume_body(incoming, wit_future::new(|| Ok(())).1);
        Request::new(fields, Some(body), end, Some(options))
    } else {
        Request::new(fields, None, wit_future::new(|| Ok(None)).1, Some(options))
    };
    let refused = |what: &'static str| move |()| format!("{what} refused");
    let path = target.get("path").or(Some(path).filter(|path| !path.is_empty()));
    request
        .set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http }))
        .map_err(refused("scheme"))?;
    request.set_authority(Some(authority)).map_err(refused("authority"))?;
    request.set_path_with_query(path).map_err(refused("path"))?;
    request.set_method(&Method::Other(method.into())).map_err(refused("method"))?;
    Ok((request, sent))
}

/// Fields with the content-length in `name`.
pub fn length(target: &Target, name: &str) -> Fields {
    let length = target.get(name).map(|length| ("content-length".to_owned(), length.as_bytes().to_vec()));
    Fields::from_list(&Vec::from_iter(length)).unwrap()
}

pub async fn send(target: &Target, incoming: Request) -> Result<String, String> {
    let (request, _sent) = request(target, incoming)?;
    let response = client::send(request).await.map_err(|code| format!("{code:?}"))?;
    Ok(read(response).await)
}

async fn read(response: Response) -> String {
    let status = response.get_status_code();
    let (body, end) = Response::consume_body(response, wit_future::new(|| Ok(())).1);
    let bytes = body.collect().await;
    let body = String::from_utf8_lossy(&bytes);
    match end.await {
        Ok(_) => format!("status: {status}\n{body}"),
        Err(code) => format!("status: {status}\n{body}error: {code:?}\n"),
    }
}

/// The response to a request, and the result of its transmission.
pub async fn sent(target: &Target, incoming: Request) -> Result<String, String> {
    let (request, sent) = request(target, incoming)?;
    let answer = match client::send(request).await {
        Ok(response) => read(response).await,
        Err(code) => format!("error: {code:?}"),
    };
    Ok(format!("{}\nsent: {:?}\n", answer.trim_end(), sent.await))
}

/// Responds with the body of the origin's response, with `answer_length` as its content-length, and returns.
pub async fn relay(target: &Target, incoming: Request) -> Result<Response, String> {
    let (request, _sent) = request(target, incoming)?;
    let response = client::send(request).await.map_err(|code| format!("{code:?}"))?;
    let (body, end) = Response::consume_body(response, wit_future::new(|| Ok(())).1);
    Ok(Response::new(length(target, "answer_length"), Some(body), end).0)
}

/// The response to the same request at `authority`.
pub async fn circle(target: &Target, incoming: &Request) -> Result<String, String> {
    let (request, _sent) = Request::new(Fields::new(), None, wit_future::new(|| Ok(None)).1, None);
    request.set_scheme(Some(&Scheme::Http)).map_err(|()| "scheme refused")?;
    request.set_authority(target.get("authority")).map_err(|()| "authority refused")?;
    request.set_path_with_query(incoming.get_path_with_query().as_deref()).map_err(|()| "path refused")?;
    let response = client::send(request).await.map_err(|code| format!("{code:?}"))?;
    Ok(read(response).await)
}

/// The transmission result of a request that is never sent.
pub async fn unsent() -> String {
    let (request, sent) = Request::new(Fields::new(), None, wit_future::new(|| Ok(None)).1, None);
    drop(request);
    match sent.await {
        Ok(()) => "ok\n".into(),
        Err(code) => format!("err: {code:?}\n"),
    }
}
