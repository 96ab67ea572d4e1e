//! One line of the access log. Everything that a client or a guest can write is escaped, and bounded by the record.

use std::io::Write;
use std::net::SocketAddr;

use daylily_core::config::{AccessLog, AccessLogField, AccessLogFormat};
use daylily_core::excerpt::Excerpt;
use daylily_core::log_target;
use daylily_core::request_outcome::RequestOutcome;
use time::OffsetDateTime;

use crate::observe::journal::{Entry, RouteFacts, Text, WorkerFacts};

/// Appends the line of a record, if there are lines.
pub(super) fn write(out: &mut Vec<u8>, settings: &AccessLog, facts: &WorkerFacts, entry: &Entry) {
    let line = Line { facts, entry };
    match settings.format {
        AccessLogFormat::Off => {}
        AccessLogFormat::Json => line.json(out, settings),
        AccessLogFormat::Text => line.text(out),
    }
}

/// A line about a request that was lost with its worker, in daylily's own log.
pub(super) fn log_lost(facts: &WorkerFacts, entry: &Entry) {
    let line = Line { facts, entry };
    tracing::warn!(
        target: log_target::REQUEST,
        request = %entry.numbers.request_id(),
        route = %line.route().map_or("-", |route| route.name.as_str()),
        method = %line.excerpt(Text::Method), path = %line.excerpt(Text::Path),
        "request lost: worker {} died during it", facts.worker
    );
}

struct Line<'a> {
    facts: &'a WorkerFacts,
    entry: &'a Entry,
}

