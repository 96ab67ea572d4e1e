//! The workers that serve one configuration.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::process::{WorkerLaunch, WorkerProcess};
use super::worker_session::{DesiredState, WorkerSession, WorkerStatus};
use crate::failure::Failure;
use crate::observe::counters::Totals;
use crate::observe::server_page::PageWorker;

/// The workers of one configuration. All were ready before any accepted, and each is replaced when it dies. Dropping it
/// kills them.
pub(crate) struct Generation {
    view: Arc<View>,
    session_tasks: JoinSet<()>,
}

/// A shared handle to a generation, for its state and its desired state. The future of [`Generation::split`] owns the
/// workers.
pub(crate) struct View {
    pub(crate) launch: Arc<WorkerLaunch>,
    pub(crate) sessions: Vec<Arc<WorkerSession>>,
    desired: watch::Sender<DesiredState>,
}

impl Generation {
    /// Starts all workers of `launch`, waits until they are ready, and lets them accept. Cancel safe: workers that were
    /// started are killed.
    ///
    /// # Errors
    ///
    /// The error of the first worker that fails to start; the others are killed.
    pub(crate) async fn start(launch: WorkerLaunch) -> Result<Self, Failure> {
        let launch = Arc::new(launch);
        let mut starting = JoinSet::new();
        for worker in 0..launch.workers {
            let launch = Arc::clone(&launch);
            starting.spawn(async move { (worker, WorkerProcess::start(&launch, worker).await) });
        }
        let mut ready = Vec::new();
        while let Some(started) = starting.join_next().await {
            let (worker, process) = started.map_err(std::io::Error::other)?;
            ready.push((worker, process.map_err(Failure::from)?));
        }
        ready.sort_by_key(|(worker, _)| *worker);
        let sockets = launch.sockets();
        // In a thread, because it may wait for another server that starts.
        tokio::task::spawn_blocking(move || sockets.listen()).await.map_err(std::io::Error::other)??;
        let desired = watch::Sender::new(DesiredState::Serve);
        let mut sessions = Vec::new();
        let mut session_tasks = JoinSet::new();
        for (worker, process) in ready {
            let session = WorkerSession::new(worker, Arc::clone(&launch));
            // Before its task first runs: the server page must not show a worker that starts.
            session.note_running(&process);
            session_tasks.spawn(Arc::clone(&session).run(process, desired.subscribe()));
            sessions.push(session);
        }
        Ok(Self { view: Arc::new(View { launch, sessions, desired }), session_tasks })
    }

    /// Splits it into a handle and a future. The future resolves to the generation's number when no worker is left,
    /// which happens only after the end was requested by [`View::set_desired_state`]. Dropping the future kills the
    /// workers.
    pub(crate) fn split(self) -> (Arc<View>, impl Future<Output = u64> + Send + 'static) {
        let Self { view, mut session_tasks } = self;
        let number = view.number();
        let launch = Arc::clone(&view.launch);
        let end = async move {
            while session_tasks.join_next().await.is_some() {}
            if let Some(storage) = &launch.storage {
                storage.finish().await;
            }
            number
        };
        (view, end)
    }
}

impl WorkerStatus {
    /// What the server page says of the worker.
    pub(super) fn on_page(&self) -> PageWorker {
        PageWorker { pid: self.pid.unwrap_or_default(), state: self.state }
    }
}

impl View {
    pub(crate) fn number(&self) -> u64 {
        self.launch.generation
    }

    /// Resolves when its workers have stopped accepting: new connections go to another generation. Cancel safe.
    pub(crate) async fn closed(&self) {
        for session in &self.sessions {
            session.closed().await;
        }
    }

    /// What the server page says of its workers.
    pub(crate) fn on_page(&self) -> Vec<PageWorker> {
        self.sessions.iter().map(|session| session.status().on_page()).collect()
    }

    /// What its worker sessions have counted; the counts of the scoreboard are 0.
    pub(crate) fn deaths(&self) -> Totals {
        self.sessions.iter().fold(Totals::default(), |totals, session| totals + session.deaths())
    }

    /// Sets the desired state of all worker sessions. For an end, this process closes its listening sockets first, so
    /// that the last process to close a socket is a worker, which has emptied the backlog.
    pub(crate) fn set_desired_state(&self, state: DesiredState) {
        if state != DesiredState::Serve {
            self.launch.close_sockets();
        }
        self.desired.send_replace(state);
    }
}
