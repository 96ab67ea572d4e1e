//! A command: it exports no HTTP handler.

use exports::wasi::cli::run::Guest;

wit_bindgen::generate!({ path: "wit" });

struct Component;

impl Guest for Component {
    fn run() -> Result<(), ()> {
        Ok(())
    }
}

export!(Component);
