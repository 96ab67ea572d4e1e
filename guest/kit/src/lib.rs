//! Code that the test guests share, so that each guest contains only its own behaviour.

mod answer;
pub mod client;

pub use answer::{Answer, text};
pub use exports::wasi::http::incoming_handler::Guest;
pub use query::Target;
pub use wasi::http::types::{Fields, IncomingBody, IncomingRequest, OutgoingResponse, ResponseOutparam};

use wasi::io::streams::StreamError;

wit_bindgen::generate!({
    path: "../../wit/0.2",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "kit",
});

/// Makes a function of a request and its response-outparam the guest's handler.
#[macro_export]
macro_rules! serve {
    ($handle:path) => {
        struct Component;

        impl $crate::Guest for Component {
            fn handle(request: $crate::IncomingRequest, out: $crate::ResponseOutparam) {
                $handle(request, out)
            }
        }

        $crate::export!(Component);
    };
}

/// The path and query of `request`.
pub fn target(request: &IncomingRequest) -> Target {
    Target::parse(&request.path_with_query().unwrap_or_default())
}

/// Sleeps for `ms` milliseconds, without using CPU time.
pub fn pause(ms: u64) {
    wasi::clocks::monotonic_clock::subscribe_duration(ms * 1_000_000).block();
}

/// Passes the received parts of `body` to `sink` until its end, and returns its trailers or an error text. Stops when
/// `sink` returns false.
pub fn read(body: IncomingBody, mut sink: impl FnMut(&[u8]) -> bool) -> Result<Option<Fields>, String> {
    let stream = body.stream().map_err(|()| "body taken")?;
    loop {
        match stream.blocking_read(65_536) {
            Ok(bytes) if sink(&bytes) => {}
            Ok(_) => return Err("reader gone".into()),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(match wasi::http::types::http_error_code(&error) {
                    Some(code) => format!("{code:?}"),
                    None => error.to_debug_string(),
                });
            }
        }
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    match trailers.get() {
        Some(Ok(Ok(trailers))) => Ok(trailers),
        other => Err(format!("{other:?}")),
    }
}
