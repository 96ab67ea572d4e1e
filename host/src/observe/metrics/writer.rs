//! What a worker counts. Each call is a handful of plain additions: the thread that serves is the only writer.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use daylily_core::request_outcome::RequestOutcome;

use super::block::{Block, CLASSES, Field, fields};
use super::histogram::{SIZE_BUCKETS, TIME_BUCKETS, size_bucket, time_bucket};
use super::pages::Pages;
use crate::observe::journal::Numbers;

/// The blocks of this worker.
pub(crate) struct WorkerMetrics(Pages);

/// Counts a connection as open until it is dropped.
pub(crate) struct OpenConnection(Arc<WorkerMetrics>);

impl WorkerMetrics {
    /// # Errors
    ///
    /// When the file has no blocks, or cannot be mapped.
    pub(crate) fn open(file: BorrowedFd<'_>) -> io::Result<Arc<Self>> {
        let metrics = Self(Pages::map(file)?);
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
        let blocks = self.0.blocks();
        let at = (route as usize).min(blocks.len() - 1);
        #[expect(clippy::indexing_slicing, reason = "below the number of blocks, of which there is at least one")]
        Block(&blocks[at])
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

    /// Sets the CPU time of this process.
    pub(crate) fn set_cpu_ns(&self, ns: u64) {
        self.worker().set(fields::CPU_NS, ns);
    }

    pub(crate) fn begin_connection(self: &Arc<Self>) -> OpenConnection {
        self.worker().add(fields::CONNECTIONS_OPENED, 0, 1);
        OpenConnection(Arc::clone(self))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.worker().add(fields::CONNECTIONS_CLOSED, 0, 1);
    }
}

#[inline]
fn note_time(block: Block<'_>, histogram: Field, ns: u64) {
    block.add(histogram, time_bucket(ns), 1);
    block.add(histogram, TIME_BUCKETS, ns);
}
