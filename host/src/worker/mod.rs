//! The worker process: receives its setup from the supervisor, serves, and drains on a command or when its supervisor
//! has ended.

mod accept_loops;
pub(crate) mod load;
mod role;
mod schedule;
pub(crate) mod setup;

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use daylily_core::log_target;
use daylily_core::process_role::ProcessRole;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::accept_loops::AcceptLoops;
use self::load::WorkerContext;
use self::setup::WorkerSetup;
use crate::engine::meter::note_cpu_clock;
use crate::failure::{EXIT_CUT, Failure};
use crate::http::server::Worker;
use crate::ipc::child;
use crate::ipc::command::{CLOSED, End, FAILED, READY, WorkerCommand};
use crate::observe::log::{self, LogSettings};
use crate::sys::drain::{Drain, DrainPolicy};
use crate::sys::{memory, runtime};

/// Maximum interval between heartbeats, which show the supervisor that the event loop runs.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// How long a drain waits for an idle client, which may be sending its next request just now: while another generation
/// serves, and at a stop, when none does.
const IDLE_PATIENCE: Duration = Duration::from_secs(1);
const IDLE_PATIENCE_AT_STOP: Duration = Duration::from_millis(500);

/// How long connections may take, after the cut, to send the error responses of requests that were cut.
pub(crate) const CUT_GRACE_PERIOD: Duration = Duration::from_secs(2);

/// Runs a worker to its end.
pub(crate) fn main() -> ExitCode {
    let (supervisor, (setup, lines)) = match child::begin(c"daylily-worker", "workers", setup::receive) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    let log = log::start_through(lines, LogSettings::of(&setup.config));
    let served = log.and_then(|_log| runtime::run(serve(&supervisor, setup)));
    match served {
        Ok(code) => code,
        Err(error) => {
            report(&supervisor, &Failure::Internal(error));
            ExitCode::FAILURE
        }
    }
}

async fn serve(supervisor: &UnixStream, setup: WorkerSetup) -> io::Result<ExitCode> {
    let WorkerSetup { id, config, dev, connection_limit, artifacts, listeners, doorbells, .. } = setup;
    let (counters, journal, metrics, alive) = (setup.counters, setup.journal, setup.metrics, setup.alive);
    // The kernel closes it when this process has ended, after the last record.
    std::mem::forget(alive);
    let drain = Drain::new();
    let context = WorkerContext { connection_limit, dev, drain: drain.clone(), counters, journal, metrics, doorbells };
    let worker = match load::worker(&config, &artifacts, context) {
        Ok(worker) => worker.share(),
        Err(errors) => {
            report(supervisor, &Failure::Components(errors));
            return Ok(ExitCode::FAILURE);
        }
    };
    // The code is mapped by now, so its files can be closed.
    drop(artifacts);
    let mut accept_loops = AcceptLoops::new(Arc::clone(&worker), id.worker, listeners);
    let server = &config.server;
    tokio::spawn(worker.pulse.clone().beat());
    let admitting = Arc::clone(&worker);
    tokio::spawn(async move { admitting.admission.relieve().await });
    tokio::spawn(beat(Arc::clone(&worker), HEARTBEAT.min(server.hang_timeout / 4)));
    let mut commands = listen_to(supervisor, server.shutdown_timeout)?;
    (&mut &*supervisor).write_all(&[READY])?;
    tracing::debug!(target: log_target::WORKER, generation = id.generation, worker = id.worker, "ready");

    let mut schedules = Some(&config);
    let end = loop {
        match commands.recv().await {
            Some(WorkerCommand::Accept(absent)) => {
                accept_loops.accept_for(&absent)?;
                if let Some(config) = schedules.take() {
                    schedule::begin(&worker, config);
                }
            }
            Some(WorkerCommand::CloseConnections) => drain.close_connections(),
            Some(WorkerCommand::End(end)) => break end,
            // The channel is closed: the supervisor has ended.
            None => break End { is_last: true, closes: accept_loops.own_sockets() },
        }
    };
    let idle_patience = if end.is_last { IDLE_PATIENCE_AT_STOP } else { IDLE_PATIENCE };
    drain.begin(DrainPolicy { began: Instant::now(), idle_patience });
    accept_loops.stop_accepting(&end.closes);
    // Ignore errors: the supervisor may have ended.
    let _ = (&mut &*supervisor).write_all(&[CLOSED]);
    accept_loops.close().await;
    let code = finish(&worker, server.shutdown_timeout).await;
    worker.metrics.note_cpu_time(ProcessRole::Worker);
    Ok(code)
}

/// Waits for the connections and requests in progress; after `shutdown_timeout`, cuts them.
async fn finish(worker: &Worker, shutdown_timeout: Duration) -> ExitCode {
    if tokio::time::timeout(shutdown_timeout, worker.drain.finished()).await.is_ok() {
        return ExitCode::SUCCESS;
    }
    worker.counters.note_cut();
    worker.drain.cut();
    // Guests end at once. A client that does not read its error response is not waited for any longer.
    let _ = tokio::time::timeout(CUT_GRACE_PERIOD, worker.drain.finished()).await;
    ExitCode::from(EXIT_CUT)
}

async fn beat(worker: Arc<Worker>, every: Duration) {
    let mut interval = tokio::time::interval(every);
    loop {
        interval.tick().await;
        worker.counters.heartbeats.add(1);
        worker.date.look(SystemTime::now());
        note_cpu_clock();
        worker.metrics.note_cpu_time(ProcessRole::Worker);
        worker.note_blocked();
        memory::give_back();
    }
}

/// Receives worker commands; the channel closes when the supervisor has ended. A thread reads them. It also ends the
/// process when the event loop has not done so `shutdown_timeout` and twice [`CUT_GRACE_PERIOD`] after the supervisor's
/// end, because no other process would kill a hung worker then.
fn listen_to(
    supervisor: &UnixStream,
    shutdown_timeout: Duration,
) -> io::Result<mpsc::UnboundedReceiver<WorkerCommand>> {
    let (sender, commands) = mpsc::unbounded_channel();
    let mut supervisor = supervisor.try_clone()?;
    std::thread::Builder::new().name("commands".into()).spawn(move || {
        while let Ok(command) = WorkerCommand::read(&mut supervisor) {
            let _ = sender.send(command);
        }
        drop(sender);
        std::thread::sleep(shutdown_timeout + 2 * CUT_GRACE_PERIOD);
        std::process::exit(EXIT_CUT.into());
    })?;
    Ok(commands)
}

/// Reports to the supervisor why this worker does not serve.
fn report(mut supervisor: &UnixStream, failure: &Failure) {
    let mut message = vec![FAILED, failure.exit_code()];
    message.extend_from_slice(failure.to_string().as_bytes());
    // Ignore errors: the supervisor may have ended.
    let _ = supervisor.write_all(&message);
}
