//! Responds to every request with `Hello World`.

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

// Generates the modules used above from the interfaces in wit/0.2.
wit_bindgen::generate!({ path: "../../wit/0.2", generate_all });

struct Hello;

impl Guest for Hello {
    /// Called once per instance: the next request gets another instance, which shares no state with this one.
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        // Without a response, the host sends an error response to the client.
        let _ = answer(out);
    }
}

/// Uses `?` instead of `unwrap`, because panic handling would triple the size of the component and add eleven imported
/// interfaces, which every request would pay for.
fn answer(out: ResponseOutparam) -> Option<()> {
    let headers = Fields::new();
    headers.append("content-type", b"text/plain").ok()?;

    let response = OutgoingResponse::new(headers);
    let body = response.body().ok()?;
    ResponseOutparam::set(out, Ok(response));

    let stream = body.write().ok()?;
    stream.blocking_write_and_flush(b"Hello World\n").ok()?;
    drop(stream);
    OutgoingBody::finish(body, None).ok()
}

export!(Hello);
