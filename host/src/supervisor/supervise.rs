//! The supervisor: it owns the sockets, the configuration and the workers, and runs no guest.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::config::Config;
use daylily_core::log_target;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::account::Account;
use super::control_socket::admin::ControlSocket;
use super::control_socket::report::{Command, Reply};
use super::control_socket::status::{self, ServerState};
use super::events::{asked_to_abort, changed, joined, next_request};
use super::generation::{Generation, View};
use super::observer::{self, Observer};
use super::process::workers;
use super::reload::{self, GenerationInputs};
use super::signal::{Asked, Signals};
use super::upgrade::{Inheritance, Invocation, Legacy, Successor};
use super::watch::Watch;
use super::worker_session::DesiredState;
use super::{end, orphans, systemd};
use crate::cli::ServeArguments;
use crate::failure::Failure;
use crate::ipc::command::End;
use crate::net::sockets::Sockets;
use crate::observe::counters::Totals;
use crate::observe::log::{self, LogSettings};
use crate::observer::message::Settings;
use crate::supervisor::prepare;
use crate::sys::runtime;

/// Maximum number of generations that drain at a time. At the limit, a reload waits until one of them has ended.
const MAX_DRAINING: usize = 16;

/// How long the reply to a reload waits for workers of previous generations to report that they have stopped accepting.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// Maximum number of worker processes: 256 for each generation that is draining, serving or starting.
const MAX_PROCESSES: u32 = 256 * (MAX_DRAINING as u32 + 2);

/// What the supervisor serves, and how it was started.
pub(crate) struct Task {
    pub(crate) what: ServeArguments,
    pub(crate) invocation: Invocation,
    /// The predecessor's handoff, when this process is the successor in an upgrade.
    pub(crate) inheritance: Option<Inheritance>,
}

/// Serves until a signal or `daylily stop` ends it.
///
/// # Errors
///
/// The reason why the start failed; or [`Failure::Cut`], when requests were cut at the end.
pub(crate) fn serve(mut task: Task) -> Result<(), Failure> {
    let was_found = task.inheritance.as_ref().is_some_and(|inheritance| inheritance.legacy.config_was_found);
    task.what = if was_found { prepare::with_found(&task.what) } else { prepare::settled(&task.what)? };
    let config = prepare::read(&task.what)?;
    let log = log::start(LogSettings::of(&config).usable())?;
    // Before the event loop: systemd passes open descriptors by number, which no other code may take.
    let sockets = match &task.inheritance {
        Some(inheritance) => inheritance.sockets.clone(),
        None => Sockets::from_systemd()?,
    };
    runtime::run(async {
        let mut signals = Signals::new()?;
        tokio::spawn(orphans::reap());
        let supervisor = Supervisor::start(task, config, sockets, log, &mut signals).await?;
        match supervisor {
            Some(supervisor) => supervisor.run(signals).await,
            None => Ok(()),
        }
    })
}

type Reloading = JoinHandle<Result<(Generation, ServeArguments), Failure>>;
type Rest = JoinHandle<std::io::Result<Totals>>;
type Upgrading = JoinHandle<std::io::Result<Successor>>;

pub(crate) struct Supervisor {
    what: ServeArguments,
    invocation: Invocation,
    pub(crate) log: log::Log,
    pub(crate) control: Option<ControlSocket>,
    watch: Option<Watch>,
    pub(crate) began: Instant,
    pub(crate) state: ServerState,
    pub(crate) current: Arc<View>,
    /// Draining generations.
    pub(crate) draining: Vec<Arc<View>>,
    pub(crate) ends: JoinSet<u64>,
    /// The highest generation number used so far, also by a generation that failed to start.
    number: u64,
    reloading: Option<Reloading>,
    upgrading: Option<Upgrading>,
    /// Clients that wait for the reload in progress (`answers`), and for the one after it (`next`).
    answers: Vec<oneshot::Sender<Reply>>,
    next: Vec<oneshot::Sender<Reply>>,
    is_reload_wanted: bool,
    pub(crate) account: Account,
    pub(crate) observer: Observer,
    /// Taken at the end.
    pub(crate) observing: Option<observer::Running>,
    /// Receives the predecessor's final totals, when it has drained.
    pub(crate) rest: Option<Rest>,
}

