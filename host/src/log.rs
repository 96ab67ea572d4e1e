//! The log: lines on stderr, coloured on a terminal only.

use std::io::IsTerminal;

use daylily_core::config::LogLevel;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log at `level` for daylily and its guests; libraries speak up from `warn` on.
pub(crate) fn start(level: LogLevel) {
    let level = level.as_str();
    let libraries = if level == "trace" {
        "trace"
    } else if level == "error" {
        "error"
    } else {
        "warn"
    };
    let filter = EnvFilter::new(format!("{libraries},daylily={level},guest={level},wasmtime_wasi_http=error"));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // Already started only where tests share a process.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}