/// A value of a field in JSON.
enum Value<'a> {
    Absent,
    Number(u64),
    Decimal(f64),
    Flag,
    /// Text that may have any bytes.
    Bytes(&'a [u8]),
    Text(&'a str),
    Owned(String),
}

impl<'a> Line<'a> {
    fn route(&self) -> Option<&'a RouteFacts> {
        let index = self.entry.numbers.route.checked_sub(1)?;
        self.facts.routes.get(usize::try_from(index).ok()?)
    }

    fn bytes(&self, text: Text) -> Value<'a> {
        self.entry.text(text).map_or(Value::Absent, |(bytes, _)| Value::Bytes(bytes))
    }

    fn excerpt(&self, text: Text) -> Excerpt {
        Excerpt::of(&self.entry.text(text).map_or("-".into(), |(bytes, _)| String::from_utf8_lossy(bytes)))
    }

    /// The trace id of a trusted client.
    fn trace(&self) -> Option<String> {
        let (bytes, _) = self.entry.text(Text::Trace)?;
        Some(format!("{:032x}", u128::from_be_bytes(bytes.try_into().ok()?)))
    }

    fn value(&self, field: AccessLogField) -> Value<'a> {
        use AccessLogField as F;
        let numbers = &self.entry.numbers;
        let us = |ns: u64| Value::Number(ns / 1_000);
        match field {
            F::Time => Value::Owned(rfc3339(numbers.began_unix_us)),
            F::Id => Value::Owned(numbers.request_id().to_string()),
            F::Trace => self.trace().map_or(Value::Absent, Value::Owned),
            F::XRequestId => self.bytes(Text::XRequestId),
            F::Client => numbers.client().map_or(Value::Absent, |client| Value::Owned(client.ip().to_string())),
            F::ClientPort => numbers.client().map_or(Value::Absent, |client| Value::Number(client.port().into())),
            F::Protocol => protocol(numbers.protocol).map_or(Value::Absent, Value::Text),
            F::Schedule => self.bytes(Text::Schedule),
            F::Method => self.bytes(Text::Method),
            F::Host => self.bytes(Text::Host),
            F::Path => self.bytes(Text::Path),
            F::Query => self.bytes(Text::Query),
            F::Route => self.route().map_or(Value::Absent, |route| Value::Text(&route.name)),
            F::Component => self.route().map_or(Value::Absent, |route| Value::Text(&route.component)),
            F::Digest => self.route().map_or(Value::Absent, |route| Value::Text(&route.digest)),
            F::Generation => Value::Number(self.facts.generation),
            F::Worker => Value::Number(self.facts.worker.into()),
            F::Status => match numbers.status {
                0 => Value::Absent,
                status => Value::Number(status.into()),
            },
            F::Outcome => Value::Text(numbers.outcome().as_str()),
            F::Guest => {
                RequestOutcome::from_number(numbers.guest).map_or(Value::Absent, |guest| Value::Text(guest.as_str()))
            }
            F::BytesIn => Value::Number(numbers.bytes_in),
            F::BytesOut => Value::Number(numbers.bytes_out),
            F::Total => us(numbers.total),
            F::Queued => us(numbers.queued),
            F::Instantiate => us(numbers.instantiate),
            F::GuestCpu => us(numbers.guest_cpu),
            F::GuestWait => us(numbers.guest_wait),
            F::Streaming => us(numbers.streaming),
            F::PeakMemory => Value::Number(numbers.peak_memory),
            F::Outgoing => Value::Number(numbers.outgoing.into()),
            F::OutgoingFailed => Value::Number(numbers.outgoing_failed.into()),
            F::OutgoingTime => us(numbers.outgoing_time),
            F::Stores => Value::Number(numbers.stores.into()),
            F::StoresFailed => Value::Number(numbers.stores_failed.into()),
            F::StoresTime => us(numbers.stores_time),
            F::RefusedMemory if numbers.was_refused_memory => Value::Flag,
            F::RefusedMemory => Value::Absent,
            F::Weight => match numbers.weight_milli {
                1_000 => Value::Absent,
                #[expect(clippy::cast_precision_loss, reason = "at most 10^9")]
                milli => Value::Decimal(milli as f64 / 1e3),
            },
        }
    }

    /// One JSON object. Bytes that are not UTF-8 are replaced by U+FFFD.
    fn json(&self, out: &mut Vec<u8>, settings: &AccessLog) {
        out.push(b'{');
        let begin = out.len();
        for field in &settings.fields {
            member(out, begin, field.name(), &self.value(*field));
        }
        for (number, name) in self
            .facts
            .headers
            .iter()
            .enumerate()
            .filter(|(_, name)| settings.headers.iter().any(|header| header.as_str() == name.as_str()))
        {
            if let Some((value, _)) = self.entry.field(number) {
                member(out, begin, name, &Value::Bytes(value));
            }
        }
        out.extend_from_slice(b"}\n");
    }

    /// The combined log format of Apache and nginx, followed by the duration, the outcome and the id.
    fn text(&self, out: &mut Vec<u8>) {
        let numbers = &self.entry.numbers;
        let client = numbers.client().as_ref().map(SocketAddr::ip);
        let header = |name: &str| {
            let number = self.facts.headers.iter().position(|header| header == name)?;
            self.entry.field(number).map(|(value, _)| value)
        };
        let text = |text: Text| self.entry.text(text).map_or(&b"-"[..], |(bytes, _)| bytes);
        match client {
            Some(client) => drop(write!(out, "{client}")),
            None => out.push(b'-'),
        }
        let _ = write!(out, " - - [{}] \"", clf_time(numbers.began_unix_us));
        quoted(out, text(Text::Method));
        out.push(b' ');
        quoted(out, text(Text::Path));
        let without = if self.entry.text(Text::Schedule).is_some() { "schedule" } else { "-" };
        let _ = write!(out, " {}\" ", protocol(numbers.protocol).unwrap_or(without));
        match numbers.status {
            0 => out.push(b'-'),
            status => drop(write!(out, "{status}")),
        }
        let _ = write!(out, " {} \"", numbers.bytes_out);
        quoted(out, header("referer").unwrap_or(b"-"));
        out.extend_from_slice(b"\" \"");
        quoted(out, header("user-agent").unwrap_or(b"-"));
        let route = self.route().map_or("-", |route| route.name.as_str());
        let _ = write!(out, "\" {}us {} \"", numbers.total / 1_000, numbers.outcome());
        quoted(out, route.as_bytes());
        let _ = writeln!(out, "\" {}", numbers.request_id());
    }
}

