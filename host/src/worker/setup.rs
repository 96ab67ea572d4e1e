//! What a supervisor sends to a worker at its start.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use daylily_core::config::Config;
use serde::{Deserialize, Serialize};

use super::accept_loops::AssignedListener;
use crate::artifact::{Artifact, Facts};
use crate::http::dev_server::DevSettings;
use crate::ipc::fd_message;
use crate::net::listener::Listener;
use crate::net::sockets::{Assignment, Sockets};
use crate::observe::journal::{Journal, RouteFacts};
use crate::observe::metrics::{BlockCounts, BlockNames, WorkerMetrics};
use crate::observe::scoreboard::{Lease, Slot, map_slot};
use crate::worker::load;

/// The configuration and the compiled code that all workers of one generation receive.
pub(crate) struct Prepared {
    pub(crate) config: Config,
    /// One for each of `load::sources`.
    pub(crate) artifacts: Vec<Artifact>,
    /// Maximum number of connections of each worker: `max_connections`, or what the descriptor limit allows.
    pub(crate) connection_limit: usize,
    /// Under `daylily dev`.
    pub(crate) dev: Option<DevSettings>,
}

/// What a worker shares with the observer.
pub(crate) struct WorkerJournal {
    pub(crate) journal: OwnedFd,
    pub(crate) metrics: OwnedFd,
    /// Open in the worker and in no other process: its end of the pipe is closed when the worker has ended.
    pub(crate) alive: OwnedFd,
    /// The observer reads the worker's log lines from the other end.
    pub(crate) log: OwnedFd,
}

/// What a worker shares with other processes.
pub(crate) struct WorkerShared<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) journal: WorkerJournal,
    /// Those of the storage process, for each store.
    pub(crate) doorbells: Vec<OwnedFd>,
}

impl WorkerJournal {
    fn descriptors(&self) -> [BorrowedFd<'_>; 4] {
        [self.journal.as_fd(), self.metrics.as_fd(), self.alive.as_fd(), self.log.as_fd()]
    }
}

impl Prepared {
    /// The facts about the routes that are sent to the observer, by their index.
    pub(crate) fn route_facts(&self) -> Vec<RouteFacts> {
        let routes = self.config.routes.iter().map(|route| {
            let source = load::source(route);
            let artifact = self.artifacts.iter().find(|artifact| Some(&artifact.source) == source.as_ref());
            RouteFacts {
                name: route.name.clone(),
                component: source.map(|source| source.name().path().to_owned()).unwrap_or_default(),
                digest: artifact.map(Artifact::digest).unwrap_or_default(),
            }
        });
        routes.collect()
    }

    /// What each block of a worker's metrics is about.
    pub(crate) fn block_names(&self, listeners: Vec<String>) -> BlockNames {
        let routes = self.config.routes.iter().map(|route| route.name.clone());
        let schedules = self.config.schedules.iter().map(|schedule| schedule.name.clone()).collect();
        BlockNames::new(routes, self.config.server.max_metric_routes as usize, listeners, schedules)
    }
}

/// Everything that a worker needs to serve: its descriptors opened, its scoreboard slot mapped.
pub(crate) struct WorkerSetup {
    pub(crate) id: WorkerId,
    pub(crate) config: Config,
    pub(crate) dev: Option<DevSettings>,
    pub(crate) connection_limit: usize,
    pub(crate) artifacts: Vec<Artifact>,
    /// The listeners of all workers.
    pub(crate) listeners: Vec<AssignedListener>,
    pub(crate) counters: &'static Slot,
    pub(crate) journal: Arc<Journal>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// For each store, what it is reached through.
    pub(crate) doorbells: Vec<UnixStream>,
    /// Open for as long as this process lives: so the observer learns of its end.
    pub(crate) alive: OwnedFd,
}

