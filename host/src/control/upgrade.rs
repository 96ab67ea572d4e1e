//! A new binary takes over: the supervisor starts it with its sockets, and drains when it is ready.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::parcel;
use super::scoreboard::Counts;
use super::sockets::{Inventory, Sockets};

/// The hidden first word of a command line that succeeds another process.
pub(crate) const SUCCESSOR: &str = "successor";

/// A successor compiles components with its own wasmtime before it is ready, so it gets time.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

const READY: u8 = b'r';

/// The longest last word of a predecessor.
const MAX_REST_BYTES: u64 = 1 << 16;

/// How this program was started, so that a newer one can be started the same way.
#[derive(Clone)]
pub(crate) struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// What a supervisor gets from the one that it succeeds.
pub(crate) struct Inheritance {
    pub(super) sockets: Sockets,
    pub(super) generation: u64,
    pub(super) totals: Totals,
    predecessor: StdUnixStream,
}

/// What goes on counting.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) counts: Counts,
    pub(super) reloads: u64,
    pub(super) reloads_failed: u64,
    pub(super) restarts: u64,
    pub(super) hangs: u64,
}

impl Totals {
    /// What was counted since it was `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            counts: self.counts.since(before.counts),
            reloads: self.reloads.saturating_sub(before.reloads),
            reloads_failed: self.reloads_failed.saturating_sub(before.reloads_failed),
            restarts: self.restarts.saturating_sub(before.restarts),
            hangs: self.hangs.saturating_sub(before.hangs),
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            counts: self.counts + other.counts,
            reloads: self.reloads + other.reloads,
            reloads_failed: self.reloads_failed + other.reloads_failed,
            restarts: self.restarts + other.restarts,
            hangs: self.hangs + other.hangs,
        }
    }
}

/// A successor that is ready to serve alone.
pub(super) struct Successor {
    child: Child,
    channel: StdUnixStream,
    pub(super) pid: u32,
    /// What it was told.
    pub(super) totals: Totals,
}

/// Read by other versions of this program: fields are added, with a default, and not renamed or taken
/// away.
#[derive(Serialize, Deserialize)]
struct Estate {
    inventory: Inventory,
    generation: u64,
    totals: Totals,
}

impl Invocation {
    /// `program` is the first word of the command line; the file may be another by the time that it is
    /// started again, which is the point.
    pub(crate) fn new(program: OsString, arguments: Vec<OsString>) -> Self {
        Self { program: locate(PathBuf::from(program)), arguments }
    }

    /// Starts the program of that name as it is now, and waits until it serves. Cancel safe: it is killed.
    ///
    /// # Errors
    ///
    /// When it does not start, or ends before it is ready, which it gives its own reasons for on stderr.
    pub(super) async fn succeed(&self, sockets: &Sockets, generation: u64, totals: Totals) -> io::Result<Successor> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut command = Command::new(&self.program);
        command.arg(SUCCESSOR).args(&self.arguments).stdin(OwnedFd::from(theirs)).kill_on_drop(true);
        // Those that name a process name this one.
        for variable in ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(variable);
        }
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", self.program.display())))?;
        // Or the end of the successor would not end the connection to it.
        drop(command);
        let pid = child.id().unwrap_or_default();
        let (inventory, descriptors) = sockets.inventory();
        let estate = serde_json::to_vec(&Estate { inventory, generation, totals })?;
        let sent = parcel::send(&ours, &estate, &descriptors);
        ours.set_nonblocking(true)?;
        let mut channel = UnixStream::from_std(ours)?;
        let word = async {
            // A program that is gone already is told below.
            sent?;
            channel.read_u8().await
        };
        match tokio::time::timeout(READY_TIMEOUT, word).await {
            Ok(Ok(READY)) => Ok(Successor { child, channel: channel.into_std()?, pid, totals }),
            Ok(_) => {
                let _ = child.start_kill();
                let status = child.wait().await?;
                Err(io::Error::other(format!("the new program ended before it was ready ({status})")))
            }
            Err(_elapsed) => {
                child.kill().await?;
                Err(io::Error::other(format!("the new program was not ready after {READY_TIMEOUT:?}")))
            }
        }
    }
}

impl Successor {
    /// The last word of this process: what it has counted since it told its successor. The successor
    /// lives on alone.
    pub(super) fn bequeath(self, totals: Totals) {
        let rest = totals.since(self.totals);
        // Or it would be killed.
        std::mem::forget(self.child);
        let sent =
            serde_json::to_vec(&rest).map_err(io::Error::other).and_then(|rest| (&self.channel).write_all(&rest));
        if let Err(error) = sent {
            tracing::warn!("failed to tell process {} what was counted last: {error}", self.pid);
        }
    }
}

impl Inheritance {
    /// Takes over what the predecessor sends through standard input; waits for it.
    ///
    /// # Errors
    ///
    /// When standard input leads to no predecessor, or to one that this program does not understand.
    pub(crate) fn receive() -> io::Result<Self> {
        let predecessor = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (payload, descriptors) = parcel::receive(&predecessor)?;
        let estate: Estate = serde_json::from_slice(&payload)?;
        let sockets = Sockets::from_inventory(estate.inventory, &mut descriptors.into_iter())?;
        Ok(Self { sockets, generation: estate.generation, totals: estate.totals, predecessor })
    }

    /// Tells the predecessor to go: this process serves. Waits until it has gone, which may take its
    /// `shutdown_timeout`, for what it has counted until then.
    ///
    /// # Errors
    ///
    /// When it goes without a word.
    pub(super) async fn take_over(self) -> io::Result<Totals> {
        self.predecessor.set_nonblocking(true)?;
        let mut predecessor = UnixStream::from_std(self.predecessor)?;
        predecessor.write_all(&[READY]).await?;
        let mut rest = Vec::new();
        predecessor.take(MAX_REST_BYTES).read_to_end(&mut rest).await?;
        Ok(serde_json::from_slice(&rest)?)
    }
}

/// The path of the program, whatever the working directory will be. A link stays a link, so that one that
/// leads to a newer version then is followed there.
fn locate(program: PathBuf) -> PathBuf {
    if program.components().count() > 1 {
        return std::path::absolute(&program).unwrap_or(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(&program)).find(|path| path.is_file());
    found.or_else(|| std::env::current_exe().ok()).unwrap_or(program)
}
