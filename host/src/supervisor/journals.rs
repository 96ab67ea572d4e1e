//! The journals of workers, as their supervisor keeps them: of workers that live, and of those that have ended and whose
//! records the observer has not taken care of. They survive an observer that ends.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use daylily_core::log_target;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::observe::journal::{JournalReader, WorkerFacts};
use crate::observe::metrics::{MetricsReader, Sums, fields};
use crate::observer::message::FILES;

/// Memory of the journals of workers that have ended. The observer is done with such a journal within seconds, also if
/// the log cannot be written; if it hangs, they would fill the memory as workers are replaced.
pub(super) const MAX_ENDED_BYTES: u64 = 512 << 20;

/// What each of these journals counts for at least, because it takes descriptors, too.
const MIN_JOURNAL_BYTES: u64 = 1 << 20;

/// All journals of one supervisor, and what is left of those that are done.
#[derive(Default)]
pub(super) struct Journals {
    /// By their ids, which increase.
    files: BTreeMap<u64, JournalFiles>,
    /// What the workers whose journals are done have counted, and this process's predecessors.
    ended: Sums,
    last_id: u64,
}

pub(super) struct JournalFiles {
    pub(super) facts: WorkerFacts,
    pub(super) journal: OwnedFd,
    pub(super) metrics: OwnedFd,
    /// The worker has the other end, and no other process.
    pub(super) alive: OwnedFd,
    pub(super) log: OwnedFd,
}

/// Journals that were dropped, and the records in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) journals: u64,
    pub(super) records: u64,
}

impl Journals {
    /// Keeps the journal of a worker that starts. Returns its id, which is never 0.
    pub(super) fn add(&mut self, files: JournalFiles) -> u64 {
        self.last_id += 1;
        self.files.insert(self.last_id, files);
        self.last_id
    }

    pub(super) fn get(&self, id: u64) -> Option<&JournalFiles> {
        self.files.get(&id)
    }

    /// What an observer that starts is told of all workers.
    pub(super) fn facts(&self) -> Vec<(u64, WorkerFacts)> {
        self.files.iter().map(|(id, files)| (*id, files.facts.clone())).collect()
    }

    /// The descriptors of all workers, in the order of [`Self::facts`].
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.files.values().flat_map(JournalFiles::descriptors).collect()
    }

    /// A journal is done: its worker has ended, and so many of its records could not be written.
    pub(super) fn end(&mut self, id: u64, records_dropped: u64) {
        let Some(files) = self.files.remove(&id) else { return };
        match files.metrics() {
            Ok(metrics) => {
                if let Some(block) = metrics.worker() {
                    block.add(fields::LINES_DROPPED, 0, records_dropped);
                }
                self.ended.add(&metrics.sums_at_death());
            }
            Err(error) => tracing::error!(
                target: log_target::SUPERVISOR,
                "failed to read the metrics of a worker that has ended: {error}; they are lost"
            ),
        }
    }

    /// What workers have counted whose journals are done.
    pub(super) fn ended(&self) -> &Sums {
        &self.ended
    }

    pub(super) fn add_ended(&mut self, sums: &Sums) {
        self.ended.add(sums);
    }

    /// What all workers have counted up to now.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = self.ended.clone();
        for metrics in self.files.values().filter_map(|files| files.metrics().ok()) {
            sums.add(&metrics.sums());
        }
        sums
    }

    /// Drops journals of workers that have ended, the oldest first, until those that are left take at most `max_bytes`.
    pub(super) fn drop_oldest(&mut self, max_bytes: u64) -> Dropped {
        let ended = self.files.iter().filter(|(_, files)| files.has_ended());
        let ended: Vec<_> = ended.map(|(id, files)| (*id, files.bytes())).collect();
        let mut bytes: u64 = ended.iter().map(|(_, bytes)| bytes).sum();
        let mut dropped = Dropped::default();
        for (id, size) in ended {
            if bytes <= max_bytes {
                break;
            }
            bytes -= size;
            let records = self.files.get(&id).map_or(0, JournalFiles::unread);
            self.end(id, records);
            dropped.journals += 1;
            dropped.records += records;
        }
        dropped
    }
}

