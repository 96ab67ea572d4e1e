//! daylily serves HTTP and answers every request from a fresh, sandboxed WebAssembly component
//! instance. The program is in `main.rs`; the path of a request begins in `request.rs`.

mod artifact;
#[doc(hidden)]
pub mod bench;
mod call;
mod cli;
mod component_abi;
mod component_link;
mod engine;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod ipc;
mod message;
mod net;
mod observe;
mod observer;
mod run;
mod stdout;
mod storage;
mod supervisor;
mod sys;
mod wasi;
mod worker;

pub use run::main;
pub use sys::allocator::Allocator;
