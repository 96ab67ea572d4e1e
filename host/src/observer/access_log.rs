//! Writes the access log: the records in the journals of all workers, as lines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use daylily_core::config::AccessLog;
use daylily_core::log_target;

use super::line;
use super::sink::Sink;
use crate::observe::journal::{Entry, JournalReader, WorkerFacts};

/// Bytes of lines that are written at once.
const BATCH_BYTES: usize = 64 << 10;

/// How long the records of a worker that has ended wait for a log that cannot be written, such as on a full disk. Those
/// of workers that live wait in their rings for as long as there is room.
const ENDED_PATIENCE: Duration = Duration::from_secs(10);

/// Requests that were lost with one worker and have a line each in daylily's own log.
const MAX_LOST_LINES: usize = 16;

pub(super) struct AccessLogWriter {
    settings: AccessLog,
    sink: Sink,
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
    /// Their journals may be used again beyond the lines once these are written.
    journals: BTreeSet<u64>,
}

struct Journal {
    reader: JournalReader,
    facts: WorkerFacts,
    /// The other end is open for as long as the worker lives.
    alive: File,
    /// When the worker was found to have ended.
    ended: Option<Instant>,
    /// The requests that were in progress then.
    lost: VecDeque<Entry>,
}

impl AccessLogWriter {
    pub(super) fn new(settings: AccessLog) -> Self {
        let sink = Sink::new(settings.to.clone());
        Self { settings, sink, journals: BTreeMap::new(), batch: Batch::default(), dropped: 0, is_failing: false }
    }

    /// Changes the settings. Files are opened anew.
    pub(super) fn set(&mut self, settings: AccessLog) {
        if self.settings.to == settings.to {
            self.sink.reopen();
        } else {
            self.sink = Sink::new(settings.to.clone());
        }
        self.settings = settings;
    }

    /// Adds the journal of a worker that starts.
    ///
    /// # Errors
    ///
    /// When a descriptor is missing, or the journal cannot be mapped.
    pub(super) fn add(&mut self, id: u64, facts: WorkerFacts, files: Vec<OwnedFd>) -> io::Result<()> {
        let files = <[OwnedFd; 2]>::try_from(files);
        let [journal, alive] = files.map_err(|_| io::Error::other("a descriptor is missing"))?;
        rustix::io::ioctl_fionbio(&alive, true)?;
        let reader = JournalReader::open(journal.as_fd())?;
        self.journals.insert(id, Journal { reader, facts, alive: alive.into(), ended: None, lost: VecDeque::new() });
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

    /// Writes what is there, until all is written or the log cannot be written. Returns the journals that are done:
    /// their workers have ended.
    pub(super) fn write(&mut self) -> Vec<u64> {
        self.journals.values_mut().for_each(Journal::look);
        loop {
            self.fill();
            // A batch without lines has journals, too, if there is no access log.
            let is_last = self.batch.lines.is_empty();
            if !self.flush() || is_last {
                break;
            }
        }
        self.report_dropped();
        self.take_done()
    }

    /// Fills the batch from all journals.
    fn fill(&mut self) {
        for (id, journal) in &mut self.journals {
            self.dropped += journal.reader.dropped();
            while self.batch.lines.len() < BATCH_BYTES {
                let Some(entry) = journal.next() else { break };
                self.batch.journals.insert(*id);
                line::write(&mut self.batch.lines, &self.settings, &journal.facts, &entry);
            }
        }
    }

    /// Writes the batch. Returns whether the log could be written.
    fn flush(&mut self) -> bool {
        let (taken, result) = self.sink.write(&self.batch.lines);
        self.batch.lines.drain(..taken);
        match result {
            Ok(()) => {
                for journal in std::mem::take(&mut self.batch.journals) {
                    self.journals.get(&journal).inspect(|journal| journal.reader.release());
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
                        "access log: failed to write to {}: {error}; lines wait for as long as there is room", self.sink
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
    fn take_done(&mut self) -> Vec<u64> {
        let mut done = Vec::new();
        for (id, journal) in &mut self.journals {
            let Some(ended) = journal.ended else { continue };
            let waits = self.batch.journals.contains(id);
            if self.is_failing && ended.elapsed() >= ENDED_PATIENCE {
                while journal.next().is_some() {
                    self.dropped += 1;
                }
                done.push(*id);
            } else if !waits && journal.reader.is_empty() && journal.lost.is_empty() {
                done.push(*id);
            }
        }
        for id in &done {
            self.journals.remove(id);
        }
        done
    }
}

impl Journal {
    /// Looks whether the worker has ended. What it has written by then is all that it will ever write.
    fn look(&mut self) {
        // Nothing is written to the pipe: a read returns 0 when the worker has ended, and fails before.
        if self.ended.is_some() || self.alive.read(&mut [0]).is_err() {
            return;
        }
        self.ended = Some(Instant::now());
        let mut ended = Vec::new();
        // The last record may have been written in the middle of its request's end.
        while let Some(entry) = self.reader.next() {
            ended.push(entry);
        }
        let lost = self.reader.lost();
        for entry in lost.iter().take(MAX_LOST_LINES) {
            line::log_lost(&self.facts, entry);
        }
        if let Some(more) = lost.len().checked_sub(MAX_LOST_LINES).filter(|more| *more > 0) {
            tracing::warn!(target: log_target::REQUEST, "requests lost with worker {}: {more} more", self.facts.worker);
        }
        self.lost = ended.into_iter().chain(lost).collect();
    }

    /// The next record.
    fn next(&mut self) -> Option<Entry> {
        match self.ended {
            // All of the ring was read when the worker was found to have ended.
            Some(_) => self.lost.pop_front(),
            None => self.reader.next(),
        }
    }
}
