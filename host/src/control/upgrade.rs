//! A new binary takes over: the supervisor starts it with its sockets, and drains when it is ready.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::account::Totals;
use super::sockets::{Inventory, Sockets};
use super::{orphans, parcel};

/// The hidden first word of a command line that succeeds another process.
pub(crate) const SUCCESSOR: &str = "successor";

/// A successor compiles components with its own wasmtime before it is ready, so it gets time.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

const READY: u8 = b'r';

/// The longest word of a predecessor, and how long one waits for the first.
const MAX_LINE_BYTES: u64 = 1 << 16;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How this program was started, so that a newer one can be started the same way.
#[derive(Clone)]
pub(crate) struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// What a supervisor gets from the one that it succeeds.
pub(crate) struct Inheritance {
    pub(super) sockets: Sockets,
    pub(super) legacy: Legacy,
    predecessor: StdUnixStream,
}

/// A successor that is ready to serve alone.
pub(super) struct Successor {
    child: Child,
    channel: StdUnixStream,
    pub(super) pid: u32,
}

/// Read by other versions of this program: fields are added, with a default, and not renamed or taken
/// away.
#[derive(Serialize, Deserialize)]
pub(super) struct Estate {
    pub(super) inventory: Inventory,
    #[serde(flatten)]
    legacy: Legacy,
}

/// What goes on over an upgrade, beside the sockets. A part of [`Estate`].
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Legacy {
    /// The number of the latest generation.
    pub(super) generation: u64,
    pub(super) totals: Totals,
    /// The configuration file was found without being named, and is required since.
    #[serde(default)]
    pub(super) config_was_found: bool,
}

/// The process group of a program that is not ready yet: all that it has started goes with it, or its sockets would be
/// kept open there. Dropping it kills them.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        // It fails only where all have gone.
        let _ = self.0.map(|leader| kill_process_group(leader, Signal::KILL));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
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
    pub(super) async fn succeed(&self, sockets: &Sockets, legacy: Legacy) -> io::Result<Successor> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut command = Command::new(&self.program);
        command.arg(SUCCESSOR).args(&self.arguments).stdin(OwnedFd::from(theirs)).process_group(0).kill_on_drop(true);
        // Those that name a process name this one.
        for variable in ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(variable);
        }
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", self.program.display())))?;
        // Or the end of the successor would not end the connection to it.
        drop(command);
        orphans::keep(&child);
        let pid = child.id().unwrap_or_default();
        let mut group = Group(i32::try_from(pid).ok().and_then(Pid::from_raw));
        let (inventory, descriptors) = sockets.inventory();
        let estate = serde_json::to_vec(&Estate { inventory, legacy })?;
        let sent = parcel::send(&ours, &estate, &descriptors);
        ours.set_nonblocking(true)?;
        let mut channel = UnixStream::from_std(ours)?;
        let word = async {
            // A program that is gone already is told below.
            sent?;
            channel.read_u8().await
        };
        match tokio::time::timeout(READY_TIMEOUT, word).await {
            Ok(Ok(READY)) => {
                group.0 = None;
                Ok(Successor { child, channel: channel.into_std()?, pid })
            }
            Ok(_) => {
                group.kill();
                let status = child.wait().await?;
                Err(io::Error::other(format!("the new program ended before it was ready ({status})")))
            }
            Err(_elapsed) => {
                group.kill();
                child.wait().await?;
                Err(io::Error::other(format!("the new program was not ready after {READY_TIMEOUT:?}")))
            }
        }
    }
}

impl Successor {
    /// Tells it what was counted until now: when it takes over, and at the end.
    pub(super) fn tell(&self, totals: Totals) {
        let line = serde_json::to_string(&totals).map_err(io::Error::other).map(|line| line + "\n");
        if let Err(error) = line.and_then(|line| (&self.channel).write_all(line.as_bytes())) {
            tracing::warn!("failed to send the counters to process {}: {error}", self.pid);
        }
    }

    /// Lets it live on when this process ends.
    pub(super) fn release(self) {
        std::mem::forget(self.child);
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
        Ok(Self { sockets, legacy: estate.legacy, predecessor })
    }

    /// Tells the predecessor to go: this process serves. Gives what was counted until now; the predecessor
    /// answers nobody any more.
    ///
    /// # Errors
    ///
    /// When it goes without a word.
    pub(super) async fn take_over(self) -> io::Result<(Totals, Predecessor)> {
        self.predecessor.set_nonblocking(true)?;
        let mut predecessor = BufReader::new(UnixStream::from_std(self.predecessor)?);
        predecessor.write_all(&[READY]).await?;
        let mut predecessor = Predecessor(predecessor);
        let totals = tokio::time::timeout(ANSWER_TIMEOUT, predecessor.totals()).await??;
        Ok((totals, predecessor))
    }
}

/// The process that this one succeeds, while it drains.
pub(super) struct Predecessor(BufReader<UnixStream>);

impl Predecessor {
    /// What it counts until its end; waits for that, which may take its `shutdown_timeout`.
    ///
    /// # Errors
    ///
    /// When it goes without a word.
    pub(super) async fn totals(&mut self) -> io::Result<Totals> {
        let mut line = String::new();
        (&mut self.0).take(MAX_LINE_BYTES).read_line(&mut line).await?;
        Ok(serde_json::from_str(&line)?)
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
