//! Where a log goes: the access log, and daylily's own.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a log is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogTo {
    /// Standard output. daylily's own log does not go there: it has the access log and the line `Server running at …`.
    Stdout,
    /// Standard error.
    #[default]
    Stderr,
    /// A file, to which is appended.
    File(#[serde(with = "crate::os_path")] PathBuf),
}

impl LogTo {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Stdout | Self::Stderr => None,
        }
    }
}

impl fmt::Display for LogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::Stderr => f.write_str("standard error"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}
