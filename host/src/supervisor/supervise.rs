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
use super::admin::AdminListener;
use super::control_socket::admin::ControlSocket;
use super::control_socket::report::{Command, Reply};
use super::control_socket::status;
use super::develop::{Develop, Wanted};
use super::events::{asked_to_abort, changed, joined, next_request, wanted};
use super::generation::{Generation, View};
use super::observer::{self, Observer};
use super::process::workers;
use super::reload::{self, GenerationInputs};
use super::reloading::{self, Reloading};
use super::signal::{Asked, Signals};
use super::upgrade::{CarriedState, Inheritance, Invocation, Report, Successor};
use super::watch::Watch;
use super::{end, orphans, surroundings, systemd};
use crate::cli::ServeArguments;
use crate::failure::Failure;
use crate::net::sockets::Sockets;
use crate::observe::log::{self, LogSettings};
use crate::observe::server_page::{MAX_DRAINING, ServerState};
use crate::supervisor::prepare;
use crate::sys::runtime;

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
    let was_found = task.inheritance.as_ref().is_some_and(|inheritance| inheritance.carried.config_was_found);
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

/// Starts the first generation. `observer` answers on the admin listener meanwhile.
async fn first_generation(
    basis: GenerationInputs,
    config: Config,
    found: Vec<Failure>,
    observer: Option<&Observer>,
    (develop, watch): (&mut Option<Develop>, &mut Option<Watch>),
) -> Result<(Generation, AdminListener), Failure> {
    let number = basis.generation;
    let opened = reload::open(basis, config, found).await?;
    if let Some(observer) = observer {
        observer.set_admin(opened.admin.clone());
    }
    match develop {
        Some(develop) => develop.start(opened, number, watch.as_mut()).await,
        None => opened.start().await,
    }
}

type Rest = JoinHandle<std::io::Result<Report>>;
type Upgrading = JoinHandle<std::io::Result<Successor>>;

