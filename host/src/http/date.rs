//! The `date` field of responses after the system's clock was set back.
//!
//! hyper 1.12 keeps a formatted date until the clock is past the second that it was made for. After a step back it
//! would repeat that date for as long as the step. Until then, this supplies the right one. To be removed when hyper
//! compares for inequality (`common/date.rs`, `CachedDate::check`).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use http::HeaderValue;

use crate::sys::lock::lock;

/// How much later than the latest [`Date::look`] hyper's date may be: the time between two looks, rounded up to
/// seconds.
const AHEAD: Duration = Duration::from_secs(2);

/// Whether hyper's date is wrong, and the date to send instead.
pub(crate) struct Date {
    is_corrected: AtomicBool,
    seen: Mutex<ClockReading>,
}

struct ClockReading {
    last: SystemTime,
    /// hyper keeps its date until the clock is past this.
    stands_until: SystemTime,
    now: HeaderValue,
}

impl Date {
    /// `now` is the system's clock.
    pub(crate) fn new(now: SystemTime) -> Self {
        let seen = ClockReading { last: now, stands_until: now, now: HeaderValue::from_static("") };
        Self { is_corrected: AtomicBool::new(false), seen: Mutex::new(seen) }
    }

    /// Checks the clock; to be called about four times a second.
    pub(crate) fn look(&self, now: SystemTime) {
        let mut seen = lock(&self.seen);
        if now < seen.last {
            seen.stands_until = seen.stands_until.max(seen.last + AHEAD);
        }
        seen.last = now;
        let stands = now < seen.stands_until;
        if stands && let Ok(formatted) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
            seen.now = formatted;
        }
        self.is_corrected.store(stands, Relaxed);
    }

    /// The `date` to send instead of hyper's, while that is wrong.
    pub(crate) fn correction(&self) -> Option<HeaderValue> {
        self.is_corrected.load(Relaxed).then(|| lock(&self.seen).now.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH_DAY: u64 = 86_400;

    /// `looks`: seconds after the first look, and the correction that is expected then.
    fn check(looks: &[(i64, Option<&str>)]) {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH_DAY);
        let date = Date::new(start);
        for (seconds, expected) in looks {
            let now = match u64::try_from(*seconds) {
                Ok(seconds) => start + Duration::from_secs(seconds),
                Err(_) => start - Duration::from_secs(seconds.unsigned_abs()),
            };
            date.look(now);
            let correction = date.correction();
            assert_eq!(correction.as_ref().map(|value| value.to_str().expect("text")), *expected, "{looks:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_is_followed_until_it_has_caught_up() {
        check(&[(0, None), (1, None), (100, None)]);
        check(&[
            (100, None),
            (50, Some("Fri, 02 Jan 1970 00:00:50 GMT")),
            (51, Some("Fri, 02 Jan 1970 00:00:51 GMT")),
            (-10, Some("Thu, 01 Jan 1970 23:59:50 GMT")),
            (101, Some("Fri, 02 Jan 1970 00:01:41 GMT")),
            (102, None),
            (103, None),
            (90, Some("Fri, 02 Jan 1970 00:01:30 GMT")),
            (200, None),
        ]);
    }
}
