//! A lock between tests: ordinary tests run concurrently, tests that measure time run alone.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Default)]
struct Running {
    ordinary: usize,
    alone: bool,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { ordinary: 0, alone: false });
static CHANGED: Condvar = Condvar::new();

/// Longer than the whole suite takes: only a lock that is never released reaches it.
const TOO_LONG: Duration = Duration::from_secs(900);

/// Held while a process under test runs. A test that holds one that is `alone` must not acquire another.
pub struct Turn {
    alone: bool,
}

impl Turn {
    pub fn shared() -> Self {
        wait_until(|running| !running.alone).ordinary += 1;
        Self { alone: false }
    }

    pub fn alone() -> Self {
        wait_until(|running| !running.alone && running.ordinary == 0).alone = true;
        Self { alone: true }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if self.alone {
            running.alone = false;
        } else {
            running.ordinary -= 1;
        }
        CHANGED.notify_all();
    }
}

fn wait_until(free: impl Fn(&Running) -> bool) -> std::sync::MutexGuard<'static, Running> {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let (running, waited) =
        CHANGED.wait_timeout_while(running, TOO_LONG, |running| !free(running)).unwrap_or_else(PoisonError::into_inner);
    assert!(!waited.timed_out(), "no turn within {TOO_LONG:?}: a test holds one and waits for another");
    running
}
