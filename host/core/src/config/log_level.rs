use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ValueError, log_target};

/// The log level: lines of this level and of more urgent ones are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// No lines.
    Off,
    /// Errors of daylily.
    Error,
    /// Errors of guests.
    Warn,
    /// What an operator wants to see of a healthy server, and the output of guests.
    #[default]
    Info,
    /// Errors of clients, and the events of each request.
    Debug,
    /// All lines.
    Trace,
}

impl LogLevel {
    /// Every level, from the fewest lines to the most.
    pub const ALL: [Self; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// As written in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

/// Which lines are logged: a level for all targets, and levels for single targets.
///
/// As text, `info,daylily::outgoing=debug,guest=off`. The level of a target also applies to the targets below it; of
/// two that match, the longer one applies. It is serialized as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogFilter {
    level: LogLevel,
    targets: Vec<(&'static str, LogLevel)>,
}

impl LogFilter {
    /// The level of targets without a level of their own.
    pub fn level(&self) -> LogLevel {
        self.level
    }

    /// The targets with levels of their own, each one of [`log_target::ALL`] and present once.
    pub fn targets(&self) -> &[(&'static str, LogLevel)] {
        &self.targets
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.level.as_str())?;
        self.targets.iter().try_for_each(|(target, level)| write!(f, ",{target}={}", level.as_str()))
    }
}

impl FromStr for LogFilter {
    type Err = ValueError;

    /// Parses entries separated by commas: at most one level, and any number of `target=level`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut default = None;
        let mut targets: Vec<(&'static str, LogLevel)> = Vec::new();
        for entry in text.split(',').map(str::trim) {
            let Some((name, value)) = entry.split_once('=') else {
                let level = LogLevel::parse(entry).ok_or_else(|| invalid_entry(entry))?;
                if let Some(first) = default.replace(level) {
                    let error = format!("`log` has two default levels, {:?} and {entry:?}", first.as_str());
                    return Err(ValueError::new(error).help("remove one of the two"));
                }
                continue;
            };
            let (name, value) = (name.trim(), value.trim());
            let target = log_target::ALL.into_iter().find(|target| *target == name).ok_or_else(|| unknown(name))?;
            if targets.iter().any(|(earlier, _)| *earlier == target) {
                let error = ValueError::new(format!("`log` has the target {target:?} twice"));
                return Err(error.help("remove one of the two"));
            }
            let level = LogLevel::parse(value).ok_or_else(|| {
                ValueError::new(format!("invalid log level {value:?} of the target {target:?}")).help(LEVELS)
            })?;
            targets.push((target, level));
        }
        Ok(Self { level: default.unwrap_or_default(), targets })
    }
}

const LEVELS: &str = "it is off, error, warn, info, debug or trace";

fn invalid_entry(entry: &str) -> ValueError {
    let error = ValueError::new(format!("invalid log level {entry:?}"));
    if log_target::ALL.contains(&entry) {
        error.help(format!("write a level after the target, such as {entry}=debug"))
    } else {
        error.help(format!("{LEVELS}; a target has its own with TARGET=LEVEL"))
    }
}

fn unknown(target: &str) -> ValueError {
    let help = format!("the targets are {}", log_target::ALL.join(", "));
    ValueError::new(format!("unknown log target {target:?}")).help(help)
}

impl TryFrom<String> for LogFilter {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<LogFilter> for String {
    fn from(filter: LogFilter) -> Self {
        filter.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        fn check(text: &str, expected: Result<&str, &str>) {
            let actual = text.parse::<LogFilter>().map(|filter| filter.to_string()).map_err(|error| error.to_string());
            match (&actual, expected) {
                (Err(actual), Err(expected)) => assert!(actual.contains(expected), "{text}: {actual}"),
                _ => assert_eq!(actual.as_deref().map_err(String::as_str), expected, "{text}"),
            }
        }
        for level in LogLevel::ALL {
            check(level.as_str(), Ok(level.as_str()));
        }
        check("info,daylily::outgoing=debug,guest=off", Ok("info,daylily::outgoing=debug,guest=off"));
        check("daylily=warn,debug", Ok("debug,daylily=warn"));
        check("guest=off", Ok("info,guest=off"));
        check(" warn , guest = trace ", Ok("warn,guest=trace"));
        check("INFO", Err("invalid log level \"INFO\": it is off, error, warn, info, debug or trace; a target has"));
        check("warning", Err("invalid log level \"warning\""));
        check("", Err("invalid log level \"\""));
        check("info,", Err("invalid log level \"\""));
        check("daylily::worker", Err("such as daylily::worker=debug"));
        check("info,guest=loud", Err("invalid log level \"loud\" of the target \"guest\": it is off,"));
        check("info,guest=", Err("invalid log level \"\" of the target \"guest\""));
        check("info,guest=off=off", Err("invalid log level \"off=off\" of the target \"guest\""));
        check(
            "=debug",
            Err(
                "unknown log target \"\": the targets are daylily, daylily::admin, daylily::build, daylily::component, ",
            ),
        );
        check("daylily::http::body=debug", Err("unknown log target \"daylily::http::body\": the targets are "));
        check("Guest=off", Err("daylily::worker, guest"));
        check("guest=off,guest=off", Err("`log` has the target \"guest\" twice: remove one of the two"));
        check("info,debug", Err("`log` has two default levels, \"info\" and \"debug\": remove one of the two"));
    }
}
