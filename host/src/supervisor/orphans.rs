//! Reaps children that this process did not start: those of the program that daylily has replaced (a shell's `exec`),
//! and as PID 1 of a container every process whose parent has ended. The kernel keeps an ended child as a zombie until
//! its parent waits for it.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::sync::Mutex;
use std::time::Duration;

use daylily_core::log_target;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use crate::sys::lock::lock;

/// Pids of children that this process started. The code that started them waits for them.
static EXCLUDED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Delay between passes. waitid(2) returns one ended child at a time; when that is a kept one, its owner soon waits for
/// it, and then the next ended child is returned.
const RETRY: Duration = Duration::from_millis(50);

/// Passes while an excluded child has ended and is not waited for, before waiting for the next SIGCHLD.
const RETRIES: u32 = 20;

/// The result of a pass over the ended children.
#[derive(Debug, PartialEq, Eq)]
enum Pass {
    /// No ended child is left.
    Done,
    /// An excluded child has ended, and may hide other ended children.
    Blocked,
}

/// Excludes `child` from [`reap`]: the code that started it waits for it. Must be called on the thread of [`reap`]
/// right after the start, so that the child is never taken for an orphan.
pub(crate) fn exclude(child: &Child) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        lock(&EXCLUDED).insert(pid);
    }
}

/// Reaps orphans as they end, and never an excluded child. Must be polled within a tokio runtime.
///
/// # Errors
///
/// When no handler for SIGCHLD can be installed.
pub(crate) async fn reap() -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    loop {
        for _ in 0..RETRIES {
            if pass() == Pass::Done {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
        if ended.recv().await.is_none() {
            return Ok(());
        }
    }
}

fn pass() -> Pass {
    let mut kept = lock(&EXCLUDED);
    kept.retain(|pid| is_child(*pid));
    while let Some(pid) = ended_child() {
        if kept.contains(&pid.as_raw_nonzero().get()) {
            return Pass::Blocked;
        }
        if waitpid(Some(pid), WaitOptions::NOHANG).is_err() {
            return Pass::Done;
        }
        tracing::debug!(target: log_target::SUPERVISOR, "reaped the orphaned process {pid:?}");
    }
    Pass::Done
}

/// Whether `pid` is a child that has not been waited for yet.
fn is_child(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Pid::from_raw(pid).is_some_and(|pid| waitid(WaitId::Pid(pid), options).is_ok())
}

/// The pid of a child that has ended; it stays a zombie (WNOWAIT). rustix's `waitid` does not return the pid.
#[expect(unsafe_code, reason = "there is no other way to ask for it")]
fn ended_child() -> Option<Pid> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is to a `siginfo_t`, which is what waitid(2) writes.
    let failed = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) } != 0;
    if failed {
        return None;
    }
    // SAFETY: `siginfo_t` consists of integers and pointers, for which all zeros are valid; waitid(2) has written to
    // it, and where no child has ended, `si_pid` is 0 (waitid(2), "WNOHANG").
    Pid::from_raw(unsafe { info.assume_init().si_pid() })
}
