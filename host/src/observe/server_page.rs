//! The server page: what the supervisor is doing, in memory that it shares with its observer. The supervisor writes it
//! whenever something changes, without waiting for readers. A reader gets a consistent snapshot.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daylily_core::config::Workers;
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::time::ClockId;

use super::counters::{SUPERVISOR_COUNTERS, Totals};
use crate::sys::clock::time_ns;
use crate::sys::lock::lock;
use crate::sys::sealed::shared;

/// Maximum number of generations that drain at a time.
pub(crate) const MAX_DRAINING: usize = 16;

/// The bytes of the page: the smallest page of any system.
const PAGE_BYTES: usize = 4096;

/// How often the supervisor says that its event loop runs.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How long it may not have said so.
const BEAT_PATIENCE: Duration = Duration::from_secs(10);

/// How many times a reader tries while the supervisor writes. Writing takes microseconds, unless the supervisor is
/// stopped or killed while it writes.
const TRIES: u32 = 200;

/// From this try on, a reader sleeps for a millisecond before it tries again.
const IMPATIENT_TRIES: u32 = 100;

/// What the supervisor is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// The first generation is not ready yet.
    #[default]
    Starting,
    Serving,
    Reloading,
    Upgrading,
    /// Since the request to stop, or since a successor has taken over.
    Stopping,
}

impl ServerState {
    const ALL: [Self; 5] = [Self::Starting, Self::Serving, Self::Reloading, Self::Upgrading, Self::Stopping];
}

/// What a worker session is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SessionState {
    #[default]
    Starting,
    Ready,
    /// Its process died several times in a row, and the next start is delayed.
    Waiting,
    Draining,
    Ended,
}

impl SessionState {
    const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::Waiting, Self::Draining, Self::Ended];
}

/// A worker of the generation that serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageWorker {
    /// 0 while no process runs.
    pub(crate) pid: u32,
    pub(crate) state: SessionState,
}

/// What the page says at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) state: ServerState,
    /// The generation that serves; 0 before the first one does.
    pub(crate) generation: u64,
    /// The process id of the supervisor.
    pub(crate) pid: u32,
    /// When the supervisor started: since the Unix epoch, and on the system's monotonic clock.
    pub(crate) began_unix: Duration,
    pub(crate) began: Duration,
    /// What the supervisor has counted, with its predecessors. The counts of the scoreboard are 0.
    pub(crate) totals: Totals,
    /// The workers of the generation that serves, or of the first one while it starts, by their number.
    pub(crate) workers: Vec<PageWorker>,
    /// The numbers of the generations that drain.
    pub(crate) draining: Vec<u64>,
}

impl Snapshot {
    pub(crate) fn ready_workers(&self) -> usize {
        self.workers.iter().filter(|worker| worker.state == SessionState::Ready).count()
    }

    /// Whether the first generation has become ready.
    pub(crate) fn has_started(&self) -> bool {
        self.generation > 0
    }

    /// Whether the server is ready for new clients: all workers of the serving generation are ready, and no stop has
    /// begun.
    pub(crate) fn is_ready(&self) -> bool {
        let serves = !matches!(self.state, ServerState::Starting | ServerState::Stopping);
        self.has_started() && serves && self.ready_workers() == self.workers.len()
    }

    pub(crate) fn uptime(&self) -> Duration {
        monotonic_now().saturating_sub(self.began)
    }
}

/// The page as it is in memory. Atomics only: they have no invalid value.
#[repr(C)]
struct Layout {
    /// Odd while the supervisor writes.
    version: AtomicU64,
    state: AtomicU64,
    generation: AtomicU64,
    pid: AtomicU64,
    /// When the supervisor's event loop last ran, in microseconds of the monotonic clock. Not part of a snapshot's
    /// consistency.
    beat: AtomicU64,
    began_unix: AtomicU64,
    began: AtomicU64,
    totals: [AtomicU64; SUPERVISOR_COUNTERS],
    draining: List<MAX_DRAINING>,
    /// For each worker its process id, and in the lowest byte its state.
    workers: List<{ Workers::MAX as usize }>,
}

#[repr(C)]
struct List<const MAX: usize> {
    len: AtomicU64,
    items: [AtomicU64; MAX],
}

const _: () = assert!(size_of::<Layout>() <= PAGE_BYTES);

/// The page, as its supervisor has it. Only the supervisor writes to it.
pub(crate) struct ServerPage {
    file: OwnedFd,
    layout: &'static Layout,
    content: Mutex<Snapshot>,
}

impl ServerPage {
    /// `totals` are those of the predecessor.
    ///
    /// # Errors
    ///
    /// When shared memory cannot be created or mapped.
    pub(crate) fn new(totals: Totals) -> io::Result<Arc<Self>> {
        let file = shared("daylily-server", PAGE_BYTES as u64)?;
        let layout = map(file.as_fd(), ProtFlags::READ | ProtFlags::WRITE)?;
        let content = Snapshot {
            pid: std::process::id(),
            began_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            began: monotonic_now(),
            totals,
            ..Snapshot::default()
        };
        layout.beat.store(micros(monotonic_now()), Relaxed);
        layout.write(&content);
        Ok(Arc::new(Self { file, layout, content: Mutex::new(content) }))
    }

    /// Says each [`BEAT_INTERVAL`] that the supervisor's event loop runs. Never ends.
    pub(crate) async fn keep_beating(self: Arc<Self>) {
        loop {
            self.layout.beat.store(micros(monotonic_now()), Relaxed);
            tokio::time::sleep(BEAT_INTERVAL).await;
        }
    }

    /// The memory from which the observer maps it.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The first generation starts, with this number of workers.
    pub(crate) fn expect(&self, workers: u32) {
        self.change(|content| content.workers = vec![PageWorker::default(); workers as usize]);
    }

