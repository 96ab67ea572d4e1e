//! Running components: engines and their pools, loading, and one call in one new instance.
//!
//! This module does not depend on sockets or routes. `request` and `serve` call it, never the other way round.

pub(crate) mod cpu_queue;
pub(crate) mod epoch;
pub(crate) mod limiter;
pub(crate) mod meter;
pub(crate) mod outcome;
pub(crate) mod pool;
