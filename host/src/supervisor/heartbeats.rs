//! How the supervisor detects that a worker's event loop hangs.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use crate::observe::scoreboard::Slot;

/// Maximum interval between two checks of a worker; it is a tenth of `hang_timeout` where that is less.
const MAX_INTERVAL: Duration = Duration::from_secs(1);

/// Checks a process's heartbeats. The silence is the time over which it was observed, not the time on the clock: when
/// the supervisor was stopped or the machine asleep, no worker hung.
pub(crate) struct HeartbeatChecks {
    slot: &'static Slot,
    interval: Interval,
    every: Duration,
    last: Option<u64>,
    silent: Duration,
}

impl HeartbeatChecks {
    pub(crate) fn new(limit: Duration, slot: &'static Slot) -> Self {
        let every = (limit / 10).clamp(Duration::from_millis(1), MAX_INTERVAL);
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { slot, interval, every, last: None, silent: Duration::ZERO }
    }

    /// Resolves at the next check, with the time for which no heartbeat has been observed. Cancel safe.
    pub(crate) async fn silent(&mut self) -> Duration {
        self.interval.tick().await;
        let beats = Some(self.slot.heartbeats.get());
        self.silent = if beats == self.last { self.silent + self.every } else { Duration::ZERO };
        self.last = beats;
        self.silent
    }
}
