//! daylily's pure parts: what was typed, parsed into what it means.
//!
//! Nothing here does I/O, and nothing here knows of wasmtime or tokio, so all of it can be tested in
//! a second. Everything that comes from outside (a configuration file, a flag, a `Host` field) is
//! parsed once, at the edge, into a type that cannot hold a bad value.

pub mod allow_http;
pub mod authority;
pub mod config;
pub mod excerpt;
pub mod grants;
pub mod limits;
pub mod refusal;
pub mod restart;
pub mod route;
pub mod units;

mod domain;
mod os_path;
mod value_error;

pub use value_error::ValueError;
