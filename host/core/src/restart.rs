//! How long to wait before a worker that died is started again: not at all, unless it keeps dying.

use std::time::Duration;

/// A worker that was ready for at least this long has worked, and was most likely killed by a single request. One that
/// dies sooner would probably die again.
pub const QUICK: Duration = Duration::from_millis(500);
/// The longest wait after the first quick death. It is doubled with each further one.
pub const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The upper bound of all waits.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Counts how often in a row the process of a worker session died before it was ready, or soon after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restarts {
    quick_deaths: u32,
}

impl Restarts {
    /// Counts a death, and returns how long to wait before the next start.
    ///
    /// `lived` is how long the worker had been ready, `None` if it never was. `random` is any number: it spreads the
    /// wait over the upper half of its range, so that workers that died together do not all start together, and none
    /// starts at once. ("Equal jitter", from Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog,
    /// 2015.)
    pub fn died(&mut self, lived: Option<Duration>, random: u32) -> Duration {
        if lived.is_some_and(|lived| lived >= QUICK) {
            self.quick_deaths = 0;
            return Duration::ZERO;
        }
        let factor = 2u32.saturating_pow(self.quick_deaths);
        self.quick_deaths = self.quick_deaths.saturating_add(1);
        let half = FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT) / 2;
        half + half.saturating_mul(random) / u32::MAX
    }

    /// The number of quick deaths in a row.
    pub fn quick_deaths(&self) -> u32 {
        self.quick_deaths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits() {
        /// Checks the waits after `before` quick deaths, with the smallest, a middle and the largest random number.
        fn check(before: u32, lived_ms: Option<u64>, expected_ms: [u64; 3], quick_deaths: u32) {
            let lived = lived_ms.map(Duration::from_millis);
            for (random, expected_ms) in [0, u32::MAX / 2, u32::MAX].into_iter().zip(expected_ms) {
                let mut restarts = Restarts { quick_deaths: before };
                let wait = restarts.died(lived, random).as_secs_f64() * 1000.0;
                assert_eq!(
                    wait.round(),
                    Duration::from_millis(expected_ms).as_secs_f64() * 1000.0,
                    "{before} {random}"
                );
                assert_eq!(restarts.quick_deaths(), quick_deaths, "{before}");
            }
        }
        check(0, None, [50, 75, 100], 1);
        check(0, Some(0), [50, 75, 100], 1);
        check(0, Some(499), [50, 75, 100], 1);
        check(0, Some(500), [0, 0, 0], 0);
        check(1, None, [100, 150, 200], 2);
        check(2, Some(10), [200, 300, 400], 3);
        check(8, None, [12_800, 19_200, 25_600], 9);
        check(9, None, [15_000, 22_500, 30_000], 10);
        check(31, None, [15_000, 22_500, 30_000], 32);
        check(32, None, [15_000, 22_500, 30_000], 33);
        check(u32::MAX, None, [15_000, 22_500, 30_000], u32::MAX);
        check(u32::MAX, Some(500), [0, 0, 0], 0);
        check(9, Some(u64::MAX), [0, 0, 0], 0);
    }

    /// One long life resets the count: the next quick death counts as the first.
    #[test]
    fn long_life_resets() {
        let mut restarts = Restarts::default();
        let mut check = |lived_ms: Option<u64>, expected_ms: u64| {
            let wait = restarts.died(lived_ms.map(Duration::from_millis), u32::MAX);
            assert_eq!(wait, Duration::from_millis(expected_ms));
        };
        check(None, 100);
        check(Some(1), 200);
        check(None, 400);
        check(Some(60_000), 0);
        check(None, 100);
    }
}
