//! What happens to components with imports that are not provided.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value_error::ValueError;

/// What happens to components with imports that are not provided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissingImports {
    /// They are an error at start.
    #[default]
    Refuse,
    /// They are served. A call of such an import ends the request with a trap.
    Trap,
}

impl fmt::Display for MissingImports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "refuse",
            Self::Trap => "trap",
        })
    }
}

impl FromStr for MissingImports {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "trap" => Ok(Self::Trap),
            _ => Err(ValueError::new(format!("unknown word {text:?} for missing imports")).help(
                "write \"refuse\" (a component that imports what daylily does not provide is an error) or \"trap\" (it is \
                 served, and a call of such an import fails)",
            )),
        }
    }
}
