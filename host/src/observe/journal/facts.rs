//! What is the same in all records of a worker, and is not repeated in them.

use serde::{Deserialize, Serialize};

use crate::observe::metrics::BlockNames;

/// What the records of a worker do not repeat.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct WorkerFacts {
    pub(crate) generation: u64,
    pub(crate) worker: u32,
    /// By the index of the route.
    pub(crate) routes: Vec<RouteFacts>,
    /// Which of its blocks of metrics is which route's.
    pub(crate) blocks: BlockNames,
    /// The request's fields whose values its records have, in this order.
    pub(crate) headers: Vec<String>,
}

/// One route of a worker.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RouteFacts {
    pub(crate) name: String,
    pub(crate) component: String,
    /// The digest of the component's file.
    pub(crate) digest: String,
}
