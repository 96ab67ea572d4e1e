//! One event as a JSON object in one line. The names of the fields are an interface, which docs/errors.md describes.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Maximum length of a message, as it is written.
const MAX_MESSAGE_BYTES: usize = 48 << 10;

/// Maximum length of any other value, and of all others of an event together, as they are written. Names, and what says
/// that something was left out, are not counted: an event has 32 fields at most, and their names are in source files.
const MAX_VALUE_BYTES: usize = 4 << 10;
const MAX_VALUES_BYTES: usize = 8 << 10;

/// What each value may have, however long the others are: an id of a request is not cut because a text is long.
const MIN_VALUE_BYTES: usize = 64;

/// Fields of events from the `log` crate that describe the event itself.
const LOG_TARGET: &str = "log.target";
const LOG_FIELDS: [&str; 4] = [LOG_TARGET, "log.module_path", "log.file", "log.line"];

const MESSAGE: &str = "message";

/// What each object begins with; an event's own field of such a name gets a `_` after it.
const FIRST: [&str; 3] = ["time", "level", "target"];

/// Writes an event, with the end of its line.
///
/// # Errors
///
/// When `out` fails.
pub(super) fn write(out: &mut Writer<'_>, event: &Event<'_>) -> fmt::Result {
    out.write_str("{\"time\":\"")?;
    SystemTime.format_time(out)?;
    let mut head = Head { target: None };
    event.record(&mut head);
    let target = head.target.as_deref().unwrap_or(event.metadata().target());
    write!(out, "\",\"level\":\"{}\",\"target\":", level(*event.metadata().level()))?;
    string(out, &target, &mut { MAX_VALUE_BYTES })?;
    out.write_str(",\"message\":")?;
    let mut message = Fields { out, part: Part::Message, left: MAX_MESSAGE_BYTES, has_message: false, result: Ok(()) };
    event.record(&mut message);
    let (has_message, result) = (message.has_message, message.result);
    result?;
    if !has_message {
        out.write_str("\"\"")?;
    }
    let mut fields = Fields { out, part: Part::Others, left: MAX_VALUES_BYTES, has_message, result: Ok(()) };
    event.record(&mut fields);
    fields.result?;
    out.write_str("}\n")
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Finds the target of events of the `log` crate.
struct Head {
    target: Option<String>,
}

impl Visit for Head {
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == LOG_TARGET {
            self.target = Some(value.to_owned());
        }
    }
}

/// What one pass over the fields writes.
#[derive(PartialEq)]
enum Part {
    /// The value of the message.
    Message,
    /// The members for all other fields.
    Others,
}

struct Fields<'a, 'w> {
    out: &'a mut Writer<'w>,
    part: Part,
    /// Bytes of values that may still be written.
    left: usize,
    has_message: bool,
    result: fmt::Result,
}

impl Fields<'_, '_> {
    /// Writes a string.
    fn text(&mut self, field: &Field, value: &dyn fmt::Display) {
        if self.begin(field) {
            let limit = if self.part == Part::Message { MAX_MESSAGE_BYTES } else { MAX_VALUE_BYTES };
            let may_take = self.left.clamp(MIN_VALUE_BYTES, limit);
            let mut left = may_take;
            self.result = string(self.out, value, &mut left);
            self.left = self.left.saturating_sub(may_take - left);
        }
    }

    /// Writes what is JSON already, and short.
    fn word(&mut self, field: &Field, value: &dyn fmt::Display) {
        if self.begin(field) {
            self.result = write!(self.out, "{value}");
        }
    }