/// Appends a member of the JSON object that begins at `begin`, unless its value is absent.
fn member(out: &mut Vec<u8>, begin: usize, name: &str, value: &Value<'_>) {
    if matches!(value, Value::Absent) {
        return;
    }
    if out.len() > begin {
        out.push(b',');
    }
    json_string(out, name);
    out.push(b':');
    match value {
        Value::Absent => {}
        Value::Number(number) => drop(write!(out, "{number}")),
        Value::Decimal(number) => drop(write!(out, "{number}")),
        Value::Flag => out.extend_from_slice(b"true"),
        Value::Bytes(bytes) => json_string(out, &String::from_utf8_lossy(bytes)),
        Value::Text(text) => json_string(out, text),
        Value::Owned(text) => json_string(out, text),
    }
}

/// A string in JSON (RFC 8259 §7). All control characters are escaped, also those that a terminal would obey and JSON
/// allows (U+007F to U+009F).
fn json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' | '\\' => drop(write!(out, "\\{character}")),
            control if control.is_control() => drop(write!(out, "\\u{:04x}", u32::from(control))),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Text between quotes: quotes, backslashes and everything but printable ASCII are written as `\xHH`, as nginx does.
fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => drop(write!(out, "\\x{byte:02X}")),
            b' '..=b'~' => out.push(byte),
            _ => drop(write!(out, "\\x{byte:02X}")),
        }
    }
}

fn protocol(number: u8) -> Option<&'static str> {
    match number {
        10 => Some("HTTP/1.0"),
        11 => Some("HTTP/1.1"),
        _ => None,
    }
}

