//! The clock that interrupts guests: one thread that increments the epoch of every engine.
//!
//! It sleeps while no guest runs, so an idle server uses no CPU time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

/// The length of a guest's slice of CPU: how long it may block the event loop, and the resolution at which its CPU time
/// is limited. The cost of the interruption itself is not measurable.
const TICK: Duration = Duration::from_millis(1);

/// Ticks without a running guest after which the thread sleeps until a guest runs again.
const IDLE_TICKS: u32 = 64;

/// The thread that increments the epochs while guests run.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: thread::Thread,
}

struct Shared {
    running: AtomicUsize,
    parked: AtomicBool,
    ended: AtomicBool,
}

/// A guard for a running guest. Dropping it reports that the guest has ended.
pub(crate) struct RunningGuest(Arc<Shared>);

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system cannot create a thread.
    pub(crate) fn start(engines: Vec<Engine>) -> wasmtime::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let seen = Arc::clone(&shared);
        let handle = thread::Builder::new().name("epoch".into()).spawn(move || seen.tick(&engines))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Keeps the epochs advancing until the returned guard is dropped.
    pub(crate) fn keep_running(&self) -> RunningGuest {
        // Pairs with `Shared::park`: either that sees this count before it parks, or this sees that it is parked.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        RunningGuest(Arc::clone(&self.shared))
    }
}

impl Shared {
    fn tick(&self, engines: &[Engine]) {
        let mut idle = 0;
        while !self.ended.load(Ordering::Relaxed) {
            thread::sleep(TICK);
            for engine in engines {
                engine.increment_epoch();
            }
            idle = if self.running.load(Ordering::Relaxed) == 0 { idle + 1 } else { 0 };
            if idle > IDLE_TICKS {
                self.park();
                idle = 0;
            }
        }
    }

    /// Sleeps until a guest runs. `parked` is set again before every check of `running`: a guest that started and ended
    /// since the last check has cleared it, and the next guest must find it set in order to wake this thread.
    fn park(&self) {
        loop {
            self.parked.store(true, Ordering::SeqCst);
            if self.running.load(Ordering::SeqCst) > 0 || self.ended.load(Ordering::SeqCst) {
                break;
            }
            thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for RunningGuest {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(std::time::Instant::now() < deadline, "{what} did not happen in time");
            thread::yield_now();
        }
    }

    /// Guests that start and end while the thread is about to sleep must not leave it asleep.
    #[test]
    fn ticks_for_every_guest_after_idling() {
        let ticker = Ticker::start(Vec::new()).expect("a thread");
        for _ in 0..20 {
            wait_until("parking", || ticker.shared.parked.load(Ordering::SeqCst));
            // Guests that start and end before the thread checks for them.
            for _ in 0..50 {
                drop(ticker.keep_running());
            }
            // A guest that keeps running wakes the thread.
            let _running = ticker.keep_running();
            wait_until("waking", || !ticker.shared.parked.load(Ordering::SeqCst));
        }
    }
}
