//! The log: lines on stderr, coloured on a terminal only.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use daylily_core::config::{LogFilter, LogLevel};
use daylily_core::log_target;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

mod queue;

/// Starts the log with `filter` for daylily and its guests; libraries log from `warn` on.
///
/// A thread writes the lines, because a reader of stderr that is slow or stopped must not block the event loop. When
/// too many bytes wait, new lines are dropped, and a line reports how many. Lines that wait when the returned log is
/// dropped are still written.
///
/// # Errors
///
/// When the thread cannot be started.
pub(crate) fn start(filter: &LogFilter) -> io::Result<Log> {
    let (stderr, guard) = queue::start(io::stderr(), say_dropped)?;
    let (targets, filter) = reload::Layer::new(targets(filter));
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(is_coloured());
    // Fails only where tests that share a process have already started it.
    let _ = tracing_subscriber::registry().with(targets).with(lines).try_init();
    Ok(Log { filter, _guard: guard })
}

fn say_dropped(lines: u64) {
    tracing::warn!(target: log_target::LOG, "log lines dropped: {lines}; stderr was read too slowly");
}

/// The open log; dropping it closes it.
pub(crate) struct Log {
    filter: reload::Handle<Targets, Registry>,
    _guard: queue::Guard,
}

impl Log {
    pub(crate) fn set_filter(&self, filter: &LogFilter) {
        // It cannot fail while the log is open.
        let _ = self.filter.reload(targets(filter));
    }
}

/// On a terminal with colours, unless the user has disabled them (no-color.org).
fn is_coloured() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn targets(filter: &LogFilter) -> Targets {
    let level = filter.level();
    // At `trace`, libraries log everything; otherwise from `warn` on, unless the level is higher.
    let libraries = if level == LogLevel::Trace { level } else { level.min(LogLevel::Warn) };
    // Each target is added once: the log's highest level never falls when `Targets` replaces an entry.
    let mut levels = BTreeMap::from([
        (log_target::DAYLILY, level),
        (log_target::GUEST, level),
        // It warns about errors of guests, clients and origins, which daylily logs itself.
        ("wasmtime_wasi_http", level.min(LogLevel::Error)),
    ]);
    levels.extend(filter.targets().iter().copied());
    let levels = levels.into_iter().map(|(target, level)| (target, level_filter(level)));
    Targets::new().with_default(level_filter(libraries)).with_targets(levels)
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Limits repeated log lines, such as those about error responses or denials, to one per second.
pub(crate) struct OncePerSecond {
    since: Instant,
    /// Whole seconds after `since`, plus one; 0 before the first.
    last: AtomicU64,
}

impl OncePerSecond {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Whether this is the first call in the current second.
    pub(crate) fn is_news(&self) -> bool {
        let now = self.since.elapsed().as_secs() + 1;
        self.last.swap(now, Relaxed) != now
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;
    use tracing_subscriber::Layer;

    use super::*;

    #[test]
    fn a_target_has_the_level_of_its_longest_entry() {
        fn check(filter: &str, expected: &[(&str, LevelFilter)], highest: LevelFilter) {
            let targets = targets(&filter.parse().expect("a filter"));
            for &(target, expected) in expected {
                let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
                let enabled = levels.into_iter().filter(|level| targets.would_enable(target, level)).max();
                assert_eq!(enabled.map_or(LevelFilter::OFF, LevelFilter::from), expected, "{filter}: {target}");
            }
            let layer: &dyn Layer<Registry> = &targets;
            assert_eq!(layer.max_level_hint(), Some(highest), "{filter}");
        }
        use LevelFilter as L;
        let (request, outgoing, guest) = (log_target::REQUEST, log_target::OUTGOING, log_target::GUEST);
        check("info", &[(request, L::INFO), (guest, L::INFO), ("hyper", L::WARN)], L::INFO);
        check("error", &[(request, L::ERROR), (guest, L::ERROR), ("hyper", L::ERROR)], L::ERROR);
        check("trace", &[(request, L::TRACE), ("hyper", L::TRACE), ("wasmtime_wasi_http", L::ERROR)], L::TRACE);
        check("off", &[(request, L::OFF), (guest, L::OFF), ("hyper", L::OFF), ("wasmtime_wasi_http", L::OFF)], L::OFF);
        let one = "info,daylily::outgoing=debug,guest=off";
        check(one, &[(request, L::INFO), (outgoing, L::DEBUG), (guest, L::OFF), ("hyper", L::WARN)], L::DEBUG);
        check("daylily=warn,daylily::outgoing=info,debug", &[(request, L::WARN), (outgoing, L::INFO)], L::DEBUG);
        // No debug line is enabled, so each of them costs one comparison.
        check("debug,daylily=info,guest=off", &[(request, L::INFO), ("daylily::request::part", L::INFO)], L::INFO);
    }
}
