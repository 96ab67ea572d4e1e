//! What every instance runs on: wasmtime's engines and their pools, the CPU time of calls, and limits of instances.
//!
//! This room knows neither host interfaces nor requests: `call` makes stores and instances with it.

pub(crate) mod call_outcome;
pub(crate) mod cpu_queue;
pub(crate) mod epoch;
pub(crate) mod limiter;
pub(crate) mod meter;
pub(crate) mod pool;
