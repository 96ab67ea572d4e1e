//! Answers every request with `Hello World`.

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

// Writes the modules used above, from the interfaces in wit/0.2.
wit_bindgen::generate!({ path: "../../wit/0.2", generate_all });

struct Hello;

impl Guest for Hello {
    /// Called once: the next request is answered by another instance, which knows nothing of this one.
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        // Whoever cannot be answered gets an error from the host.
        let _ = answer(out);
    }
}

/// `?` and not `unwrap`, because the machinery of panics would triple the size of the component and
/// import eleven more interfaces, for every request anew.
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
