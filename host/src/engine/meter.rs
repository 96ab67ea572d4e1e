//! How much CPU one call has used, and the future that polls a guest only when it is its turn.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::call::{Ending, Remains};
use super::turns::{Turn, Turns};

/// What a call may use by the cheap clock before it is measured by the exact one: less than a slice.
const CHEAPLY_MEASURED_NS: u64 = 1_000_000;

/// Ticks before a guest is interrupted for the first time. The tick in progress counts, so this is one
/// whole slice, and small requests are not interrupted at all.
const FIRST_SLICE_TICKS: u64 = 2;

/// Ticks of every other slice, which is what is left of the tick in progress.
pub(super) const SLICE_TICKS: u64 = 1;

/// More than a first slice can be. What the cheap clock says beyond that was the host at work for the guest, or the
/// kernel ran something else, or the machine slept: which of it, only the thread's own clock tells.
const MAX_CHEAP_NS: u64 = 2_000_000;

/// Both clocks at one moment outside of every poll.
#[derive(Clone, Copy)]
struct Reading {
    monotonic_ns: u64,
    cpu_ns: u64,
}

thread_local! {
    /// The last one of this thread. With it, one look at the thread's clock after a long poll tells how much of it was
    /// spent here, without one before each poll: what was spent between this reading and the poll is no more than the
    /// time that passed.
    static LAST_READING: Cell<Reading> = const { Cell::new(Reading { monotonic_ns: 0, cpu_ns: 0 }) };
}

impl Reading {
    fn take() -> Self {
        Self { monotonic_ns: time_ns(ClockId::Monotonic), cpu_ns: time_ns(ClockId::ThreadCPUTime) }
    }

    /// The CPU time since `began_ns` of the monotonic clock, at the least.
    fn used_since(began_ns: u64) -> u64 {
        let last = LAST_READING.get();
        let before_ns = began_ns.saturating_sub(last.monotonic_ns);
        time_ns(ClockId::ThreadCPUTime).saturating_sub(last.cpu_ns).saturating_sub(before_ns)
    }
}

/// To be called now and then on the thread that polls guests, not in a poll: the more often, the more exactly long first
/// polls are charged.
pub(crate) fn note_cpu_clock() {
    LAST_READING.set(Reading::take());
}

fn time_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}

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
    first_slice_ticks: u64,
    /// A slice was used up.
    is_long: AtomicBool,
    /// The last poll used up its slice, so the next one waits for its turn.
    takes_turns: AtomicBool,
    /// What is known of the calls of its component.
    habit: Arc<Habit>,
}

/// How long the last calls of a component took. When each of them took more than its first slice, the next one
/// waits for its turn from the start: were first slices free for all, a few guests that compute would hold the
/// event loop one after the other, before anybody else has a chance.
#[derive(Default)]
pub(super) struct Habit {
    long_calls: AtomicU32,
}

