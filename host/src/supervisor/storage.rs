//! The storage process of a generation, as its supervisor sees it: started before the workers, and again whenever it has
//! ended. Operations that its workers send meanwhile wait for the next one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use daylily_core::config::{Config, Store};
use daylily_core::log_target;
use daylily_core::restart::Restarts;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::process::{StartError, await_ready, spawn_reporting};
use crate::storage::{self, MAX_EVENT_BYTES};
use crate::sys::lock::lock;
use crate::sys::random::random;

/// The first argument of the process's command line; only daylily itself starts it.
pub(crate) const STORAGE: &str = "storage";

/// How long the process may send nothing before it is killed: it has a heartbeat each second.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the process may take to end after the last worker: it copies what was written last into the files.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// What the process is started with.
struct Launch {
    dir: PathBuf,
    stores: Vec<Store>,
    /// For each store, the end of its doorbell that workers have, and the one of the storage process.
    doorbells: Vec<(StdUnixStream, StdUnixStream)>,
    start_timeout: Duration,
}

/// Keeps a storage process running until [`Storage::finish`], or until it is dropped.
pub(crate) struct Storage(Mutex<Option<Running>>);

struct Running {
    launch: Arc<Launch>,
    keeping: JoinHandle<()>,
    /// Closed when the process is no longer wanted.
    wanted: watch::Sender<()>,
}

struct Process {
    child: Child,
    events: BufReader<UnixStream>,
    ready_at: Instant,
}

impl Storage {
    /// Starts the process, and waits until it has opened all stores of `config`; None if there are none. Cancel safe:
    /// the process is killed.
    pub(crate) async fn start(config: &Config) -> Result<Option<Self>, StartError> {
        if config.stores.is_empty() {
            return Ok(None);
        }
        let dir = config.state_dir.clone().unwrap_or_default();
        if config.has_files() {
            // In a thread: a file system may never respond.
            let path = dir.clone();
            let prepared = tokio::task::spawn_blocking(move || storage::dir::prepare(&path));
            match timeout(config.server.start_timeout, prepared).await {
                Ok(prepared) => prepared.map_err(io::Error::other)?.map_err(StartError::StateDir)?,
                Err(_) => return Err(StartError::TimedOut(config.server.start_timeout)),
            }
        }
        let doorbells = config.stores.iter().map(|_| StdUnixStream::pair()).collect::<io::Result<_>>()?;
        let stores = config.stores.clone();
        let launch = Arc::new(Launch { dir, stores, doorbells, start_timeout: config.server.start_timeout });
        let process = start(&launch, true).await?;
        let (wanted, unwanted) = watch::channel(());
        let keeping = tokio::spawn(keep(Arc::downgrade(&launch), process, unwanted));
        Ok(Some(Self(Mutex::new(Some(Running { launch, keeping, wanted })))))
    }

    /// The doorbells for workers, in the order of the stores; none after [`Self::finish`].
    pub(crate) fn doorbells(&self) -> io::Result<Vec<OwnedFd>> {
        let running = lock(&self.0);
        let doorbells = running.iter().flat_map(|running| &running.launch.doorbells);
        doorbells.map(|(of_workers, _)| of_workers.as_fd().try_clone_to_owned()).collect()
    }

    /// All workers have ended, and no other one is started. Waits until the process has written everything to its files.
    pub(crate) async fn finish(&self) {
        let Some(Running { launch, keeping, wanted }) = lock(&self.0).take() else { return };
        drop((launch, wanted));
        let _ = keeping.await;
    }
}

/// Starts a process, and waits until it has opened all stores. Cancel safe: it is killed.
async fn start(launch: &Launch, is_first: bool) -> Result<Process, StartError> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let mut child = spawn_reporting(&[STORAGE], theirs)?;
    let doorbells: Vec<_> = launch.doorbells.iter().map(|(_, of_storage)| of_storage.as_fd()).collect();
    let sent = storage::send(&ours, &launch.dir, &launch.stores, &doorbells, is_first);
    ours.set_nonblocking(true)?;
    let mut channel = UnixStream::from_std(ours)?;
    await_ready(&mut child, &mut channel, sent, launch.start_timeout).await?;
    Ok(Process { child, events: BufReader::new(channel), ready_at: Instant::now() })
}

/// Keeps a process running until it is no longer wanted; then it ends by itself after the last worker.
async fn keep(launch: Weak<Launch>, mut process: Process, mut unwanted: watch::Receiver<()>) {
    let mut restarts = Restarts::default();
    loop {
        let how = tokio::select! {
            biased;
            Err(_) = unwanted.changed() => {
                let _ = timeout(END_PATIENCE, process.child.wait()).await;
                return;
            }
            status = process.child.wait() => match status {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            () = hear_to_silence(&mut process.events) => {
                let _ = process.child.kill().await;
                format!("it did nothing for {SILENCE:?} and was killed")
            }
        };
        let mut delay = restarts.died(Some(process.ready_at.elapsed()), random());
        tracing::error!(
            target: log_target::STORAGE,
            "the storage process ended ({how}); it is started again{}", after(delay)
        );
        process = loop {
            let next = async {
                tokio::time::sleep(delay).await;
                // None when the generation has ended.
                Some(start(&*launch.upgrade()?, false).await)
            };
            let next = tokio::select! {
                Err(_) = unwanted.changed() => return,
                next = next => next,
            };
            match next {
                None => return,
                Some(Ok(process)) => break process,
                Some(Err(error)) => {
                    delay = restarts.died(None, random());
                    tracing::error!(
                        target: log_target::STORAGE,
                        "the storage process cannot be started: {error}; trying again{}", after(delay)
                    );
                }
            }
        };
    }
}

fn after(delay: Duration) -> String {
    if delay.is_zero() { " now".to_owned() } else { format!(" in {delay:.1?}") }
}

/// Logs what the process says. Resolves when it has said nothing for [`SILENCE`].
async fn hear_to_silence(events: &mut BufReader<UnixStream>) {
    // A level, the store's name, a text and a line end.
    let longest = 2 * MAX_EVENT_BYTES as u64;
    loop {
        let mut line = Vec::new();
        match timeout(SILENCE, (&mut *events).take(longest).read_until(b'\n', &mut line)).await {
            // It has closed its channel, and is about to end.
            Ok(Ok(0) | Err(_)) => std::future::pending().await,
            Ok(Ok(_)) => match String::from_utf8_lossy(&line).trim_end().split_at_checked(1) {
                Some(("E", text)) => tracing::error!(target: log_target::STORAGE, "{text}"),
                Some(("W", text)) => tracing::warn!(target: log_target::STORAGE, "{text}"),
                Some((_, text)) => tracing::info!(target: log_target::STORAGE, "{text}"),
                None => {}
            },
            Err(_) => return,
        }
    }
}
