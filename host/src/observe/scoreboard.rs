//! Counters in memory that the supervisor and its workers share, so that they survive a worker's death.
//!
//! Each worker process has its own slot, on its own page. When the process has ended, its counts are added to those of
//! the workers that ended before, so totals never go backwards.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex};

use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::param::page_size;

use super::counters::Counter;
pub(crate) use super::counters::{Counts, Slot};
use crate::sys::lock::lock;
use crate::sys::sealed::shared;

/// Counts a connection or request as in progress until it is dropped.
pub(crate) struct InProgress<'a>(&'a Counter);

impl Slot {
    /// A slot that is not shared with other processes, for a process that serves nothing, such as `daylily check`.
    pub(crate) fn unshared() -> &'static Self {
        Box::leak(Box::default())
    }

    pub(crate) fn begin_connection(&'static self) -> InProgress<'static> {
        self.connections_opened.add(1);
        InProgress(&self.connections_closed)
    }

    pub(crate) fn begin_request(&'static self) -> InProgress<'static> {
        self.requests_begun.add(1);
        InProgress(&self.requests_ended)
    }

    /// Counts the requests in progress as cut; called just before they are.
    pub(crate) fn note_cut(&self) {
        self.requests_cut.add(self.counts().requests_in_progress());
    }

    pub(crate) fn counts(&self) -> Counts {
        // Read `ended` and `closed` first: what begins and ends between two reads must not make a gauge negative.
        let (requests_ended, connections_closed) = (self.requests_ended.get(), self.connections_closed.get());
        Counts { requests_ended, connections_closed, ..self.read() }
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.add(1);
    }
}

/// All slots, as mapped by the supervisor.
pub(crate) struct Scoreboard {
    file: OwnedFd,
    slots: Vec<&'static Slot>,
    ledger: Mutex<Ledger>,
}

struct Ledger {
    free: Vec<u32>,
    ended: Counts,
}

/// The use of one slot. Dropping it gives the slot back, so it must only be dropped after its worker has ended.
pub(crate) struct Lease {
    scoreboard: Arc<Scoreboard>,
    index: u32,
    slot: &'static Slot,
}

impl Scoreboard {
    /// Creates a scoreboard for up to `slots` workers at a time. `ended` is what the predecessor has counted.
    ///
    /// # Errors
    ///
    /// When shared memory cannot be created or mapped.
    pub(crate) fn new(slots: u32, ended: Counts) -> io::Result<Arc<Self>> {
        let file = shared("daylily-scoreboard", u64::from(slots) * page_size() as u64)?;
        let mapped = (0..slots).map(|index| map_slot(file.as_fd(), index)).collect::<io::Result<_>>()?;
        let ledger = Mutex::new(Ledger { free: (0..slots).rev().collect(), ended });
        Ok(Arc::new(Self { file, slots: mapped, ledger }))
    }

    /// A slot for a new worker; None while all are in use.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let index = lock(&self.ledger).free.pop()?;
        let slot = self.slots.get(index as usize)?;
        Some(Lease { scoreboard: Arc::clone(self), index, slot })
    }

    /// The maximum number of workers at a time.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Adds what another process, the predecessor, has counted.
    pub(crate) fn add(&self, counts: Counts) {
        lock(&self.ledger).ended += counts;
    }

    /// The sum over all workers, including those that have ended.
    pub(crate) fn totals(&self) -> Counts {
        let ledger = lock(&self.ledger);
        self.slots.iter().fold(ledger.ended, |sum, slot| sum + slot.counts())
    }
}

impl Lease {
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The shared memory from which the worker maps its slot.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.scoreboard.file.as_fd()
    }

    pub(crate) fn slot(&self) -> &'static Slot {
        self.slot
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut ledger = lock(&self.scoreboard.ledger);
        ledger.ended += self.slot.counts().at_death();
        self.slot.clear();
        ledger.free.push(self.index);
    }
}

/// Maps one slot of a scoreboard, for as long as this process lives.
///
/// # Errors
///
/// When the file has no such slot, or mmap(2) fails.
pub(crate) fn map_slot(file: BorrowedFd<'_>, index: u32) -> io::Result<&'static Slot> {
    let page = page_size();
    let offset = u64::from(index) * page as u64;
    let size = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
    if offset + page as u64 > size {
        return Err(io::Error::other(format!("the scoreboard has no slot {index}")));
    }
    #[expect(unsafe_code, reason = "there is no other way to share memory between processes")]
    // SAFETY: the kernel chooses the address. The page is inside the file, whose size is sealed, and is never unmapped.
    // A `Slot` is smaller than a page (checked below), aligned to it, and made of atomics only, which have no invalid value and may be
    // changed by other processes at any time.
    unsafe {
        let start = mmap(null_mut(), page, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, offset)?;
        Ok(&*start.cast::<Slot>())
    }
}

// The smallest page of any system.
const _: () = assert!(size_of::<Slot>() <= 4096);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_survive_their_workers() {
        let scoreboard = Scoreboard::new(2, Counts { requests_begun: 5, requests_ended: 5, ..Counts::default() });
        let scoreboard = scoreboard.expect("shared memory");
        let lease = scoreboard.lease().expect("a slot");
        let worker = map_slot(lease.file(), lease.index()).expect("the slot");
        drop(worker.begin_request());
        let connection = worker.begin_connection();
        let request = worker.begin_request();
        assert_eq!(lease.slot().counts().requests_in_progress(), 1);
        assert_eq!(lease.slot().counts().connections_open(), 1);
        assert_eq!(scoreboard.totals().requests_begun, 7);
        // The worker is killed during a request.
        std::mem::forget((connection, request));
        drop(lease);
        let totals = scoreboard.totals();
        assert_eq!((totals.requests_begun, totals.requests_ended, totals.requests_lost), (7, 7, 1));
        assert_eq!(totals.connections_open(), 0);
        // The slot is zeroed for the next worker.
        let next = scoreboard.lease().expect("a slot");
        assert_eq!(next.slot().counts(), Counts::default());
    }

    #[test]
    fn there_is_no_lease_while_all_slots_are_in_use() {
        let scoreboard = Scoreboard::new(2, Counts::default()).expect("shared memory");
        let leases: Vec<_> = (0..2).map(|_| scoreboard.lease().expect("a slot")).collect();
        assert_ne!(leases[0].index(), leases[1].index());
        assert!(scoreboard.lease().is_none());
        drop(leases);
        assert!(scoreboard.lease().is_some());
        assert!(map_slot(scoreboard.file.as_fd(), 2).is_err());
    }
}