/// Precedes the configuration in the payload, and describes the descriptors. Their order is: the scoreboard, the
/// journal, the metrics, the pipe that shows that the worker lives, the log, the doorbell of each store, the listeners,
/// the code of each component
/// (followed by that of the modules that were taken out of it).
#[derive(Serialize, Deserialize)]
pub(crate) struct SetupHeader {
    id: WorkerId,
    slot: u32,
    connection_limit: u64,
    /// For each socket.
    listeners: Vec<Assignment>,
    blocks: BlockCounts,
    facts: Vec<Facts>,
    dev: Option<DevSettings>,
}

/// Sends its setup to a worker.
///
/// # Errors
///
/// When the worker has closed the channel, or the system has no memory or descriptors left.
pub(crate) fn send(
    worker: &UnixStream,
    id: WorkerId,
    workers: u32,
    prepared: &Prepared,
    sockets: &Sockets,
    shared: &WorkerShared<'_>,
) -> io::Result<()> {
    let WorkerShared { lease, journal, doorbells } = shared;
    let names = sockets.names();
    let (sockets, listeners): (Vec<BorrowedFd<'_>>, _) = sockets.of_workers(workers).into_iter().unzip();
    let blocks = prepared.block_names(names).counts();
    let head = SetupHeader {
        id,
        slot: lease.index(),
        connection_limit: prepared.connection_limit as u64,
        listeners,
        blocks,
        facts: prepared.artifacts.iter().map(|artifact| artifact.facts).collect(),
        dev: prepared.dev.clone(),
    };
    let payload = postcard::to_stdvec(&(head, &prepared.config)).map_err(io::Error::other)?;
    let codes =
        prepared.artifacts.iter().flat_map(|artifact| std::iter::once(artifact.code()).chain(artifact.modules()));
    let codes = codes.map(File::as_fd);
    let descriptors: Vec<_> = [lease.file()]
        .into_iter()
        .chain(journal.descriptors())
        .chain(doorbells.iter().map(AsFd::as_fd))
        .chain(sockets)
        .chain(codes)
        .collect();
    fd_message::send(worker, &payload, &descriptors)
}

/// Receives what [`send`] sent, and the socket for the lines of this process's log. Blocks until it has arrived.
///
/// # Errors
///
/// When the supervisor has closed the channel, or is of another version and its payload cannot be decoded.
pub(crate) fn receive(supervisor: &UnixStream) -> io::Result<(WorkerSetup, OwnedFd)> {
    let (payload, descriptors) = fd_message::receive(supervisor)?;
    let (head, config): (SetupHeader, Config) = postcard::from_bytes(&payload).map_err(io::Error::other)?;
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
    let counters = map_slot(next()?.as_fd(), head.slot)?;
    let journal = Journal::open(next()?.as_fd())?;
    let metrics = WorkerMetrics::open(next()?.as_fd(), head.blocks)?;
    let alive = next()?;
    let log = next()?;
    let doorbells = config.stores.iter().map(|_| next().map(UnixStream::from)).collect::<io::Result<_>>()?;
    let listeners = head.listeners.into_iter().map(|assignment| {
        let socket = Listener::new(next()?)?;
        Ok(AssignedListener { socket, assignment })
    });
    let listeners = listeners.collect::<io::Result<_>>()?;
    let artifacts = load::sources(&config.routes)
        .into_iter()
        .zip(head.facts)
        .map(|(source, facts)| {
            let code = File::from(next()?);
            let modules = (0..facts.modules()).map(|_| next().map(File::from)).collect::<io::Result<_>>()?;
            Ok(Artifact::handed_over(source, facts, code, modules))
        })
        .collect::<io::Result<_>>()?;
    let connection_limit = usize::try_from(head.connection_limit).unwrap_or(usize::MAX);
    let (id, dev) = (head.id, head.dev);
    let setup = WorkerSetup {
        id,
        config,
        dev,
        connection_limit,
        artifacts,
        listeners,
        counters,
        journal,
        metrics,
        doorbells,
        alive,
    };
    Ok((setup, log))
}

/// Identifies a worker: its generation and its number in it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerId {
    /// Increases with every reload, also across upgrades.
    pub(crate) generation: u64,
    /// From 0. A worker's replacement has the same number.
    pub(crate) worker: u32,
}
