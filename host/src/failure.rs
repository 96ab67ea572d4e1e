//! Why daylily does not start or reload: messages and exit codes.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use daylily_core::ValueError;
use daylily_core::config::Diagnostics;
use daylily_core::units::format_duration;

use crate::artifact::LoadError;
use crate::artifact::cache::CacheError;
use crate::cli::import::ImportError;
use crate::cli::new::NewError;
use crate::net::listen::ListenError;
use crate::storage::command::CommandError;
use crate::storage::dir::StateDirError;
use crate::sys::limits::hint;

/// Requests were cut at the end of `shutdown_timeout`, or by a second signal (EX_TEMPFAIL of sysexits.h: a temporary
/// failure, which may be retried).
pub(crate) const EXIT_CUT: u8 = 75;

/// Why daylily ends with an exit code other than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Config(#[from] Diagnostics),
    #[error("failed to read the configuration `{path}`: {error}; {remedy}")]
    ConfigUnreadable { path: String, error: io::Error, remedy: &'static str },
    #[error("{}", lines(.0))]
    Components(Vec<LoadError>),
    #[error(
        "there is nothing to build: the configuration has no [build]; add one with the command line that builds the \
         components, such as `command = \"npm run build\"`"
    )]
    NothingToBuild,
    #[error("the build failed: `{command}`: {why}")]
    Build { command: String, why: String },
    #[error("{0}")]
    Cache(#[from] CacheError),
    #[error(
        "failed to open the access log `{path}`: {error}; name a file that this user can write in `to` of [access_log]"
    )]
    AccessLog { path: String, error: io::Error },
    #[error("error: {0}")]
    Admin(ValueError),
    #[error(
        "failed to read the token of the admin listener from `{path}`: {error}; name a file that contains the token in \
         `token_file` of [admin]"
    )]
    AdminToken { path: String, error: io::Error },
    #[error(
        "failed to open the log `{path}`: {error}; name a file that this user can write in `log_to` (--log-to), or \
         write \"stderr\""
    )]
    Log { path: String, error: io::Error },
    #[error(transparent)]
    Store(#[from] CommandError),
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("failed to open the control socket `{path}`: {reason}; name another with control (--control)")]
    Control { path: String, reason: String },
    #[error(
        "preparation timed out after {limit}: a file system does not respond, or the components take too long to \
         compile; check the file systems of the configuration, the components and the cache",
        limit = format_duration(*.limit)
    )]
    NotPrepared { limit: Duration },
    #[error("{text}")]
    Worker { text: String, code: u8 },
    #[error(transparent)]
    New(#[from] NewError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("not all requests finished in time; requests cut: {cut}")]
    Cut { cut: u64 },
    #[error("failed to write to standard output: {error}")]
    Output { error: io::Error },
    #[error("failed to start: {0}{hint}", hint = hint(.0))]
    Internal(#[from] io::Error),
    /// All failures that were found.
    #[error("{}", lines(.0))]
    Several(Vec<Failure>),
}

impl Failure {
    /// Combines failures, in the order in which they are to be printed.
    pub(crate) fn all(mut failures: Vec<Self>) -> Self {
        match failures.pop() {
            Some(only) if failures.is_empty() => only,
            Some(last) => {
                failures.push(last);
                Self::Several(failures)
            }
            None => Self::Internal(io::Error::other("unknown error")),
        }
    }

    /// The exit code, from sysexits.h where it has a matching one.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::ConfigUnreadable { .. } | Self::Cache(_) => 78,
            Self::AccessLog { .. } | Self::Log { .. } | Self::Admin(_) | Self::AdminToken { .. } => 78,
            Self::NothingToBuild | Self::StateDir(_) => 78,
            Self::Build { .. } => 70,
            Self::Components(errors) => errors.first().map_or(65, LoadError::exit_code),
            Self::Listen(_) | Self::Control { .. } => 69,
            Self::Worker { code, .. } => *code,
            Self::New(error) => error.exit_code(),
            Self::Import(error) => error.exit_code(),
            Self::Store(error) => error.exit_code(),
            Self::Cut { .. } => EXIT_CUT,
            Self::Output { .. } | Self::Internal(_) | Self::NotPrepared { .. } => 1,
            Self::Several(failures) => failures.first().map_or(1, Self::exit_code),
        }
    }
}

fn lines(errors: &[impl Display]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
