//! One worker process, as its supervisor sees it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daylily_core::config::Workers;
use daylily_core::log_target;
use rustix::net::SendFlags;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::observer::Observer;
use super::orphans;
use super::storage::Storage;
use crate::ipc::command::{CLOSED, FAILED, READY, WorkerCommand};
use crate::net::sockets::Sockets;
use crate::observe::journal::WorkerFacts;
use crate::observe::scoreboard::{Lease, Scoreboard, Slot};
use crate::observe::server_page::ServerPage;
use crate::storage::dir::StateDirError;
use crate::sys::limits;
use crate::sys::lock::lock;
use crate::sys::pace::Pace;
use crate::worker::setup::WorkerId;
use crate::worker::setup::{self, Prepared, WorkerShared};

/// Maximum length of a failure reason that is read from a worker.
const MAX_REASON_BYTES: u64 = 1 << 20;

/// Maximum number of workers for `auto`: the same as for a configured number.
const MAX_AUTO_WORKERS: u32 = 256;

/// Minimum time between two replacements of workers of one generation because of file calls that do not return. The
/// replacement uses the same file systems and may block as well, so they are replaced one at a time and rarely.
const REPLACE_BLOCKED_EVERY: Duration = Duration::from_secs(60);

/// Variables that systemd sets for the supervisor only; other processes do not inherit them.
const NOT_INHERITED: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// What the workers of one generation are started with.
pub(crate) struct WorkerLaunch {
    pub(crate) generation: u64,
    pub(crate) workers: u32,
    pub(crate) prepared: Arc<Prepared>,
    sockets: Mutex<Sockets>,
    pub(crate) scoreboard: Arc<Scoreboard>,
    pub(crate) page: Arc<ServerPage>,
    observer: Observer,
    /// None without stores.
    pub(crate) storage: Option<Storage>,
    pub(crate) directives: watch::Sender<Directives>,
    /// Limits how often workers whose file calls do not return are replaced.
    pub(crate) blocked_replacements: Pace,
}

/// What all workers of a generation are told while they serve.
#[derive(Clone, Default)]
pub(crate) struct Directives {
    /// Workers that are dead or do not respond: the others accept on their sockets.
    pub(crate) absent: BTreeSet<u32>,
    /// Responses close their connections.
    pub(crate) closes_connections: bool,
}

/// A worker process that is ready. Dropping it kills the process, so that none is left running unsupervised.
pub(crate) struct WorkerProcess {
    child: Child,
    channel: UnixStream,
    lease: Lease,
    pub(crate) pid: u32,
    pub(crate) ready_at: Instant,
    has_closed: bool,
}

/// An event of a worker process.
pub(crate) enum Event {
    /// It has stopped accepting.
    Closed,
    Ended(io::Result<ExitStatus>),
}

/// Why a worker, or the storage process, failed to start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("failed to start a process: {0}{hint}", hint = limits::hint(.0))]
    System(#[from] io::Error),
    #[error("failed to start a worker: {limit} workers are running or draining; wait until some have ended")]
    TooMany { limit: u32 },
    #[error(transparent)]
    StateDir(StateDirError),
    #[error("a process was not ready after start_timeout = {0:?}")]
    TimedOut(Duration),
    #[error("a process ended before it was ready ({0})")]
    Died(ExitStatus),
    /// Reported by the worker itself ([`FAILED`]).
    #[error("{reason}")]
    Refused { reason: String, exit_code: u8 },
}

impl WorkerLaunch {
    pub(crate) fn new(
        generation: u64,
        prepared: Arc<Prepared>,
        sockets: Sockets,
        scoreboard: Arc<Scoreboard>,
        page: Arc<ServerPage>,
        observer: Observer,
        storage: Option<Storage>,
    ) -> Self {
        let workers = workers(prepared.config.workers);
        Self {
            generation,
            workers,
            prepared,
            sockets: Mutex::new(sockets),
            scoreboard,
            page,
            observer,
            storage,
            directives: watch::Sender::default(),
            blocked_replacements: Pace::new(REPLACE_BLOCKED_EVERY),
        }
    }

    /// The facts about a worker that are sent to the observer.
    fn facts(&self, worker: u32) -> WorkerFacts {
        WorkerFacts {
            generation: self.generation,
            worker,
            blocks: self.prepared.block_names(self.sockets().names()),
            routes: self.prepared.route_facts(),
            headers: self.prepared.config.access_log.headers.iter().map(|header| header.as_str().to_owned()).collect(),
        }
    }

    /// The sockets that the workers accept on; none after [`Self::close_sockets`].
    pub(crate) fn sockets(&self) -> Sockets {
        lock(&self.sockets).clone()
    }

    /// Closes the supervisor's copies of the sockets, so no worker may be started afterwards. Running workers keep
    /// theirs.
    pub(crate) fn close_sockets(&self) {
        drop(std::mem::take(&mut *lock(&self.sockets)));
    }
}

/// The number of workers on this machine.
pub(crate) fn workers(workers: Workers) -> u32 {
    match workers {
        Workers::Count(count) => count.get(),
        // The CPUs that this process may use, which may be fewer than the machine has.
        Workers::Auto => {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            u32::try_from(cores).unwrap_or(u32::MAX).min(MAX_AUTO_WORKERS)
        }
    }
}

