//! Responses, whose bodies are written after the handler has returned.

use query::Target;
use wit_bindgen::{StreamReader, StreamResult, StreamWriter, spawn_local};

use crate::client::length;
use crate::wasi::cli::stderr;
use crate::wasi::clocks::monotonic_clock::wait_for;
use crate::wasi::http::types::{ErrorCode, Fields, Request, Response};
use crate::{wit_future, wit_stream};

/// How a body ends.
type End = Result<Option<Fields>, ErrorCode>;

fn start<F>(headers: Fields, body: impl FnOnce(StreamWriter<u8>) -> F) -> Response
where
    F: Future<Output = End> + 'static,
{
    start_then(headers, body, || {})
}

/// Does `then` after the end of the body and the trailers.
fn start_then<F>(headers: Fields, body: impl FnOnce(StreamWriter<u8>) -> F, then: impl FnOnce() + 'static) -> Response
where
    F: Future<Output = End> + 'static,
{
    let (writer, reader) = wit_stream::new();
    let (end, end_reader) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(reader), end_reader);
    let body = body(writer);
    spawn_local(async move {
        // An error means that the reader was dropped.
        let _ = end.write(body.await).await;
        then();
    });
    response
}

pub fn text(text: String) -> Response {
    partial_with(text, Fields::new(), || {})
}

/// A text of `kib` KiB that becomes five times as long when it is escaped.
pub fn long(target: &Target) -> String {
    "\u{1}".repeat(target.number("kib").unwrap_or(1) as usize * 1024)
}

/// A body that ends with an error code.
pub fn failing(code: ErrorCode) -> Response {
    start(Fields::new(), |_| async { Err(code) })
}

/// No body at all.
pub fn bare(status: u16) -> Response {
    let (response, _sent) = Response::new(Fields::new(), None, wit_future::new(|| Ok(None)).1);
    response.set_status_code(status).unwrap();
    response
}

/// Writes `text`, ends the body, and does `then`.
pub fn whole(text: &str, then: impl FnOnce() + 'static) -> Response {
    let text = text.as_bytes().to_vec();
    let body = |mut writer: StreamWriter<u8>| async move {
        writer.write_all(text).await;
        Ok(None)
    };
    start_then(Fields::new(), body, then)
}

/// Does `then` before the body begins.
pub fn nothing(then: impl FnOnce() + 'static) -> Response {
    start(Fields::new(), |_writer| async {
        then();
        Ok(None)
    })
}

/// Writes `text`, does `then`, and ends the body.
pub fn partial(text: &str, headers: &[(&str, &str)], then: impl FnOnce() + 'static) -> Response {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    partial_with(text.into(), Fields::from_list(&headers).unwrap(), then)
}

fn partial_with(text: String, headers: Fields, then: impl FnOnce() + 'static) -> Response {
    headers.append("content-type", b"text/plain").unwrap();
    start(headers, |mut writer| async move {
        writer.write_all(text.into_bytes()).await;
        then();
        Ok(None)
    })
}

pub fn stream(target: Target) -> Response {
    start(Fields::new(), |mut writer| async move {
        let size = target.number("size").unwrap_or(1) as usize;
        for _ in 0..target.number("chunks").unwrap_or(1) {
            if let Some(ms) = target.number("pause_ms") {
                wait_for(ms * 1_000_000).await;
            }
            if !writer.write_all(vec![b'x'; size]).await.is_empty() {
                break;
            }
        }
        Ok(None)
    })
}

/// Sends the request's body and trailers back, copied through the guest's memory.
pub fn echo(request: Request) -> Response {
    let headers = Fields::new();
    // Only the trailers that `trailer` names are sent.
    for value in request.get_headers().get("trailer") {
        headers.append("trailer", &value).unwrap();
    }
    let (mut body, end) = Request::consume_body(request, wit_future::new(|| Ok(())).1);
    start(headers, |mut writer| async move {
        copy(&mut body, &mut writer).await;
        drop(writer);
        end.await.map(|trailers| trailers.map(|trailers| trailers.clone()))
    })
}

async fn copy(from: &mut StreamReader<u8>, to: &mut StreamWriter<u8>) {
    let mut buffer = Vec::with_capacity(65_536);
    while let (StreamResult::Complete(_), bytes) = from.read(buffer).await {
        buffer = to.write_all(bytes).await;
        if !buffer.is_empty() {
            return;
        }
    }
}

/// Passes the request's own streams on as those of the response, with `length` as its content-length. With `tag`,
/// prints the result of its transmission.
pub fn pass(target: &Target, request: Request) -> Response {
    let (body, end) = Request::consume_body(request, wit_future::new(|| Ok(())).1);
    let (response, sent) = Response::new(length(target, "length"), Some(body), end);
    if let Some(tag) = target.get("tag").map(str::to_owned) {
        spawn_local(async move { eprintln!("passed {tag}: {:?}", sent.await) });
    }
    response
}

/// Runs for `ms` more milliseconds, and then prints that.
pub async fn late(ms: u64) {
    wait_for(ms * 1_000_000).await;
    let (mut writer, reader) = wit_stream::new();
    let written = stderr::write_via_stream(reader);
    writer.write_all(b"late done\n".to_vec()).await;
    drop(writer);
    let _ = written.await;
}
