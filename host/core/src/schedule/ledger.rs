//! The ledger of a schedule: one entry in a store, which all workers of all servers change with compare-and-swap. It
//! decides which ticks begin a run, so each change here is made by exactly one of them.
//!
//! Whether the process of a run is alive is not decided by clocks, which differ between machines: the owner of a run
//! changes its `beat` regularly, and others measure how long it stays the same.

use serde::{Deserialize, Serialize};

use super::cron::{Tick, Ticks};

/// The version of the text of a ledger.
pub const FORM: u32 = 1;

/// Runs of one schedule at the same time, with `overlap = "allow"`.
pub const MAX_AT_ONCE: usize = 16;

/// A ledger with that many runs is not longer, as JSON.
pub const MAX_LEDGER_BYTES: usize = 4 << 10;

/// How late a run may begin. A tick that no worker has claimed by then is missed.
const MAX_LATE_S: i64 = 30;

/// How far the last tick may be in the future before the clock is said to have been set back.
const MAX_AHEAD_S: i64 = 60;

/// Missed ticks that are counted at a time: the search goes from one to the next.
const MAX_COUNTED: u64 = 1_000;

/// What is done about a tick while the run before it has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overlap {
    /// It is skipped.
    #[default]
    Skip,
    /// It begins a run, too, up to [`MAX_AT_ONCE`].
    Allow,
}

/// What is done about ticks that were missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatchUp {
    /// Nothing.
    #[default]
    None,
    /// The last one begins a run.
    Last,
}

/// What a worker knows of a schedule.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its ticks.
    pub ticks: Ticks,
    /// What the ticks are made from: another text means that the schedule was changed.
    pub times: String,
    /// What is done about a tick while the run before it has not ended.
    pub overlap: Overlap,
    /// What is done about ticks that were missed.
    pub catch_up: CatchUp,
    /// How often a run that was lost is begun again.
    pub retries: u32,
    /// When this worker began to look at the schedule.
    pub since: Tick,
}

/// The entry in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// [`FORM`]. A higher one is of a newer version of the program, which this one must not change.
    pub form: u32,
    /// [`Plan::times`] of the worker that wrote it.
    pub times: String,
    /// The last tick that was decided. It and all before it are never decided again.
    pub last: Tick,
    /// The runs in progress, and those that wait to be begun again.
    #[serde(default)]
    pub running: Vec<Run>,
    /// What there was since the beginning.
    #[serde(default)]
    pub totals: Totals,
}

/// A run that has been claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its tick.
    pub tick: Tick,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// A word that no other claim has; empty if it waits to be begun again.
    pub owner: String,
    /// Changed by its owner as long as it lives.
    pub beat: u64,
}

/// Sums over all runs: `begun` is `ok`, `failed` and `lost` together with the runs in progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the words of RunOutcome")]
pub struct Totals {
    pub begun: u64,
    pub ok: u64,
    pub failed: u64,
    pub lost: u64,
    pub skipped: u64,
    pub missed: u64,
}

/// How a run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With a response below 400.
    Ok,
    /// With another response, or none.
    Failed,
    /// Before its end.
    Lost,
}

/// What a change of the ledger means for the worker that made it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Whether there is a change to be written.
    pub is_changed: bool,
    /// The run that this worker has to begin.
    pub begin: Option<Run>,
    /// The run that was lost.
    pub lost: Option<Run>,
    /// The tick that was skipped.
    pub skipped: Option<Tick>,
    /// Ticks that were missed.
    pub missed: u64,
}

impl Ledger {
    /// For a schedule that has none, or one with other times; None if it stays as it is. Ticks before `plan.since` are
    /// neither missed nor run then.
    pub fn adopted(before: Option<&Self>, plan: &Plan) -> Option<Self> {
        match before {
            None => Some(Self {
                form: FORM,
                times: plan.times.clone(),
                last: plan.since,
                running: Vec::new(),
                totals: Totals::default(),
            }),
            Some(ledger) if ledger.times == plan.times => None,
            Some(ledger) => {
                Some(Self { times: plan.times.clone(), last: ledger.last.max(plan.since), ..ledger.clone() })
            }
        }
    }

