//! The pure parts of daylily, which validate what was configured or received.
//!
//! Nothing here does I/O or depends on wasmtime or tokio, so all of it can be tested in a second. Everything that comes
//! from outside (a configuration file, a flag, a `Host` field) is parsed once, at the edge, into a type that cannot
//! hold an invalid value.

pub mod allow_http;
pub mod authority;
pub mod config;
pub mod connection_end;
pub mod diagnosis;
pub mod dotenv;
pub mod error_response;
pub mod excerpt;
pub mod grants;
pub mod internal;
pub mod limits;
pub mod log_target;
pub mod process_role;
pub mod request_outcome;
pub mod restart;
pub mod route;
pub mod schedule;
pub mod secret;
pub mod similar;
pub mod spin;
pub mod trace_context;
pub mod trusted;
pub mod units;

mod domain;
mod exception;
mod os_path;
mod value_error;
mod words;

pub use value_error::ValueError;