    /// Writes what comes before a value. Returns whether the value belongs into this part.
    fn begin(&mut self, field: &Field) -> bool {
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        let is_message = name == MESSAGE;
        if self.result.is_err() || is_message != (self.part == Part::Message) || LOG_FIELDS.contains(&name) {
            return false;
        }
        if is_message {
            return !std::mem::replace(&mut self.has_message, true);
        }
        let more = if FIRST.contains(&name) { "_" } else { "" };
        self.result = self
            .out
            .write_char(',')
            .and_then(|()| string(self.out, &format_args!("{name}{more}"), &mut { MAX_VALUE_BYTES }))
            .and_then(|()| self.out.write_char(':'));
        self.result.is_ok()
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, &value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.word(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.word(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.word(field, &value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.word(field, &value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.word(field, &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        if value.is_finite() { self.word(field, &value) } else { self.text(field, &value) }
    }
}

/// Writes a string, whose text takes up to `left` bytes, and what was left out.
fn string(out: &mut Writer<'_>, value: &dyn fmt::Display, left: &mut usize) -> fmt::Result {
    out.write_char('"')?;
    let mut text = Escaped { out, left, left_out: 0 };
    write!(text, "{value}")?;
    if text.left_out > 0 {
        write!(text.out, "… ({} bytes left out)", text.left_out)?;
    }
    out.write_char('"')
}

/// Text of a string in JSON (RFC 8259 §7). Escapes all control characters, also those that a terminal would obey and JSON
/// allows (U+007F to U+009F), and the other ends of lines in Unicode.
struct Escaped<'a, 'w> {
    out: &'a mut Writer<'w>,
    /// Bytes that may still be written.
    left: &'a mut usize,
    /// Bytes of the text after those.
    left_out: usize,
}

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let length = match character {
                '"' | '\\' => 2,
                special if is_escaped(special) => 6,
                other => other.len_utf8(),
            };
            if self.left_out > 0 || length > *self.left {
                self.left_out += character.len_utf8();
                continue;
            }
            *self.left -= length;
            match character {
                '"' | '\\' => write!(self.out, "\\{character}")?,
                special if is_escaped(special) => write!(self.out, "\\u{:04x}", u32::from(special))?,
                other => self.out.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Besides quotes and backslashes. All of these are in the first plane of Unicode.
fn is_escaped(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use daylily_core::log_target;
    use serde_json::{Value, json};
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;
    use crate::observe::log::queue::MAX_LINE_BYTES;
    use crate::sys::lock::lock;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<String>>);

    impl Layer<Registry> for Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, Registry>) {
            write(&mut Writer::new(&mut *lock(&self.0)), event).expect("a string takes everything");
        }
    }

    /// The line of the event that `log` causes.
    #[track_caller]
    fn line(log: impl FnOnce()) -> String {
        let lines = Lines::default();
        tracing::subscriber::with_default(Registry::default().with(lines.clone()), log);
        let line = std::mem::take(&mut *lock(&lines.0));
        assert!(line.ends_with("}\n") && line.len() <= MAX_LINE_BYTES, "{} bytes: {line}", line.len());
        let is_one = |text: &str| !text.contains(|c: char| is_escaped(c));
        assert!(is_one(line.trim_end_matches('\n')), "{line:?}");
        line
    }

    /// The same as an object, without the time.
    #[track_caller]
    fn object(log: impl FnOnce()) -> Value {
        let line = line(log);
        let mut object: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let time = object.as_object_mut().and_then(|members| members.remove("time")).expect("a time");
        let form: String =
            time.as_str().expect("text").chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(form, "0000-00-00T00:00:00.000000Z");
        object
    }

    #[test]
    fn fields_have_their_names_and_types() {
        #[track_caller]
        fn check(log: impl FnOnce(), expected: Value) {
            assert_eq!(object(log), expected);
        }
        let request = "01";
        check(
            || tracing::warn!(target: log_target::REQUEST, request, route = %"/*", status = 504, "guest failed: {}", "a"),
            json!({"level": "warn", "target": "daylily::request", "message": "guest failed: a", "request": "01",
                "route": "/*", "status": 504}),
        );
        check(
            || tracing::error!(target: log_target::LOG, yes = true, no = false, less = -1, much = u64::MAX, part = 0.5, r#type = 1),
            json!({"level": "error", "target": "daylily::log", "message": "", "yes": true, "no": false, "less": -1,
                "much": u64::MAX, "part": 0.5, "type": 1}),
        );
        check(
            || tracing::info!(target: log_target::LOG, none = None::<u8>, some = Some(1), list = ?[1, 2], nan = f64::NAN, "m"),
            json!({"level": "info", "target": "daylily::log", "message": "m", "some": 1, "list": "[1, 2]", "nan": "NaN"}),
        );
        let error = std::io::Error::other("why");
        let error: &(dyn std::error::Error + 'static) = &error;
        check(
            || tracing::debug!(target: log_target::LOG, error, time = 1, level = "x", target = 2, a.b = 3, "m"),
            json!({"level": "debug", "target": "daylily::log", "message": "m", "error": "why", "time_": 1, "level_": "x",
                "target_": 2, "a.b": 3}),
        );
        check(
            || tracing::trace!(target: log_target::LOG, { "log.target" = "hyper", "log.line" = 5, "log.file" = "f" }, "m"),
            json!({"level": "trace", "target": "hyper", "message": "m"}),
        );
    }

    #[test]
    fn the_first_members_have_a_fixed_order() {
        let line = line(|| tracing::info!(target: log_target::GUEST, route = "/", "text"));
        let rest = line.split_once(",\"level\"").map(|(time, rest)| (time.starts_with("{\"time\":\""), rest));
        assert_eq!(rest, Some((true, ":\"info\",\"target\":\"guest\",\"message\":\"text\",\"route\":\"/\"}\n")));
    }

    /// Whatever a text has, it is one line, and is read as it was.
    #[test]
    fn every_character_survives() {
        for character in (0..0x300).chain(0x2000..0x2100).chain([0xfffd, 0x1_f600]).filter_map(char::from_u32) {
            let text = format!("{character}\"{character}\\{character}");
            let object = object(|| tracing::info!(target: log_target::LOG, a = text, b = %text, "{text}"));
            for name in ["message", "a", "b"] {
                assert_eq!(object[name], text.as_str(), "{name}, {character:?}");
            }
        }
        let bytes: Vec<u8> = (0..=255).collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(object(|| tracing::info!(target: log_target::LOG, "{text}"))["message"], text.as_str());
    }

    #[test]
    fn huge_values_are_cut_and_stay_json() {
        #[track_caller]
        fn check(piece: &str, message_bytes: usize, value_bytes: usize, least_bytes: usize) {
            let huge = piece.repeat((1 << 20) / piece.len());
            let object = object(
                || tracing::info!(target: log_target::LOG, a = huge, b = %huge, c = huge, request = "01", "{huge}"),
            );
            let kept = |name: &str| {
                let text = object[name].as_str().expect("text");
                let (kept, note) = text.split_once("… (").unwrap_or_else(|| panic!("{name} is whole"));
                assert_eq!(note, format!("{} bytes left out)", huge.len() - kept.len()), "{name}");
                kept.len()
            };
            let expected = (message_bytes, value_bytes, value_bytes, least_bytes);
            assert_eq!((kept("message"), kept("a"), kept("b"), kept("c")), expected);
            assert_eq!(object["request"], "01");
        }
        check("x", MAX_MESSAGE_BYTES, MAX_VALUE_BYTES, MIN_VALUE_BYTES);
        check("\"", MAX_MESSAGE_BYTES / 2, MAX_VALUE_BYTES / 2, MIN_VALUE_BYTES / 2);
        check("ß", MAX_MESSAGE_BYTES, MAX_VALUE_BYTES, MIN_VALUE_BYTES);
        check("\u{1b}", MAX_MESSAGE_BYTES / 6, MAX_VALUE_BYTES / 6, MIN_VALUE_BYTES / 6);
    }
}
