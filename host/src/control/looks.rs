//! How a supervisor sees that a worker's event loop turns.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use super::scoreboard::Slot;

/// How often a worker is looked at, for a tenth of `hang_timeout` or this.
const MAX_LOOK: Duration = Duration::from_secs(1);

/// Looks whether a process's event loop turns. What counts is how long that was watched, not how long it
/// was: when this process itself was stopped, or the machine asleep, nobody hung.
pub(super) struct Looks {
    slot: &'static Slot,
    interval: Interval,
    every: Duration,
    last: Option<u64>,
    silent: Duration,
}

impl Looks {
    pub(super) fn new(limit: Duration, slot: &'static Slot) -> Self {
        let every = (limit / 10).clamp(Duration::from_millis(1), MAX_LOOK);
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { slot, interval, every, last: None, silent: Duration::ZERO }
    }

    /// Resolves at the next look: for how long the event loop was not seen to turn. Cancel safe.
    pub(super) async fn silent(&mut self) -> Duration {
        self.interval.tick().await;
        let beats = Some(self.slot.heartbeats());
        self.silent = if beats == self.last { self.silent + self.every } else { Duration::ZERO };
        self.last = beats;
        self.silent
    }
}
