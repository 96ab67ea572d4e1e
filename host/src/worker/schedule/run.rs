//! One run of a schedule: its request, the beat that shows that it goes on, and its end in the ledger.

use std::sync::Arc;
use std::time::Duration;

use daylily_core::log_target;
use daylily_core::schedule::{Ended, Run, RunOutcome};
use http::header::HOST;
use http::{HeaderValue, Request};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Settings, TRY_AGAIN};
use crate::http::dispatch::{Answer, dispatch};
use crate::http::server::{SCHEDULE, SCHEDULE_ATTEMPT, SCHEDULED_TIME, Worker};

/// How often the owner of a run changes its beat.
const BEAT: Duration = Duration::from_secs(3);

/// A run is ended when its beat could not be changed for this time: less than the others wait before they take it for
/// lost, so that it does not go on beside the next one.
pub(super) const HOLD: Duration = Duration::from_secs(15);

/// How long it is tried to write the end of a run, and how long once the drain cuts.
const END_PATIENCE: Duration = Duration::from_secs(10);
const END_PATIENCE_AT_CUT: Duration = Duration::from_millis(1_500);

/// A run that this worker has claimed.
pub(super) struct Running {
    pub(super) worker: Arc<Worker>,
    pub(super) settings: Arc<Settings>,
    pub(super) run: Run,
    /// When the claim was sent.
    pub(super) claimed: Instant,
    /// The drain waits for the run.
    pub(super) unfinished: TaskTrackerToken,
}

impl Running {
    /// Runs it to its end.
    pub(super) async fn go(self) {
        let (worker, settings) = (&*self.worker, &*self.settings);
        let answer = if self.claimed.elapsed() >= HOLD {
            Err("its claim was answered too late")
        } else {
            tokio::select! {
                biased;
                why = self.hold() => Err(why),
                answer = dispatch(worker, settings.route, &settings.name, self.request()) => Ok(answer),
            }
        };
        let (name, tick) = (&settings.name, self.run.tick);
        let (ended, outcome) = match answer {
            Ok(Answer::Complete(status)) if status < 400 => (Ended::Ok, RunOutcome::Ok),
            Ok(Answer::Complete(status)) => {
                tracing::warn!(
                    target: log_target::SCHEDULE, "schedule `{name}`: the run of {tick} failed with status {status}"
                );
                (Ended::Failed, RunOutcome::Failed)
            }
            Ok(Answer::Cut(_)) => {
                tracing::warn!(
                    target: log_target::SCHEDULE, "schedule `{name}`: the run of {tick} failed: its response was cut"
                );
                (Ended::Failed, RunOutcome::Failed)
            }
            Ok(Answer::ShutDown) => {
                tracing::warn!(
                    target: log_target::SCHEDULE,
                    "schedule `{name}`: the run of {tick} was lost: it had not ended when the server stopped"
                );
                (Ended::Lost, RunOutcome::Lost)
            }
            Err(why) => {
                tracing::error!(
                    target: log_target::SCHEDULE, "schedule `{name}`: the run of {tick} was aborted: {why}"
                );
                (Ended::Lost, RunOutcome::Lost)
            }
        };
        self.end(ended, outcome).await;
    }

    fn request(&self) -> Request<()> {
        let settings = &self.settings;
        let mut request = Request::new(());
        *request.method_mut() = settings.method.clone();
        *request.uri_mut() = settings.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, settings.host.clone());
        let value = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        headers.insert(SCHEDULE, value(settings.name.clone()));
        headers.insert(SCHEDULED_TIME, value(self.run.tick.to_string()));
        headers.insert(SCHEDULE_ATTEMPT, value(self.run.attempt.to_string()));
        request
    }

    /// Changes the beat regularly. Resolves when it may no longer be believed, with the reason.
    async fn hold(&self) -> &'static str {
        let mut held_since = self.claimed;
        let mut pause = BEAT;
        loop {
            sleep(pause).await;
            let now = Instant::now();
            let left = (held_since + HOLD).saturating_duration_since(now);
            if left.is_zero() {
                return "its beat could not be written to the store in time";
            }
            let beat = self.settings.entry.change(
                left,
                |before| {
                    let mut ledger = before?.clone();
                    ledger.beat(&self.run).then_some((ledger, ()))
                },
                // If it is not known, it is done again.
                |_, ()| false,
            );
            match timeout(left, beat).await {
                // Without an entry, nobody can have taken it for lost.
                Ok(Ok(changed)) if changed.change.is_some() || changed.ledger.is_none() => {
                    (held_since, pause) = (now, BEAT);
                }
                Ok(Ok(_)) => return "another worker has taken it for lost, or its entry was deleted",
                Ok(Err(_)) | Err(_) => pause = TRY_AGAIN,
            }
        }
    }

    /// Writes the end into the ledger, and counts it.
    async fn end(self, ended: Ended, outcome: RunOutcome) {
        let settings = &*self.settings;
        let (name, tick) = (&settings.name, self.run.tick);
        let drain = self.worker.drain.clone();
        let written = tokio::select! {
            biased;
            written = timeout(END_PATIENCE, self.write_end(ended)) => written.ok(),
            () = async { drain.cut_off().await; sleep(END_PATIENCE_AT_CUT).await } => None,
        };
        match written {
            Some(true) => {
                self.worker.metrics.note_runs(settings.number, outcome, 1);
                tracing::debug!(target: log_target::SCHEDULE, "schedule `{name}`: the run of {tick} has ended: {outcome}");
            }
            Some(false) => tracing::warn!(
                target: log_target::SCHEDULE,
                "schedule `{name}`: the run of {tick} ({outcome}) was taken for lost by another worker, or its entry was \
                 deleted"
            ),
            None => tracing::error!(
                target: log_target::SCHEDULE,
                "schedule `{name}`: the end of the run of {tick} ({outcome}) could not be written; it will count as lost"
            ),
        }
        drop(self.unfinished);
    }

    /// Returns false if the run is no longer this worker's.
    async fn write_end(&self, ended: Ended) -> bool {
        // It may have been written, and its answer lost.
        let mut is_uncertain = false;
        loop {
            let end = self.settings.entry.change(
                END_PATIENCE,
                |before| {
                    let mut ledger = before?.clone();
                    ledger.end(&self.settings.plan, &self.run, ended).then_some((ledger, ()))
                },
                |now, ()| !now.has(&self.run),
            );
            match end.await {
                Ok(changed) => return changed.change.is_some() || is_uncertain,
                Err(failed) => {
                    is_uncertain |= failed.uncertain.is_some();
                    sleep(TRY_AGAIN).await;
                }
            }
        }
    }
}
