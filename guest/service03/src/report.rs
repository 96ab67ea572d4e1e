//! The description of a request that the guest `report` sends, for wasi:http 0.3.

use crate::wasi::http::types::{Method, Request, Scheme};

pub fn describe(request: &Request) -> String {
    let mut lines = vec![
        format!("method: {}", method(request.get_method())),
        format!("scheme: {}", scheme(request.get_scheme())),
        format!("authority: {}", request.get_authority().as_deref().unwrap_or("none")),
        format!("path: {}", request.get_path_with_query().as_deref().unwrap_or("none")),
    ];
    let mut headers = request.get_headers().copy_all();
    headers.sort();
    for (name, value) in headers {
        lines.push(format!("header: {name}={}", String::from_utf8_lossy(&value)));
    }
    lines.push(String::new());
    lines.join("\n")
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
