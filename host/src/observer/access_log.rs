//! Writes the access log: the records in the journals of all workers, as lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use daylily_core::config::AccessLog;
use daylily_core::log_target;
use daylily_core::request_outcome::RequestOutcome;

use super::line;
use super::writing::Writing;
use crate::observe::journal::{Entry, JournalReader, WorkerFacts};
use crate::observe::sink::Sink;

/// Bytes of lines that are written at once.
const BATCH_BYTES: usize = 64 << 10;

/// Batches that are written before the supervisor's messages are looked at again.
const MAX_BATCHES: usize = 64;

/// Bytes of lines from one journal before the next one has its turn, if there are many.
const MIN_QUANTUM_BYTES: usize = 2 << 10;

/// Records from one journal before the next one has its turn: lines may be empty.
const MAX_RECORDS: usize = 1_000;

/// How long the records of a worker that has ended wait for a log that cannot be written, such as on a full disk. Those
/// of workers that live wait in their rings for as long as there is room.
const ENDED_PATIENCE: Duration = Duration::from_secs(10);

/// Requests that were lost with one worker and have a line each in daylily's own log.
const MAX_LOST_LINES: usize = 16;

pub(super) struct AccessLogWriter {
    settings: AccessLog,
    writing: Writing,
    journals: BTreeMap<u64, Journal>,
    batch: Batch,
    /// Records that have no line because the log could not be written, since the last report.
    dropped: u64,
    /// The log could not be written the last time.
    is_failing: bool,
}

/// Lines that are written next, and where they come from.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    /// The journals that the lines come from. They are released once the lines are written.
    journals: BTreeSet<u64>,
}

struct Journal {
    reader: JournalReader,
    facts: WorkerFacts,
    /// The other end is open for as long as the worker lives.
    alive: File,
    /// When the worker was found to have ended.
    ended: Option<Instant>,
    /// How many of its requests were lost, as far as is known.
    lost: usize,
}

/// What a call of [`AccessLogWriter::write`] has done.
pub(super) struct Written {
    /// The journals that are done: their workers have ended. With how many records have no line.
    pub(super) done: Vec<(u64, u64)>,
    /// There is more to write, and the log can be written.
    pub(super) has_more: bool,
}

impl AccessLogWriter {
    /// # Errors
    ///
    /// When the thread that writes cannot be started.
    pub(super) fn new(settings: AccessLog) -> io::Result<Self> {
        let writing = Writing::start(Sink::new(settings.to.clone()))?;
        let (journals, batch) = (BTreeMap::new(), Batch::default());
        Ok(Self { settings, writing, journals, batch, dropped: 0, is_failing: false })
    }

    /// Changes the settings; files are reopened.
    pub(super) fn set(&mut self, settings: AccessLog) {
        self.writing.set(settings.to.clone());
        self.settings = settings;
    }

