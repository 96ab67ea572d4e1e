//! A point in time that the tasks of a connection share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// A point in time that one task sets and another reads: milliseconds after the connection opened, plus one. 0 means
/// unset.
pub(super) struct Moment(AtomicU64);

impl Moment {
    pub(super) const fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    pub(super) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    pub(super) fn set(&self, opened: Instant, at: Instant) {
        let after_ms = at.saturating_duration_since(opened).as_millis();
        self.0.store(u64::try_from(after_ms).unwrap_or(u64::MAX - 1) + 1, Relaxed);
    }

    pub(super) fn get(&self, opened: Instant) -> Option<Instant> {
        let after_ms = self.0.load(Relaxed).checked_sub(1)?;
        Some(opened + Duration::from_millis(after_ms))
    }
}
