//! The log: which lines there are, their form, and where this process writes them.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use daylily_core::config::{Config, LogFilter, LogFormat, LogLevel, LogTo};
use daylily_core::log_target;
use serde::{Deserialize, Serialize};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

mod json;
pub(crate) mod out;
pub(crate) mod queue;

use self::out::{LogOut, Output};
use super::sink;
use crate::sys::lock::lock;

/// What is configured of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogSettings {
    filter: LogFilter,
    format: LogFormat,
    pub(crate) to: LogTo,
}

impl LogSettings {
    pub(crate) fn of(config: &Config) -> Self {
        Self { filter: config.log.clone(), format: config.log_format, to: config.log_to.clone() }
    }

    /// The same on standard error, for commands and for a server whose file cannot be opened.
    pub(crate) fn on_stderr(self) -> Self {
        Self { to: LogTo::Stderr, ..self }
    }

    /// The same, on standard error if the file cannot be opened: then the start is about to fail, and the reason must be
    /// where its other errors are.
    pub(crate) fn usable(self) -> Self {
        match &self.to {
            LogTo::File(path) if sink::check(path).is_err() => self.on_stderr(),
            _ => self,
        }
    }
}

/// Starts the log of a process that writes its lines itself; libraries log from `warn` on.
///
/// A thread writes the lines, because a reader of stderr that is slow or stopped must not block the event loop. When
/// too many bytes wait, new lines are dropped, and a line reports how many. Lines that wait when the returned log is
/// dropped are still written, for a second.
///
/// # Errors
///
/// When the thread cannot be started.
pub(crate) fn start(settings: LogSettings) -> io::Result<Log> {
    let out = Output::Own(LogOut::new(settings.to.clone()));
    start_with(&settings, out)
}

/// Starts the log of a process whose lines the observer reads from the other end of `socket`; otherwise as [`start`].
///
/// # Errors
///
/// When the thread cannot be started.
pub(crate) fn start_through(socket: OwnedFd, settings: LogSettings) -> io::Result<Log> {
    let out = Output::Observer { socket: UnixStream::from(socket), then: settings.to.clone() };
    start_with(&settings, out)
}

/// Room for the lines of one process on their way to the observer; the kernel doubles it. The longest line must fit, also
/// where sockets have less room by default (net.core.wmem_default): the observer takes whole lines only.
const SOCKET_BYTES: usize = 2 * queue::MAX_LINE_BYTES;

/// The socket for [`start_through`], and the end that the observer reads.
///
/// # Errors
///
/// When the process has no descriptor left.
pub(crate) fn socket() -> io::Result<(OwnedFd, OwnedFd)> {
    let (lines, read) = UnixStream::pair()?;
    // Ignore errors: the default is enough on most systems.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&lines, SOCKET_BYTES);
    Ok((lines.into(), read.into()))
}

fn start_with(settings: &LogSettings, out: Output) -> io::Result<Log> {
    let (queue, guard) = queue::start(out, say_dropped)?;
    let (targets, filter) = reload::Layer::new(targets(&settings.filter));
    let form = Form::default();
    form.set(settings);
    // `with_ansi(true)` also colours the fields of spans, where `Form` cannot remove the colours; there are no spans.
    let lines = tracing_subscriber::fmt::layer().with_writer(queue.clone()).with_ansi(true).event_format(form.clone());
    // Fails only where tests that share a process have already started it.
    let _ = tracing_subscriber::registry().with(targets).with(lines).try_init();
    Ok(Log { filter, form, queue, to: Mutex::new(settings.to.clone()), _guard: guard })
}

fn say_dropped(lines: u64) {
    tracing::warn!(target: log_target::LOG, "log lines dropped: {lines}; the log was not read or written fast enough");
}

/// The open log; dropping it closes it.
pub(crate) struct Log {
    filter: reload::Handle<Targets, Registry>,
    form: Form,
    queue: queue::Queue,
    to: Mutex<LogTo>,
    _guard: queue::Guard,
}

impl Log {
    /// Changes the settings. A file is reopened, also if it is the same.
    pub(crate) fn set(&self, settings: &LogSettings) {
        // It cannot fail while the log is open.
        let _ = self.filter.reload(targets(&settings.filter));
        self.form.set(settings);
        *lock(&self.to) = settings.to.clone();
        self.reopen();
    }

    /// Reopens the file, in case it has been moved away.
    pub(crate) fn reopen(&self) {
        self.queue.set(lock(&self.to).clone());
    }
}

/// The form of lines. All clones have the same.
#[derive(Clone, Default)]
struct Form(Arc<Switches>);

#[derive(Default)]
struct Switches {
    is_json: AtomicBool,
    is_coloured: AtomicBool,
}

impl Form {
    fn set(&self, settings: &LogSettings) {
        self.0.is_json.store(settings.format == LogFormat::Json, Relaxed);
        self.0.is_coloured.store(settings.to == LogTo::Stderr && is_coloured(), Relaxed);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for Form {
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.0.is_json.load(Relaxed) {
            return json::write(&mut out, event);
        }
        let text = tracing_subscriber::fmt::format();
        if self.0.is_coloured.load(Relaxed) {
            return text.format_event(context, out, event);
        }
        text.format_event(context, Writer::new(&mut out), event)
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
    // A map, so that each target is added to `Targets` once: replacing an entry by one with a lower level would leave
    // the maximum level of `Targets` at the higher one.
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

    /// The kernel doubles what is asked for, and limits it to the maximum of the system.
    #[test]
    fn the_longest_line_fits_into_the_socket() {
        let (lines, _read) = socket().expect("a socket");
        let room = rustix::net::sockopt::socket_send_buffer_size(&lines).expect("a size");
        assert!(room >= 2 * SOCKET_BYTES, "{room}");
    }

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
