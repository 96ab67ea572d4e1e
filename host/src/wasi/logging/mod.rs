//! `wasi:logging`: a guest's lines in the log, with a level and a context.
//!
//! Granted to all guests, as stdout is. The lines have the log's target of guests' output, and share its limit
//! `max_output`. `critical`, which the log does not have, is logged as `error`.
//!
//! A line whose level the log does not have is neither formatted nor counted: a guest may log details in any number,
//! which then cost it the CPU time of the calls and of copying the texts out of its memory.

use daylily_core::excerpt::Excerpt;
use daylily_core::log_target;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker};

use super::output::{GuestOutput, MAX_LINE_BYTES};
use super::state::State;
use crate::component_abi::{Function, enumeration};

const INTERFACE: &str = "wasi:logging/logging";
const VERSION: &str = "0.1.0-draft";

/// Maximum length of a context before it is quoted; the rest is left out.
const MAX_CONTEXT_BYTES: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

enumeration!(Level {
    "trace" => Trace,
    "debug" => Debug,
    "info" => Info,
    "warn" => Warn,
    "error" => Error,
    "critical" => Critical,
});

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let log = |mut store: StoreContextMut<'_, State>, (level, context, message): (Level, String, String)| {
        log(|| store.data_mut().output(), level, &context, &message);
        Ok(())
    };
    linker.instance(&format!("{INTERFACE}@{VERSION}"))?.func_wrap("log", log)
}

pub(super) fn functions() -> Vec<Function<State>> {
    let log = |state: &mut State, (level, context, message): (Level, String, String)| {
        log(|| state.output(), level, &context, &message);
        Ok(())
    };
    vec![Function::new(INTERFACE, "log", log)]
}

/// Logs one line, however many lines the message has: control characters are escaped.
fn log<'a>(output: impl FnOnce() -> &'a GuestOutput, level: Level, context: &str, message: &str) {
    macro_rules! log {
        ($level:ident) => {
            if tracing::enabled!(target: log_target::GUEST, tracing::Level::$level) {
                let output = output();
                if output.is_cut() {
                    return;
                }
                let context = bounded(&output.masked(context));
                let message = Excerpt::within(&output.masked(message), MAX_LINE_BYTES);
                output.log(message.as_str(), &context.as_deref().map(quoted).unwrap_or_default(), |route, request, line| {
                    // As a string, which lines of text have in quotes.
                    let context = context.as_deref();
                    tracing::event!(
                        target: log_target::GUEST,
                        tracing::Level::$level, %route, %request, context, "{line}"
                    );
                })
            }
        };
    }
    match level {
        Level::Trace => log!(TRACE),
        Level::Debug => log!(DEBUG),
        Level::Info => log!(INFO),
        Level::Warn => log!(WARN),
        Level::Error | Level::Critical => log!(ERROR),
    }
}

/// A context; None if it is empty.
fn bounded(context: &str) -> Option<String> {
    let kept = context.get(..context.floor_char_boundary(MAX_CONTEXT_BYTES))?;
    let more = if kept.len() < context.len() { "…" } else { "" };
    (!kept.is_empty()).then(|| format!("{kept}{more}"))
}

/// A context as it is in a line of text: in quotes, which are escaped in it, so that it cannot be taken for other fields
/// of the line.
fn quoted(context: &str) -> String {
    format!("{context:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte takes up to six (`\u{1b}`), the ellipsis three, and the quotes two.
    const MAX_QUOTED_BYTES: usize = 6 * MAX_CONTEXT_BYTES + 3 + 2;

    #[test]
    fn a_context_is_quoted_and_bounded() {
        let context = |text: &str| bounded(text).as_deref().map(quoted);
        assert_eq!(context(""), None);
        assert_eq!(context("shop").as_deref(), Some(r#""shop""#));
        assert_eq!(context("a\" request=b").as_deref(), Some(r#""a\" request=b""#));
        assert_eq!(context("a\n\u{1b}\u{202e}").as_deref(), Some(r#""a\n\u{1b}\u{202e}""#));
        let full = "x".repeat(MAX_CONTEXT_BYTES);
        assert_eq!(context(&full), Some(format!("{full:?}")));
        assert_eq!(context(&format!("{full}y")), Some(format!("\"{full}…\"")));
        // At the limit, cut within a character, and with the longest escapes.
        assert_eq!(context(&"é".repeat(200)), Some(format!("\"{}…\"", "é".repeat(MAX_CONTEXT_BYTES / 2))));
        for longest in ["\u{1b}", "\u{9b}", "\u{202e}", "\u{10ffff}"] {
            let quoted = context(&longest.repeat(1_000)).expect("a context");
            assert!(quoted.len() <= MAX_QUOTED_BYTES && quoted.ends_with("…\""), "{quoted}");
        }
    }
}
