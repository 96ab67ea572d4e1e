//! The numbers of each route and of each listener, in memory that a worker shares with the supervisor and the observer, so that they survive
//! the worker's death.
//!
//! A worker has one block for each route and each listener, and is their only writer. When it has ended, its blocks are
//! added to the sums of the workers that ended before, by their names, so no number that is reported ever decreases.

mod block;
pub(crate) mod histogram;
mod pages;
mod sums;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use block::{CLASSES, Exemplar, Field, Snapshot, fields};
pub(crate) use pages::{BlockNames, MetricsReader, create};
pub(crate) use sums::Sums;
pub(crate) use writer::WorkerMetrics;
