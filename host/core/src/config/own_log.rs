//! The form of the lines of daylily's own log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value_error::ValueError;

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// Time, level, target, message and fields, for a person to read.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(ValueError::new(format!("invalid log format {text:?}")).help("write text or json")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, LogTo, Overrides, options, parse};

    fn config(top: &str, overrides: &Overrides) -> Result<Config, String> {
        let text = format!("{top}\n[[route]]\ncomponent = 'a.wasm'\n");
        parse(Path::new("dir/daylily.toml"), &text, overrides).map_err(|errors| errors.to_string())
    }

    #[test]
    fn keys_of_the_log() {
        fn check(top: &str, expected: Result<(LogFormat, LogTo), &str>) {
            let actual = config(top, &Overrides::default()).map(|config| (config.log_format, config.log_to));
            match (&actual, &expected) {
                (Err(actual), Err(expected)) => assert!(actual.contains(expected), "{top}: {actual}"),
                _ => assert_eq!(actual, expected.map_err(str::to_owned), "{top}"),
            }
        }
        check("", Ok((LogFormat::Text, LogTo::Stderr)));
        check("log_format = 'text'\nlog_to = 'stderr'", Ok((LogFormat::Text, LogTo::Stderr)));
        check("log_format = 'json'\nlog_to = 'a.log'", Ok((LogFormat::Json, LogTo::File("dir/a.log".into()))));
        check("log_to = '/var/log/a'", Ok((LogFormat::Text, LogTo::File("/var/log/a".into()))));
        check("log_to = './stdout'", Ok((LogFormat::Text, LogTo::File("dir/./stdout".into()))));
        check("log_format = 'JSON'", Err("invalid log format \"JSON\""));
        check("log_to = 'stdout'", Err("cannot be written to standard output"));
        check("log_to = ''", Err("invalid path of the log \"\""));
        check("log_to = 2", Err("log_to"));
    }

    #[test]
    fn flags_of_the_log() {
        fn check(key: &str, text: &str, expected: Result<(LogFormat, LogTo), &str>) {
            let mut overrides = Overrides::default();
            let row = options::rows().into_iter().find(|row| row.key == key).expect("a row");
            let set = (row.flag.expect("a flag").set)(&mut overrides, text.as_ref());
            let actual = set.map_err(|error| error.to_string()).map(|()| {
                let config = config("log_to = 'other'", &overrides).expect("a valid configuration");
                (config.log_format, config.log_to)
            });
            match (&actual, &expected) {
                (Err(actual), Err(expected)) => assert!(actual.contains(expected), "{text}: {actual}"),
                _ => assert_eq!(actual, expected.map_err(str::to_owned), "{text}"),
            }
        }
        check("log_format", "json", Ok((LogFormat::Json, LogTo::File("dir/other".into()))));
        check("log_format", "xml", Err("write text or json"));
        check("log_to", "stderr", Ok((LogFormat::Text, LogTo::Stderr)));
        check("log_to", "a.log", Ok((LogFormat::Text, LogTo::File("a.log".into()))));
        check("log_to", "stdout", Err("cannot be written to standard output"));
        check("log_to", "", Err("empty"));
    }
}
