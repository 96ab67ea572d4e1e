//! Answers every request with `Hello World`, in the terms of wasi:http 0.3.
//!
//! Without the standard library: futures can panic, and its panics write to stderr, which would import some
//! twenty functions more, for every request anew.
// Checked as a test, it has the test harness's standard library.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

#[cfg(not(test))]
mod lean;

use exports::wasi::http::handler::Guest;
use wasi::http::types::{ErrorCode, Fields, Request, Response};
use wit_bindgen::spawn_local;

wit_bindgen::generate!({ path: "../../wit/0.3", generate_all });

struct Hello;

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let headers = Fields::new();
        headers.append("content-type", b"text/plain").map_err(|_| ErrorCode::InternalError(None))?;
        let (mut writer, reader) = wit_stream::new();
        let (end, end_reader) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(reader), end_reader);
        spawn_local(async move {
            writer.write_all(b"Hello World\n".to_vec()).await;
            drop(writer);
            // Failing means that nobody wants to know.
            let _ = end.write(Ok(None)).await;
        });
        Ok(response)
    }
}

export!(Hello);
