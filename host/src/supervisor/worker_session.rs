//! A worker session: keeps one worker process running, and replaces it when it dies, until the generation drains.

use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daylily_core::log_target;
use daylily_core::restart::Restarts;
use daylily_core::units::format_duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::heartbeats::HeartbeatChecks;
use super::process::{Directives, Event, StartError, WorkerLaunch, WorkerProcess};
use super::retire::{log_drained, retire};
use crate::ipc::command::{End, WorkerCommand};
use crate::observe::counters::{Counts, Totals};
use crate::observe::scoreboard::Slot;
use crate::observe::server_page::SessionState;
use crate::sys::lock::lock;
use crate::sys::random::random;
use crate::worker::CUT_GRACE_PERIOD;

/// A worker whose event loop has not run for this long does not accept either. The others accept on its sockets until
/// it runs again or has been replaced.
const ABSENT_AFTER: Duration = Duration::from_secs(1);

/// The desired state of all worker sessions of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DesiredState {
    Serve,
    End(End),
    Kill,
}

/// The state of a worker session, for `daylily status`.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerStatus {
    pub(crate) pid: Option<u32>,
    pub(crate) state: SessionState,
    pub(crate) since: Option<Instant>,
    /// What the session has counted; the counts of its processes, on the scoreboard, are not included.
    pub(crate) totals: Totals,
    /// The counts of its current process.
    pub(crate) counts: Counts,
    pub(crate) blocked_calls: u64,
}

/// A worker session, shared between the task that runs it ([`WorkerSession::run`]) and the readers of its state.
pub(crate) struct WorkerSession {
    worker: u32,
    launch: Arc<WorkerLaunch>,
    status: Mutex<WorkerStatus>,
    /// Its process has stopped accepting, and will not be replaced.
    has_closed: watch::Sender<bool>,
    /// The counters of the process, while one is running.
    counters: Mutex<Option<&'static Slot>>,
}

/// Why a process has ended or is to be replaced.
enum SessionEnd {
    /// As requested: it has drained, or was killed because of [`DesiredState::Kill`] or because its drain took too long.
    Drained,
    Died(io::Result<ExitStatus>),
    /// Its event loop hung, and it was killed.
    Hung,
    /// It still serves, but its file calls do not return, and another process is to replace it.
    Blocked,
}

impl WorkerSession {
    pub(crate) fn new(worker: u32, launch: Arc<WorkerLaunch>) -> Arc<Self> {
        Arc::new(Self {
            worker,
            launch,
            status: Mutex::default(),
            has_closed: watch::Sender::new(false),
            counters: Mutex::default(),
        })
    }

    pub(crate) fn worker(&self) -> u32 {
        self.worker
    }

    /// Resolves when its process has stopped accepting and will not be replaced. Cancel safe.
    pub(crate) async fn closed(&self) {
        // Cannot fail: the sender is in `self`.
        let _ = self.has_closed.subscribe().wait_for(|has_closed| *has_closed).await;
    }

    /// Whether the session has ended: no process is running, and none will be started.
    pub(crate) fn is_gone(&self) -> bool {
        lock(&self.status).state == SessionState::Ended
    }

    /// What the session has counted, such as how often its process was replaced; the counts of the scoreboard are 0.
    pub(crate) fn deaths(&self) -> Totals {
        lock(&self.status).totals
    }

    pub(crate) fn status(&self) -> WorkerStatus {
        let counters = *lock(&self.counters);
        let counts = counters.map(Slot::counts).unwrap_or_default();
        WorkerStatus {
            counts,
            blocked_calls: counters.map_or(0, |counters| counters.blocked_calls.get()),
            ..lock(&self.status).clone()
        }
    }

    /// Runs the session, at first with `process`, until `desired` requests the end. Cancel safe: the process is killed.
    pub(crate) async fn run(self: Arc<Self>, mut process: WorkerProcess, mut desired: watch::Receiver<DesiredState>) {
        let mut restarts = Restarts::default();
        // Processes that have been replaced and are still draining.
        let mut retiring = JoinSet::new();
        loop {
            self.note_running(&process);
            let end = self.watch_over(&mut process, &mut desired).await;
            if let SessionEnd::Blocked = end {
                if let Some(next) = self.replace_blocked(&process, &mut desired).await {
                    let old = std::mem::replace(&mut process, next);
                    retiring.spawn(retire(Arc::clone(&self.launch), self.worker, old, desired.clone()));
                }
                continue;
            }
            let lost = process.counters().counts().requests_in_progress();
            let lived = process.ready_at.elapsed();
            let pid = process.pid;
            self.note_ended();
            drop(process);
            if let SessionEnd::Drained = end {
                self.has_closed.send_replace(true);
                while retiring.join_next().await.is_some() {}
                return;
            }
            let delay = restarts.died(Some(lived), random());
            self.log_end(pid, &end, lost, lived, &restarts, delay);
            let hangs = u64::from(matches!(end, SessionEnd::Hung));
            match self.replace(&mut restarts, delay, hangs, &mut desired).await {
                Some(next) => process = next,
                None => {
                    self.has_closed.send_replace(true);
                    self.note(SessionState::Ended);
                    while retiring.join_next().await.is_some() {}
                    return;
                }
            }
        }
    }

