//! The CPU time of one call, and the future that polls a guest, which waits in the CPU queue when the guest has used up
//! a slice.

#[cfg(test)]
mod tests;
mod waits;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::ClockId;

use self::waits::Waits;
pub(crate) use self::waits::{WaitFor, WaitTimer};
use super::cpu_queue::{CpuPermit, CpuQueue};
use crate::engine::call_outcome::{CallOutcome, EndedStore};
use crate::observe::record::Usage;
use crate::sys::clock::time_ns;

/// A call that has used this much, by the monotonic clock, is measured by the thread's CPU clock from its next poll on.
/// Less than a slice.
const CHEAPLY_MEASURED_NS: u64 = 1_000_000;

/// Ticks until a guest is interrupted for the first time. The tick in progress counts, so this is at least one whole
/// slice, and small requests are not interrupted at all.
const FIRST_SLICE_TICKS: u64 = 2;

/// Ticks of every later slice, which is the rest of the tick in progress.
pub(crate) const SLICE_TICKS: u64 = 1;

/// The CPU time from which on a slice is used up, once its ticks are over. Ticks pass also while the kernel runs other
/// threads: on a busy machine, a guest that has used less goes on, and its response is not sent before it is complete.
const SLICE_CPU_NS: u64 = 500_000;

/// An upper bound of a first slice. If the monotonic clock shows more, the host worked for the guest, the kernel ran
/// another thread, or the machine was suspended. Only the thread's CPU clock can tell these apart.
const MAX_CHEAP_NS: u64 = 2_000_000;

/// The time within which a call must have used its CPU time for that to count as one slice. A call that waits is polled
/// now and then, and uses as much in the end, without delaying anything.
const SLICE_WINDOW_NS: u64 = 25_000_000;

/// The trap of a guest during whose call the host panicked: a fault of wasmtime's or ours, which ends this call only.
/// Seen: with wasmtime 48.0.8, a component of 0.3 that passes on the stream of a write that has completed in part, and
/// drops the writer before the host reads the rest ("expected WriteState::GuestReady").
pub(crate) const HOST_PANIC: &str = "the host panicked, which is a fault of its own; standard error has its message";

/// What follows when the ticks of a slice are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SliceEnd {
    /// The call has used up its budget.
    Spent,
    /// The guest has used up its slice: others run.
    Yields,
    /// The guest has hardly run.
    GoesOn,
}

/// A reading of both clocks at one moment outside of all polls.
#[derive(Clone, Copy)]
struct Reading {
    monotonic_ns: u64,
    cpu_ns: u64,
}

thread_local! {
    /// The last reading of this thread. With it, the CPU time of a long poll needs only one reading of the CPU clock,
    /// after the poll, and none before each poll: the CPU time between this reading and the poll is at most the time
    /// that passed.
    static LAST_READING: Cell<Reading> = const { Cell::new(Reading { monotonic_ns: 0, cpu_ns: 0 }) };
}

impl Reading {
    fn take() -> Self {
        Self { monotonic_ns: time_ns(ClockId::Monotonic), cpu_ns: time_ns(ClockId::ThreadCPUTime) }
    }

    /// A lower bound of the CPU time since `began_ns` of the monotonic clock, if the CPU clock is at `cpu_ns` now.
    fn used_since(began_ns: u64, cpu_ns: u64) -> u64 {
        let last = LAST_READING.get();
        let before_ns = began_ns.saturating_sub(last.monotonic_ns);
        cpu_ns.saturating_sub(last.cpu_ns).saturating_sub(before_ns)
    }
}

/// To be called regularly on the thread that polls guests, outside of polls. The more often it is called, the more
/// exactly long first polls are charged.
pub(crate) fn note_cpu_clock() {
    LAST_READING.set(Reading::take());
}

