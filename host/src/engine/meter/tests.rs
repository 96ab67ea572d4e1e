use super::*;

/// Uses so much CPU time.
fn compute(cpu_ns: u64) {
    let until_ns = time_ns(ClockId::ThreadCPUTime) + cpu_ns;
    while time_ns(ClockId::ThreadCPUTime) < until_ns {}
}

/// Runs like a guest that computes, until its slice is over.
fn use_up_slice(meter: &Meter) {
    let began_ns = time_ns(ClockId::ThreadCPUTime);
    while meter.end_slice() == SliceEnd::GoesOn {
        let used_ns = time_ns(ClockId::ThreadCPUTime) - began_ns;
        assert!(used_ns < 100 * SLICE_CPU_NS, "a guest that computes is not interrupted");
    }
    assert_ne!(meter.end_slice(), SliceEnd::Spent, "a second is not over");
}

/// The ticks of a slice pass while other threads run, here while this one sleeps.
#[test]
fn a_guest_that_has_hardly_run_goes_on() {
    let meter = Meter::new(Duration::from_secs(1), Arc::default());
    note_cpu_clock();
    meter.begin_poll();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(meter.end_slice(), SliceEnd::GoesOn);
    }
    assert!(!meter.is_long.load(Relaxed) && !meter.waits_for_cpu.load(Relaxed));
    use_up_slice(&meter);
    assert!(meter.is_long.load(Relaxed) && meter.waits_for_cpu.load(Relaxed));
}

/// Simulates a call of a component with `habit`. Returns whether its first slice waited in the CPU queue.
fn call(habit: &Arc<Habit>, slices_used_up: u32) -> bool {
    let meter = Meter::new(Duration::from_secs(1), Arc::clone(habit));
    let waits = meter.waits_for_cpu.load(Relaxed);
    assert_eq!(meter.first_slice_ticks(), if waits { SLICE_TICKS } else { FIRST_SLICE_TICKS });
    for _ in 0..slices_used_up {
        meter.begin_poll();
        use_up_slice(&meter);
        meter.end_poll();
    }
    meter.end_call();
    waits
}

#[tokio::test]
async fn a_guest_for_which_the_host_does_too_much_ends() {
    let budget = Duration::from_millis(20);
    // Stands for the store.
    let store = Arc::new(());
    let in_guest = Arc::clone(&store);
    let busy = async move {
        let _in_guest = in_guest;
        loop {
            let began = std::time::Instant::now();
            while began.elapsed() < Duration::from_millis(1) {}
            tokio::task::yield_now().await;
        }
    };
    let meter = Arc::new(Meter::new(budget, Arc::default()));
    let (outcome, ended_store) = Metered::new(busy, Arc::clone(&meter), CpuQueue::new()).await;
    assert_eq!(outcome, CallOutcome::CpuTime(budget));
    assert!(meter.is_spent(), "and not before");
    assert_eq!(Arc::strong_count(&store), 2, "the store was dropped with the future");
    drop(ended_store);
    assert_eq!(Arc::strong_count(&store), 1, "the store is kept for ever");
}

/// The host's work is not interrupted, and the first poll is measured by the monotonic clock.
#[tokio::test]
async fn what_the_host_does_in_the_first_poll_is_charged() {
    let budget = Duration::from_millis(40);
    let busy = async {
        compute(200_000_000);
        tokio::task::yield_now().await;
        (CallOutcome::Done, EndedStore::NONE)
    };
    let habit: Arc<Habit> = Arc::default();
    let meter = Arc::new(Meter::new(budget, Arc::clone(&habit)));
    note_cpu_clock();
    let (outcome, _) = Metered::new(busy, Arc::clone(&meter), CpuQueue::new()).await;
    assert_eq!(outcome, CallOutcome::CpuTime(budget));
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

/// What the host does for a guest is not interrupted, and a guest that waits again and again has many short polls.
#[test]
fn a_slice_is_used_up_over_many_polls() {
    let meter = Meter::new(Duration::from_secs(1), Arc::default());
    for _ in 0..2 {
        let began_ns = time_ns(ClockId::ThreadCPUTime);
        let used_ns = || time_ns(ClockId::ThreadCPUTime) - began_ns;
        while !meter.waits_for_cpu.load(Relaxed) {
            assert!(used_ns() < 100 * SLICE_CPU_NS, "a guest with short polls never waits");
            meter.begin_poll();
            compute(SLICE_CPU_NS / 10);
            meter.end_poll();
        }
        assert!(meter.is_long.load(Relaxed) && used_ns() >= SLICE_CPU_NS / 2, "it waits before its slice is over");
        meter.begin_slice();
    }
    assert_eq!(meter.slice_ns.load(Relaxed), 0);
}

/// One poll of a new call of a component with `habit`, in which the host works for so long. Returns whether the call was
/// long.
fn poll_for(habit: &Arc<Habit>, cpu_ns: u64) -> bool {
    let meter = Meter::new(Duration::from_secs(1), Arc::clone(habit));
    meter.begin_poll();
    compute(cpu_ns);
    meter.end_poll();
    meter.end_call();
    meter.is_long.load(Relaxed)
}

/// On a server that was idle, the last reading of the CPU clock is old, and the first long poll takes another one.
#[test]
fn calls_are_long_also_after_a_pause() {
    let habit = Arc::default();
    note_cpu_clock();
    std::thread::sleep(Duration::from_millis(50));
    poll_for(&habit, 3 * SLICE_CPU_NS);
    // The kernel may run another thread between two of them.
    let long = (0..10).filter(|_| poll_for(&habit, 3 * SLICE_CPU_NS)).count();
    assert!(long >= 5, "{long} of 10 calls: the pause still counts");
}

/// While other threads run, a call uses nothing.
#[test]
fn a_call_that_was_interrupted_is_not_long() {
    let meter = Meter::new(Duration::from_secs(1), Arc::default());
    note_cpu_clock();
    for pause_ms in [0, 5, 0] {
        meter.begin_poll();
        std::thread::sleep(Duration::from_millis(pause_ms));
        meter.end_poll();
    }
    assert!(!meter.is_long.load(Relaxed), "{} ns", meter.slice_ns.load(Relaxed));
}

/// A call that waits is polled at each beat of the pulse, and uses little.
#[test]
fn what_a_call_uses_in_a_long_time_is_no_slice() {
    let meter = Meter::new(Duration::from_secs(1), Arc::default());
    for _ in 0..8 {
        // The window before is over.
        meter.window_began_ns.store(0, Relaxed);
        meter.begin_poll();
        compute(SLICE_CPU_NS / 5);
        meter.end_poll();
    }
    assert!(!meter.is_long.load(Relaxed));
}

/// Only its own call ends when the host panics.
#[tokio::test]
async fn a_guest_for_which_the_host_panics_ends() {
    let meter = Arc::new(Meter::new(Duration::from_secs(1), Arc::default()));
    let guest = async {
        tokio::task::yield_now().await;
        panic!("a fault of the host, which this test makes");
    };
    let (outcome, _) = Metered::new(guest, Arc::clone(&meter), CpuQueue::new()).await;
    assert_eq!(outcome, CallOutcome::Trap(HOST_PANIC.into()));
}
