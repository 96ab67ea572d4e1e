//! Counters in memory that the supervisor and its workers share, so that they survive a worker's death.
//!
//! Each worker process has its own slot, on its own page. When the process has ended, its counts are added to those of
//! the workers that ended before, so totals never go backwards.

use std::io;
use std::ops::{Add, AddAssign};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::param::page_size;
use serde::{Deserialize, Serialize};

use crate::sys::lock::lock;
use crate::sys::sealed::shared;

/// One worker's counters. They only increase while it lives, except for gauges. The difference between an opened and a
/// closed (begun and ended) counter is a gauge, too.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Slot {
    /// Incremented regularly by the event loop; the supervisor detects by it that the event loop hangs.
    heartbeats: AtomicU64,
    connections_opened: AtomicU64,
    connections_closed: AtomicU64,
    requests_begun: AtomicU64,
    requests_ended: AtomicU64,
    requests_cut: AtomicU64,
    /// Gauge: file calls that have outlived their requests and have not returned.
    blocked_calls: AtomicU64,
    /// Gauge: routes that have no thread left for files, because of such calls.
    blocked_routes: AtomicU64,
}

/// A snapshot of a slot's counters, or a sum of such snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    pub(crate) connections_opened: u64,
    pub(crate) connections_closed: u64,
    pub(crate) requests_begun: u64,
    pub(crate) requests_ended: u64,
    /// Cut by daylily at the end of a drain (`shutdown_timeout`).
    pub(crate) requests_cut: u64,
    /// In progress when their worker died.
    pub(crate) requests_lost: u64,
}

/// Counts a connection or request as in progress until it is dropped.
pub(crate) struct InProgress<'a>(&'a AtomicU64);

impl Slot {
    /// A slot that is not shared with other processes, for a process that serves nothing, such as `daylily check`.
    pub(crate) fn unshared() -> &'static Self {
        Box::leak(Box::default())
    }

    /// Changes as long as the worker's event loop runs.
    pub(crate) fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Relaxed)
    }

    pub(crate) fn beat(&self) {
        self.heartbeats.fetch_add(1, Relaxed);
    }

    pub(crate) fn begin_connection(&'static self) -> InProgress<'static> {
        self.connections_opened.fetch_add(1, Relaxed);
        InProgress(&self.connections_closed)
    }

    pub(crate) fn begin_request(&'static self) -> InProgress<'static> {
        self.requests_begun.fetch_add(1, Relaxed);
        InProgress(&self.requests_ended)
    }

    pub(crate) fn note_blocked(&self, calls: u64, routes: u64) {
        self.blocked_calls.store(calls, Relaxed);
        self.blocked_routes.store(routes, Relaxed);
    }

    pub(crate) fn blocked_calls(&self) -> u64 {
        self.blocked_calls.load(Relaxed)
    }

    pub(crate) fn blocked_routes(&self) -> u64 {
        self.blocked_routes.load(Relaxed)
    }

    /// Counts the requests in progress as cut; called just before they are.
    pub(crate) fn note_cut(&self) {
        self.requests_cut.fetch_add(self.counts().requests_in_progress(), Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            // Read `ended` and `closed` first: what begins and ends between two reads must not make a gauge negative.
            requests_ended: self.requests_ended.load(Relaxed),
            connections_closed: self.connections_closed.load(Relaxed),
            connections_opened: self.connections_opened.load(Relaxed),
            requests_begun: self.requests_begun.load(Relaxed),
            requests_cut: self.requests_cut.load(Relaxed),
            requests_lost: 0,
        }
    }

    fn clear(&self) {
        for counter in [
            &self.heartbeats,
            &self.connections_opened,
            &self.connections_closed,
            &self.requests_begun,
            &self.requests_ended,
            &self.requests_cut,
            &self.blocked_calls,
            &self.blocked_routes,
        ] {
            counter.store(0, Relaxed);
        }
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Counts {
    pub(crate) fn requests_in_progress(&self) -> u64 {
        self.requests_begun.saturating_sub(self.requests_ended)
    }

    pub(crate) fn connections_open(&self) -> u64 {
        self.connections_opened.saturating_sub(self.connections_closed)
    }

    /// The counts once the worker has ended: its connections are closed, and its requests in progress are lost.
    pub(crate) fn at_death(self) -> Self {
        // Requests that were counted as cut do not also count as lost.
        let lost = self.requests_in_progress().saturating_sub(self.requests_cut);
        Self {
            connections_closed: self.connections_opened,
            requests_ended: self.requests_begun,
            requests_lost: lost,
            ..self
        }
    }

    /// What was counted since the snapshot `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        self.zip(before, u64::saturating_sub)
    }

    fn zip(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            connections_opened: of(self.connections_opened, other.connections_opened),
            connections_closed: of(self.connections_closed, other.connections_closed),
            requests_begun: of(self.requests_begun, other.requests_begun),
            requests_ended: of(self.requests_ended, other.requests_ended),
            requests_cut: of(self.requests_cut, other.requests_cut),
            requests_lost: of(self.requests_lost, other.requests_lost),
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
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
    // A `Slot` is smaller than a page, aligned to it, and made of atomics only, which have no invalid value and may be
    // changed by other processes at any time.
    unsafe {
        let start = mmap(null_mut(), page, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, offset)?;
        Ok(&*start.cast::<Slot>())
    }
}

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