    /// Adds the journal of a worker that starts.
    ///
    /// # Errors
    ///
    /// When the journal cannot be mapped.
    pub(super) fn add(&mut self, id: u64, facts: WorkerFacts, journal: &OwnedFd, alive: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&alive, true)?;
        let reader = JournalReader::open(journal.as_fd())?;
        self.journals.insert(id, Journal { reader, facts, alive: alive.into(), ended: None, lost: 0 });
        Ok(())
    }

    /// Descriptors that hang up when the workers have ended.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub(super) fn signs_of_life(&self) -> io::Result<Vec<File>> {
        self.journals.values().map(|journal| journal.alive.try_clone()).collect()
    }

    /// Whether all workers have ended, and all of their records have been written.
    pub(super) fn is_done(&self) -> bool {
        self.journals.is_empty()
    }

    /// Writes the available records: up to [`MAX_BATCHES`] batches, or until the log cannot be written.
    pub(super) fn write(&mut self) -> Written {
        self.journals.values_mut().for_each(Journal::look);
        let mut has_more = true;
        for _ in 0..MAX_BATCHES {
            has_more = self.fill();
            if !self.flush() {
                has_more = false;
                break;
            }
            if !has_more {
                break;
            }
        }
        self.report_dropped();
        Written { done: self.take_done(), has_more }
    }

    /// Fills the batch, from each journal in turn. Returns whether there may be more.
    fn fill(&mut self) -> bool {
        if self.writing.is_busy() || self.batch.lines.len() >= BATCH_BYTES {
            // It could not be written the last time.
            return true;
        }
        let quantum = (BATCH_BYTES / self.journals.len().max(1)).max(MIN_QUANTUM_BYTES);
        let mut has_more = false;
        for (id, journal) in &mut self.journals {
            self.dropped += journal.reader.dropped();
            let (begin, mut records) = (self.batch.lines.len(), 0);
            while self.batch.lines.len() - begin < quantum && records < MAX_RECORDS {
                let Some(entry) = journal.next() else { break };
                records += 1;
                self.batch.journals.insert(*id);
                line::write(&mut self.batch.lines, &self.settings, &journal.facts, &entry);
            }
            has_more |= self.batch.lines.len() - begin >= quantum || records == MAX_RECORDS;
            if self.batch.lines.len() >= 2 * BATCH_BYTES {
                return true;
            }
        }
        has_more
    }

    /// Writes the batch. Returns whether the log could be written.
    fn flush(&mut self) -> bool {
        // After a failure, the sink may have the rest of a line.
        let is_idle = self.batch.lines.is_empty() && !self.is_failing;
        match if is_idle { Ok(()) } else { self.writing.write(&mut self.batch.lines) } {
            Ok(()) => {
                for id in std::mem::take(&mut self.batch.journals) {
                    if let Some(journal) = self.journals.get_mut(&id) {
                        journal.reader.release();
                    }
                }
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(target: log_target::LOG, "access log: it can be written again");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(
                        target: log_target::LOG,
                        "access log: failed to write to {}: {error}; lines wait for as long as there is room",
                        self.settings.to
                    );
                }
                false
            }
        }
    }

    fn report_dropped(&mut self) {
        if self.dropped > 0 && !self.is_failing {
            let dropped = std::mem::take(&mut self.dropped);
            tracing::warn!(target: log_target::LOG, "access log lines dropped: {dropped}; the log was not written fast enough");
        }
    }

    /// Removes the journals whose workers have ended and whose records are written, or have waited too long.
    fn take_done(&mut self) -> Vec<(u64, u64)> {
        let mut done = Vec::new();
        for (id, journal) in &mut self.journals {
            let Some(ended) = journal.ended else { continue };
            let waits = self.batch.journals.contains(id);
            if self.is_failing && ended.elapsed() >= ENDED_PATIENCE {
                let mut dropped = 0;
                while journal.next().is_some() {
                    dropped += 1;
                }
                self.dropped += dropped;
                done.push((*id, dropped));
            } else if !waits && journal.reader.is_done() {
                done.push((*id, 0));
            }
        }
        for (id, _) in &done {
            let Some(journal) = self.journals.remove(id) else { continue };
            let (worker, more) = (journal.facts.worker, journal.lost.saturating_sub(MAX_LOST_LINES));
            if more > 0 {
                tracing::warn!(target: log_target::REQUEST, "requests lost with worker {worker}: {more} more");
            }
        }
        done
    }
}

impl Journal {
    /// Checks whether the worker has ended. If so, no more records will be added to its ring.
    fn look(&mut self) {
        // Nothing is written to the pipe: a read returns 0 when the worker has ended, and fails before.
        if self.ended.is_none() && self.alive.read(&mut [0]).is_ok() {
            self.ended = Some(Instant::now());
        }
    }

    /// The next record: of the ring, and once the worker has ended, of the requests that were in progress.
    fn next(&mut self) -> Option<Entry> {
        if let Some(entry) = self.reader.next() {
            return Some(entry);
        }
        self.ended?;
        let entry = self.reader.next_lost()?;
        if entry.numbers.outcome() == RequestOutcome::Lost {
            self.lost += 1;
            if self.lost <= MAX_LOST_LINES {
                line::log_lost(&self.facts, &entry);
            }
        }
        Some(entry)
    }
}
