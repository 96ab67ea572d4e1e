//! Schedules: each worker that serves has a timer for each of them. When a schedule is due, all workers of all servers
//! that share its store try to claim the run, and the first one gets it. So a worker that hangs or has died delays
//! nothing. `core/schedule/ledger.rs` has the rules, [ADR 0019](../../../../docs/adr/0019-a-ledger-for-each-schedule.md)
//! the reasons.

mod entry;
mod run;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daylily_core::config::{Config, Schedule};
use daylily_core::log_target;
use daylily_core::schedule::{Ledger, Plan, Run, RunOutcome, Step, Tick, is_ahead};
use http::{HeaderValue, Method, Uri};
use tokio::time::{Instant, sleep};

use self::entry::{Entry, EntryError, Failed};
use self::run::{HOLD, Running};
use crate::http::server::Worker;
use crate::observe::log::OncePerSecond;
use crate::observe::request_id::RequestId;
use crate::sys::pace::Pace;

/// A run whose beat has not changed for this time, as this process measures it, is lost.
const LEASE: Duration = Duration::from_secs(20);

/// How long a claim may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause after a store could not be reached.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// The longest sleep: so long may the clock be wrong without being noticed.
const MAX_SLEEP: Duration = Duration::from_secs(5);

/// Errors of one schedule are logged at most once in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What the runs of a schedule need.
struct Settings {
    name: String,
    /// Its number in the configuration.
    number: usize,
    /// The index of its route.
    route: usize,
    method: Method,
    path: Uri,
    host: HeaderValue,
    plan: Plan,
    entry: Entry,
}

/// The timer of one schedule.
struct Timer {
    worker: Arc<Worker>,
    settings: Arc<Settings>,
    /// The last tick that was decided, as this worker knows; None before it has seen the ledger.
    last: Option<Tick>,
    /// The runs in the ledger, and since when they look like that.
    seen: Vec<(Run, Instant)>,
    /// A change that begins runs, of which it is not known whether it was made, and when it was sent.
    unsettled: Option<(Made, Instant)>,
    is_ahead: bool,
    reports: Pace,
    skips: OncePerSecond,
}

/// What a look at the ledger has changed.
struct Made {
    /// The run that was lost, or waited to be begun again.
    taken_over: Step,
    decided: Step,
}

impl Made {
    /// Whether a ledger has all runs that it begins. There must be one: nothing else can be told from what others do.
    fn is_in(ledger: &Ledger, made: &Self) -> bool {
        let mut begun = made.taken_over.begin.iter().chain(&made.decided.begin).peekable();
        begun.peek().is_some() && begun.all(|run| ledger.has(run))
    }
}

/// Starts the timers, which end when the drain begins. Runs in progress then go on.
pub(super) fn begin(worker: &Arc<Worker>, config: &Config) {
    for (number, schedule) in config.schedules.iter().enumerate() {
        // The configuration was validated, so nothing is missing.
        let Some(settings) = settings(worker, config, number, schedule) else { continue };
        let timer = Timer {
            worker: Arc::clone(worker),
            settings: Arc::new(settings),
            last: None,
            seen: Vec::new(),
            unsettled: None,
            is_ahead: false,
            reports: Pace::new(REPORT_INTERVAL),
            skips: OncePerSecond::new(),
        };
        tokio::spawn(timer.keep());
    }
}

fn settings(worker: &Worker, config: &Config, number: usize, schedule: &Schedule) -> Option<Settings> {
    let route = config.routes.iter().position(|route| route.name == schedule.route)?;
    let host = config.routes.get(route)?.host.to_string();
    let host = if host.is_empty() || host.starts_with('*') { "localhost".to_owned() } else { host };
    let store = worker.stores.iter().find(|store| store.name() == schedule.store)?;
    let plan = Plan {
        ticks: schedule.ticks(),
        times: format!("{} {}", schedule.cron.as_str(), schedule.time_zone.name()),
        overlap: schedule.overlap,
        catch_up: schedule.catch_up,
        retries: schedule.retries,
        since: now(),
    };
    Some(Settings {
        name: schedule.name.clone(),
        number,
        route,
        method: schedule.method.parse().ok()?,
        path: schedule.path.parse().ok()?,
        host: HeaderValue::try_from(host).ok()?,
        plan,
        entry: Entry::new(Arc::clone(store), schedule.key()),
    })
}

