//! The records of the guests that follow the first one in a route's chain. They are parts of the request's record: their
//! names are in log lines, and what they use is in its numbers.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use super::super::journal::Numbers;
use super::{Record, Recorder, State, Times};
use crate::observe::request_id::RequestId;
use crate::sys::lock::lock;

/// What a request used of the guest's limits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) instantiate_ns: u64,
    /// The CPU time of the guest, without the time until its instance was ready.
    pub(crate) guest_cpu_ns: u64,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) was_refused_memory: bool,
    pub(crate) outgoing: WaitUsage,
    pub(crate) stores: WaitUsage,
}

/// How often a guest has waited for something, and how long.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WaitUsage {
    pub(crate) count: u32,
    pub(crate) failed: u32,
    pub(crate) ns: u64,
}

/// What the guests after the first one have used.
#[derive(Default)]
pub(crate) struct Parts(Mutex<Usage>);

impl Parts {
    /// Of a record that ends and has used `usage`: that with what its parts have used. What a part has used is kept for
    /// the record that it is part of.
    pub(super) fn with(&self, usage: &Usage, is_whole: bool) -> Usage {
        let mut parts = lock(&self.0);
        if !is_whole {
            parts.add(usage);
            return *usage;
        }
        let mut whole = *usage;
        whole.add(&parts);
        whole
    }
}

impl Usage {
    fn add(&mut self, other: &Self) {
        self.instantiate_ns += other.instantiate_ns;
        self.guest_cpu_ns += other.guest_cpu_ns;
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
        self.was_refused_memory |= other.was_refused_memory;
        self.outgoing.add(other.outgoing);
        self.stores.add(other.stores);
    }
}

impl WaitUsage {
    fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.failed = self.failed.saturating_add(other.failed);
        self.ns = self.ns.saturating_add(other.ns);
    }
}

impl Recorder {
    /// The record of a guest that follows another one, for a request with this id. It is in no log and no metric.
    pub(crate) fn part<B>(self: &Arc<Self>, id: RequestId, request: &http::Request<B>, parts: Arc<Parts>) -> Record {
        let state = State { numbers: Numbers::default(), times: Times::default(), place: None, parts: Some(parts) };
        self.record(request, id, state, None)
    }
}

impl Record {
    /// The name in log lines, by its index among the recorder's.
    pub(crate) fn set_name(&self, index: usize) {
        self.route.store(u32::try_from(index).map_or(0, |index| index.saturating_add(1)), Relaxed);
    }

    /// From here on, what the parts use is added to this record's numbers.
    pub(crate) fn has_parts(&self) -> Arc<Parts> {
        Arc::clone(lock(&self.state).parts.get_or_insert_default())
    }
}
