//! One worker process, as its supervisor sees it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daylily_core::config::Workers;
use rustix::net::SendFlags;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::order::{CLOSED, FAILED, Order, READY};
use super::pace::Pace;
use super::scoreboard::{Lease, Scoreboard, Slot};
use super::sockets::Sockets;
use super::{Share, handover, orphans};
use crate::lock::lock;
use crate::prepare::Prepared;
use crate::system;

/// The longest reason for a failure that is read from a worker.
const MAX_REASON_BYTES: u64 = 1 << 20;

/// As many as a number of workers may be that somebody writes.
const MAX_AUTO_WORKERS: u32 = 256;

/// How often a worker of one generation is replaced because its file calls do not return: one at a time, and not often.
/// The next one meets the same file systems.
const RELIEVE_EVERY: Duration = Duration::from_secs(60);

/// Variables that systemd sets for the supervisor alone.
const NOT_INHERITED: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// What the workers of one generation are started with.
pub(super) struct Launch {
    pub(super) generation: u64,
    pub(super) workers: u32,
    pub(super) prepared: Arc<Prepared>,
    sockets: Mutex<Sockets>,
    pub(super) scoreboard: Arc<Scoreboard>,
    /// Workers that are not there, or do not respond: the others accept on their sockets.
    pub(super) absent: watch::Sender<BTreeSet<u32>>,
    /// How often workers whose file calls do not return are replaced.
    pub(super) relief: Pace,
}

/// A worker that is ready. Dropping it kills it, so that what was started is never left alone.
pub(super) struct WorkerProcess {
    child: Child,
    channel: UnixStream,
    lease: Lease,
    pub(super) pid: u32,
    pub(super) ready_at: Instant,
    has_closed: bool,
}

/// What happens to a worker.
pub(super) enum Event {
    /// It accepts no more.
    Closed,
    Ended(io::Result<ExitStatus>),
}

/// Why a worker does not serve.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("failed to start a worker: {0}{hint}", hint = system::hint(.0))]
    System(#[from] io::Error),
    #[error("failed to start a worker: {limit} workers are running or draining; wait until some have ended")]
    TooMany { limit: u32 },
    #[error("a worker was not ready after start_timeout = {0:?}")]
    TimedOut(Duration),
    #[error("a worker ended before it was ready ({0})")]
    Died(ExitStatus),
    /// It said so itself.
    #[error("{reason}")]
    Refused { reason: String, exit_code: u8 },
}

impl Launch {
    pub(super) fn new(generation: u64, prepared: Arc<Prepared>, sockets: Sockets, scoreboard: Arc<Scoreboard>) -> Self {
        let workers = workers(prepared.config.workers);
        Self {
            generation,
            workers,
            prepared,
            sockets: Mutex::new(sockets),
            scoreboard,
            absent: watch::Sender::default(),
            relief: Pace::new(RELIEVE_EVERY),
        }
    }

    /// The sockets that the workers accept on; none once they have been closed.
    pub(super) fn sockets(&self) -> Sockets {
        lock(&self.sockets).clone()
    }

    /// No worker is started any more. Those that run have the sockets still.
    pub(super) fn close_sockets(&self) {
        drop(std::mem::take(&mut *lock(&self.sockets)));
    }
}

/// How many workers that is on this machine.
pub(super) fn workers(workers: Workers) -> u32 {
    match workers {
        Workers::Count(count) => count.get(),
        // What this process may use: also less than the machine has.
        Workers::Auto => {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            u32::try_from(cores).unwrap_or(u32::MAX).min(MAX_AUTO_WORKERS)
        }
    }
}

impl WorkerProcess {
    /// Starts a worker and waits until it is ready to accept connections. Cancel safe: a worker that is not ready
    /// by then is killed.
    pub(super) async fn start(launch: &Launch, worker: u32) -> Result<Self, StartError> {
        let lease = launch.scoreboard.lease();
        let lease = lease.ok_or(StartError::TooMany { limit: launch.scoreboard.slots() })?;
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut child = spawn(worker, theirs)?;
        let pid = child.id().unwrap_or_default();
        let share = Share { generation: launch.generation, worker };
        let sent = handover::send(&ours, share, launch.workers, &launch.prepared, &launch.sockets(), &lease);
        ours.set_nonblocking(true)?;
        let mut channel = UnixStream::from_std(ours)?;
        let limit = launch.prepared.config.server.start_timeout;
        let word = async {
            // A worker that is gone already is told below.
            sent?;
            first_word(&mut channel).await
        };
        let word = timeout(limit, word).await;
        match word {
            Ok(Ok(Ok(()))) => {
                return Ok(Self { child, channel, lease, pid, ready_at: Instant::now(), has_closed: false });
            }
            Ok(Ok(Err(refused))) => {
                let _ = child.wait().await;
                return Err(refused);
            }
            // It is gone without a word, or about to be.
            Ok(Err(_)) => {
                if let Ok(status) = timeout(limit, child.wait()).await {
                    return Err(StartError::Died(status?));
                }
            }
            Err(_elapsed) => {}
        }
        child.kill().await?;
        Err(StartError::TimedOut(limit))
    }

    /// Tells it to do something. When it is gone already, its end says so.
    pub(super) fn order(&self, order: &Order) {
        // Orders are small and few: one for which there is no room goes to a worker that has hung.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if let Err(error) = rustix::net::send(&self.channel, &order.to_bytes(), flags) {
            tracing::debug!("failed to send a command to the worker with pid {}: {error}", self.pid);
        }
    }

    /// Waits for what happens next. Cancel safe.
    pub(super) async fn event(&mut self) -> Event {
        tokio::select! {
            biased;
            status = self.child.wait() => Event::Ended(status),
            // The end of the channel says it as well.
            word = self.channel.read_u8(), if !self.has_closed => {
                self.has_closed = word.map_or(true, |word| word == CLOSED);
                Event::Closed
            }
        }
    }

    /// Kills it, and waits until it is gone.
    pub(super) async fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.start_kill()?;
        self.child.wait().await
    }

    pub(super) fn slot(&self) -> &'static Slot {
        self.lease.slot()
    }
}

fn spawn(worker: u32, channel: StdUnixStream) -> io::Result<Child> {
    let mut command = Command::new(own_program()?);
    command
        .arg0("daylily")
        .args(["worker", &worker.to_string()])
        .stdin(OwnedFd::from(channel))
        .stdout(Stdio::null())
        .kill_on_drop(true);
    for variable in NOT_INHERITED {
        command.env_remove(variable);
    }
    let child = command.spawn().map_err(system::without_proc)?;
    orphans::keep(&child);
    Ok(child)
}

/// The file that this process runs, also when another has taken its name since.
fn own_program() -> io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// Ready, or the reason why not.
async fn first_word(channel: &mut UnixStream) -> io::Result<Result<(), StartError>> {
    let word = channel.read_u8().await?;
    if word == READY {
        return Ok(Ok(()));
    }
    if word != FAILED {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let exit_code = channel.read_u8().await?;
    let mut reason = Vec::new();
    channel.take(MAX_REASON_BYTES).read_to_end(&mut reason).await?;
    Ok(Err(StartError::Refused { reason: String::from_utf8_lossy(&reason).into_owned(), exit_code }))
}