impl JournalFiles {
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; FILES] {
        [self.journal.as_fd(), self.metrics.as_fd(), self.alive.as_fd(), self.log.as_fd()]
    }

    /// What the worker has counted.
    fn metrics(&self) -> io::Result<MetricsReader> {
        MetricsReader::open(self.metrics.as_fd(), self.facts.blocks.clone())
    }

    /// Whether the worker has ended: no process has the other end of the pipe any more.
    fn has_ended(&self) -> bool {
        let mut alive = [PollFd::new(&self.alive, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut alive, Some(&now)).is_ok()
            && alive.iter().any(|alive| alive.revents().contains(PollFlags::HUP))
    }

    /// The memory that the journal takes: only pages that were written to.
    fn bytes(&self) -> u64 {
        let blocks = rustix::fs::fstat(&self.journal).map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0));
        (blocks * 512).max(MIN_JOURNAL_BYTES)
    }

    /// Records that no observer has taken care of, with those of requests that were lost.
    fn unread(&self) -> u64 {
        let Ok(mut reader) = JournalReader::open(self.journal.as_fd()) else { return 0 };
        let mut records = 0;
        while reader.next().is_some() {
            records += 1;
        }
        while reader.next_lost().is_some() {
            records += 1;
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;
    use crate::observe::journal::{self, Journal, Numbers};
    use crate::observe::metrics::{self, BlockCounts, BlockNames, WorkerMetrics};

    /// The journal of a worker with so many records, and what the worker has open as long as it lives.
    fn worker(records: u64) -> (JournalFiles, OwnedFd) {
        let facts = WorkerFacts {
            generation: 1,
            worker: 0,
            blocks: BlockNames::default(),
            routes: Vec::new(),
            headers: Vec::new(),
        };
        let (journal, metrics) = (journal::create().expect("memory"), metrics::create(&facts.blocks).expect("memory"));
        let (alive, lives) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (log, _) = UnixStream::pair().expect("a socket");
        let writer = Journal::open(journal.as_fd()).expect("a journal");
        for id in 1..records {
            let numbers = Numbers { id: [id, 1], ..Numbers::default() };
            writer.begin(&numbers, []).end(&numbers, true);
        }
        if records > 0 {
            // The last one is in progress.
            WorkerMetrics::open(metrics.as_fd(), BlockCounts::default()).expect("metrics").note_begun();
            std::mem::forget(writer.begin(&Numbers { id: [records, 1], ..Numbers::default() }, []));
        }
        (JournalFiles { facts, journal, metrics, alive, log: log.into() }, lives)
    }

    #[test]
    fn journals_of_ended_workers_are_bounded() {
        let mut journals = Journals::default();
        let (first, lives) = worker(7);
        journals.add(first);
        for records in [3, 2, 5, 0] {
            journals.add(worker(records).0);
        }
        assert_eq!(journals.drop_oldest(MAX_ENDED_BYTES), Dropped::default());
        // Those of workers that live are not among them.
        assert_eq!(journals.drop_oldest(2 * MIN_JOURNAL_BYTES), Dropped { journals: 2, records: 5 });
        let ids = |journals: &Journals| journals.facts().iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(ids(&journals), [1, 4, 5]);
        let lost = |journals: &Journals| journals.ended().get("").map_or(0, |sums| sums.one(fields::LINES_DROPPED));
        assert_eq!(lost(&journals), 5);
        // The observer may still say that it is done with one of them.
        journals.end(2, 0);
        assert_eq!((lost(&journals), journals.sums().get("").map(|sums| sums.in_progress())), (5, Some(2)));
        drop(lives);
        assert_eq!(journals.drop_oldest(0), Dropped { journals: 3, records: 12 });
        assert_eq!((ids(&journals), lost(&journals)), (vec![], 17));
        assert_eq!(journals.sums().get("").map(|sums| sums.in_progress()), Some(0));
    }
}