impl Supervisor {
    /// Starts the first generation; None when a signal to stop arrived before it was ready.
    async fn start(
        task: Task,
        config: Config,
        sockets: Sockets,
        log: log::Log,
        signals: &mut Signals,
    ) -> Result<Option<Self>, Failure> {
        let Task { what, invocation, inheritance } = task;
        let legacy = inheritance.as_ref().map(|inheritance| inheritance.legacy);
        let totals = legacy.map(|legacy| legacy.totals).unwrap_or_default();
        let number = legacy.map_or(1, |legacy| legacy.generation + 1);
        let slots = MAX_PROCESSES.min(workers(config.workers).saturating_mul(64).max(1024));
        let account = Account::open(slots, totals)?;
        let mut watch = what.watch.then(Watch::new);
        self::watch(&mut watch, &what, Some(&config));
        let patience = if inheritance.is_some() { Duration::ZERO } else { reload::RELEASE_PATIENCE };
        let scoreboard = Arc::clone(&account.scoreboard);
        let (observer, observing) = Observer::start(Settings::of(&config))?;
        let basis = GenerationInputs {
            scoreboard,
            observer: observer.clone(),
            sockets,
            known: None,
            generation: number,
            patience,
        };
        // A configured control socket must open: otherwise the start fails before any connection is accepted.
        let (mut control, found) = match ControlSocket::of(&config, None, inheritance.is_some()) {
            Ok(control) => (control, Vec::new()),
            Err(failure) => (None, vec![failure]),
        };
        let current = tokio::select! {
            biased;
            generation = reload::attempt(basis, config, found) => generation?,
            () = asked_to_abort(signals) => return Ok(None),
        };
        let (current, end) = current.split();
        let mut ends = JoinSet::new();
        ends.spawn(end);
        if control.is_none() {
            let address = current.launch.sockets().addresses().into_iter().next();
            control = ControlSocket::of(&current.launch.prepared.config, address.as_ref(), inheritance.is_some())?;
        }
        let mut supervisor = Self {
            what,
            invocation,
            log,
            control,
            watch,
            began: Instant::now(),
            state: ServerState::Serving,
            current,
            draining: Vec::new(),
            ends,
            number,
            reloading: None,
            upgrading: None,
            answers: Vec::new(),
            next: Vec::new(),
            is_reload_wanted: false,
            account,
            observer,
            observing: Some(observing),
            rest: None,
        };
        match inheritance {
            Some(inheritance) => supervisor.take_over(inheritance).await,
            None => systemd::ready(&status::summary(&supervisor.current)),
        }
        if let Some(control) = &supervisor.control {
            control.publish()?;
        }
        // Ignore errors: standard output may have no reader any more, such as after an upgrade.
        let _ = writeln!(std::io::stdout(), "{}", status::announcement(&supervisor.current));
        Ok(Some(supervisor))
    }

