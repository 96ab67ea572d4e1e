use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ValueError;

/// How much to log: this and everything more urgent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
    /// daylily is at fault.
    Error,
    /// A guest is at fault.
    Warn,
    /// What an operator wants to see of a healthy server, and what guests print.
    #[default]
    Info,
    /// A client is at fault, and what happens to each request.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every level, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// As in the configuration.
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
