//! What a guest has waited for: outgoing requests, and operations on stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::Meter;
use crate::observe::record::WaitUsage;

/// What a guest has waited for, of one kind.
#[derive(Default)]
pub(super) struct Waits {
    count: AtomicU32,
    failed: AtomicU32,
    ns: AtomicU64,
}

/// What a guest waits for.
#[derive(Clone, Copy)]
pub(crate) enum WaitFor {
    /// The head of the response to an outgoing request.
    Outgoing,
    /// An operation on a key-value store.
    Store,
}

/// One wait. Dropped without [`Self::succeed`], it counts as failed.
pub(crate) struct WaitTimer {
    meter: Arc<Meter>,
    of: WaitFor,
    began: Instant,
    has_failed: bool,
}

impl WaitTimer {
    pub(crate) fn begin(meter: Arc<Meter>, of: WaitFor) -> Self {
        meter.waits(of).count.fetch_add(1, Relaxed);
        Self { meter, of, began: Instant::now(), has_failed: true }
    }

    pub(crate) fn succeed(mut self) {
        self.has_failed = false;
    }
}

impl Drop for WaitTimer {
    fn drop(&mut self) {
        let ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let waits = self.meter.waits(self.of);
        waits.ns.fetch_add(ns, Relaxed);
        waits.failed.fetch_add(u32::from(self.has_failed), Relaxed);
    }
}

impl Waits {
    pub(super) fn usage(&self) -> WaitUsage {
        WaitUsage { count: self.count.load(Relaxed), failed: self.failed.load(Relaxed), ns: self.ns.load(Relaxed) }
    }
}