    async fn run(mut self, mut signals: Signals) -> Result<(), Failure> {
        let mut watchdog = systemd::Watchdog::new();
        let stopped = loop {
            self.reload_if_wanted();
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => break Vec::new(),
                    Asked::Reload => self.is_reload_wanted = true,
                    Asked::Upgrade => self.upgrade(),
                },
                request = next_request(&mut self.control) => match request.command {
                    Command::Stop => break vec![request.reply],
                    Command::Status => status::answer(&self.overview(), request.reply),
                    Command::Reopen => {
                        self.log.reopen();
                        self.observer.reopen();
                        let _ = request.reply.send(Reply::Reopened);
                    }
                    Command::Reload => {
                        self.next.push(request.reply);
                        self.is_reload_wanted = true;
                    }
                },
                () = changed(&mut self.watch) => {
                    tracing::info!(target: log_target::SUPERVISOR, "a file has changed: reloading");
                    self.is_reload_wanted = true;
                }
                outcome = joined(&mut self.reloading) => self.reloaded(outcome),
                outcome = joined(&mut self.upgrading) => match outcome {
                    Ok(successor) => return end::after(self, successor, signals).await,
                    Err(error) => {
                        self.state = ServerState::Serving;
                        tracing::error!(
                            target: log_target::SUPERVISOR,
                            "upgrade failed: {error}; this process keeps serving"
                        );
                    }
                },
                rest = joined(&mut self.rest) => {
                    self.account.hear(rest);
                    // By now systemd accepts notifications from this process (MAINPID=).
                    systemd::ready(&status::summary(&self.current));
                }
                Some(Ok(number)) = self.ends.join_next() => self.forget(number),
                () = watchdog.due() => systemd::Watchdog::feed(),
            }
        };
        end::by_request(self, signals, stopped).await
    }

    /// Reports to the predecessor that this process serves, so that it drains. The predecessor sends the new main pid
    /// to systemd, which still accepts notifications only from it.
    async fn take_over(&mut self, inheritance: Inheritance) {
        match inheritance.take_over().await {
            Ok((totals, mut predecessor)) => {
                self.account.hear(Ok(totals));
                self.rest = Some(tokio::spawn(async move { predecessor.totals().await }));
            }
            Err(error) => self.account.hear(Err(error)),
        }
        tracing::info!(target: log_target::SUPERVISOR, "took over: {}", status::summary(&self.current));
    }

    pub(crate) fn forget(&mut self, number: u64) {
        for view in self.draining.extract_if(.., |view| view.number() == number) {
            self.account.keep(&view);
        }
    }

    /// Runs one reload at a time. A request that arrives during a reload starts another one after it, since the reload
    /// in progress may have read the files before they were changed.
    fn reload_if_wanted(&mut self) {
        let is_busy = self.reloading.is_some() || self.upgrading.is_some() || self.draining.len() >= MAX_DRAINING;
        if !self.is_reload_wanted || is_busy {
            return;
        }
        self.is_reload_wanted = false;
        self.answers = std::mem::take(&mut self.next);
        self.state = ServerState::Reloading;
        self.number += 1;
        systemd::reloading();
        let launch = &self.current.launch;
        let basis = GenerationInputs {
            scoreboard: Arc::clone(&self.account.scoreboard),
            observer: self.observer.clone(),
            sockets: launch.sockets(),
            known: Some(Arc::clone(&launch.prepared)),
            generation: self.number,
            patience: Duration::ZERO,
        };
        let what = self.what.clone();
        self.reloading = Some(tokio::spawn(async move {
            let (what, config) = reload::read(what).await?;
            let generation = reload::attempt(basis, config, Vec::new()).await?;
            Ok((generation, what))
        }));
    }

    fn reloaded(&mut self, outcome: Result<(Generation, ServeArguments), Failure>) {
        self.state = ServerState::Serving;
        self.account.note_reload(outcome.is_err());
        self.restore_control();
        match outcome {
            Ok((next, what)) => {
                self.what = what;
                self.go_on_with(next);
            }
            Err(failure) => self.go_on_as_it_was(&failure),
        }
        systemd::ready(&status::summary(&self.current));
    }

    /// Recreates the control socket when its path no longer leads to it.
    fn restore_control(&mut self) {
        let Some(control) = self.control.as_ref().filter(|control| !control.is_in_place()) else { return };
        match control.anew() {
            Ok(anew) => self.control = Some(anew),
            Err(failure) => tracing::warn!(
                target: log_target::CONTROL,
                "{failure}; until then, only signals reach this server"
            ),
        }
    }

    /// Makes `next` the current generation and drains the previous one.
    fn go_on_with(&mut self, next: Generation) {
        let (next, end) = next.split();
        self.ends.spawn(end);
        if next.launch.prepared.config.control != self.current.launch.prepared.config.control {
            tracing::warn!(
                target: log_target::CONTROL,
                "`control` is read at start only; to change it, restart daylily or upgrade it (SIGUSR2)"
            );
        }
        let old = std::mem::replace(&mut self.current, next);
        let config = &self.current.launch.prepared.config;
        self.log.set(&LogSettings::of(config));
        self.observer.set(Settings::of(config));
        watch(&mut self.watch, &self.what, Some(config));
        let closes = old.launch.sockets().closing(&self.current.launch.sockets());
        old.wish(DesiredState::End(End { is_last: false, closes }));
        self.draining.push(old);
        tracing::info!(target: log_target::SUPERVISOR, "reloaded: {}", status::summary(&self.current));
        let (generation, answers) = (self.number, std::mem::take(&mut self.answers));
        let former = self.draining.clone();
        tokio::spawn(async move {
            // A client that receives `Reloaded` may rely on new connections reaching the new generation, so wait until
            // the previous workers have stopped accepting. `CLOSING_PATIENCE` bounds the wait for a worker that hangs.
            let closed = async {
                for view in &former {
                    view.closed().await;
                }
            };
            let _ = tokio::time::timeout(CLOSING_PATIENCE, closed).await;
            for answer in answers {
                let _ = answer.send(Reply::Reloaded { generation });
            }
        });
    }

    fn go_on_as_it_was(&mut self, failure: &Failure) {
        // Also watch the files of the configuration that failed: one of them will be fixed.
        if self.watch.is_some() {
            watch(&mut self.watch, &self.what, prepare::read(&self.what).ok().as_ref());
        }
        tracing::error!(
            target: log_target::SUPERVISOR,
            "reload failed, generation {} keeps serving: {failure}", self.current.number()
        );
        self.answer(|| Reply::Failed { reason: failure.to_string(), exit_code: failure.exit_code() });
    }

    /// Cancels a reload or upgrade in progress. Processes that were started for it are killed.
    pub(crate) fn give_up_starting(&mut self) {
        self.reloading.take().inspect(JoinHandle::abort);
        self.upgrading.take().inspect(JoinHandle::abort);
        self.answers.append(&mut self.next);
        self.answer(|| Reply::Failed { reason: "reload refused: the server is stopping".to_owned(), exit_code: 69 });
    }

    fn answer(&mut self, reply: impl Fn() -> Reply) {
        for answer in self.answers.drain(..) {
            let _ = answer.send(reply());
        }
    }

    fn upgrade(&mut self) {
        if self.upgrading.is_some() || self.reloading.is_some() {
            tracing::warn!(
                target: log_target::SUPERVISOR,
                "upgrade refused: an upgrade or a reload is in progress; try again when it is done"
            );
            return;
        }
        self.state = ServerState::Upgrading;
        let invocation = self.invocation.clone();
        let config_was_found = self.what.config_was_found;
        let legacy = Legacy { generation: self.number, totals: self.totals(), config_was_found };
        let sockets = self.current.launch.sockets();
        self.upgrading = Some(tokio::spawn(async move { invocation.succeed(&sockets, legacy).await }));
    }
}

fn watch(watch: &mut Option<Watch>, what: &ServeArguments, config: Option<&Config>) {
    if let Some(watch) = watch {
        watch.add(prepare::config_path(what), config);
    }
}