/// The CPU time of one call. It is shared by the future that polls the guest and by the epoch callback within that
/// poll, both on one thread; it uses atomics because wasmtime requires `Send + Sync`.
///
/// Reading the thread's CPU clock is a system call, of which a small request would need two. So a call is measured by
/// the monotonic clock first, which costs a fraction of that and never advances more slowly. A call that has used about
/// a slice is measured by the thread's CPU clock, which does not charge a guest while other threads run.
pub(crate) struct Meter {
    budget_ns: u64,
    used_ns: AtomicU64,
    /// When the poll in progress began, by the clock in use.
    poll_began_ns: AtomicU64,
    /// The thread's CPU clock when the ticks of a first slice were over, in the poll in progress; 0 before.
    interrupted_cpu_ns: AtomicU64,
    /// Whether the call is measured by the thread's CPU clock.
    is_exact: AtomicBool,
    first_slice_ticks: u64,
    /// The CPU time since the call last had its turn in the CPU queue, within the window in progress.
    slice_ns: AtomicU64,
    /// When that window began, by the monotonic clock.
    window_began_ns: AtomicU64,
    /// Whether the call has used more than [`SLICE_CPU_NS`] within a slice.
    is_long: AtomicBool,
    /// Whether a slice is used up, so that the next poll waits in the CPU queue.
    waits_for_cpu: AtomicBool,
    /// The history of the component's calls.
    habit: Arc<Habit>,
    /// What was used by the time the instance was ready; 0 before.
    instantiate_ns: AtomicU64,
    peak_memory_bytes: AtomicU64,
    was_refused_memory: AtomicBool,
    outgoing: Waits,
    stores: Waits,
}

/// The CPU time of a component's latest calls. If each used more than [`SLICE_CPU_NS`], the next call waits in the CPU
/// queue from the start. If first slices were always free, a few guests that compute would block the event loop one after
/// the other, before anything else could run.
#[derive(Default)]
pub(crate) struct Habit {
    long_calls: AtomicU32,
}

/// The number of long calls in a row from which on calls wait from the start. One long call among short ones has no
/// effect.
const LONG_CALLS: u32 = 2;

impl Habit {
    fn is_long(&self) -> bool {
        self.long_calls.load(Relaxed) >= LONG_CALLS
    }

    fn note(&self, was_long: bool) {
        let calls = if was_long { self.long_calls.load(Relaxed).saturating_add(1) } else { 0 };
        self.long_calls.store(calls, Relaxed);
    }
}

