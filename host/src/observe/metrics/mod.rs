//! The numbers of each route, listener and schedule, in memory that a worker shares with the supervisor and the observer, so that they survive
//! the worker's death.
//!
//! A worker has a block for each listener, for each schedule and for each of the first `max_metric_routes` routes; further routes share one.
//! It is their only writer, except for `LINES_DROPPED`, which the observer writes. When the worker has ended, its blocks
//! are added to the sums of the workers that ended before, by their names, so no reported counter ever decreases.

mod block;
pub(crate) mod histogram;
mod pages;
mod sums;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use block::{CLASSES, Exemplar, Field, Snapshot, fields};
pub(crate) use pages::{BlockCounts, BlockNames, MetricsReader, create};
pub(crate) use sums::Sums;
pub(crate) use writer::WorkerMetrics;
