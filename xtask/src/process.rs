//! Child processes that end when their handle is dropped, and the resource use of their process trees.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process and its children. Dropping it ends all of them.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

/// One process, as in `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: i32,
    parent: i32,
    /// User and system time in clock ticks.
    ticks: u64,
    /// The start time, which distinguishes it from a later process with the same pid.
    started: u64,
}

impl Running {
    /// Starts `command` with its output redirected to the file `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = fs::File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("failed to start {}", command.get_program().display()))?;
        Ok(Self { child, log })
    }

    /// Its output so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// # Errors
    ///
    /// When it has ended; the error contains its output.
    pub(crate) fn is_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the process ended ({status}): {}", self.output().trim()),
        }
    }

    /// Waits until `text` is in its output.
    ///
    /// # Errors
    ///
    /// When it ends before, or takes longer than `limit`; the error contains its output.
    pub(crate) fn prints(&mut self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.output().contains(text) {
            self.is_running()?;
            if Instant::now() > deadline {
                bail!("it did not print {text:?} within {limit:?}: {}", self.output().trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends a signal to the process, and not to its children.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = self.tree().first() {
            self::signal(process, signal);
        }
    }

    /// CPU time that the tree has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let ticks: u64 = self.tree().iter().map(|process| process.ticks).sum();
        Duration::from_nanos(ticks.saturating_mul(1_000_000_000) / rustix::param::clock_ticks_per_second().max(1))
    }

    /// Memory of the tree in KiB; what is shared by several processes is split between them (PSS).
    pub(crate) fn pss_kib(&self) -> u64 {
        self.tree().iter().map(|process| pss_kib(process.pid).unwrap_or(0)).sum()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(&mut self) -> Option<ExitStatus> {
        self.stop_within(PATIENCE)
    }

    /// Sends SIGTERM, waits for up to `patience`, and kills what is left of the tree.
    pub(crate) fn stop_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut status = None;
        stop(&self.tree(), patience, || status = status.or(self.child.try_wait().ok().flatten()));
        status.or(self.child.wait().ok())
    }

    fn tree(&self) -> Vec<Stat> {
        let root = i32::try_from(self.child.id()).unwrap_or(0);
        tree(root, &all())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A process that another one has started.
pub(crate) struct Foreign(Stat);

impl Foreign {
    /// The process with this pid, if there is one.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(Self)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self::signal(&self.0, signal);
    }

    /// Ends it and its children, with SIGTERM first.
    pub(crate) fn stop(&self) {
        stop(&tree(self.0.pid, &all()), PATIENCE, || ());
    }
}

/// Sends SIGTERM to the first process of a tree, waits for up to `patience` until all have ended, and kills what is left.
/// Calls `look` meanwhile.
fn stop(tree: &[Stat], patience: Duration, mut look: impl FnMut()) {
    if let Some(root) = tree.first() {
        signal(root, Signal::TERM);
    }
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && tree.iter().any(is_there) {
        look();
        std::thread::sleep(Duration::from_millis(5));
    }
    for process in tree.iter().filter(|process| is_there(process)) {
        signal(process, Signal::KILL);
    }
}

/// Runs `command` to its end, for at most `limit`, and returns its standard output.
///
/// # Errors
///
/// When it cannot be started, fails, or takes too long; the error contains its output.
pub(crate) fn run(command: Command, limit: Duration, log: &Path) -> Result<String> {
    let name = command.get_program().display().to_string();
    let mut running = Running::start(command, log.to_path_buf())?;
    let deadline = Instant::now() + limit;
    loop {
        match running.child.try_wait()? {
            Some(status) if status.success() => return Ok(running.output()),
            Some(status) => bail!("{name} failed ({status}): {}", running.output().trim()),
            None if Instant::now() > deadline => bail!("{name} took longer than {limit:?}"),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Removes the user's settings for daylily and for debugging from a command's environment, so that they do not change
/// what is measured.
pub(crate) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("DAYLILY_") || ["RUST_LOG", "RUST_BACKTRACE"].contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
}

/// The file of `program` in PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The file of a program that a command needs: in the directory that the variable `dir` names, else in PATH.
///
/// # Errors
///
/// When it is in neither; the error names the Debian package that has it.
pub(crate) fn needed(program: &str, dir: &str, package: &str) -> Result<PathBuf> {
    let (found, place) = match std::env::var_os(dir).map(PathBuf::from) {
        Some(named) => {
            (Some(named.join(program)).filter(|file| file.is_file()), format!("in {dir}={}", named.display()))
        }
        None => (find(program), "on the path".to_owned()),
    };
    found.with_context(|| {
        format!(
            "{program} is not {place}; it is in Debian's and Ubuntu's package {package}. {dir} can be the directory"
        )
    })
}

fn signal(process: &Stat, signal: Signal) {
    if let (true, Some(pid)) = (is_there(process), Pid::from_raw(process.pid)) {
        // Ignore errors: it may have just ended.
        let _ = kill_process(pid, signal);
    }
}

fn is_there(process: &Stat) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{}/stat", process.pid)) else {
        return false;
    };
    let is_zombie = text.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'));
    !is_zombie && parse_stat(&text).is_some_and(|now| now.started == process.started)
}

fn all() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// `root` and all its descendants, parents first.
fn tree(root: i32, all: &[Stat]) -> Vec<Stat> {
    let mut children: HashMap<i32, Vec<Stat>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut found: Vec<Stat> = all.iter().filter(|process| process.pid == root).copied().collect();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children.remove(&process.pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Parses `/proc/PID/stat`. The name in parentheses may contain anything, so fields are counted from the last
/// parenthesis.
fn parse_stat(text: &str) -> Option<Stat> {
    let pid = text.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat { pid, parent: fields.get(1)?.parse().ok()?, ticks: number(11)? + number(12)?, started: number(19)? })
}

fn pss_kib(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{Running, Stat, parse_stat, run, tree};
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name_is() {
        let text =
            "42 (a) b (c)) S 7 42 42 0 -1 4194304 1 0 0 0 100 23 5 6 20 0 3 0 987654 1 2 18446744073709551615 1 1 0";
        assert_eq!(parse_stat(text), Some(Stat { pid: 42, parent: 7, ticks: 123, started: 987_654 }));
    }

    #[test]
    fn a_tree_is_the_root_and_all_below() {
        let process = |pid, parent| Stat { pid, parent, ticks: 0, started: 0 };
        let all = [process(4, 3), process(1, 0), process(3, 2), process(2, 1), process(9, 1)];
        assert_eq!(tree(2, &all).iter().map(|p| p.pid).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn dropping_ends_the_children_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 60 & sleep 60"]);
        let mut running = Running::start(command, dir.path().join("log")).unwrap();
        while running.tree().len() < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let before = running.tree();
        running.stop_within(Duration::from_millis(50));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!before.iter().any(super::is_there));
    }

    #[test]
    fn what_takes_too_long_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let error = run(command, Duration::from_millis(20), &dir.path().join("log")).unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
    }
}
