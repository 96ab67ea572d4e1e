//! What all workers have counted, for the metrics: those that live, and those that have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use crate::observe::journal::WorkerFacts;
use crate::observe::metrics::{Exemplar, MetricsReader, Sums, fields};
use crate::observer::metrics::Limits;
use crate::sys::lock::lock;

/// The numbers of all workers of a supervisor. Shared by the thread that learns of workers' ends and those that report.
pub(super) struct Collected(Mutex<State>);

struct State {
    /// By workers that have ended, and by the predecessor's.
    ended: Sums,
    /// By the ids of their journals.
    live: BTreeMap<u64, MetricsReader>,
    limits: Limits,
}

/// What is reported at one time.
pub(super) struct Scrape {
    pub(super) sums: Sums,
    pub(super) limits: Limits,
    /// The routes of all generations that have not ended, and the empty name, for requests without a route.
    pub(super) routes: BTreeSet<String>,
    /// The slowest request of a while, by route.
    pub(super) exemplars: BTreeMap<String, Exemplar>,
    /// The workers' pids.
    pub(super) workers: Vec<u32>,
}

impl Collected {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Mutex::new(State { ended: Sums::default(), live: BTreeMap::new(), limits }))
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        lock(&self.0).limits = limits;
    }

    /// Adds the sums of workers without a journal here: those that ended before this observer began, and the
    /// predecessor's.
    pub(super) fn add(&self, counted: &Sums) {
        lock(&self.0).ended.add(counted);
    }

    /// A worker begins.
    ///
    /// # Errors
    ///
    /// When its metrics cannot be mapped.
    pub(super) fn begin(&self, id: u64, facts: &WorkerFacts, metrics: BorrowedFd<'_>) -> io::Result<()> {
        let metrics = MetricsReader::open(metrics, facts.blocks.clone())?;
        lock(&self.0).live.insert(id, metrics);
        Ok(())
    }

    /// A worker has ended. So many lines of its records could not be written.
    pub(super) fn end(&self, id: u64, lines_dropped: u64) {
        let mut state = lock(&self.0);
        let Some(metrics) = state.live.remove(&id) else { return };
        if let Some(block) = metrics.worker() {
            // The supervisor adds up the same memory.
            block.add(fields::LINES_DROPPED, 0, lines_dropped);
        }
        state.ended.add(&metrics.sums_at_death());
    }

    pub(super) fn scrape(&self) -> Scrape {
        let state = lock(&self.0);
        let mut scrape = Scrape {
            sums: state.ended.clone(),
            routes: state.limits.route_names().chain([String::new()]).collect(),
            limits: state.limits.clone(),
            exemplars: BTreeMap::new(),
            workers: Vec::new(),
        };
        for metrics in state.live.values() {
            scrape.sums.add(&metrics.sums());
            for (name, block) in metrics.blocks() {
                scrape.routes.insert(name.to_owned());
                let slowest = scrape.exemplars.get(name).map_or(0, |exemplar| exemplar.ns);
                if let Some(exemplar) = block.exemplar().filter(|exemplar| exemplar.ns > slowest) {
                    scrape.exemplars.insert(name.to_owned(), exemplar);
                }
            }
            if let Some(pid) = metrics.worker().map(|block| block.pid()).filter(|pid| *pid > 0) {
                scrape.workers.push(pid);
            }
        }
        scrape
    }
}