/// So many calls in a row make a habit. One long call among short ones changes nothing for the others.
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
    pub(super) fn new(budget: Duration, habit: Arc<Habit>) -> Self {
        let takes_turns = habit.is_long();
        Self {
            takes_turns: AtomicBool::new(takes_turns),
            first_slice_ticks: if takes_turns { SLICE_TICKS } else { FIRST_SLICE_TICKS },
            habit,
            budget_ns: u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX),
            used_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            is_exact: AtomicBool::new(false),
            is_long: AtomicBool::new(false),
        }
    }

    /// Called from inside a poll, when a slice is over: whether the budget is spent.
    pub(super) fn end_slice(&self) -> bool {
        self.note_long();
        self.used_ns.load(Relaxed) + self.in_this_poll() >= self.budget_ns
    }

    /// Whether the budget is spent, by the guest or by the host for it.
    fn is_spent(&self) -> bool {
        self.used_ns.load(Relaxed) >= self.budget_ns
    }

    fn begin_poll(&self) {
        if self.used_ns.load(Relaxed) >= CHEAPLY_MEASURED_NS {
            self.is_exact.store(true, Relaxed);
        }
        let began_ns = self.now_ns();
        self.poll_began_ns.store(began_ns, Relaxed);
        if self.is_exact.load(Relaxed) {
            LAST_READING.set(Reading { monotonic_ns: time_ns(ClockId::Monotonic), cpu_ns: began_ns });
        }
    }

    fn end_poll(&self) {
        let used_ns = self.in_this_poll();
        self.used_ns.fetch_add(used_ns, Relaxed);
        if used_ns > MAX_CHEAP_NS {
            // Also where it was the host, which nothing interrupts.
            self.note_long();
            note_cpu_clock();
        }
    }

    fn note_long(&self) {
        self.takes_turns.store(true, Relaxed);
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
    pub(super) fn first_slice_ticks(&self) -> u64 {
        self.first_slice_ticks
    }

    fn in_this_poll(&self) -> u64 {
        let began_ns = self.poll_began_ns.load(Relaxed);
        let passed = self.now_ns().saturating_sub(began_ns);
        if self.is_exact.load(Relaxed) || passed <= MAX_CHEAP_NS {
            return passed;
        }
        Reading::used_since(began_ns).clamp(MAX_CHEAP_NS, passed)
    }

    fn now_ns(&self) -> u64 {
        time_ns(if self.is_exact.load(Relaxed) { ClockId::ThreadCPUTime } else { ClockId::Monotonic })
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
        if this.meter.is_spent() {
            // What the host does for a guest that waits interrupts nobody.
            this.meter.end_call();
            let ending = Ending::CpuTime(Duration::from_nanos(this.meter.budget_ns));
            return Poll::Ready((ending, Remains::NONE));
        }
        this.meter.begin_poll();
        let poll = this.guest.as_mut().poll(cx);
        this.meter.end_poll();
        if poll.is_ready() {
            this.meter.end_call();
        }
        drop(turn);
        poll
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call of a component with `habit`, and whether its first slice waited for its turn.
    fn call(habit: &Arc<Habit>, slices_used_up: u32) -> bool {
        let meter = Meter::new(Duration::from_secs(1), Arc::clone(habit));
        let waits = meter.takes_turns.load(Relaxed);
        assert_eq!(meter.first_slice_ticks(), if waits { SLICE_TICKS } else { FIRST_SLICE_TICKS });
        for _ in 0..slices_used_up {
            meter.begin_poll();
            assert!(!meter.end_slice(), "a second is not over");
            meter.end_poll();
        }
        meter.end_call();
        waits
    }

    #[tokio::test]
    async fn a_guest_for_which_the_host_does_too_much_ends() {
        let budget = Duration::from_millis(20);
        let busy = async {
            loop {
                let began = std::time::Instant::now();
                while began.elapsed() < Duration::from_millis(1) {}
                tokio::task::yield_now().await;
            }
        };
        let meter = Arc::new(Meter::new(budget, Arc::default()));
        let (ending, _) = Metered::new(busy, Arc::clone(&meter), Turns::new()).await;
        assert_eq!(ending, Ending::CpuTime(budget));
        assert!(meter.is_spent(), "and not before");
    }

    /// Nothing interrupts the host, and the first poll is measured by the cheap clock.
    #[tokio::test]
    async fn what_the_host_does_in_the_first_poll_is_charged() {
        let budget = Duration::from_millis(40);
        let busy = async {
            let began_ns = time_ns(ClockId::ThreadCPUTime);
            while time_ns(ClockId::ThreadCPUTime) < began_ns + 200_000_000 {}
            tokio::task::yield_now().await;
            (Ending::Done, Remains::NONE)
        };
        let habit: Arc<Habit> = Arc::default();
        let meter = Arc::new(Meter::new(budget, Arc::clone(&habit)));
        note_cpu_clock();
        let (ending, _) = Metered::new(busy, Arc::clone(&meter), Turns::new()).await;
        assert_eq!(ending, Ending::CpuTime(budget));
        assert_eq!(habit.long_calls.load(Relaxed), 1, "it was no short call");
    }

    #[test]
    fn a_first_slice_waits_only_after_long_calls_in_a_row() {
        let habit = Arc::default();
        for (slices_used_up, waits) in
            [(0, false), (1, false), (0, false), (5, false), (1, false), (1, true), (0, true), (0, false), (1, false)]
        {
            assert_eq!(call(&habit, slices_used_up), waits, "before {slices_used_up} slices");
        }
    }
}
