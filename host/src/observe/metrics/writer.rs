//! What a worker counts. Each call is a handful of plain additions: the thread that serves is the only writer.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use daylily_core::connection_end::{ConnectionEnd, NotAccepted};
use daylily_core::process_role::ProcessRole;
use daylily_core::request_outcome::RequestOutcome;
use daylily_core::schedule::RunOutcome;

use super::block::{Block, CLASSES, Field, fields};
use super::histogram::{SIZE_BUCKETS, TIME_BUCKETS, size_bucket, time_bucket};
use super::pages::{BlockCounts, Pages};
use super::sums::Sums;
use crate::observe::journal::Numbers;
use crate::sys::cpu_time;

/// The blocks of this worker.
pub(crate) struct WorkerMetrics {
    pages: Pages,
    /// How many of the blocks are those of routes; those of listeners and of schedules follow.
    routes: usize,
    counts: BlockCounts,
}

/// Counts a connection as open until it is dropped.
pub(crate) struct OpenConnection {
    metrics: Arc<WorkerMetrics>,
    listener: u32,
    end: ConnectionEnd,
}

impl WorkerMetrics {
    /// The last so many blocks are those of listeners and schedules.
    ///
    /// # Errors
    ///
    /// When the file has too few blocks, or cannot be mapped.
    pub(crate) fn open(file: BorrowedFd<'_>, counts: BlockCounts) -> io::Result<Arc<Self>> {
        let pages = Pages::map(file)?;
        let others = counts.listeners.saturating_add(counts.schedules);
        let routes = pages.blocks().len().checked_sub(others).filter(|routes| *routes > 0);
        let routes = routes.ok_or_else(|| io::Error::other("the file has no block for requests without a route"))?;
        let metrics = Self { pages, routes, counts };
        metrics.worker().set_pid(std::process::id());
        Ok(Arc::new(metrics))
    }

