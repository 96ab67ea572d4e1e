//! Each target accepts any bytes, and panics when it finds a bug.

mod components;
mod config;
mod control;
mod forms;
mod http;
mod routes;
mod values;

/// The name of a target in `cargo xtask fuzz`, and its function.
type Target = (&'static str, fn(&[u8]));

/// All targets.
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
