//! Runs `daylily` commands and returns their output and exit code.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::setup::{binary, cache_dir, write_files};
use super::{Log, Turn, eventually};

const END: Duration = Duration::from_secs(120);

/// The result of a run. In both texts, the path of the directory is replaced with `DIR`.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Fails unless the exit code is `code` and stderr contains all of `parts`.
    #[track_caller]
    pub fn expect(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in stderr:\n{}", self.stderr);
        }
        self
    }
}

/// Runs `daylily ARGUMENTS` in an empty directory with an empty environment.
#[track_caller]
pub fn run(arguments: &[&str]) -> Finished {
    run_in(&[], &[], arguments)
}

/// As [`run`], in a directory with `files` and with an environment. Fails if the command does not end.
#[track_caller]
pub fn run_in(files: &[(&str, &[u8])], environment: &[(&str, &str)], arguments: &[&str]) -> Finished {
    let _turn = Turn::shared();
    let directory = TempDir::with_prefix("daylily-e2e-").expect("a temporary directory");
    let files: Vec<_> = files.iter().map(|&(path, contents)| (PathBuf::from(path), contents.to_vec())).collect();
    write_files(directory.path(), &files);
    let mut command = Command::new(binary());
    command.args(arguments).env_clear().env("XDG_CACHE_HOME", cache_dir()).envs(environment.iter().copied());
    finish(&mut command, directory.path())
}

/// As [`run`], in the test's own directory.
#[track_caller]
pub fn run_at(directory: &Path, arguments: &[&str]) -> Finished {
    let _turn = Turn::shared();
    let mut command = Command::new(binary());
    finish(command.args(arguments).env_clear().env("XDG_CACHE_HOME", cache_dir()), directory)
}

/// Runs `command` in `directory`. Fails if it does not end.
#[track_caller]
pub(super) fn finish(command: &mut Command, directory: &Path) -> Finished {
    let mut child = command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary under test");
    let stdout = Log::collect(child.stdout.take().expect("a pipe"));
    let stderr = Log::collect(child.stderr.take().expect("a pipe"));
    let mut status = None;
    let ended = eventually(END, || {
        status = child.try_wait().expect("a child to ask");
        status.is_some()
    });
    if !ended {
        child.kill().expect("a child to end");
        child.wait().expect("a child that ended");
        panic!("{command:?} does not end; stdout: {} stderr: {}", stdout.tail(), stderr.tail());
    }
    let code = status.and_then(|status| status.code()).expect("an exit code, not a signal");
    let clean = |log: &Log| without_path(&log.to_end(), directory);
    Finished { code, stdout: clean(&stdout), stderr: clean(&stderr) }
}

fn without_path(text: &str, directory: &Path) -> String {
    let canonical = directory.canonicalize().expect("a directory");
    text.replace(&canonical.display().to_string(), "DIR").replace(&directory.display().to_string(), "DIR")
}
