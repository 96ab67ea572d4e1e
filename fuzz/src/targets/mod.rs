//! Each target takes any bytes, and panics when it finds something wrong.

mod components;
mod config;
mod control;
mod forms;
mod http;
mod routes;
mod values;

/// A target, by the name that `cargo xtask fuzz` knows.
type Target = (&'static str, fn(&[u8]));

/// What can be run.
pub(crate) const ALL: &[Target] = &[
    ("components", components::run),
    ("config", config::run),
    ("control", control::run),
    ("forms02", forms::run02),
    ("forms03", forms::run03),
    ("http", http::run),
    ("routes", routes::run),
    ("values", values::run),
];