impl WorkerProcess {
    /// Starts a worker and waits until it is ready to accept connections. Cancel safe: a worker that is not ready yet
    /// is killed.
    pub(crate) async fn start(launch: &WorkerLaunch, worker: u32) -> Result<Self, StartError> {
        let lease = launch.scoreboard.lease();
        let lease = lease.ok_or(StartError::TooMany { limit: launch.scoreboard.slots() })?;
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut child = spawn_reporting(&["worker", &worker.to_string()], theirs)?;
        let pid = child.id().unwrap_or_default();
        let id = WorkerId { generation: launch.generation, worker };
        let journal = launch.observer.journal(launch.facts(worker))?;
        let doorbells = launch.storage.as_ref().map_or_else(|| Ok(Vec::new()), Storage::doorbells)?;
        let shared = WorkerShared { lease: &lease, journal, doorbells };
        let sent = setup::send(&ours, id, launch.workers, &launch.prepared, &launch.sockets(), &shared);
        // From here on, only the worker has its journal.
        drop(shared);
        ours.set_nonblocking(true)?;
        let mut channel = UnixStream::from_std(ours)?;
        await_ready(&mut child, &mut channel, sent, launch.prepared.config.server.start_timeout).await?;
        Ok(Self { child, channel, lease, pid, ready_at: Instant::now(), has_closed: false })
    }

    /// Sends a worker command. If the process has ended already, [`Self::event`] reports that.
    pub(crate) fn send(&self, command: &WorkerCommand) {
        // Commands are small and few: a full socket buffer means that the worker hangs.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if let Err(error) = rustix::net::send(&self.channel, &command.to_bytes(), flags) {
            tracing::debug!(
                target: log_target::WORKER,
                "failed to send a command to the worker with pid {}: {error}", self.pid
            );
        }
    }

    /// Waits for the next event. Cancel safe.
    pub(crate) async fn event(&mut self) -> Event {
        tokio::select! {
            biased;
            status = self.child.wait() => Event::Ended(status),
            // A closed channel also means that it has stopped accepting.
            report = self.channel.read_u8(), if !self.has_closed => {
                self.has_closed = report.map_or(true, |report| report == CLOSED);
                Event::Closed
            }
        }
    }

    /// Kills it, and waits until it has ended.
    pub(crate) async fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.start_kill()?;
        self.child.wait().await
    }

    pub(crate) fn counters(&self) -> &'static Slot {
        self.lease.slot()
    }
}

/// Another process of this program.
pub(super) fn command(arguments: &[&str], stdin: impl Into<Stdio>) -> io::Result<Command> {
    let mut command = Command::new(own_program()?);
    command.arg0("daylily").args(arguments).stdin(stdin);
    for variable in NOT_INHERITED {
        command.env_remove(variable);
    }
    Ok(command)
}

/// Starts a process of [`command`]; the caller waits for its end.
pub(super) fn spawn(mut command: Command) -> io::Result<Child> {
    let child = command.spawn().map_err(limits::without_proc)?;
    orphans::exclude(&child);
    Ok(child)
}

/// Starts a process for [`await_ready`]. It is killed when it is dropped.
pub(super) fn spawn_reporting(arguments: &[&str], channel: StdUnixStream) -> io::Result<Child> {
    let mut command = command(arguments, OwnedFd::from(channel))?;
    command.stdout(Stdio::null()).kill_on_drop(true);
    spawn(command)
}

/// The executable of this process, even when its path has been replaced by another file since.
fn own_program() -> io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// Waits until a process is ready, after its setup was sent. One that is not ready within `limit` is killed.
pub(super) async fn await_ready(
    child: &mut Child,
    channel: &mut UnixStream,
    sent: io::Result<()>,
    limit: Duration,
) -> Result<(), StartError> {
    let report = async {
        // An error here means that the process has ended already; its exit status is reported below.
        sent?;
        read_ready(channel).await
    };
    // The limit first: under load, both may be found at the same time.
    let report = tokio::select! {
        biased;
        () = sleep(limit) => Err(()),
        report = report => Ok(report),
    };
    match report {
        Ok(Ok(Ok(()))) => return Ok(()),
        Ok(Ok(Err(refused))) => {
            let _ = child.wait().await;
            return Err(refused);
        }
        // It has closed the channel without a report, and has ended or is about to.
        Ok(Err(_)) => {
            if let Ok(status) = timeout(limit, child.wait()).await {
                return Err(StartError::Died(status?));
            }
        }
        Err(()) => {}
    }
    child.kill().await?;
    Err(StartError::TimedOut(limit))
}

/// Reads the first report of a process: [`READY`], or [`FAILED`] with its reason.
async fn read_ready(channel: &mut UnixStream) -> io::Result<Result<(), StartError>> {
    let report = channel.read_u8().await?;
    if report == READY {
        return Ok(Ok(()));
    }
    if report != FAILED {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let exit_code = channel.read_u8().await?;
    let mut reason = Vec::new();
    channel.take(MAX_REASON_BYTES).read_to_end(&mut reason).await?;
    Ok(Err(StartError::Refused { reason: String::from_utf8_lossy(&reason).into_owned(), exit_code }))
}
