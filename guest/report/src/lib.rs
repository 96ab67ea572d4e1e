//! Responds with a description of the request: one line each for method, scheme, authority and path, and for each
//! header, sorted.

use kit::wasi::http::types::{Method, Scheme};
use kit::{IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let mut lines = vec![
        format!("method: {}", method(request.method())),
        format!("scheme: {}", scheme(request.scheme())),
        format!("authority: {}", request.authority().as_deref().unwrap_or("none")),
        format!("path: {}", request.path_with_query().as_deref().unwrap_or("none")),
    ];
    let mut headers: Vec<_> = request.headers().entries();
    headers.sort();
    for (name, value) in headers {
        lines.push(format!("header: {name}={}", String::from_utf8_lossy(&value)));
    }
    lines.push(String::new());
    kit::text(out, &lines.join("\n"));
}

fn method(method: Method) -> String {
    match method {
        Method::Other(name) => name,
        known => format!("{known:?}").trim_start_matches("Method::").to_uppercase(),
    }
}

fn scheme(scheme: Option<Scheme>) -> String {
    match scheme {
        None => "none".into(),
        Some(Scheme::Http) => "http".into(),
        Some(Scheme::Https) => "https".into(),
        Some(Scheme::Other(name)) => name,
    }
}

kit::serve!(handle);
