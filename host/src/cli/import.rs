//! `daylily import`: makes a configuration of the manifest of a Spin application.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use daylily_core::ValueError;
use daylily_core::config::{self, Diagnostics, Overrides, Placeholders};
use daylily_core::spin;

use crate::sys::read_file::{MAX_CONFIG_BYTES, read_text};

/// What to import.
#[derive(Args, Debug)]
pub(crate) struct ImportArguments {
    /// Manifest of a Spin application
    #[arg(value_name = "spin.toml")]
    manifest: PathBuf,
    /// Configuration file to write [default: `daylily.toml` beside the manifest]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Why no configuration was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("failed to read the manifest `{path}`: {error}; name the spin.toml of an application")]
    Unreadable { path: String, error: io::Error },
    #[error("failed to import `{path}`: {error}")]
    Refused { path: String, error: ValueError },
    #[error("failed to import `{path}`: something in it is not valid in a configuration:\n{error}")]
    Invalid { path: String, error: Diagnostics },
    #[error("`{path}` exists, and is left as it is; remove it, or name another file with --output")]
    Exists { path: String },
    #[error("failed to write `{path}`: {error}; name another file with --output")]
    NotWritten { path: String, error: io::Error },
}

impl ImportError {
    /// The exit code, from sysexits.h: EX_DATAERR, EX_NOINPUT and EX_CANTCREAT.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::Invalid { .. } => 65,
            Self::Unreadable { .. } => 66,
            Self::Exists { .. } | Self::NotWritten { .. } => 73,
        }
    }
}

/// Writes the configuration, and returns what to print: where it is, and what has no counterpart.
///
/// # Errors
///
/// When the manifest cannot be read or converted, or the file exists or cannot be written.
pub(crate) fn run(arguments: &ImportArguments) -> Result<String, ImportError> {
    let path = || arguments.manifest.display().to_string();
    let text = read_text(&arguments.manifest, MAX_CONFIG_BYTES)
        .map_err(|error| ImportError::Unreadable { path: path(), error })?;
    let made = spin::convert(&text).map_err(|error| ImportError::Refused { path: path(), error })?;
    config::parse_in(&Placeholders, Path::new("daylily.toml"), &made.config, &Overrides::default())
        .map_err(|error| ImportError::Invalid { path: path(), error })?;
    let beside = || arguments.manifest.with_file_name("daylily.toml");
    let output = arguments.output.clone().unwrap_or_else(beside);
    write(&output, &made.config)?;
    let mut report = format!("Wrote {}", output.display());
    if made.notes.is_empty() {
        report += ": it has all of the manifest.\n";
    } else {
        report += ". These differ:\n";
        made.notes.iter().for_each(|note| report += &format!("- {note}\n"));
    }
    Ok(report
        + "\nNext: `daylily check` says whether the components can be served, and `daylily dev` builds and serves them.\n")
}

fn write(output: &Path, text: &str) -> Result<(), ImportError> {
    let path = || output.display().to_string();
    let mut file = fs::File::create_new(output).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => ImportError::Exists { path: path() },
        _ => ImportError::NotWritten { path: path(), error },
    })?;
    file.write_all(text.as_bytes()).map_err(|error| {
        // A part of a configuration would be taken for the whole.
        let _ = fs::remove_file(output);
        ImportError::NotWritten { path: path(), error }
    })
}