fn utc(unix_us: u64) -> OffsetDateTime {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_us) * 1_000);
    time.unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn rfc3339(unix_us: u64) -> String {
    let t = utc(unix_us);
    let (month, micro) = (u8::from(t.month()), t.microsecond());
    let (year, day, hour, minute, second) = (t.year(), t.day(), t.hour(), t.minute(), t.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
}

/// The time in the common log format: `10/Oct/2000:13:55:36 +0000`.
fn clf_time(unix_us: u64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let t = utc(unix_us);
    let month = MONTHS.get(usize::from(u8::from(t.month())) - 1).unwrap_or(&"-");
    let (year, day, hour, minute, second) = (t.year(), t.day(), t.hour(), t.minute(), t.second());
    format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::observe::journal::{Journal, JournalReader, Numbers, TextOf, create};
    use crate::observe::metrics::BlockNames;

    fn facts() -> WorkerFacts {
        let route = RouteFacts { name: "a \"b\"".into(), component: "c.wasm".into(), digest: "00ff".into() };
        WorkerFacts {
            generation: 3,
            worker: 1,
            blocks: BlockNames::default(),
            routes: vec![route],
            headers: vec!["referer".into(), "x".into()],
        }
    }

    fn numbers() -> Numbers {
        let mut numbers = Numbers {
            id: [1, 2],
            began_unix_us: 1_795_746_242_000_007,
            protocol: 11,
            status: 200,
            outcome: RequestOutcome::Ok.number(),
            guest: RequestOutcome::Trap.number(),
            route: 1,
            bytes_out: 11,
            total: 1_234_567,
            guest_cpu: 999,
            weight_milli: 1_500,
            ..Numbers::default()
        };
        numbers.set_client("[::ffff:192.0.2.1]:80".parse().expect("an address"));
        numbers
    }

    /// The line of a record with these texts.
    fn line(settings: &AccessLog, numbers: Numbers, path: &[u8], field: &[u8]) -> String {
        let texts = [
            TextOf::new(Text::Method, b"GET", 32),
            TextOf::new(Text::Host, b"example.com", 32),
            TextOf::new(Text::Path, path, 400),
            TextOf::new(Text::Trace, &[0x0a; 16], 16),
            TextOf::new(Text::XRequestId, field, 128),
            TextOf::field(1, field),
        ];
        line_of(settings, numbers, texts)
    }

    fn line_of<'a>(settings: &AccessLog, numbers: Numbers, texts: impl IntoIterator<Item = TextOf<'a>>) -> String {
        let file = create().expect("shared memory");
        let journal = Journal::open(file.as_fd()).expect("a mapping");
        journal.begin(&numbers, texts).end(&numbers, true);
        let entry = JournalReader::open(file.as_fd()).expect("a mapping").next().expect("a record");
        let mut out = Vec::new();
        write(&mut out, settings, &facts(), &entry);
        String::from_utf8(out).expect("UTF-8")
    }

    fn settings(format: AccessLogFormat) -> AccessLog {
        let headers = ["referer", "x"].map(|name| name.parse().expect("a name")).to_vec();
        AccessLog { format, headers, ..AccessLog::default() }
    }

    #[test]
    fn json() {
        let line = line(&settings(AccessLogFormat::Json), numbers(), b"/a", b"y");
        let expected = r#"{"time":"2026-11-27T02:24:02.000007Z","id":"00000000000000010000000000000002","trace":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","x_request_id":"y","client":"192.0.2.1","#;
        assert!(line.starts_with(expected), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&value["method"], &value["path"], &value["x"]), (&"GET".into(), &"/a".into(), &"y".into()));
        assert_eq!((&value["route"], &value["outcome"]), (&"a \"b\"".into(), &"ok".into()));
        assert_eq!((&value["total_us"], &value["weight"]), (&1234.into(), &1.5.into()));
        assert!(value.get("guest").is_none() && value.get("referer").is_none(), "{line}");
    }

    #[test]
    fn every_field_of_json() {
        let settings = AccessLog { fields: AccessLogField::ALL.to_vec(), ..settings(AccessLogFormat::Json) };
        let line = line(&settings, Numbers { was_refused_memory: true, ..numbers() }, b"/", b"");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        for field in AccessLogField::ALL {
            // The request has no query, and no schedule has sent it.
            let is_missing = matches!(field, AccessLogField::Query | AccessLogField::Schedule);
            assert_eq!(value.get(field.name()).is_none(), is_missing, "{}", field.name());
        }
    }

    #[test]
    fn text() {
        let line = line(&settings(AccessLogFormat::Text), numbers(), b"/a", b"");
        let expected = "192.0.2.1 - - [27/Nov/2026:02:24:02 +0000] \"GET /a HTTP/1.1\" 200 11 \"-\" \"-\" 1234us ok \"a \\x22b\\x22\" \
             00000000000000010000000000000002\n";
        assert_eq!(line, expected);
    }

    /// Whatever bytes a client sends in any text, a line is one line, and JSON is JSON.
    #[test]
    fn nothing_forges_a_line() {
        for byte in 0..=255_u8 {
            let text = [b'/', byte, b'"', byte, b'\\'];
            let expected = serde_json::Value::from(String::from_utf8_lossy(&text).into_owned());
            for format in [AccessLogFormat::Json, AccessLogFormat::Text] {
                let settings = AccessLog { fields: AccessLogField::ALL.to_vec(), ..settings(format) };
                let kinds = [Text::Method, Text::Host, Text::Path, Text::Query, Text::XRequestId];
                let texts = kinds.map(|kind| TextOf::new(kind, &text, 400));
                let fields = [0, 1].map(|number| TextOf::field(number, &text));
                let line = line_of(&settings, numbers(), texts.into_iter().chain(fields));
                assert_eq!(line.bytes().filter(|byte| *byte == b'\n').count(), 1, "{line:?}");
                assert!(line.ends_with('\n') && !line.trim_end().contains(|c: char| c.is_control()), "{line:?}");
                if format == AccessLogFormat::Json {
                    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                    for name in ["method", "host", "path", "query", "x_request_id", "referer", "x"] {
                        assert_eq!(value[name], expected, "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_written_when_it_is_off() {
        assert_eq!(line(&settings(AccessLogFormat::Off), numbers(), b"/", b""), "");
    }
}
