//! Children that this process did not start: those of the program that it has taken the place of (a shell's `exec`),
//! and as PID 1 of a container every process whose parent has ended. The kernel keeps an ended one as a zombie until it
//! is waited for.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use crate::lock::lock;

/// Children that were started here. They are waited for by those who started them.
static KEPT: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// The kernel shows one ended child at a time. One that is kept is soon waited for; then comes the next.
const RETRY: Duration = Duration::from_millis(50);

/// How often a kept child that nobody waits for is looked at before the next signal of a child is waited for.
const RETRIES: u32 = 20;

/// A pass over the ended children.
#[derive(Debug, PartialEq, Eq)]
enum Pass {
    /// No child that has ended is left.
    Done,
    /// A kept one has ended, and may be in the way of others.
    Blocked,
}

/// Leaves `child` to the one who started it. Called on the thread of [`reap`] right after the start, so that it is
/// never taken for an orphan.
pub(super) fn keep(child: &Child) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        lock(&KEPT).insert(pid);
    }
}

/// Waits for orphans as they end, and never for a child that is kept. Must be polled within a tokio runtime.
///
/// # Errors
///
/// When the system does not let SIGCHLD be handled.
pub(super) async fn reap() -> io::Result<()> {
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
    let mut kept = lock(&KEPT);
    kept.retain(|pid| is_child(*pid));
    while let Some(pid) = ended_child() {
        if kept.contains(&pid.as_raw_nonzero().get()) {
            return Pass::Blocked;
        }
        if waitpid(Some(pid), WaitOptions::NOHANG).is_err() {
            return Pass::Done;
        }
        tracing::debug!("reaped the orphaned process {pid:?}");
    }
    Pass::Done
}

/// Whether it has not been waited for yet.
fn is_child(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Pid::from_raw(pid).is_some_and(|pid| waitid(WaitId::Pid(pid), options).is_ok())
}

/// A child that has ended, without waiting for it. (rustix does not say which one it is.)
#[expect(unsafe_code, reason = "there is no other way to ask for it")]
fn ended_child() -> Option<Pid> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is to memory of the type that waitid(2) writes to.
    let failed = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) } != 0;
    if failed {
        return None;
    }
    // SAFETY: it consists of integers and pointers, for which zeros are values; waitid(2) has written to it, and where no
    // child has ended, the number of the process is 0 (waitid(2), "WNOHANG").
    Pid::from_raw(unsafe { info.assume_init().si_pid() })
}
