//! Clocks of the system.

use rustix::time::{ClockId, clock_gettime};

/// The time of a clock, in nanoseconds. That of [`ClockId::Monotonic`] is the same in all processes of the machine, and
/// is never set.
#[inline]
pub(crate) fn time_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}