    /// Waits until `process` has ended, has hung and was killed, has drained or was killed as requested, or is to be
    /// replaced because its file calls do not return.
    async fn watch_over(&self, process: &mut WorkerProcess, desired: &mut watch::Receiver<DesiredState>) -> SessionEnd {
        let limit = self.launch.prepared.config.server.hang_timeout;
        let mut heartbeats = HeartbeatChecks::new(limit, process.counters());
        let mut directives = self.launch.directives.subscribe();
        directives.mark_changed();
        loop {
            tokio::select! {
                biased;
                event = process.event() => if let Event::Ended(status) = event {
                    return SessionEnd::Died(status);
                },
                state = next_desired_state(desired) => match state {
                    DesiredState::Serve => {}
                    DesiredState::End(end) => return self.drain(process, end, desired, heartbeats).await,
                    DesiredState::Kill => return kill(process, SessionEnd::Drained).await,
                },
                Ok(()) = directives.changed() => {
                    let Directives { mut absent, closes_connections } = directives.borrow_and_update().clone();
                    if closes_connections {
                        process.send(&WorkerCommand::CloseConnections);
                    }
                    absent.remove(&self.worker);
                    process.send(&WorkerCommand::Accept(absent.into_iter().collect()));
                }
                silent = heartbeats.silent() => {
                    if silent >= limit {
                        return kill(process, SessionEnd::Hung).await;
                    }
                    self.mark_absent(silent >= ABSENT_AFTER);
                    let is_blocked = process.counters().blocked_routes.get() > 0;
                    if is_blocked && self.launch.blocked_replacements.allows(Instant::now()) {
                        return SessionEnd::Blocked;
                    }
                }
            }
        }
    }

    /// Starts a process that replaces one whose file calls do not return; the old one serves until then. None when the
    /// generation is to end or the start failed: the old process continues to serve.
    async fn replace_blocked(
        &self,
        old: &WorkerProcess,
        desired: &mut watch::Receiver<DesiredState>,
    ) -> Option<WorkerProcess> {
        let (worker, pid) = (self.worker, old.pid);
        let (calls, routes) = (old.counters().blocked_calls.get(), old.counters().blocked_routes.get());
        let started = tokio::select! {
            biased;
            _ = desired.wait_for(|state| *state != DesiredState::Serve) => None,
            started = WorkerProcess::start(&self.launch, worker) => Some(started),
        };
        match started {
            None => {
                // So that [`Self::watch_over`] sees the change, too.
                desired.mark_changed();
                None
            }
            Some(Ok(next)) => {
                tracing::error!(
                    target: log_target::WORKER,
                    "worker {worker} (pid {pid}) has {calls} file calls that do not return, and no file threads left \
                     on {routes} of its routes; the process with pid {} replaces it",
                    next.pid
                );
                self.count(Totals { restarts: 1, blocked: 1, ..Totals::default() });
                Some(next)
            }
            Some(Err(error)) => {
                tracing::error!(
                    target: log_target::WORKER,
                    "worker {worker} (pid {pid}) cannot be replaced: {error}; it keeps running"
                );
                None
            }
        }
    }

    /// Tells `process` to drain and waits for its end. Kills it when it hangs, or has not ended after
    /// `shutdown_timeout` and twice [`CUT_GRACE_PERIOD`].
    async fn drain(
        &self,
        process: &mut WorkerProcess,
        end: End,
        desired: &mut watch::Receiver<DesiredState>,
        mut heartbeats: HeartbeatChecks,
    ) -> SessionEnd {
        let server = &self.launch.prepared.config.server;
        self.note(SessionState::Draining);
        process.send(&WorkerCommand::End(end));
        let mut too_long = pin!(tokio::time::sleep(server.shutdown_timeout + 2 * CUT_GRACE_PERIOD));
        loop {
            tokio::select! {
                biased;
                event = process.event() => match event {
                    Event::Closed => drop(self.has_closed.send_replace(true)),
                    Event::Ended(status) => {
                        log_drained(&self.launch, self.worker, process, &status);
                        return SessionEnd::Drained;
                    }
                },
                state = next_desired_state(desired) => if state == DesiredState::Kill {
                    return kill(process, SessionEnd::Drained).await;
                },
                () = &mut too_long => return kill(process, SessionEnd::Drained).await,
                silent = heartbeats.silent() => if silent >= server.hang_timeout {
                    return kill(process, SessionEnd::Drained).await;
                }
            }
        }
    }

