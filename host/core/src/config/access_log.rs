//! `[access_log]`: which requests have a line, what it says, and where it goes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::AccessLog;
use crate::units::{format_duration, parse_duration};
use crate::value_error::ValueError;

impl AccessLog {
    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        self.format != AccessLogFormat::Off
    }

    /// Whether a line contains this.
    pub fn has(&self, field: AccessLogField) -> bool {
        self.fields.contains(&field)
    }
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLogFormat {
    /// There is no access log.
    #[default]
    Off,
    /// The combined log format, with duration, outcome and id at the end.
    Text,
    /// One JSON object.
    Json,
}

impl fmt::Display for AccessLogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for AccessLogFormat {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "off" => Ok(Self::Off),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(ValueError::new(format!("invalid access log format {text:?}")).help("write off, text or json")),
        }
    }
}

/// The part of the requests that have a line, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sample(u32);

impl Sample {
    /// Every request has a line.
    pub const ALL: Self = Self(1_000_000);

    /// `part` of all requests.
    ///
    /// # Errors
    ///
    /// If it is not between 0.000001 and 1.
    pub fn new(part: f64) -> Result<Self, ValueError> {
        let millionths = (part * 1e6).round();
        if !(1.0..=1e6).contains(&millionths) {
            return Err(
                ValueError::new(format!("invalid part of requests {part}")).help("write a number from 0.000001 to 1")
            );
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1 and 1,000,000")]
        let millionths = millionths as u32;
        Ok(Self(millionths))
    }

    /// The part in millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

/// Requests that have a line although they are not in the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Always {
    /// Those whose outcome is not `ok`, and those with a status from 500 on.
    Failed,
    /// Those that took longer.
    SlowerThan(Duration),
}

impl Default for Sample {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for Always {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed => f.write_str("failed"),
            Self::SlowerThan(limit) => write!(f, "slower than {}", format_duration(*limit)),
        }
    }
}

impl FromStr for Always {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "failed" {
            return Ok(Self::Failed);
        }
        let limit = text.strip_prefix("slower than ").ok_or_else(|| {
            ValueError::new(format!("invalid condition {text:?}")).help("write \"failed\", or \"slower than 500ms\"")
        })?;
        parse_duration(limit.trim()).map(Self::SlowerThan)
    }
}

/// Declares the fields of a line: variant, name, unit or form, meaning, and whether a line has it by default.
macro_rules! fields {
    ($($variant:ident = $name:literal, $form:literal, $meaning:literal, $default:literal;)+) => {
        /// What a line of the access log can contain. The names and units are an interface that is only added to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum AccessLogField {
            $(#[doc = $meaning] $variant,)+
        }

        impl AccessLogField {
            /// All fields, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in the configuration, and the key in JSON.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Whether a line contains it unless configured otherwise.
            pub fn is_default(self) -> bool {
                match self { $(Self::$variant => $default,)+ }
            }

            /// The unit, or the form of the value.
            pub fn form(self) -> &'static str {
                match self { $(Self::$variant => $form,)+ }
            }

            /// What it means, for the documentation.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

fields! {
    Time = "time", "RFC 3339, UTC, µs", "when the request's head had been read", true;
    Id = "id", "32 hex digits", "the request's id", true;
    Trace = "trace", "32 hex digits", "the trace id of a trusted client's `traceparent`; absent if there was none, and the trace has the request's id", true;
    XRequestId = "x_request_id", "text, 128 bytes", "a trusted client's `x-request-id`", true;
    Client = "client", "address", "the client's address; absent for a client of a Unix socket", true;
    ClientPort = "client_port", "number", "the client's port", false;
    Protocol = "protocol", "`HTTP/1.1`", "the protocol version of the request", true;
    Schedule = "schedule", "text", "the name of the schedule that sent the request; absent of clients' requests", true;
    Method = "method", "text, 32 bytes", "the request's method", true;
    Host = "host", "text, 128 bytes", "the authority of the request's target, or its `Host`", true;
    Path = "path", "text, 384 bytes", "the path of the request's target, without the query", true;
    Query = "query", "text, 128 bytes", "the query of the request's target", false;
    Route = "route", "text", "the route's name; absent if there is no route for the request", true;
    Component = "component", "text", "the route's component", false;
    Digest = "digest", "hex digits", "the BLAKE3 digest of the component's file", false;
    Generation = "generation", "number", "the generation of workers", false;
    Worker = "worker", "number", "the worker's number", false;
    Status = "status", "number", "the status of the response; absent if there was none", true;
    Outcome = "outcome", "word", "how the request ended", true;
    Guest = "guest", "word", "how the guest ended, which may be after its response; absent if none ran to its end", false;
    BytesIn = "bytes_in", "bytes", "the request's body, as far as the guest has read it", true;
    BytesOut = "bytes_out", "bytes", "the response's body, as far as it went to the connection", true;
    Total = "total_us", "µs", "from the request's head until its response was sent and its guest has ended", true;
    Queued = "queued_us", "µs", "until the request had a permit", true;
    Instantiate = "instantiate_us", "µs", "until the instance was ready", true;
    GuestCpu = "guest_cpu_us", "µs", "CPU time of the guest", true;
    GuestWait = "guest_wait_us", "µs", "time in which the guest waited, or others had the CPU", true;
    Streaming = "streaming_us", "µs", "from the response's head to its end", true;
    PeakMemory = "peak_memory", "bytes", "the guest's memory at its largest", false;
    Outgoing = "outgoing", "number", "requests that the guest sent", false;
    OutgoingFailed = "outgoing_failed", "number", "of them, those that got no response", false;
    OutgoingTime = "outgoing_us", "µs", "the time until these had their responses' heads, added up", false;
    Stores = "store_operations", "number", "operations of the guest on key-value stores", false;
    StoresFailed = "store_failed", "number", "of them, those that failed", false;
    StoresTime = "store_us", "µs", "the time of these operations, added up", false;
    RefusedMemory = "refused_memory", "`true`", "the guest was refused memory or a table over its limit; absent otherwise", false;
    Weight = "weight", "number", "how many requests the line stands for, when only a sample has lines; absent if 1", true;
}

impl AccessLogField {
    /// What a line contains unless configured otherwise.
    pub fn defaults() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|field| field.is_default()).collect()
    }

    fn names() -> String {
        Self::ALL.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ")
    }
}

