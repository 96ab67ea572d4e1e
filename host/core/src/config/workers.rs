use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ValueError;

/// The number of worker processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workers {
    /// Determined by the host from the machine.
    #[default]
    Auto,
    /// This many; from a configuration, at most [`Workers::MAX`].
    Count(NonZeroU32),
}

impl Workers {
    /// More than any machine needs, and few enough that a typing error does not overload the machine.
    pub const MAX: u32 = 256;

    pub(super) fn count(number: u64) -> Option<Self> {
        let number = u32::try_from(number).ok().filter(|number| *number <= Self::MAX)?;
        NonZeroU32::new(number).map(Self::Count)
    }

    /// The error for an invalid number of workers.
    pub(super) fn refused(text: impl fmt::Display) -> ValueError {
        let help = format!("it is \"auto\" or a whole number from 1 to {}", Self::MAX);
        ValueError::new(format!("invalid number of workers {text}")).help(help)
    }
}

impl fmt::Display for Workers {
    /// As written on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

impl FromStr for Workers {
    type Err = ValueError;

    /// Parses `auto` or a count.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().ok().and_then(Self::count).ok_or_else(|| Self::refused(format_args!("{text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers() {
        fn check(text: &str, expected: Result<&str, &str>) {
            let actual = text.parse::<Workers>().map(|workers| workers.to_string()).map_err(|error| error.to_string());
            match (&actual, expected) {
                (Err(actual), Err(expected)) => {
                    assert!(actual.contains(expected), "{text}: {actual}")
                }
                _ => assert_eq!(actual.as_deref().map_err(String::as_str), expected, "{text}"),
            }
        }
        check("auto", Ok("auto"));
        check("1", Ok("1"));
        check("256", Ok("256"));
        check("0", Err("invalid number of workers \"0\": it is \"auto\" or a whole number from 1 to 256"));
        check("257", Err("from 1 to 256"));
        check("99999999999999999999", Err("from 1 to 256"));
        check("-1", Err("from 1 to 256"));
        check("1.5", Err("from 1 to 256"));
        check("", Err("invalid number of workers \"\""));
        check("Auto", Err("it is \"auto\""));
    }

    #[test]
    fn default_is_auto() {
        assert_eq!(Workers::default(), Workers::Auto);
    }
}