    /// Starts a new process after `delay`, and retries until one is ready; counts it, and `hangs`. None when the generation ends before that.
    async fn replace(
        &self,
        restarts: &mut Restarts,
        mut delay: Duration,
        hangs: u64,
        desired: &mut watch::Receiver<DesiredState>,
    ) -> Option<WorkerProcess> {
        loop {
            self.note(if delay.is_zero() { SessionState::Starting } else { SessionState::Waiting });
            let start = async {
                tokio::time::sleep(delay).await;
                self.note(SessionState::Starting);
                WorkerProcess::start(&self.launch, self.worker).await
            };
            let started = tokio::select! {
                biased;
                _ = desired.wait_for(|state| *state != DesiredState::Serve) => return None,
                started = start => started,
            };
            match started {
                Ok(process) => {
                    // Together, because the others that died are the difference.
                    self.count(Totals { restarts: 1, hangs, ..Totals::default() });
                    return Some(process);
                }
                Err(error) => {
                    delay = restarts.died(None, random());
                    self.log_failed_start(&error, delay);
                }
            }
        }
    }

    fn log_end(&self, pid: u32, end: &SessionEnd, lost: u64, lived: Duration, restarts: &Restarts, delay: Duration) {
        let worker = self.worker;
        let how = match end {
            SessionEnd::Hung => {
                let limit = format_duration(self.launch.prepared.config.server.hang_timeout);
                format!("did not respond for hang_timeout = {limit} and was killed")
            }
            SessionEnd::Died(Ok(status)) => format!("ended ({status})"),
            SessionEnd::Died(Err(error)) => format!("cannot be waited for ({error})"),
            SessionEnd::Drained | SessionEnd::Blocked => "drained".to_owned(),
        };
        let when =
            if delay.is_zero() { "it is replaced now".to_owned() } else { format!("it is replaced in {delay:.1?}") };
        let again = match restarts.quick_deaths() {
            0 | 1 => String::new(),
            deaths => format!(" ({deaths} quick crashes in a row)"),
        };
        tracing::error!(
            target: log_target::WORKER,
            "worker {worker} (pid {pid}) {how} after {lived:.1?}, requests in progress: {lost}{again}; {when}"
        );
    }

    fn log_failed_start(&self, error: &StartError, delay: Duration) {
        tracing::error!(
            target: log_target::WORKER,
            "worker {} cannot be replaced: {error}; trying again in {delay:.1?}", self.worker
        );
    }

    /// `process` is ready, and is the session's from now on.
    pub(crate) fn note_running(&self, process: &WorkerProcess) {
        self.mark_absent(false);
        *lock(&self.counters) = Some(process.counters());
        self.update_status(|status| {
            status.pid = Some(process.pid);
            status.state = SessionState::Ready;
            status.since = Some(process.ready_at);
        });
    }

    fn note_ended(&self) {
        self.mark_absent(true);
        *lock(&self.counters) = None;
        self.update_status(|status| {
            status.pid = None;
            status.state = SessionState::Ended;
            status.since = None;
        });
    }

    /// Sets whether the other workers accept on this worker's sockets.
    fn mark_absent(&self, is_absent: bool) {
        self.launch.directives.send_if_modified(|Directives { absent, .. }| {
            if is_absent { absent.insert(self.worker) } else { absent.remove(&self.worker) }
        });
    }

    fn note(&self, state: SessionState) {
        self.update_status(|status| status.state = state);
    }

    /// Changes the state, here and on the server page.
    fn update_status(&self, change: impl FnOnce(&mut WorkerStatus)) {
        let mut status = lock(&self.status);
        change(&mut status);
        self.launch.page.set_worker(self.launch.generation, self.worker, status.on_page());
    }

    fn count(&self, counted: Totals) {
        lock(&self.status).totals += counted;
        self.launch.page.count(counted);
    }
}

/// Waits for the next desired state. A closed channel means [`DesiredState::Kill`]. Cancel safe.
pub(crate) async fn next_desired_state(desired: &mut watch::Receiver<DesiredState>) -> DesiredState {
    match desired.changed().await {
        Ok(()) => desired.borrow_and_update().clone(),
        Err(_) => DesiredState::Kill,
    }
}

async fn kill(process: &mut WorkerProcess, end: SessionEnd) -> SessionEnd {
    // Fails only when the process has ended already.
    let _ = process.kill().await;
    end
}