impl Meter {
    pub(crate) fn new(budget: Duration, habit: Arc<Habit>) -> Self {
        let waits_for_cpu = habit.is_long();
        Self {
            waits_for_cpu: AtomicBool::new(waits_for_cpu),
            first_slice_ticks: if waits_for_cpu { SLICE_TICKS } else { FIRST_SLICE_TICKS },
            habit,
            budget_ns: u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX),
            used_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            interrupted_cpu_ns: AtomicU64::new(0),
            is_exact: AtomicBool::new(false),
            slice_ns: AtomicU64::new(0),
            window_began_ns: AtomicU64::new(0),
            is_long: AtomicBool::new(false),
            instantiate_ns: AtomicU64::new(0),
            peak_memory_bytes: AtomicU64::new(0),
            was_refused_memory: AtomicBool::new(false),
            outgoing: Waits::default(),
            stores: Waits::default(),
        }
    }

    /// The instance is ready. Called within a poll.
    pub(crate) fn note_instantiated(&self) {
        self.instantiate_ns.store(self.used_ns.load(Relaxed) + self.in_this_poll(), Relaxed);
    }

    /// Notes the memory that the guest has. It does not shrink.
    pub(crate) fn note_memory(&self, bytes: u64) {
        self.peak_memory_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn note_refused_memory(&self) {
        self.was_refused_memory.store(true, Relaxed);
    }

    fn waits(&self, of: WaitFor) -> &Waits {
        match of {
            WaitFor::Outgoing => &self.outgoing,
            WaitFor::Store => &self.stores,
        }
    }

    /// What the call has used so far.
    pub(crate) fn usage(&self) -> Usage {
        let (used, ready) = (self.used_ns.load(Relaxed), self.instantiate_ns.load(Relaxed));
        let instantiate_ns = if ready == 0 { used } else { ready };
        Usage {
            instantiate_ns,
            guest_cpu_ns: used.saturating_sub(instantiate_ns),
            peak_memory_bytes: self.peak_memory_bytes.load(Relaxed),
            was_refused_memory: self.was_refused_memory.load(Relaxed),
            outgoing: self.outgoing.usage(),
            stores: self.stores.usage(),
        }
    }

    /// Called within a poll, when the ticks of a slice are over.
    pub(crate) fn end_slice(&self) -> SliceEnd {
        if self.used_ns.load(Relaxed) + self.in_this_poll() >= self.budget_ns {
            self.use_up_slice();
            return SliceEnd::Spent;
        }
        if self.cpu_of_slice() < SLICE_CPU_NS {
            return SliceEnd::GoesOn;
        }
        self.use_up_slice();
        SliceEnd::Yields
    }

    /// A lower bound of the CPU time of the slice in progress. It rises with each call while the guest runs, also if
    /// the CPU time when the poll began is not known.
    fn cpu_of_slice(&self) -> u64 {
        let began_ns = self.poll_began_ns.load(Relaxed);
        let cpu_ns = time_ns(ClockId::ThreadCPUTime);
        if self.is_exact.load(Relaxed) {
            return cpu_ns.saturating_sub(began_ns);
        }
        match self.interrupted_cpu_ns.load(Relaxed) {
            0 => {
                self.interrupted_cpu_ns.store(cpu_ns, Relaxed);
                Reading::used_since(began_ns, cpu_ns)
            }
            interrupted_ns => cpu_ns.saturating_sub(interrupted_ns),
        }
    }

    /// Whether the budget is spent, by the guest or by the host on its behalf.
    fn is_spent(&self) -> bool {
        self.used_ns.load(Relaxed) >= self.budget_ns
    }

    fn begin_poll(&self) {
        if self.used_ns.load(Relaxed) >= CHEAPLY_MEASURED_NS {
            self.is_exact.store(true, Relaxed);
        }
        let began_ns = self.now_ns();
        self.poll_began_ns.store(began_ns, Relaxed);
        self.interrupted_cpu_ns.store(0, Relaxed);
        let mut monotonic_ns = began_ns;
        if self.is_exact.load(Relaxed) {
            monotonic_ns = time_ns(ClockId::Monotonic);
            LAST_READING.set(Reading { monotonic_ns, cpu_ns: began_ns });
        }
        if monotonic_ns.saturating_sub(self.window_began_ns.load(Relaxed)) > SLICE_WINDOW_NS {
            self.window_began_ns.store(monotonic_ns, Relaxed);
            self.slice_ns.store(0, Relaxed);
        }
    }

    fn end_poll(&self) {
        let passed = self.passed_in_this_poll();
        self.used_ns.fetch_add(self.charged(passed), Relaxed);
        let mut of_slice = passed;
        if passed > SLICE_CPU_NS {
            if !self.is_exact.load(Relaxed) {
                // A lower bound: a call is not delayed because the kernel ran another thread.
                of_slice = Reading::used_since(self.poll_began_ns.load(Relaxed), time_ns(ClockId::ThreadCPUTime));
            }
            note_cpu_clock();
        }
        // Over several polls, and with the host's work, which the epoch does not interrupt. If only what the epoch interrupts
        // counted, a hundred guests that print many lines would delay a small request by all of them.
        let slice_ns = self.slice_ns.fetch_add(of_slice, Relaxed) + of_slice;
        if slice_ns > MAX_CHEAP_NS {
            // Not sooner: a response whose guest waits for the CPU is sent before it is complete.
            self.use_up_slice();
        } else if slice_ns > SLICE_CPU_NS {
            self.note_long();
        }
    }

    /// The call has had its turn in the CPU queue, and begins a slice.
    fn begin_slice(&self) {
        self.waits_for_cpu.store(false, Relaxed);
        self.slice_ns.store(0, Relaxed);
    }

    /// The slice is over: the next poll waits in the CPU queue.
    fn use_up_slice(&self) {
        self.waits_for_cpu.store(true, Relaxed);
        self.note_long();
    }

    /// The call has used more than [`SLICE_CPU_NS`].
    fn note_long(&self) {
        if !self.is_long.swap(true, Relaxed) {
            self.habit.note(true);
        }
    }

    fn end_call(&self) {
        if !self.is_long.load(Relaxed) {
            self.habit.note(false);
        }
    }

    /// Ticks until the first interruption.
    pub(crate) fn first_slice_ticks(&self) -> u64 {
        self.first_slice_ticks
    }

    fn in_this_poll(&self) -> u64 {
        self.charged(self.passed_in_this_poll())
    }

    /// By the clock in use.
    fn passed_in_this_poll(&self) -> u64 {
        self.now_ns().saturating_sub(self.poll_began_ns.load(Relaxed))
    }

    /// What is charged for a poll in which so much time has `passed`.
    fn charged(&self, passed: u64) -> u64 {
        if self.is_exact.load(Relaxed) || passed <= MAX_CHEAP_NS {
            return passed;
        }
        let began_ns = self.poll_began_ns.load(Relaxed);
        Reading::used_since(began_ns, time_ns(ClockId::ThreadCPUTime)).clamp(MAX_CHEAP_NS, passed)
    }

    fn now_ns(&self) -> u64 {
        time_ns(if self.is_exact.load(Relaxed) { ClockId::ThreadCPUTime } else { ClockId::Monotonic })
    }
}

