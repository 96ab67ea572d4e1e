//! How much CPU one call has used, and the future that polls a guest only when it is its turn.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::call::{Ending, Remains};
use super::turns::{Turn, Turns};

/// The CPU time of one call. Shared by the future that polls the guest and the epoch callback inside
/// it, both on one thread; atomics because wasmtime asks for `Send + Sync`.
pub(super) struct Meter {
    budget_ns: u64,
    used_ns: AtomicU64,
    /// This thread's CPU clock when the poll in progress began.
    poll_began_ns: AtomicU64,
    /// The last poll used up its slice, so the next one waits for its turn.
    takes_turns: AtomicBool,
}

impl Meter {
    pub(super) fn new(budget: Duration) -> Self {
        Self {
            budget_ns: u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX),
            used_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            takes_turns: AtomicBool::new(false),
        }
    }

    /// Called from inside a poll, when a slice is over: whether the budget is spent.
    pub(super) fn end_slice(&self) -> bool {
        self.takes_turns.store(true, Relaxed);
        let in_this_poll = thread_cpu_ns().saturating_sub(self.poll_began_ns.load(Relaxed));
        self.used_ns.load(Relaxed) + in_this_poll >= self.budget_ns
    }

    fn begin_poll(&self) {
        self.poll_began_ns.store(thread_cpu_ns(), Relaxed);
    }

    fn end_poll(&self) {
        let in_this_poll = thread_cpu_ns().saturating_sub(self.poll_began_ns.load(Relaxed));
        self.used_ns.fetch_add(in_this_poll, Relaxed);
    }
}

/// The CPU time this thread has used, so that a guest is not charged while others run.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
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
