//! daylily serves HTTP and answers every request from a fresh, sandboxed WebAssembly component
//! instance. The program is in `main.rs`; the path of a request begins in `request.rs`.

mod admission;
mod allocator;
#[doc(hidden)]
pub mod bench;
mod body;
mod canonical;
mod cli;
mod control;
mod date;
mod drain;
mod engine;
mod exchange;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod host_api;
mod inbound;
mod load;
mod lock;
mod log;
mod memory;
mod places;
mod prepare;
mod pulse;
mod read_file;
mod record;
mod request;
mod request_id;
mod response;
mod run;
mod runtime;
mod sealed;
mod serve;
mod stall;
mod stdout;
mod system;
mod transfer_coding;
mod worker;

pub use allocator::Allocator;
pub use run::main;