pub(crate) struct Supervisor {
    pub(super) what: ServeArguments,
    invocation: Invocation,
    pub(super) log: log::Log,
    pub(crate) control: Option<ControlSocket>,
    pub(super) admin: AdminListener,
    pub(super) watch: Option<Watch>,
    /// Under `daylily dev`.
    pub(super) develop: Option<Develop>,
    pub(crate) began: Instant,
    pub(crate) state: ServerState,
    pub(crate) current: Arc<View>,
    /// Draining generations.
    pub(crate) draining: Vec<Arc<View>>,
    pub(crate) ends: JoinSet<u64>,
    /// The highest generation number used so far, also by a generation that failed to start.
    pub(super) number: u64,
    pub(super) reloading: Option<Reloading>,
    pub(super) upgrading: Option<Upgrading>,
    /// Clients that wait for the reload in progress (`answers`), and for the one after it (`next`).
    pub(super) answers: Vec<oneshot::Sender<Reply>>,
    pub(super) next: Vec<oneshot::Sender<Reply>>,
    pub(super) is_reload_wanted: bool,
    /// A generation is wanted that serves the same and shows browsers a notice.
    pub(super) is_notice_wanted: bool,
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
        let carried = inheritance.as_ref().map(|inheritance| inheritance.carried);
        let totals = carried.map(|carried| carried.totals).unwrap_or_default();
        let number = carried.map_or(1, |carried| carried.generation + 1);
        let slots = MAX_PROCESSES.min(workers(config.workers).saturating_mul(64).max(1024));
        let account = Account::open(slots, totals)?;
        let mut watch = what.watch.then(Watch::new);
        let mut develop = what.develops.then(|| Develop::new(&config));
        reloading::watch(&mut watch, &what, &config);
        let patience = if inheritance.is_some() { Duration::ZERO } else { reload::RELEASE_PATIENCE };
        let (observer, observing) = Observer::of(&config, Arc::clone(&account.page))?;
        let basis = GenerationInputs {
            scoreboard: Arc::clone(&account.scoreboard),
            page: Arc::clone(&account.page),
            observer: observer.clone(),
            sockets,
            admin: inheritance.as_ref().map(|inheritance| inheritance.admin.clone()).unwrap_or_default(),
            known: None,
            generation: number,
            patience,
            dev: None,
            is_local: what.is_local(),
        };
        // A configured control socket must open: otherwise the start fails before any connection is accepted.
        let (mut control, found) = match ControlSocket::of(&config, None, inheritance.is_some()) {
            Ok(control) => (control, Vec::new()),
            Err(failure) => (None, vec![failure]),
        };
        // The predecessor's observer answers until this process takes over.
        let answers = inheritance.is_none().then_some(&observer);
        let (current, admin) = tokio::select! {
            biased;
            started = first_generation(basis, config, found, answers, (&mut develop, &mut watch)) => started?,
            () = asked_to_abort(signals) => return Ok(None),
        };
        let (current, end) = current.split();
        let mut ends = JoinSet::new();
        ends.spawn(end);
        if control.is_none() {
            let address = current.launch.sockets().addresses().into_iter().next();
            control = ControlSocket::of(&current.launch.prepared.config, address.as_ref(), inheritance.is_some())?;
        }
        let supervisor = Self {
            what,
            invocation,
            log,
            control,
            admin,
            watch,
            develop,
            began: Instant::now(),
            state: ServerState::Starting,
            current,
            draining: Vec::new(),
            ends,
            number,
            reloading: None,
            upgrading: None,
            answers: Vec::new(),
            next: Vec::new(),
            is_reload_wanted: false,
            is_notice_wanted: false,
            account,
            observer,
            observing: Some(observing),
            rest: None,
        };
        supervisor.serving(inheritance).await.map(Some)
    }

    /// The first generation is ready: notifies the predecessor or systemd, publishes the control socket, and prints the
    /// addresses.
    async fn serving(mut self, inheritance: Option<Inheritance>) -> Result<Self, Failure> {
        self.set_state(ServerState::Serving);
        self.show_generation();
        match inheritance {
            Some(inheritance) => self.take_over(inheritance).await,
            None => {
                systemd::ready(&status::summary(&self.current));
                surroundings::note_port(&self.current.launch.sockets());
            }
        }
        if let Some(control) = &self.control {
            control.publish()?;
        }
        // Ignore errors: standard output may have no reader any more, such as after an upgrade.
        let _ = writeln!(std::io::stdout(), "{}", status::announcement(&self));
        if let Some(develop) = &self.develop {
            let _ = writeln!(std::io::stdout(), "{}", develop.announcement());
        }
        Ok(self)
    }

    async fn run(mut self, mut signals: Signals) -> Result<(), Failure> {
        let mut watchdog = systemd::Watchdog::new();
        let (is_urgent, stopped) = loop {
            self.reload_if_wanted();
            let is_building = self.develop.as_ref().is_some_and(Develop::is_building);
            let building = is_building.then(|| prepare::config_path(&self.what)).flatten();
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop { is_urgent } => break (is_urgent, Vec::new()),
                    Asked::Reload => self.is_reload_wanted = true,
                    Asked::Upgrade => self.upgrade(),
                },
                request = next_request(&mut self.control) => match request.command {
                    Command::Stop => break (false, vec![request.reply]),
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
                () = changed(&mut self.watch, building.as_deref()) => self.note_change(),
                wanted = wanted(&mut self.develop) => match wanted {
                    Wanted::Nothing => {}
                    Wanted::Reload => self.is_reload_wanted = true,
                    Wanted::Notice => {
                        // What a build that failed has written is not loaded.
                        let config = &self.current.launch.prepared.config;
                        self.watch.iter_mut().for_each(|watch| watch.take_as_read(config));
                        self.is_notice_wanted = true;
                    }
                },
                outcome = joined(&mut self.reloading) => self.reloaded(outcome),
                outcome = joined(&mut self.upgrading) => match outcome {
                    Ok(successor) => return end::after(self, successor, signals).await,
                    Err(error) => {
                        self.set_state(ServerState::Serving);
                        tracing::error!(
                            target: log_target::SUPERVISOR,
                            "upgrade failed: {error}; this process keeps serving"
                        );
                    }
                },
                rest = joined(&mut self.rest) => {
                    self.add_predecessor(rest);
                    // By now systemd accepts notifications from this process (MAINPID=).
                    systemd::ready(&status::summary(&self.current));
                }
                Some(Ok(number)) = self.ends.join_next() => self.note_generation_ended(number),
                () = watchdog.due() => systemd::Watchdog::feed(),
            }
        };
        end::by_request(self, signals, is_urgent, stopped).await
    }

    /// A file that [`Watch`] watches has changed.
    fn note_change(&mut self) {
        let read = || prepare::read(&self.what).ok();
        if self.develop.as_mut().is_none_or(|develop| develop.loads_at_once(read)) {
            tracing::info!(target: log_target::SUPERVISOR, "a file has changed: reloading");
            self.is_reload_wanted = true;
        }
    }

    /// Reports to the predecessor that this process serves, so that it drains. The predecessor sends the new main pid
    /// to systemd, which still accepts notifications only from it.
    async fn take_over(&mut self, inheritance: Inheritance) {
        match inheritance.take_over().await {
            Ok((report, predecessor)) => {
                match report {
                    Ok(report) => self.add_predecessor(Ok(report)),
                    Err(error) => tracing::warn!(
                        target: log_target::SUPERVISOR,
                        "the predecessor's counters are late: {error}; they are added when it has ended"
                    ),
                }
                self.rest = Some(tokio::spawn(predecessor.last_report()));
            }
            Err(error) => self.add_predecessor(Err(error)),
        }
        // Only now, with the predecessor's totals added: counters on the admin listener must not decrease.
        self.observer.set_admin(self.admin.clone());
        tracing::info!(target: log_target::SUPERVISOR, "took over: {}", status::summary(&self.current));
    }

    /// Adds what the predecessor has counted since its last report.
    pub(crate) fn add_predecessor(&mut self, report: std::io::Result<Report>) {
        let sums = self.account.add_predecessor(report);
        self.observer.add(&sums);
    }

    pub(crate) fn note_generation_ended(&mut self, number: u64) {
        for view in self.draining.extract_if(.., |view| view.number() == number) {
            self.account.add_ended(&view);
        }
        self.account.page.set_draining(self.draining.iter().map(|view| view.number()).collect());
    }

    pub(crate) fn set_state(&mut self, state: ServerState) {
        self.state = state;
        self.account.page.set_state(state);
    }

    /// Writes the current generation, and those that drain, to the server page.
    pub(super) fn show_generation(&self) {
        let draining = self.draining.iter().map(|view| view.number()).collect();
        self.account.page.set_generation(self.current.number(), self.current.on_page(), draining);
    }

    fn upgrade(&mut self) {
        if self.develop.is_some() {
            tracing::warn!(
                target: log_target::SUPERVISOR,
                "upgrade refused: `daylily dev` is not upgraded; stop it, and start it again"
            );
            return;
        }
        if self.upgrading.is_some() || self.reloading.is_some() {
            tracing::warn!(
                target: log_target::SUPERVISOR,
                "upgrade refused: an upgrade or a reload is in progress; try again when it is done"
            );
            return;
        }
        self.set_state(ServerState::Upgrading);
        let invocation = self.invocation.clone();
        let config_was_found = self.what.config_was_found;
        let carried = CarriedState { generation: self.number, totals: self.totals(), config_was_found };
        let (sockets, admin) = (self.current.launch.sockets(), self.admin.clone());
        self.upgrading = Some(tokio::spawn(async move { invocation.succeed(&sockets, &admin, carried).await }));
    }
}