    /// Decides the ticks until `now`: at most the last one begins a run, which `owner` claims.
    pub fn decide(&mut self, plan: &Plan, now: Tick, owner: &str) -> Step {
        let mut step = Step::default();
        let is_same = self.times == plan.times;
        // While servers with other times share it, each one's ticks count from its own beginning.
        let after = if is_same { self.last } else { self.last.max(plan.since) };
        let Some(tick) = plan.ticks.until(now).filter(|tick| *tick > after) else { return step };
        step.is_changed = true;
        if is_same {
            step.missed = count(&plan.ticks, after, tick);
        }
        self.last = tick;
        let is_late = now.0.saturating_sub(tick.0) > MAX_LATE_S;
        let at_once = if plan.overlap == Overlap::Skip { 1 } else { MAX_AT_ONCE };
        if is_late && plan.catch_up == CatchUp::None {
            step.missed += 1;
        } else if self.running.len() >= at_once {
            step.skipped = Some(tick);
            self.totals.skipped += 1;
        } else {
            step.begin = Some(self.claim(tick, 1, owner));
        }
        self.totals.missed += step.missed;
        step
    }

    fn claim(&mut self, tick: Tick, attempt: u32, owner: &str) -> Run {
        let run = Run { tick, attempt, owner: owner.to_owned(), beat: 0 };
        self.totals.begun += 1;
        self.running.push(run.clone());
        run
    }

    /// The beat of `seen` has not changed for so long that its owner is dead, or it waits to be begun again: `owner`
    /// begins it again if there are attempts left.
    pub fn take_over(&mut self, plan: &Plan, seen: &Run, owner: &str) -> Step {
        let Some(at) = self.running.iter().position(|run| run == seen) else { return Step::default() };
        let run = self.running.remove(at);
        let mut step = Step { is_changed: true, ..Step::default() };
        if run.attempt <= plan.retries {
            step.begin = Some(self.claim(run.tick, run.attempt + 1, owner));
        }
        if !run.owner.is_empty() {
            self.totals.lost += 1;
            step.lost = Some(run);
        }
        step
    }

    /// The owner of `run` lives. Returns false if the run is no longer its own.
    pub fn beat(&mut self, run: &Run) -> bool {
        let Some(own) = self.find(run) else { return false };
        own.beat += 1;
        true
    }

    /// `run` has ended. Returns false if it is no longer its owner's: another worker has counted it as lost.
    pub fn end(&mut self, plan: &Plan, run: &Run, ended: Ended) -> bool {
        let Some(own) = self.find(run) else { return false };
        if ended == Ended::Lost && run.attempt <= plan.retries {
            own.owner.clear();
        } else {
            self.running.retain(|other| other.owner != run.owner);
        }
        *match ended {
            Ended::Ok => &mut self.totals.ok,
            Ended::Failed => &mut self.totals.failed,
            Ended::Lost => &mut self.totals.lost,
        } += 1;
        true
    }

    fn find(&mut self, run: &Run) -> Option<&mut Run> {
        self.running.iter_mut().find(|other| other.owner == run.owner)
    }

    /// Whether this claim is in it.
    pub fn has(&self, run: &Run) -> bool {
        self.running.iter().any(|other| other.owner == run.owner)
    }
}

/// Whether a tick that was decided is in the future, because the clock was set back.
pub fn is_ahead(tick: Tick, now: Tick) -> bool {
    tick.0 > now.0.saturating_add(MAX_AHEAD_S)
}

/// The ticks between two, up to [`MAX_COUNTED`].
fn count(ticks: &Ticks, after: Tick, before: Tick) -> u64 {
    let mut counted = 0;
    let mut at = after;
    while counted < MAX_COUNTED {
        match ticks.after(at) {
            Some(next) if next < before => (at, counted) = (next, counted + 1),
            _ => break,
        }
    }
    counted
}
