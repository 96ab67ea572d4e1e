//! Limits: a key with a default and a range, and the text of their values.
//!
//! The limits themselves are rows of the table of options, [`crate::config::options`].

use std::time::Duration;

use crate::{ValueError, units};

/// One limit of the configuration: `u64` for bytes, [`Duration`] for times, `u32` for counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit<T> {
    /// Its key in the configuration file.
    pub(crate) key: &'static str,
    /// The value if the key is not set.
    pub(crate) default: T,
    /// The smallest value allowed.
    pub(crate) min: T,
    /// The largest value allowed.
    pub(crate) max: T,
}

pub(crate) const fn size(key: &'static str, default: u64, min: u64, max: u64) -> Limit<u64> {
    Limit { key, default, min, max }
}

pub(crate) const fn count(key: &'static str, default: u32, min: u32, max: u32) -> Limit<u32> {
    Limit { key, default, min, max }
}

/// A time in the range that all times have.
pub(crate) const fn time(key: &'static str, default_s: u64) -> Limit<Duration> {
    Limit { key, default: Duration::from_secs(default_s), min: SHORTEST, max: LONGEST }
}

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const TIB: u64 = 1 << 40;
const SHORTEST: Duration = Duration::from_millis(1);
/// Thirty days: longer than any request, and too short to overflow a clock.
const LONGEST: Duration = Duration::from_secs(720 * 3600);

/// The maximum of requests in progress of a route without a `max_concurrency` of its own, when there are several
/// routes: three quarters of the server's, so that no route takes the permits of all others.
#[must_use]
pub fn route_share(max_concurrency: u32) -> u32 {
    (max_concurrency - max_concurrency / 4).max(1)
}

/// A type that a [`Limit`] can have.
pub(crate) trait LimitValue: Copy + Default + PartialOrd {
    /// # Errors
    /// If the text is not a value of this type.
    fn parse(text: &str) -> Result<Self, ValueError>;

    /// The value as in errors, such as `64KiB`.
    fn format(self) -> String;

    /// The value as in the file, such as `"64KiB"`.
    fn as_in_file(self) -> String {
        format!("\"{}\"", self.format())
    }

    /// The range in words.
    fn range(min: Self, max: Self) -> String {
        format!("{} to {}", min.format(), max.format())
    }
}

impl LimitValue for u64 {
    fn parse(text: &str) -> Result<Self, ValueError> {
        units::parse_size(text)
    }

    fn format(self) -> String {
        units::format_size(self)
    }
}

impl LimitValue for Duration {
    fn parse(text: &str) -> Result<Self, ValueError> {
        units::parse_duration(text)
    }

    fn format(self) -> String {
        units::format_duration(self)
    }

    fn range(min: Self, max: Self) -> String {
        // The document states this range once for all times.
        if (min, max) == (SHORTEST, LONGEST) {
            return "time".to_owned();
        }
        format!("{} to {}", min.format(), max.format())
    }
}

impl LimitValue for u32 {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let number: u64 = text
            .parse()
            .map_err(|_| ValueError::new(format!("invalid count {text:?}")).help("write a whole number"))?;
        // The largest number is outside the range of every limit.
        Ok(Self::try_from(number).unwrap_or(Self::MAX))
    }

    fn format(self) -> String {
        self.to_string()
    }

    fn as_in_file(self) -> String {
        self.to_string()
    }

    fn range(min: Self, max: Self) -> String {
        format!("{} to {}", units::with_commas(min), units::with_commas(max))
    }
}

impl<T: LimitValue> Limit<T> {
    /// Parses and checks a value such as `64KiB`, `500ms` or `16`.
    ///
    /// # Errors
    /// If it is not a value of the limit's type or not in its range.
    pub(crate) fn parse(&self, text: &str) -> Result<T, ValueError> {
        self.check(T::parse(text)?)
    }

    /// # Errors
    /// If the value is not in the limit's range.
    pub(crate) fn check(&self, value: T) -> Result<T, ValueError> {
        let refused = |word: &str, bound: &str, end: T| {
            let help = format!("it must be at {bound} {}", end.format());
            Err(ValueError::new(format!("`{}` is too {word}", self.key)).help(help))
        };
        if value < self.min {
            refused("small", "least", self.min)
        } else if value > self.max {
            refused("large", "most", self.max)
        } else {
            Ok(value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        #[track_caller]
        fn check<T: LimitValue>(limit: Limit<T>, text: &str, expected: &str) {
            let actual = limit.parse(text).map_or_else(|error| error.to_string(), T::format);
            assert_eq!(actual, expected);
        }
        let bytes = size("max_head", 64 * KIB, 8 * KIB, 4 * GIB);
        check(bytes, "64MiB", "64MiB");
        check(bytes, "4GiB", "4GiB");
        check(bytes, "4294967297", "`max_head` is too large: it must be at most 4GiB");
        check(bytes, "8KiB", "8KiB");
        check(bytes, "8191", "`max_head` is too small: it must be at least 8KiB");
        check(size("max_body", MIB, 1, TIB), "0", "`max_body` is too small: it must be at least 1");
        check(size("cache_max", GIB, 0, TIB), "0", "0");
        check(time("cpu_time", 1), "1ms", "1ms");
        check(time("cpu_time", 1), "0s", "`cpu_time` is too small: it must be at least 1ms");
        check(time("cpu_time", 1), "720h", "720h");
        check(time("cpu_time", 1), "721h", "`cpu_time` is too large: it must be at most 720h");
        let requests = count("max_queue", 256, 1, 65_536);
        check(requests, "1", "1");
        check(requests, "0", "`max_queue` is too small: it must be at least 1");
        check(requests, "65536", "65536");
        check(requests, "65537", "`max_queue` is too large: it must be at most 65536");
        check(requests, "99999999999", "`max_queue` is too large: it must be at most 65536");
        check(requests, "many", "invalid count \"many\": write a whole number");
    }
}
