//! What the guests under test share: each of them says only what is special about it.

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

/// What `request` asks for.
pub fn target(request: &IncomingRequest) -> Target {
    Target::parse(&request.path_with_query().unwrap_or_default())
}

/// Stops for `ms` milliseconds, without using the processor.
pub fn pause(ms: u64) {
    wasi::clocks::monotonic_clock::subscribe_duration(ms * 1_000_000).block();
}

/// Gives `sink` what arrives of `body` until its end, and returns its trailers, or says what went wrong.
/// A `sink` that returns false ends it, too.
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
