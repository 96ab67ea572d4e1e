//! Why daylily does not start, or does not reload: what is said, and with which exit code.

use daylily_core::config::Diagnostics;

use crate::engine::{CacheError, LoadError};

/// Some requests were cut at the end of `shutdown_timeout`, or by a second signal. (sysexits.h: a
/// temporary failure; to try again is the remedy.)
pub(crate) const EXIT_CUT: u8 = 75;

/// Why daylily ends with an exit code other than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Config(#[from] Diagnostics),
    #[error("failed to read the configuration `{path}`: {error}; check the path given with --config")]
    ConfigUnreadable { path: String, error: std::io::Error },
    #[error("{}", lines(.0))]
    Components(Vec<LoadError>),
    #[error("{0}")]
    Cache(#[from] CacheError),
    #[error("failed to listen on {address}: {error}; {remedy}")]
    Listen { address: String, error: std::io::Error, remedy: &'static str },
    #[error("failed to open the control socket `{path}`: {reason}; name another with control (--control)")]
    Control { path: String, reason: String },
    #[error("{text}")]
    Worker { text: String, code: u8 },
    #[error("not all requests were finished in time; cut: {cut}")]
    Cut { cut: u64 },
    #[error("failed to start: {0}")]
    Internal(#[from] std::io::Error),
}

impl Failure {
    /// As sysexits.h numbers them where it has a number.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::ConfigUnreadable { .. } | Self::Cache(_) => 78,
            Self::Components(errors) => errors.first().map_or(65, LoadError::exit_code),
            Self::Listen { .. } | Self::Control { .. } => 69,
            Self::Worker { code, .. } => *code,
            Self::Cut { .. } => EXIT_CUT,
            Self::Internal(_) => 1,
        }
    }
}

fn lines(errors: &[LoadError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
