//! Appends every `name=value` of the query to the response's headers. `/forbidden` tries the headers that only the host
//! may set. The body has the result for each header: `name: ok`, `forbidden`, or `invalid`.

use kit::wasi::http::types::HeaderError;
use kit::{Answer, Fields, IncomingRequest, ResponseOutparam};

const HOPS: &[(&str, &str)] = &[
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("host", "example.com"),
    ("keep-alive", "timeout=5"),
    ("te", "trailers"),
    ("upgrade", "h2c"),
    ("proxy-connection", "close"),
    ("http2-settings", "x"),
];

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    let headers = Fields::new();
    let mut report = String::new();
    let mut append = |name: &str, value: &str| {
        let result = match headers.append(name, value.as_bytes()) {
            Ok(()) => "ok",
            Err(HeaderError::Forbidden) => "forbidden",
            Err(HeaderError::InvalidSyntax) => "invalid",
            Err(_) => "refused",
        };
        report.push_str(&format!("{name}: {result}\n"));
    };
    match target.path() {
        "/forbidden" => HOPS.iter().for_each(|(name, value)| append(name, value)),
        _ => target.query().for_each(|(name, value)| append(name, value)),
    }
    let answer = Answer::start_with(out, 200, headers);
    let _ = answer.write(report.as_bytes());
    answer.finish(None);
}

kit::serve!(handle);