    pub(crate) fn set_state(&self, state: ServerState) {
        self.change(|content| content.state = state);
    }

    /// A generation serves from now on, and these drain.
    pub(crate) fn set_generation(&self, generation: u64, workers: Vec<PageWorker>, draining: Vec<u64>) {
        self.change(|content| {
            content.generation = generation;
            content.workers = workers;
            content.draining = draining;
        });
    }

    pub(crate) fn set_draining(&self, draining: Vec<u64>) {
        self.change(|content| content.draining = draining);
    }

    /// The state of a worker has changed. Only workers of the generation that serves are on the page.
    pub(crate) fn set_worker(&self, generation: u64, number: u32, worker: PageWorker) {
        self.change(|content| {
            if generation == content.generation
                && let Some(place) = content.workers.get_mut(number as usize)
            {
                *place = worker;
            }
        });
    }

    /// Adds what was counted; the counts of the scoreboard are left out.
    pub(crate) fn count(&self, totals: Totals) {
        self.change(|content| content.totals += totals.without_counts());
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut content = lock(&self.content);
        change(&mut content);
        self.layout.write(&content);
    }
}

/// The page, as another process reads it.
pub(crate) struct PageReader(&'static Layout);

impl PageReader {
    /// Maps the page, for as long as this process lives.
    ///
    /// # Errors
    ///
    /// When the file is too short, or mmap(2) fails.
    pub(crate) fn open(file: BorrowedFd<'_>) -> io::Result<Self> {
        map(file, ProtFlags::READ).map(Self)
    }

    /// Whether the supervisor's event loop has run lately.
    pub(crate) fn is_beating(&self) -> bool {
        let beat = Duration::from_micros(self.0.beat.load(Relaxed));
        monotonic_now().saturating_sub(beat) < BEAT_PATIENCE
    }

    /// What the page says; None if the supervisor does not finish writing it. Blocks for a tenth of a second at most.
    pub(crate) fn read(&self) -> Option<Snapshot> {
        for attempt in 0..TRIES {
            if let Some(snapshot) = self.0.read() {
                return Some(snapshot);
            }
            if attempt < IMPATIENT_TRIES {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        None
    }
}

impl Layout {
    /// Called by one thread at a time.
    fn write(&self, content: &Snapshot) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        // A reader that sees one of the following writes also sees the odd version.
        fence(Release);
        self.state.store(content.state as u64, Relaxed);
        self.generation.store(content.generation, Relaxed);
        self.pid.store(content.pid.into(), Relaxed);
        self.began_unix.store(micros(content.began_unix), Relaxed);
        self.began.store(micros(content.began), Relaxed);
        for (place, value) in self.totals.iter().zip(content.totals.of_supervisor()) {
            place.store(value, Relaxed);
        }
        self.draining.write(content.draining.iter().copied());
        self.workers.write(content.workers.iter().map(|worker| u64::from(worker.pid) << 8 | worker.state as u64));
        self.version.store(version.wrapping_add(2), Release);
    }

    /// None if the page is being written.
    fn read(&self) -> Option<Snapshot> {
        let version = self.version.load(Acquire);
        if version % 2 == 1 {
            return None;
        }
        let state = self.state.load(Relaxed);
        let snapshot = Snapshot {
            state: ServerState::ALL.into_iter().find(|known| *known as u64 == state).unwrap_or_default(),
            generation: self.generation.load(Relaxed),
            pid: u32::try_from(self.pid.load(Relaxed)).unwrap_or_default(),
            began_unix: Duration::from_micros(self.began_unix.load(Relaxed)),
            began: Duration::from_micros(self.began.load(Relaxed)),
            totals: Totals::from_supervisor(self.totals.each_ref().map(|place| place.load(Relaxed))),
            workers: self.workers.read().map(worker).collect(),
            draining: self.draining.read().collect(),
        };
        fence(Acquire);
        (self.version.load(Relaxed) == version).then_some(snapshot)
    }
}

impl<const MAX: usize> List<MAX> {
    fn write(&self, items: impl ExactSizeIterator<Item = u64>) {
        self.len.store(items.len() as u64, Relaxed);
        for (place, item) in self.items.iter().zip(items) {
            place.store(item, Relaxed);
        }
    }

    fn read(&self) -> impl Iterator<Item = u64> {
        let len = usize::try_from(self.len.load(Relaxed)).unwrap_or(MAX);
        self.items.iter().take(len).map(|place| place.load(Relaxed))
    }
}

fn worker(packed: u64) -> PageWorker {
    let state = SessionState::ALL.into_iter().find(|known| *known as u64 == packed & 0xff).unwrap_or_default();
    PageWorker { pid: u32::try_from(packed >> 8).unwrap_or_default(), state }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn monotonic_now() -> Duration {
    Duration::from_nanos(time_ns(ClockId::Monotonic))
}

fn map(file: BorrowedFd<'_>, access: ProtFlags) -> io::Result<&'static Layout> {
    let size = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
    if size < PAGE_BYTES as u64 {
        return Err(io::Error::other("the server page is too short"));
    }
    #[expect(unsafe_code, reason = "there is no other way to share memory between processes")]
    // SAFETY: the kernel chooses the address. The page is inside the file, whose size is sealed, and is never unmapped.
    // A `Layout` is no larger than the page (checked above), aligned to it, and made of atomics only, which have no
    // invalid value and may be changed by another process at any time. With read-only memory, it is only loaded from.
    unsafe {
        let start = mmap(null_mut(), PAGE_BYTES, access, MapFlags::SHARED, file, 0)?;
        Ok(&*start.cast::<Layout>())
    }
}

#[cfg(test)]
mod tests;
