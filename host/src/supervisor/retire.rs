//! Worker processes that drain.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;

use daylily_core::log_target;
use daylily_core::units::format_duration;
use tokio::sync::watch;

use super::process::{Event, WorkerLaunch, WorkerProcess};
use super::worker_session::{DesiredState, next_desired_state};
use crate::failure::EXIT_CUT;
use crate::ipc::command::{End, WorkerCommand};
use crate::worker::CUT_GRACE_PERIOD;

/// Logs what a drain did not finish. Without this, only a stop of the whole server would report it.
pub(crate) fn log_drained(
    launch: &WorkerLaunch,
    worker: u32,
    process: &WorkerProcess,
    status: &io::Result<ExitStatus>,
) {
    let pid = process.pid;
    let counts = process.counters().counts();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) if status.code() == Some(EXIT_CUT.into()) => {
            let limit = format_duration(launch.prepared.config.server.shutdown_timeout);
            let cut = counts.requests_cut;
            tracing::warn!(
                target: log_target::WORKER,
                "worker {worker} (pid {pid}) did not drain within shutdown_timeout = {limit}, requests cut: {cut}"
            );
        }
        Ok(status) => {
            let lost = counts.requests_in_progress();
            tracing::error!(
                target: log_target::WORKER,
                "worker {worker} (pid {pid}) ended ({status}) while it drained, requests in progress: {lost}"
            );
        }
        Err(error) => tracing::error!(
            target: log_target::WORKER,
            "worker {worker} (pid {pid}) cannot be waited for ({error})"
        ),
    }
}

/// Drains a process that another one has replaced. Kills it when it has not ended `shutdown_timeout` and twice
/// [`CUT_GRACE_PERIOD`] later.
pub(crate) async fn retire(
    launch: Arc<WorkerLaunch>,
    worker: u32,
    mut process: WorkerProcess,
    mut desired: watch::Receiver<DesiredState>,
) {
    let limit = launch.prepared.config.server.shutdown_timeout + 2 * CUT_GRACE_PERIOD;
    process.send(&WorkerCommand::End(End::default()));
    let ended = async {
        loop {
            tokio::select! {
                biased;
                event = process.event() => if let Event::Ended(status) = event {
                    return Some(status);
                },
                state = next_desired_state(&mut desired) => if state == DesiredState::Kill {
                    return None;
                },
            }
        }
    };
    let ended = tokio::time::timeout(limit, ended).await;
    match ended {
        Ok(Some(status)) => log_drained(&launch, worker, &process, &status),
        Ok(None) | Err(_) => drop(process.kill().await),
    }
}