    /// The first block, of requests without a route.
    #[inline]
    fn worker(&self) -> Block<'_> {
        self.block(0)
    }

    /// The block of a route, by its number in [`Numbers::route`]. The routes over the number of blocks share the last.
    #[inline]
    fn block(&self, route: u32) -> Block<'_> {
        self.at((route as usize).min(self.routes - 1))
    }

    /// The block of a listener, by its number in the configuration.
    fn listener(&self, listener: u32) -> Block<'_> {
        self.at(self.routes.saturating_add((listener as usize).min(self.counts.listeners.saturating_sub(1))))
    }

    /// The block at this place, or the last one.
    #[inline]
    fn at(&self, at: usize) -> Block<'_> {
        let blocks = self.pages.blocks();
        #[expect(clippy::indexing_slicing, reason = "below the number of blocks, of which there is at least one")]
        Block(&blocks[at.min(blocks.len() - 1)])
    }

    /// What is counted for no route and no listener.
    pub(crate) fn sums(&self) -> Sums {
        Sums::of(std::iter::once((String::new(), self.worker().snapshot())), std::iter::empty())
    }

    /// A request begins. It has no route yet.
    #[inline]
    pub(crate) fn note_begun(&self) {
        self.worker().add(fields::BEGUN, 0, 1);
    }

    /// The request has a route.
    #[inline]
    pub(crate) fn note_routed(&self, numbers: &Numbers) {
        self.block(numbers.route).add(fields::BEGUN, 0, 1);
        self.worker().add(fields::ROUTED, 0, 1);
    }

    /// The guest of the request begins.
    #[inline]
    pub(crate) fn note_admitted(&self, numbers: &Numbers) {
        self.block(numbers.route).add(fields::ADMITTED, 0, 1);
    }

    /// The whole response of the request went to the connection.
    #[inline]
    pub(crate) fn note_delivered(&self, numbers: &Numbers) {
        self.block(numbers.route).add(fields::DELIVERED, 0, 1);
    }

    /// The request has ended. `was_admitted` says whether its guest had begun.
    pub(crate) fn note_ended(&self, numbers: &Numbers, was_admitted: bool) {
        let block = self.block(numbers.route);
        block.add(fields::OUTCOMES, usize::from(numbers.outcome).min(RequestOutcome::ALL.len() - 1), 1);
        block.add(fields::STATUSES, usize::from(numbers.status / 100).min(CLASSES - 1), 1);
        block.add(fields::BYTES_IN, 0, numbers.bytes_in);
        block.add(fields::BYTES_OUT, 0, numbers.bytes_out);
        if numbers.is_delivered {
            block.add(fields::DELIVERED_ENDED, 0, 1);
        }
        note_time(block, fields::TOTAL, numbers.total);
        block.offer_exemplar(numbers.total, numbers.id, numbers.began_unix_us);
        if numbers.route > 0 {
            note_time(block, fields::QUEUED, numbers.queued);
        }
        if !was_admitted {
            block.add(fields::NEVER_ADMITTED, 0, 1);
            return;
        }
        note_time(block, fields::INSTANTIATE, numbers.instantiate);
        note_time(block, fields::GUEST_CPU, numbers.guest_cpu);
        block.add(fields::PEAK_MEMORY, size_bucket(numbers.peak_memory), 1);
        block.add(fields::PEAK_MEMORY, SIZE_BUCKETS, numbers.peak_memory);
        if numbers.outgoing > 0 {
            block.add(fields::OUTGOING, 0, numbers.outgoing.into());
            block.add(fields::OUTGOING_FAILED, 0, numbers.outgoing_failed.into());
            block.add(fields::OUTGOING_NS, 0, numbers.outgoing_time);
        }
        if numbers.stores > 0 {
            block.add(fields::STORES, 0, numbers.stores.into());
            block.add(fields::STORES_FAILED, 0, numbers.stores_failed.into());
            block.add(fields::STORES_NS, 0, numbers.stores_time);
        }
    }

    /// A request without a head that could be read.
    pub(crate) fn note_incomplete_head(&self, numbers: &Numbers) {
        self.note_begun();
        self.note_ended(numbers, false);
    }

    /// A record was not kept, because nothing read the journal fast enough.
    pub(crate) fn note_record_dropped(&self) {
        self.worker().add(fields::RECORDS_DROPPED, 0, 1);
    }

    /// Keeps the CPU time that this process has used up to now.
    pub(crate) fn note_cpu_time(&self, role: ProcessRole) {
        self.worker().set(fields::CPU_NS, role.number().into(), cpu_time::of_this_process_ns());
    }

    /// A connection of a listener was accepted.
    pub(crate) fn begin_connection(self: &Arc<Self>, listener: u32) -> OpenConnection {
        self.listener(listener).add(fields::CONNECTIONS_OPENED, 0, 1);
        // A connection that is not served to its end is dropped with its worker's event loop, at the end of the drain.
        OpenConnection { metrics: Arc::clone(self), listener, end: ConnectionEnd::Drain }
    }

    /// No connection of a listener could be accepted.
    pub(crate) fn note_not_accepted(&self, listener: u32, why: NotAccepted) {
        self.listener(listener).add(fields::NOT_ACCEPTED, why.number().into(), 1);
    }
}

impl WorkerMetrics {
    /// Runs of the schedule with this number in the configuration have ended, or ticks had none.
    pub(crate) fn note_runs(&self, schedule: usize, outcome: RunOutcome, count: u64) {
        // There may be no memory for the blocks of all schedules.
        if schedule < self.counts.schedules {
            let at = self.routes.saturating_add(self.counts.listeners).saturating_add(schedule);
            self.at(at).add(fields::RUNS, outcome.number().into(), count);
        }
    }
}

impl OpenConnection {
    /// The connection has ended.
    pub(crate) fn end(mut self, end: ConnectionEnd) {
        self.end = end;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let ended = usize::from(self.end.number());
        self.metrics.listener(self.listener).add(fields::CONNECTIONS_ENDED, ended, 1);
    }
}

#[inline]
fn note_time(block: Block<'_>, histogram: Field, ns: u64) {
    block.add(histogram, time_bucket(ns), 1);
    block.add(histogram, TIME_BUCKETS, ns);
}
