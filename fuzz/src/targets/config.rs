//! The configuration parser: any text is either a configuration, or errors that point into the text.

use std::path::Path;

use daylily_core::config::{self, Config, Overrides};

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match config::parse(Path::new("fuzz.toml"), &text, &Overrides::default()) {
        Ok(config) => {
            assert!(!config.routes.is_empty(), "a configuration without routes");
            // A worker must receive the same configuration that the supervisor has parsed.
            let bytes = postcard::to_stdvec(&config).expect("room");
            let (arrived, rest): (Config, &[u8]) = postcard::take_from_bytes(&bytes).expect("what was written");
            assert!(arrived == config && rest.is_empty(), "a worker would get another configuration");
        }
        Err(errors) => {
            assert!(errors.len() > 0 && errors.to_string().contains("--> fuzz.toml:"), "errors that point nowhere");
        }
    }
}
