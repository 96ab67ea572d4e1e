//! The process between `daylily dev` and a build. It ends what the build has started: when its command has ended, when
//! `daylily dev` wants it, and when `daylily dev` was killed.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, test_kill_process_group, waitpgid,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::SHELL;
use crate::sys::runtime;

/// The first argument of the guard's command line; only daylily itself starts guards. The command line of the build
/// follows.
pub(crate) const BUILD_GUARD: &str = "build-guard";

/// How long the processes of a build may take to end after SIGTERM, before SIGKILL.
const TERMINATE_PATIENCE: Duration = Duration::from_secs(2);

/// Interval of checks whether processes of a build are left.
const CHECK: Duration = Duration::from_millis(10);

/// Exit code of a guard that could not start the build, as shells have it.
const NOT_STARTED: u8 = 126;

/// Runs a guard to its end. Its exit code is that of the build.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let (Some(command), true) = (arguments.first(), has_pipe()) else {
        let _ = writeln!(io::stderr(), "this command is internal: `daylily dev` runs builds with it");
        return ExitCode::from(2);
    };
    match runtime::run(run(command)) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{SHELL} did not start: {error}");
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// Whether standard input is the pipe that ends with `daylily dev`.
fn has_pipe() -> bool {
    fstat(io::stdin()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

async fn run(command: &OsString) -> io::Result<ExitCode> {
    // So that processes whose parents have ended are this one's children.
    let _ = set_child_subreaper(Some(getpid()));
    // A signal to all processes of a session ends the build, and then this process ends by itself.
    let _survived = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let pipe: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let mut pipe = Receiver::from_owned_fd(pipe)?;
    let mut child = Command::new(SHELL).arg("-c").arg(command).stdin(Stdio::null()).process_group(0).spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let status = tokio::select! {
        status = child.wait() => Some(status?),
        // Nothing is ever written to it.
        _ = pipe.read_u8() => None,
    };
    if let Some(group) = group {
        end(group, &mut child).await;
    }
    Ok(status.map_or(ExitCode::FAILURE, exit_code))
}

/// Ends all processes of a group.
async fn end(group: Pid, child: &mut Child) {
    let _ = kill_process_group(group, Signal::TERM);
    let deadline = Instant::now() + TERMINATE_PATIENCE;
    while Instant::now() < deadline {
        // Ended processes that nothing has waited for count as processes of the group.
        let _ = child.try_wait();
        while let Ok(Some(_)) = waitpgid(group, WaitOptions::NOHANG) {}
        if test_kill_process_group(group) == Err(Errno::SRCH) {
            return;
        }
        tokio::time::sleep(CHECK).await;
    }
    let _ = kill_process_group(group, Signal::KILL);
}

/// The exit code by which shells tell how a command has ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
