//! `daylily build`: runs the command once, in the foreground.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitStatus};

use daylily_core::config::{Build, Config};

use super::SHELL;
use crate::failure::Failure;

/// Runs the command of `[build]` in the terminal of this process, and checks that it has made the components.
///
/// # Errors
///
/// When there is no command, or it fails, or a component of a route does not exist afterwards.
pub(crate) fn build(config: &Config) -> Result<(), Failure> {
    let Some(build) = &config.build else {
        return Err(Failure::NothingToBuild);
    };
    // Ignore errors: the command itself may have no use for a terminal.
    let _ = writeln!(io::stderr(), "building: {}", build.command);
    let mut command = Command::new(SHELL);
    command.arg("-c").arg(&build.command).current_dir(directory(build));
    let status =
        command.status().map_err(|error| failed(&build.command, &format!("{SHELL} did not start: {error}")))?;
    if !status.success() {
        return Err(failed(&build.command, &ended(status)));
    }
    let missing: Vec<String> = config.component_files().filter(|path| !path.exists()).map(shown).collect();
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        let why = format!("it made no {missing}, which the configuration names as a component: correct one of the two");
        return Err(failed(&build.command, &why));
    }
    Ok(())
}

/// The directory in which the commands of a configuration run.
pub(super) fn directory(build: &Build) -> &Path {
    if build.dir.as_os_str().is_empty() { Path::new(".") } else { &build.dir }
}

/// How a command has ended, as in "exit code 1".
pub(super) fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}

fn failed(command: &str, why: &str) -> Failure {
    Failure::Build { command: command.to_owned(), why: why.to_owned() }
}
