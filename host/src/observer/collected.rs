//! What all workers have counted, for the metrics: those that live, and those that have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use daylily_core::process_role::ProcessRole;

use crate::observe::journal::WorkerFacts;
use crate::observe::metrics::{Exemplar, MetricsReader, Sums, WorkerMetrics, fields};
use crate::observe::server_page;
use crate::observer::metrics::Limits;
use crate::sys::cpu_time;
use crate::sys::lock::lock;

/// The numbers of all workers of a supervisor. Shared by the thread that learns of workers' ends and those that report.
pub(super) struct Collected {
    state: Mutex<State>,
    /// What the supervisor learns of this process when it has ended.
    own: Arc<WorkerMetrics>,
}

struct State {
    /// By workers that have ended, and by the predecessor's.
    ended: Sums,
    /// By the ids of their journals.
    live: BTreeMap<u64, LiveWorker>,
    limits: Limits,
    /// The supervisor's CPU time, as far as it was seen.
    supervisor_ns: u64,
    /// The listeners of generations that serve or have workers, by their numbers: all workers may be dead for a moment.
    listeners: BTreeMap<u64, Vec<String>>,
    /// The same for their schedules.
    schedules: BTreeMap<u64, Vec<String>>,
}

struct LiveWorker {
    generation: u64,
    metrics: MetricsReader,
}

/// What is reported at one time.
pub(super) struct Scrape {
    pub(super) sums: Sums,
    pub(super) limits: Limits,
    /// The routes of all generations that have not ended, and the empty name, for requests without a route.
    pub(super) routes: BTreeSet<String>,
    /// The listeners that a generation has which is not gone.
    pub(super) listeners: BTreeSet<String>,
    /// The same for schedules.
    pub(super) schedules: BTreeSet<String>,
    /// The slowest request of a while, by route.
    pub(super) exemplars: BTreeMap<String, Exemplar>,
    /// The workers' pids.
    pub(super) workers: Vec<u32>,
}

impl Collected {
    pub(super) fn new(limits: Limits, own: Arc<WorkerMetrics>) -> Self {
        let (ended, live) = (Sums::default(), BTreeMap::new());
        let (listeners, schedules) = (BTreeMap::new(), BTreeMap::new());
        Self { state: Mutex::new(State { ended, live, limits, supervisor_ns: 0, listeners, schedules }), own }
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        lock(&self.state).limits = limits;
    }

    /// Adds the sums of workers without a journal here: those that ended before this observer began, and the
    /// predecessor's.
    pub(super) fn add(&self, counted: &Sums) {
        lock(&self.state).ended.add(counted);
    }

    /// A worker begins.
    ///
    /// # Errors
    ///
    /// When its metrics cannot be mapped.
    pub(super) fn begin(&self, id: u64, facts: &WorkerFacts, metrics: BorrowedFd<'_>) -> io::Result<()> {
        let metrics = MetricsReader::open(metrics, facts.blocks.clone())?;
        let mut state = lock(&self.state);
        state.listeners.insert(facts.generation, metrics.listeners().map(str::to_owned).collect());
        state.schedules.insert(facts.generation, metrics.schedules().map(str::to_owned).collect());
        state.live.insert(id, LiveWorker { generation: facts.generation, metrics });
        Ok(())
    }

    /// A worker has ended. So many lines of its records could not be written.
    pub(super) fn end(&self, id: u64, lines_dropped: u64) {
        let mut state = lock(&self.state);
        let Some(LiveWorker { metrics, .. }) = state.live.remove(&id) else { return };
        if let Some(block) = metrics.worker() {
            // The supervisor adds up the same memory.
            block.add(fields::LINES_DROPPED, 0, lines_dropped);
        }
        state.ended.add(&metrics.sums_at_death());
    }

    /// Keeps the CPU time of this process, for the supervisor.
    pub(super) fn note_cpu_time(&self) {
        self.own.note_cpu_time(ProcessRole::Observer);
    }

    /// `server` is what the supervisor is doing, if that is known.
    pub(super) fn scrape(&self, server: Option<&server_page::Snapshot>) -> Scrape {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if let Some(server) = server {
            let is_live = |generation: &u64| state.live.values().any(|worker| worker.generation == *generation);
            for names in [&mut state.listeners, &mut state.schedules] {
                names.retain(|generation, _| *generation == server.generation || is_live(generation));
            }
            let ns = cpu_time::of_process_ns(server.pid).unwrap_or(0);
            state.supervisor_ns = state.supervisor_ns.max(ns);
        }
        let mut scrape = Scrape {
            sums: state.ended.clone(),
            routes: state.limits.route_names().chain([String::new()]).collect(),
            listeners: state.listeners.values().flatten().cloned().collect(),
            schedules: state.schedules.values().flatten().cloned().collect(),
            limits: state.limits.clone(),
            exemplars: BTreeMap::new(),
            workers: Vec::new(),
        };
        // Kept first: what was reported is known when this process has ended.
        self.note_cpu_time();
        scrape.sums.add(&self.own.sums());
        scrape.sums.add(&Sums::of_cpu_ns(ProcessRole::Supervisor, state.supervisor_ns));
        for LiveWorker { metrics, .. } in state.live.values() {
            scrape.sums.add(&metrics.sums());
            scrape.routes.extend(metrics.route_names().map(str::to_owned));
            for (name, block) in metrics.routes() {
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
