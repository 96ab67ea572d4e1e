//! Outgoing requests. The query is that of the guest `outgoing`.

use query::Target;

use crate::wasi::http::client;
use crate::wasi::http::types::{Fields, Method, Request, RequestOptions, Response, Scheme};
use crate::wit_future;

pub async fn send(target: &Target, incoming: Request) -> Result<String, String> {
    let url = target.get("url").ok_or("no url")?;
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let options = RequestOptions::new();
    let nanos = |name| target.number(name).map(|ms| ms * 1_000_000);
    options.set_connect_timeout(nanos("connect_ms")).map_err(|e| format!("{e:?}"))?;
    options.set_first_byte_timeout(nanos("first_byte_ms")).map_err(|e| format!("{e:?}"))?;
    options.set_between_bytes_timeout(nanos("between_ms")).map_err(|e| format!("{e:?}"))?;
    let method = target.get("method").unwrap_or("GET");
    let (request, _sent) = if method == "POST" {
        let (body, end) = Request::consume_body(incoming, wit_future::new(|| Ok(())).1);
        Request::new(Fields::new(), Some(body), end, Some(options))
    } else {
        Request::new(Fields::new(), None, wit_future::new(|| Ok(None)).1, Some(options))
    };
    let refused = |()| "request refused";
    request.set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http })).map_err(refused)?;
    request.set_authority(Some(authority)).map_err(refused)?;
    request.set_path_with_query(Some(path).filter(|path| !path.is_empty())).map_err(refused)?;
    request.set_method(&Method::Other(method.into())).map_err(refused)?;
    let response = client::send(request).await.map_err(|code| format!("{code:?}"))?;
    let status = response.get_status_code();
    let (body, end) = Response::consume_body(response, wit_future::new(|| Ok(())).1);
    let bytes = body.collect().await;
    let body = String::from_utf8_lossy(&bytes);
    Ok(match end.await {
        Ok(_) => format!("status: {status}\n{body}"),
        Err(code) => format!("status: {status}\n{body}error: {code:?}\n"),
    })
}

/// What a request that was never sent says of its transmission.
pub async fn unsent() -> String {
    let (request, sent) = Request::new(Fields::new(), None, wit_future::new(|| Ok(None)).1, None);
    drop(request);
    match sent.await {
        Ok(()) => "ok\n".into(),
        Err(code) => format!("err: {code:?}\n"),
    }
}
