//! Builds the guests, which are a separate cargo workspace, as WebAssembly components.
//!
//! The host's build script, its end-to-end tests and `cargo xtask guests` all build guests through [`build`], so a
//! fresh checkout needs nothing but cargo: a missing `wasm32-wasip2` target is added. This crate has no dependencies,
//! because every other crate waits for it.

mod environment;
mod target;

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// The target of guests. rustc's linker for it writes components, not core modules.
pub const TARGET: &str = "wasm32-wasip2";

/// Why the guests could not be built. Every message has a remedy.
#[derive(Debug)]
pub enum BuildError {
    /// A program could not be started.
    Spawn {
        /// The program, as it was looked up.
        program: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The compiler did not report where it keeps the target's libraries.
    Compiler {
        /// What the compiler wrote to stderr.
        stderr: String,
    },
    /// The target is not installed, and could not be added.
    Target {
        /// Why adding it failed.
        reason: String,
    },
    /// cargo reported an error, with its message on stderr.
    Cargo {
        /// The exit status of cargo.
        status: ExitStatus,
    },
    /// A file or directory could not be read or written.
    File {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn { program, source } => {
                write!(f, "could not run {}: {source}; is it installed, and on PATH?", program.display())
            }
            Self::Compiler { stderr } => write!(
                f,
                "the compiler does not know the target {TARGET}: {}; a Rust of 1.82 or newer does",
                stderr.trim()
            ),
            Self::Target { reason } => write!(
                f,
                "the target {TARGET}, which guests are compiled for, is not installed, and adding it failed: {reason}\n\
                 to fix it, do one of these:\n\
                 - run `rustup target add {TARGET}`\n\
                 - install your distribution's package with Rust's standard library for {TARGET}\n\
                 - set DAYLILY_HELLO_WASM to the path of a component to build in, and build no guest"
            ),
            Self::Cargo { status } => {
                write!(f, "cargo could not build the guests ({status}); its messages are above")
            }
            Self::File { path, source } => write!(f, "could not use {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for BuildError {}

/// Builds `packages` of the guest workspace (all of them when empty) in the release profile, and returns the directory
/// of the components: package `a-b` is the file `a_b.wasm` in it.
///
/// cargo's progress and every notice are written to stderr. Concurrent calls are safe: the later ones wait for the
/// first.
///
/// # Errors
/// See [`BuildError`].
pub fn build(packages: &[&str]) -> Result<PathBuf, BuildError> {
    build_with(packages, &mut |notice| {
        // An error means that stderr is closed.
        let _ = writeln!(io::stderr(), "{notice}");
    })
}

/// [`build`], with notices passed to `notify` instead of written to stderr. A notice says that the target is being
/// added, which may take a minute without other output.
///
/// # Errors
/// See [`BuildError`].
pub fn build_with(packages: &[&str], notify: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    let guests = guest_workspace();
    let target_dir = guests.join("target");
    target::ensure(&guests, &target_dir, notify)?;

    let mut cargo = environment::command(environment::tool("CARGO", "cargo"), &guests);
    cargo.args(["build", "--release", "--locked", "--target", TARGET]);
    cargo.arg("--manifest-path").arg(guests.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(&target_dir);
    if packages.is_empty() {
        cargo.arg("--workspace");
    }
    for package in packages {
        cargo.args(["--package", package]);
    }
    // The outer cargo parses the stdout of a build script, so write to stderr.
    cargo.stdin(Stdio::null()).stdout(io::stderr());
    let status = cargo.status().map_err(|source| spawn_error(&cargo, source))?;
    if status.success() { Ok(target_dir.join(TARGET).join("release")) } else { Err(BuildError::Cargo { status }) }
}

/// The guest workspace, beside the host's directory.
fn guest_workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Without `..`, because the path appears in messages.
    here.ancestors().nth(2).unwrap_or(here).join("guest")
}

fn spawn_error(command: &Command, source: io::Error) -> BuildError {
    BuildError::Spawn { program: command.get_program().into(), source }
}

#[cfg(test)]
mod tests {
    use super::{BuildError, guest_workspace};

    #[test]
    fn the_guest_workspace_is_where_it_is_looked_for() {
        assert!(guest_workspace().join("Cargo.lock").is_file(), "{}", guest_workspace().display());
    }

    #[test]
    fn a_missing_target_names_every_way_out() {
        let text = BuildError::Target { reason: "rustup was not found".into() }.to_string();
        for remedy in ["rustup target add wasm32-wasip2", "distribution", "DAYLILY_HELLO_WASM", "rustup was not found"]
        {
            assert!(text.contains(remedy), "{text:?} does not name {remedy:?}");
        }
    }
}
