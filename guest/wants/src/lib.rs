//! Imports what no host provides: an unknown interface, and an unknown version of a known one.

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({ path: ["../../wit/0.2", "wit"], world: "daylily:wants/wants", generate_all });

struct Component;

impl Guest for Component {
    fn handle(_request: IncomingRequest, _out: ResponseOutparam) {
        let container = wasi::blobstore::blobstore::get_container("default").expect("a container");
        example::missing::thing::frobnicate(&container.name().unwrap_or_default());
    }
}

export!(Component);
