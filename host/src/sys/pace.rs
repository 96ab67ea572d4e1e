//! A rate limit: at most once per interval.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::sys::lock::lock;

/// Allows an action at most once per interval.
pub(crate) struct Pace {
    every: Duration,
    last: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, last: Mutex::new(None) }
    }

    /// Whether the action is allowed at `now`. If so, the next interval begins.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        let mut last = lock(&self.last);
        let allowed = last.is_none_or(|last| now >= last + self.every);
        if allowed {
            *last = Some(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_once_in_a_while() {
        let every = Duration::from_secs(60);
        let (pace, start) = (Pace::new(every), Instant::now());
        let allowed = [0, 1, 59, 60, 61, 119, 121].map(|s| pace.allows(start + Duration::from_secs(s)));
        assert_eq!(allowed, [true, false, false, true, false, false, true]);
    }
}
