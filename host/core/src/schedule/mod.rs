//! Schedules: when they are due, and which of their runs begin.

mod cron;
mod ledger;
#[cfg(test)]
mod tests;

pub use cron::{Cron, Tick, Ticks, Zone};
pub use ledger::{
    CatchUp, Ended, FORM, Ledger, MAX_AT_ONCE, MAX_LEDGER_BYTES, Overlap, Plan, Run, Step, Totals, is_ahead,
};

use crate::words::words;

words! {
    /// How a run of a schedule has ended, or why a tick had none.
    pub enum RunOutcome;

    Ok = "ok", "the response had a status below 400";
    Failed = "failed", "the response had another status, or was not complete";
    Lost = "lost", "the process of the run died, or could not reach the store for too long, or was stopped before the run had ended";
    Skipped = "skipped", "the run before it had not ended";
    Missed = "missed", "no server ran at that time, or none could reach the store";
}