impl FromStr for AccessLogField {
    type Err = ValueError;

    fn from_str(name: &str) -> Result<Self, ValueError> {
        let found = Self::ALL.iter().find(|field| field.name() == name);
        let error =
            || ValueError::new(format!("unknown field {name:?}")).help(format!("write some of {}", Self::names()));
        found.copied().ok_or_else(error)
    }
}

/// The name of a field of requests, in lower case, whose values are no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedHeader(String);

impl LoggedHeader {
    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Most fields of requests that a line has: a record has room for no more.
pub const MAX_HEADERS: usize = 16;

/// Fields of requests whose values are secrets: they are never in a log.
const SECRET_FIELDS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

impl FromStr for LoggedHeader {
    type Err = ValueError;

    fn from_str(name: &str) -> Result<Self, ValueError> {
        // RFC 9110 §5.6.2.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(
                ValueError::new(format!("invalid field name {name:?}")).help("write a name such as \"user-agent\"")
            );
        }
        let name = name.to_ascii_lowercase();
        if SECRET_FIELDS.contains(&name.as_str()) {
            let error = ValueError::new(format!("the values of `{name}` are secrets"));
            return Err(error.help("they are never logged: remove the field"));
        }
        if name.parse::<AccessLogField>().is_ok() {
            let error = ValueError::new(format!("`{name}` is the name of a field of the log"));
            return Err(error.help("a line cannot have both: remove the field from `headers`"));
        }
        Ok(Self(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always() {
        #[track_caller]
        fn check(text: &str, expected: Option<Always>) {
            assert_eq!(text.parse::<Always>().ok(), expected, "{text}");
            if let Some(always) = expected {
                assert_eq!(always.to_string(), text);
            }
        }
        check("failed", Some(Always::Failed));
        check("slower than 500ms", Some(Always::SlowerThan(Duration::from_millis(500))));
        for wrong in ["", "slow", "slower than", "slower than x", "slower than 5", "Failed"] {
            check(wrong, None);
        }
    }

    #[test]
    fn samples() {
        for (part, millionths) in [
            (1.0, Some(1_000_000)),
            (0.01, Some(10_000)),
            (0.000_001, Some(1)),
            (0.0, None),
            (-1.0, None),
            (1.1, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(Sample::new(part).ok().map(Sample::millionths), millionths, "{part}");
        }
    }

    #[test]
    fn fields_have_names_of_their_own() {
        for field in AccessLogField::ALL {
            assert_eq!(field.name().parse().ok(), Some(*field));
        }
        assert!("method ".parse::<AccessLogField>().is_err());
        assert!(AccessLogField::Weight.is_default());
        assert!(!AccessLogField::Query.is_default(), "queries may have secrets");
    }

    #[test]
    fn the_document_has_every_field() {
        let document = include_str!("../../../../docs/observability.md");
        for field in AccessLogField::ALL {
            let by_default = if field.is_default() { "yes" } else { "" };
            let row = format!("| `{}` | {} | {} | {by_default} |", field.name(), field.form(), field.meaning());
            assert!(document.lines().any(|line| line == row), "{row}");
        }
    }

    #[test]
    fn secrets_are_not_logged() {
        for (name, expected) in [
            ("User-Agent", Some("user-agent")),
            ("x", Some("x")),
            ("", None),
            ("a b", None),
            ("a:", None),
            ("é", None),
            ("Cookie", None),
            ("AUTHORIZATION", None),
            ("Host", None),
            ("set-cookie", None),
            ("proxy-authorization", None),
        ] {
            assert_eq!(name.parse::<LoggedHeader>().ok().as_ref().map(LoggedHeader::as_str), expected, "{name}");
        }
    }
}
