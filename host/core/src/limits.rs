//! Every limit: its key in the configuration, its default, and its range.
//!
//! The upper bounds are not policy. They are where a number stops being meaningful (more memory than a 32-bit guest can
//! address) or causes failures (a deadline that overflows the clock), so that such a number is a configuration error
//! and not a crash.
//!
//! To add a limit, add its constant and its row in [`ServerLimits`] or [`RouteLimits`]; the row is also its key.
//! `cargo xtask tidy` and the tests then require its row in docs/configuration.md, an end-to-end test, and a line in
//! tests/cases/config/full.toml.

use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ValueError, units};

/// One limit of the configuration: `u64` for bytes, [`Duration`] for times, `u32` for counts.
#[derive(Debug, Clone, Copy)]
pub struct Limit<T> {
    /// Its key in the configuration file.
    pub key: &'static str,
    /// The value if the key is not set.
    pub default: T,
    /// The smallest value allowed.
    pub min: T,
    /// The largest value allowed.
    pub max: T,
}

const fn size(key: &'static str, default: u64, min: u64, max: u64) -> Limit<u64> {
    Limit { key, default, min, max }
}

const fn count(key: &'static str, default: u32, min: u32, max: u32) -> Limit<u32> {
    Limit { key, default, min, max }
}

const fn time(key: &'static str, default_s: u64) -> Limit<Duration> {
    Limit { key, default: Duration::from_secs(default_s), min: Duration::from_millis(1), max: LONGEST }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// Thirty days: longer than any request, and too short to overflow a clock.
const LONGEST: Duration = Duration::from_secs(720 * 3600);

/// Largest size of the directory of compiled components, in bytes; 0 disables the directory.
pub const CACHE_MAX: Limit<u64> = size("cache_max", GIB, 0, TIB);

/// Open client connections.
pub const MAX_CONNECTIONS: Limit<u32> = count("max_connections", 10_000, 1, 1_000_000);
/// Request head, in bytes; hyper cannot go below 8 KiB.
pub const MAX_HEAD: Limit<u64> = size("max_head", 64 * KIB, 8 * KIB, 16 * MIB);
/// Header fields in a request; the `http` crate's map holds at most 24,576.
pub const MAX_HEADERS: Limit<u32> = count("max_headers", 100, 1, 10_000);
/// Time for a request head to arrive.
pub const HEAD_TIMEOUT: Limit<Duration> = time("head_timeout", 10);
/// Time a kept-alive connection may be without a request.
pub const IDLE_TIMEOUT: Limit<Duration> = time("idle_timeout", 60);
/// Requests in progress, in the process or (set in a route) in that route.
pub const MAX_CONCURRENCY: Limit<u32> = count("max_concurrency", 256, 1, 65_536);
/// The maximum of requests in progress of a route without a `max_concurrency` of its own, when there are several
/// routes: three quarters of the server's, so that no route takes the permits of all others.
#[must_use]
pub fn route_share(max_concurrency: u32) -> u32 {
    (max_concurrency - max_concurrency / 4).max(1)
}

/// Requests waiting for a permit; 0 disables the queue.
pub const MAX_QUEUE: Limit<u32> = count("max_queue", 1_024, 0, 1_000_000);
/// Time a request may wait for a permit.
pub const QUEUE_TIMEOUT: Limit<Duration> = time("queue_timeout", 5);
/// Time for requests in progress to end once the server drains.
pub const SHUTDOWN_TIMEOUT: Limit<Duration> = time("shutdown_timeout", 30);
/// Time without a heartbeat after which a worker counts as hung. With less than the minimum, healthy workers on a busy
/// machine would be killed.
pub const HANG_TIMEOUT: Limit<Duration> = Limit { min: Duration::from_millis(100), ..time("hang_timeout", 10) };
/// Time for a worker to become ready after its start.
pub const START_TIMEOUT: Limit<Duration> = time("start_timeout", 30);

/// Sum of an instance's linear memories, in bytes: from one page (64 KiB) to the 32-bit address space.
pub const MAX_MEMORY: Limit<u64> = size("max_memory", 64 * MIB, 64 * KIB, 4 * GIB);
/// Elements of each table.
pub const MAX_TABLE_ELEMENTS: Limit<u32> = count("max_table_elements", 100_000, 1, 10_000_000);
/// Tables of one instance.
pub const MAX_TABLES: Limit<u32> = count("max_tables", 20, 1, 1_000);
/// Linear memories of one instance.
pub const MAX_MEMORIES: Limit<u32> = count("max_memories", 10, 1, 1_000);
/// Core instances in one component instance.
pub const MAX_INSTANCES: Limit<u32> = count("max_instances", 100, 1, 10_000);
/// Memory that the host keeps for one instance in addition to its linear memories, in bytes. With less than the
/// minimum, even a minimal guest would not fit.
pub const MAX_HOST_MEMORY: Limit<u64> = size("max_host_memory", 16 * MIB, MIB, 4 * GIB);
/// CPU time of one request's guest.
pub const CPU_TIME: Limit<Duration> = time("cpu_time", 1);
/// Time of one request, to the end of the response.
pub const WALL_TIME: Limit<Duration> = time("wall_time", 30);
/// Request body, in bytes.
pub const MAX_BODY: Limit<u64> = size("max_body", 16 * MIB, 1, TIB);
/// Time that a body, in either direction, may make no progress.
pub const BODY_TIMEOUT: Limit<Duration> = time("body_timeout", 30);
/// Bytes that one request may write to stdout and stderr together.
pub const MAX_OUTPUT: Limit<u64> = size("max_output", 64 * KIB, 1, GIB);
/// Outgoing requests: time to connect.
pub const CONNECT_TIMEOUT: Limit<Duration> = time("connect_timeout", 5);
/// Outgoing requests: time to the response's first byte.
pub const FIRST_BYTE_TIMEOUT: Limit<Duration> = time("first_byte_timeout", 30);
/// Outgoing requests: time between two parts of the response.
pub const BETWEEN_BYTES_TIMEOUT: Limit<Duration> = time("between_bytes_timeout", 30);
/// Outgoing requests one instance may have open.
pub const MAX_OUTGOING: Limit<u32> = count("max_outgoing", 16, 1, 10_000);

/// Reads one limit, such as from a table of the configuration, into `to`.
pub(crate) trait ReadLimit<T> {
    fn read(&mut self, limit: &Limit<T>, to: &mut T);
}

/// A struct with a field for each limit of a table. A row is `field: type = LIMIT`.
macro_rules! limits {
    (
        $(#[$doc:meta])* $name:ident { $($field:ident: $type:ty = $limit:ident,)* }
        $({ $(#[$other_doc:meta])* $other:ident: $other_type:ty = $default:expr })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            $(
                #[doc = concat!("See [`", stringify!($limit), "`].")]
                pub $field: $type,
            )*
            $($(#[$other_doc])* pub $other: $other_type,)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $limit.default,)* $($other: $default,)? }
            }
        }

        impl $name {
            /// The keys of the limits.
            pub(crate) const KEYS: &[&str] = &[$($limit.key),*];

            /// Reads every limit.
            pub(crate) fn read<R: ReadLimit<u32> + ReadLimit<u64> + ReadLimit<Duration>>(&mut self, reader: &mut R) {
                $(reader.read(&$limit, &mut self.$field);)*
            }
        }
    };
}

limits! {
    /// The limits of the process: `[server]`.
    ServerLimits {
        max_connections: u32 = MAX_CONNECTIONS,
        max_head_bytes: u64 = MAX_HEAD,
        max_headers: u32 = MAX_HEADERS,
        head_timeout: Duration = HEAD_TIMEOUT,
        idle_timeout: Duration = IDLE_TIMEOUT,
        max_concurrency: u32 = MAX_CONCURRENCY,
        max_queue: u32 = MAX_QUEUE,
        queue_timeout: Duration = QUEUE_TIMEOUT,
        shutdown_timeout: Duration = SHUTDOWN_TIMEOUT,
        hang_timeout: Duration = HANG_TIMEOUT,
        start_timeout: Duration = START_TIMEOUT,
    }
}

limits! {
    /// The limits of one request of a route: `[defaults]` and `[[route]]`.
    RouteLimits {
        max_memory_bytes: u64 = MAX_MEMORY,
        max_table_elements: u32 = MAX_TABLE_ELEMENTS,
        max_tables: u32 = MAX_TABLES,
        max_memories: u32 = MAX_MEMORIES,
        max_instances: u32 = MAX_INSTANCES,
        max_host_memory_bytes: u64 = MAX_HOST_MEMORY,
        cpu_time: Duration = CPU_TIME,
        wall_time: Duration = WALL_TIME,
        max_body_bytes: u64 = MAX_BODY,
        body_timeout: Duration = BODY_TIMEOUT,
        max_output_bytes: u64 = MAX_OUTPUT,
        connect_timeout: Duration = CONNECT_TIMEOUT,
        first_byte_timeout: Duration = FIRST_BYTE_TIMEOUT,
        between_bytes_timeout: Duration = BETWEEN_BYTES_TIMEOUT,
        max_outgoing: u32 = MAX_OUTGOING,
    }
    {
        /// Requests in progress in this route; `None` means [`route_share`], or with a single route the server's
        /// [`MAX_CONCURRENCY`].
        max_concurrency: Option<u32> = None
    }
}

impl Limit<u64> {
    /// Parses and checks a size such as `64KiB`, into bytes.
    ///
    /// # Errors
    /// If it is not a size ([`units::parse_size`]) or not in the limit's range.
    pub fn parse(&self, text: &str) -> Result<u64, ValueError> {
        self.check(units::parse_size(text)?)
    }

    pub(crate) fn check(&self, bytes: u64) -> Result<u64, ValueError> {
        in_range(self, bytes, units::format_size)
    }
}

impl Limit<Duration> {
    /// Parses and checks a duration such as `500ms`.
    ///
    /// # Errors
    /// If it is not a duration ([`units::parse_duration`]) or not in the limit's range.
    pub fn parse(&self, text: &str) -> Result<Duration, ValueError> {
        in_range(self, units::parse_duration(text)?, units::format_duration)
    }
}

impl Limit<u32> {
    /// Parses and checks a count.
    ///
    /// # Errors
    /// If it is not a whole number or not in the limit's range.
    pub fn parse(&self, text: &str) -> Result<u32, ValueError> {
        let number: u64 = text
            .parse()
            .map_err(|_| ValueError::new(format!("invalid count {text:?}")).help("write a whole number"))?;
        self.check(number)
    }

    pub(crate) fn check(&self, number: u64) -> Result<u32, ValueError> {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        in_range(self, number, |number| number.to_string())
    }
}

fn in_range<T: PartialOrd + Copy>(limit: &Limit<T>, value: T, format: impl Fn(T) -> String) -> Result<T, ValueError> {
    let refused = |word: &str, bound: &dyn Display| {
        Err(ValueError::new(format!("`{}` is too {word}", limit.key)).help(format!("it must be {bound}")))
    };
    if value < limit.min {
        refused("small", &format!("at least {}", format(limit.min)))
    } else if value > limit.max {
        refused("large", &format!("at most {}", format(limit.max)))
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        fn check<T: std::fmt::Debug>(actual: Result<T, ValueError>, expected: &str) {
            let actual = match actual {
                Ok(value) => format!("{value:?}"),
                Err(error) => error.to_string(),
            };
            assert_eq!(actual, expected);
        }
        check(MAX_MEMORY.parse("64MiB"), "67108864");
        check(MAX_MEMORY.parse("4GiB"), "4294967296");
        check(MAX_MEMORY.parse("4294967297"), "`max_memory` is too large: it must be at most 4GiB");
        check(MAX_MEMORY.parse("0"), "`max_memory` is too small: it must be at least 64KiB");
        check(MAX_HOST_MEMORY.parse("1MiB"), "1048576");
        check(MAX_HOST_MEMORY.parse("1048575"), "`max_host_memory` is too small: it must be at least 1MiB");
        check(MAX_HOST_MEMORY.parse("4294967297"), "`max_host_memory` is too large: it must be at most 4GiB");
        check(MAX_HEAD.parse("8191"), "`max_head` is too small: it must be at least 8KiB");
        check(MAX_BODY.parse("0"), "`max_body` is too small: it must be at least 1");
        check(CPU_TIME.parse("1ms"), "1ms");
        check(CPU_TIME.parse("0s"), "`cpu_time` is too small: it must be at least 1ms");
        check(WALL_TIME.parse("720h"), "2592000s");
        check(WALL_TIME.parse("721h"), "`wall_time` is too large: it must be at most 720h");
        check(HANG_TIMEOUT.parse("100ms"), "100ms");
        check(HANG_TIMEOUT.parse("99ms"), "`hang_timeout` is too small: it must be at least 100ms");
        check(HANG_TIMEOUT.parse("721h"), "`hang_timeout` is too large: it must be at most 720h");
        check(CACHE_MAX.parse("0"), "0");
        check(CACHE_MAX.parse("2TiB"), "`cache_max` is too large: it must be at most 1TiB");
        check(MAX_CONCURRENCY.parse("65536"), "65536");
        check(MAX_CONCURRENCY.parse("65537"), "`max_concurrency` is too large: it must be at most 65536");
        check(MAX_CONCURRENCY.parse("99999999999"), "`max_concurrency` is too large: it must be at most 65536");
        check(MAX_CONCURRENCY.parse("0"), "`max_concurrency` is too small: it must be at least 1");
        check(MAX_CONCURRENCY.parse("many"), "invalid count \"many\": write a whole number");
        check(MAX_QUEUE.parse("0"), "0");
    }

    #[test]
    fn defaults_are_in_range() {
        struct Check;
        impl<T: PartialOrd> ReadLimit<T> for Check {
            fn read(&mut self, limit: &Limit<T>, _to: &mut T) {
                assert!(limit.min <= limit.default && limit.default <= limit.max, "{}", limit.key);
            }
        }
        ServerLimits::default().read(&mut Check);
        RouteLimits::default().read(&mut Check);
        Check.read(&CACHE_MAX, &mut 0);
    }
}
