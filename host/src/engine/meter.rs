//! How much CPU one call has used, and the future that polls a guest only when it is its turn.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::call::{Ending, Remains};
use super::turns::{Turn, Turns};

/// What a call may use by the cheap clock before it is measured by the exact one: less than a slice.
const CHEAPLY_MEASURED_NS: u64 = 1_000_000;

/// More than a first slice can be. What the cheap clock says beyond that was not the guest: the kernel ran
/// something else, or the machine slept.
const MAX_CHEAP_NS: u64 = 2_000_000;

/// The CPU time of one call. Shared by the future that polls the guest and the epoch callback inside
/// it, both on one thread; atomics because wasmtime asks for `Send + Sync`.
///
/// The thread's CPU clock is a system call, which a small request would pay for twice. So a call is
/// measured by the monotonic clock first, which costs a fraction of that and runs at least as fast. Once it
/// has used about a slice, it is the thread's own clock that counts, which does not charge a guest while
/// others run.
pub(super) struct Meter {
    budget_ns: u64,
    used_ns: AtomicU64,
    /// The clock in use when the poll in progress began.
    poll_began_ns: AtomicU64,
    /// Measured by the thread's CPU clock.
    is_exact: AtomicBool,
    /// The last poll used up its slice, so the next one waits for its turn.
    takes_turns: AtomicBool,
}

impl Meter {
    pub(super) fn new(budget: Duration) -> Self {
        Self {
            budget_ns: u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX),
            used_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            is_exact: AtomicBool::new(false),
            takes_turns: AtomicBool::new(false),
        }
    }

    /// Called from inside a poll, when a slice is over: whether the budget is spent.
    pub(super) fn end_slice(&self) -> bool {
        self.takes_turns.store(true, Relaxed);
        self.used_ns.load(Relaxed) + self.in_this_poll() >= self.budget_ns
    }

    fn begin_poll(&self) {
        if self.used_ns.load(Relaxed) >= CHEAPLY_MEASURED_NS {
            self.is_exact.store(true, Relaxed);
        }
        self.poll_began_ns.store(self.now_ns(), Relaxed);
    }

    fn end_poll(&self) {
        self.used_ns.fetch_add(self.in_this_poll(), Relaxed);
    }

    fn in_this_poll(&self) -> u64 {
        let passed = self.now_ns().saturating_sub(self.poll_began_ns.load(Relaxed));
        if self.is_exact.load(Relaxed) { passed } else { passed.min(MAX_CHEAP_NS) }
    }

    fn now_ns(&self) -> u64 {
        let clock = if self.is_exact.load(Relaxed) { ClockId::ThreadCPUTime } else { ClockId::Monotonic };
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
        seconds * 1_000_000_000 + nanoseconds
    }
}

/// Polls a guest's future, charging what it uses, and only in turn after it has used up a slice.
pub(crate) struct Metered {
    guest: Pin<Box<dyn Future<Output = (Ending, Remains)> + Send>>,
    meter: Arc<Meter>,
    turns: Turns,
    waiting: Option<Pin<Box<dyn Future<Output = Turn> + Send>>>,
}

impl Metered {
    pub(super) fn new(
        guest: impl Future<Output = (Ending, Remains)> + Send + 'static,
        meter: Arc<Meter>,
        turns: Turns,
    ) -> Self {
        Self { guest: Box::pin(guest), meter, turns, waiting: None }
    }
}

impl Future for Metered {
    type Output = (Ending, Remains);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // Held while the guest runs, given to the next in line when its slice is over.
        let mut turn = None;
        if this.meter.takes_turns.load(Relaxed) {
            let waiting = this.waiting.get_or_insert_with(|| Box::pin(this.turns.clone().take()));
            turn = Some(ready!(waiting.as_mut().poll(cx)));
            this.waiting = None;
            this.meter.takes_turns.store(false, Relaxed);
        }
        this.meter.begin_poll();
        let poll = this.guest.as_mut().poll(cx);
        this.meter.end_poll();
        drop(turn);
        poll
    }
}
