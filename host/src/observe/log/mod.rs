//! The log: lines on stderr, coloured on a terminal only.

use std::env;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use daylily_core::config::LogLevel;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

mod queue;

/// Starts the log at `level` for daylily and its guests; libraries log from `warn` on.
///
/// A thread writes the lines, because a reader of stderr that is slow or stopped must not block the event loop. When
/// too many bytes wait, new lines are dropped, and a line reports how many. Lines that wait when the returned log is
/// dropped are still written.
///
/// # Errors
///
/// When the thread cannot be started.
pub(crate) fn start(level: LogLevel) -> io::Result<Log> {
    let (stderr, guard) = queue::start(io::stderr(), say_dropped)?;
    let (filter, level) = reload::Layer::new(filter(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(is_coloured());
    // Fails only where tests that share a process have already started it.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Ok(Log { level, _guard: guard })
}

fn say_dropped(lines: u64) {
    tracing::warn!("log lines dropped: {lines}; stderr was read too slowly");
}

/// The open log; dropping it closes it.
pub(crate) struct Log {
    level: reload::Handle<EnvFilter, Registry>,
    _guard: queue::Guard,
}

impl Log {
    pub(crate) fn set_level(&self, level: LogLevel) {
        // It cannot fail while the log is open.
        let _ = self.level.reload(filter(level));
    }
}

/// On a terminal with colours, unless the user has disabled them (no-color.org).
fn is_coloured() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = level.as_str();
    let libraries = if level == "trace" {
        "trace"
    } else if level == "error" {
        "error"
    } else {
        "warn"
    };
    EnvFilter::new(format!("{libraries},daylily={level},guest={level},wasmtime_wasi_http=error"))
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