/// Polls a guest's future and charges its CPU time. After the guest has used up a slice, it waits in the CPU queue.
pub(crate) struct Metered {
    guest: Pin<Box<dyn Future<Output = (CallOutcome, EndedStore)> + Send>>,
    meter: Arc<Meter>,
    cpu_queue: CpuQueue,
    waiting: Option<Pin<Box<dyn Future<Output = CpuPermit> + Send>>>,
}

impl Metered {
    pub(crate) fn new(
        guest: impl Future<Output = (CallOutcome, EndedStore)> + Send + 'static,
        meter: Arc<Meter>,
        cpu_queue: CpuQueue,
    ) -> Self {
        Self { guest: Box::pin(guest), meter, cpu_queue, waiting: None }
    }
}

impl Future for Metered {
    type Output = (CallOutcome, EndedStore);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // Held while the guest runs, and passed to the next in the queue when its slice is over.
        let mut permit = None;
        if this.meter.waits_for_cpu.load(Relaxed) {
            let waiting = this.waiting.get_or_insert_with(|| Box::pin(this.cpu_queue.clone().take()));
            permit = Some(ready!(waiting.as_mut().poll(cx)));
            this.waiting = None;
            this.meter.begin_slice();
        }
        if this.meter.is_spent() {
            // The host's work for a waiting guest is not interrupted, so it is checked here.
            this.meter.end_call();
            let outcome = CallOutcome::CpuTime(Duration::from_nanos(this.meter.budget_ns));
            // The future owns the store. Dropping it would make an unfinished body of the response look finished.
            let guest = std::mem::replace(&mut this.guest, Box::pin(std::future::pending()));
            return Poll::Ready((outcome, EndedStore::new(guest)));
        }
        this.meter.begin_poll();
        let poll = catch_unwind(AssertUnwindSafe(|| this.guest.as_mut().poll(cx)));
        this.meter.end_poll();
        let poll = poll.unwrap_or_else(|_| {
            // The store has been dropped while the stack was unwound, so the outcome must be known before the response's
            // body is read again: its end is not the guest's.
            this.guest = Box::pin(std::future::pending());
            Poll::Ready((CallOutcome::Trap(HOST_PANIC.into()), EndedStore::NONE))
        });
        if poll.is_ready() {
            this.meter.end_call();
        }
        drop(permit);
        poll
    }
}
