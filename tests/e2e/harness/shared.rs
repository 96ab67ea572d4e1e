//! One server for many tests: the first test that needs it starts it, and it stops when no test uses it.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Daylily, Setup};

pub struct Shared {
    setup: fn() -> Setup,
    running: Mutex<Weak<Daylily>>,
}

impl Shared {
    pub const fn new(setup: fn() -> Setup) -> Self {
        Self { setup, running: Mutex::new(Weak::new()) }
    }

    pub fn get(&self) -> Lent {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = running.upgrade() {
            return Lent(server);
        }
        let server = Arc::new((self.setup)().start());
        *running = Arc::downgrade(&server);
        Lent(server)
    }
}

/// Prints the server's log if the test that uses it fails.
pub struct Lent(Arc<Daylily>);

impl Deref for Lent {
    type Target = Daylily;

    fn deref(&self) -> &Daylily {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if std::thread::panicking() && Arc::strong_count(&self.0) > 1 {
            self.0.show_log();
        }
    }
}
