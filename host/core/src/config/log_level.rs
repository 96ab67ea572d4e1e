use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ValueError;

/// The log level: lines of this level and of more urgent ones are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
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
    /// Every level, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// As written in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or_else(|| {
            ValueError::new(format!("invalid log level {text:?}")).help("it is error, warn, info, debug or trace")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        fn check(text: &str, expected: Option<LogLevel>) {
            assert_eq!(text.parse::<LogLevel>().ok(), expected, "{text}");
        }
        for level in LogLevel::ALL {
            check(level.as_str(), Some(level));
        }
        check("INFO", None);
        check("warning", None);
        check("", None);
    }
}
