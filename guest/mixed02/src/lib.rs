//! Imports several versions of WASI 0.2 at once, uses each, and responds with `ok`.

use std::hint::black_box;

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wit_bindgen::generate!({ path: "wit", generate_all });

struct Component;

impl Guest for Component {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let _ = answer(out);
    }
}

fn answer(out: ResponseOutparam) -> Option<()> {
    // Called through the standard library, and so with its WASI version.
    black_box(std::env::args().count());
    black_box(wasi::clocks::monotonic_clock::now());
    black_box(wasi::random0_2_5::random::get_random_u64());
    black_box(wasi::random0_2_9::insecure_seed::insecure_seed());
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().ok()?;
    ResponseOutparam::set(out, Ok(response));
    body.write().ok()?.blocking_write_and_flush(b"ok\n").ok()?;
    OutgoingBody::finish(body, None).ok()
}

export!(Component);