impl Timer {
    async fn keep(mut self) {
        let mut steps = self.worker.drain.steps();
        loop {
            let pause = {
                // A claim is not cancelled halfway: its run would be lost.
                let _unfinished = self.worker.drain.begin_task();
                self.look().await
            };
            tokio::select! {
                biased;
                () = steps.next() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Does what is due. Returns how long nothing will be.
    async fn look(&mut self) -> Duration {
        let now = now();
        let plan = &self.settings.plan;
        // The entry may be deleted because its last tick is in the future.
        let is_due =
            self.is_ahead || self.last.is_none_or(|last| plan.ticks.until(now).is_some_and(|tick| tick > last));
        let lost = self.seen.iter().find(|(run, since)| run.owner.is_empty() || since.elapsed() >= LEASE);
        let lost = lost.map(|(run, _)| run.clone());
        if (is_due || lost.is_some())
            && let Err(error) = self.decide(now, lost).await
        {
            if self.reports.allows(Instant::now()) {
                tracing::error!(
                    target: log_target::SCHEDULE, "schedule `{}`: nothing can be claimed: {error}", self.settings.name
                );
            }
            return TRY_AGAIN;
        }
        self.note_clock(now);
        self.pause()
    }

    /// Claims what is due, and `lost`.
    async fn decide(&mut self, now: Tick, lost: Option<Run>) -> Result<(), EntryError> {
        let claimed = Instant::now();
        let plan = &self.settings.plan;
        let owners = [RequestId::next().to_string(), RequestId::next().to_string()];
        let last = self.last;
        let change = |before: Option<&Ledger>| {
            let adopted = match before {
                // If it was deleted, this tick has not been decided.
                None => Ledger::adopted(None, &Plan { since: last.unwrap_or(now).min(now), ..plan.clone() }),
                Some(_) if last.is_none() => Ledger::adopted(before, &Plan { since: now, ..plan.clone() }),
                Some(_) => None,
            };
            let is_new = adopted.is_some();
            let mut ledger = adopted.or_else(|| before.cloned())?;
            let [first, second] = &owners;
            let taken_over = lost.as_ref().map(|run| ledger.take_over(plan, run, first)).unwrap_or_default();
            let decided = ledger.decide(plan, now, second);
            let is_changed = is_new || taken_over.is_changed || decided.is_changed;
            is_changed.then_some((ledger, Made { taken_over, decided }))
        };
        let changed = match self.settings.entry.change(PATIENCE, change, Made::is_in).await {
            Ok(changed) => changed,
            Err(Failed { error, uncertain }) => {
                self.unsettled = uncertain.map(|made| (made, claimed)).or(self.unsettled.take());
                return Err(error);
            }
        };
        if let Some(ledger) = changed.ledger {
            if let Some((made, sent)) = self.unsettled.take()
                && sent.elapsed() < HOLD
                && Made::is_in(&ledger, &made)
            {
                self.carry_out(made, sent);
            }
            self.last = Some(ledger.last);
            self.remember(ledger.running);
        }
        if let Some(made) = changed.change {
            self.carry_out(made, claimed);
        }
        Ok(())
    }

    fn remember(&mut self, running: Vec<Run>) {
        let before = std::mem::take(&mut self.seen);
        let since = |run: &Run| before.iter().find(|(seen, _)| seen == run).map(|(_, since)| *since);
        self.seen = running.into_iter().map(|run| (run.clone(), since(&run).unwrap_or_else(Instant::now))).collect();
    }

    /// Does what a change means.
    fn carry_out(&self, Made { taken_over, decided }: Made, claimed: Instant) {
        self.carry_out_step(taken_over, claimed);
        self.carry_out_step(decided, claimed);
    }

    /// Counts and logs what was decided, and begins the run.
    fn carry_out_step(&self, step: Step, claimed: Instant) {
        let (settings, metrics) = (&self.settings, &self.worker.metrics);
        let name = &settings.name;
        if let Some(run) = step.lost {
            metrics.note_runs(settings.number, RunOutcome::Lost, 1);
            let then = if step.begin.is_some() { "it is begun again" } else { "it is not begun again" };
            let (tick, attempt) = (run.tick, run.attempt);
            tracing::error!(
                target: log_target::SCHEDULE,
                "schedule `{name}`: the run of {tick} was lost: nothing was heard of its process for {LEASE:?} (attempt \
                 {attempt}); {then}"
            );
        }
        if step.missed > 0 {
            metrics.note_runs(settings.number, RunOutcome::Missed, step.missed);
            tracing::warn!(
                target: log_target::SCHEDULE,
                "schedule `{name}`: {} missed, because no server could run it", runs(step.missed)
            );
        }
        if let Some(tick) = step.skipped {
            metrics.note_runs(settings.number, RunOutcome::Skipped, 1);
            if self.skips.is_news() {
                tracing::warn!(
                    target: log_target::SCHEDULE,
                    "schedule `{name}`: the run of {tick} was skipped: the one before it has not ended (logged once a \
                     second)"
                );
            }
        }
        if let Some(run) = step.begin {
            let (worker, settings) = (Arc::clone(&self.worker), Arc::clone(settings));
            let unfinished = worker.drain.begin_task();
            tokio::spawn(Running { worker, settings, run, claimed, unfinished }.go());
        }
    }

    /// Says once that a tick in the future was decided.
    fn note_clock(&mut self, now: Tick) {
        let ahead = self.last.filter(|last| is_ahead(*last, now));
        if let (Some(last), false) = (ahead, self.is_ahead) {
            tracing::warn!(
                target: log_target::SCHEDULE,
                "schedule `{}`: its last run was at {last}, which is in the future: the clock was set back; the next \
                 run is after that time, unless the key {:?} is deleted from its store",
                self.settings.name, self.settings.entry.key()
            );
        }
        self.is_ahead = ahead.is_some();
    }

    /// Until the next tick, or until a run may be lost.
    fn pause(&self) -> Duration {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let after = self.last.map_or_else(now, |last| last.max(now()));
        let next = self.settings.plan.ticks.after(after).and_then(|tick| u64::try_from(tick.0).ok());
        let next = next.map(|second| Duration::from_secs(second).saturating_sub(since_epoch));
        let lost = self.seen.iter().map(|(run, since)| match run.owner.as_str() {
            "" => Duration::ZERO,
            _ => LEASE.saturating_sub(since.elapsed()),
        });
        lost.chain(next).fold(MAX_SLEEP, Duration::min)
    }
}

fn now() -> Tick {
    Tick::at(SystemTime::now())
}

fn runs(count: u64) -> String {
    if count == 1 { "a run was".to_owned() } else { format!("{count} runs were") }
}
