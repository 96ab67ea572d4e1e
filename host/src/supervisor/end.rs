//! The end of a supervisor, by a stop or after an upgrade: all workers drain and end.

use std::pin::pin;
use std::time::Duration;

use daylily_core::log_target;
use daylily_core::units::format_duration;
use tokio::sync::oneshot;

use super::control_socket::admin::Request;
use super::control_socket::report::{Command, Reply};
use super::control_socket::status;
use super::events::{joined, next_request};
use super::signal::Signals;
use super::supervise::Supervisor;
use super::systemd;
use super::upgrade::Successor;
use super::worker_session::DesiredState;
use crate::failure::Failure;
use crate::ipc::command::End;
use crate::net::sockets::Sockets;
use crate::observe::server_page::ServerState;

/// Ends after a request to stop: by a signal, or by the clients of the control socket that `answers` reply to. Unless
/// that is urgent, waits for `shutdown_delay` first.
///
/// # Errors
///
/// [`Failure::Cut`], when requests were cut.
pub(crate) async fn by_request(
    mut supervisor: Supervisor,
    mut signals: Signals,
    is_urgent: bool,
    mut answers: Vec<oneshot::Sender<Reply>>,
) -> Result<(), Failure> {
    systemd::stopping();
    if !answers.is_empty() {
        signals.note_stop();
    }
    // Readiness fails before anything else changes.
    supervisor.set_state(ServerState::Stopping);
    let delay = supervisor.current.launch.prepared.config.server.shutdown_delay;
    if !is_urgent && !delay.is_zero() {
        wait(&mut supervisor, delay, &mut signals, &mut answers).await;
    }
    let closes = supervisor.current.launch.sockets().closing(&Sockets::default());
    let outcome = drain(&mut supervisor, End { is_last: true, closes }, &mut signals, &mut answers).await;
    for answer in answers {
        let requests_cut = if let Err(Failure::Cut { cut }) = outcome { cut } else { 0 };
        let _ = answer.send(Reply::Stopped { requests_cut });
    }
    if let Some(observing) = supervisor.observing.take() {
        observing.finish().await;
    }
    if let Some(control) = supervisor.control {
        control.finish().await;
    }
    outcome
}

/// Ends because `successor` serves on the same sockets; sends it the totals now and at the end.
///
/// # Errors
///
/// [`Failure::Cut`], when requests were cut.
pub(crate) async fn after(
    mut supervisor: Supervisor,
    successor: Successor,
    mut signals: Signals,
) -> Result<(), Failure> {
    tracing::info!(target: log_target::SUPERVISOR, "process {} has taken over; this process drains", successor.pid);
    systemd::succeeded_by(successor.pid);
    supervisor.current.launch.sockets().release_files();
    supervisor.admin.sockets().release_files();
    // From here on, only the successor replies to `daylily status`. It is sent the totals after that, so it never
    // reports less than this process did.
    if let Some(control) = supervisor.control.take() {
        control.hand_over().await;
    }
    // The same holds for the admin listener.
    supervisor.observer.leave_admin().await;
    successor.tell(supervisor.totals(), &supervisor.observer.sums());
    let outcome = drain(&mut supervisor, End::default(), &mut signals, &mut Vec::new()).await;
    if supervisor.rest.is_some() {
        // The final totals of this process's own predecessor are passed on to the successor.
        let rest = joined(&mut supervisor.rest).await;
        supervisor.add_predecessor(rest);
    }
    successor.tell(supervisor.totals(), &supervisor.observer.sums().at_death());
    successor.release();
    if let Some(observing) = supervisor.observing.take() {
        observing.finish().await;
    }
    outcome
}

/// Serves for `delay`, or until a second signal to stop, while clients learn that they should go elsewhere: this server
/// is not ready, and responses close their connections.
async fn wait(
    supervisor: &mut Supervisor,
    delay: Duration,
    signals: &mut Signals,
    answers: &mut Vec<oneshot::Sender<Reply>>,
) {
    supervisor.give_up_starting();
    tracing::info!(
        target: log_target::SUPERVISOR,
        "the drain begins in shutdown_delay = {}; until then, the server is not ready and serves what arrives, and a \
         second signal ends the wait",
        format_duration(delay)
    );
    supervisor.current.launch.directives.send_modify(|directives| directives.closes_connections = true);
    let mut watchdog = systemd::Watchdog::new();
    let mut over = pin!(tokio::time::sleep(delay));
    loop {
        tokio::select! {
            () = &mut over => return,
            asked = signals.next() => if asked.is_stop() {
                return;
            },
            Some(Ok(number)) = supervisor.ends.join_next() => supervisor.note_generation_ended(number),
            rest = joined(&mut supervisor.rest) => supervisor.add_predecessor(rest),
            request = next_request(&mut supervisor.control) => reply(supervisor, request, answers),
            () = watchdog.due() => systemd::Watchdog::feed(),
        }
    }
}

/// Replies to a command while the server stops; to one that stops it, at the end.
fn reply(supervisor: &Supervisor, request: Request, answers: &mut Vec<oneshot::Sender<Reply>>) {
    match request.command {
        Command::Stop => answers.push(request.reply),
        Command::Status => status::answer(&supervisor.overview(), request.reply),
        Command::Reopen => {
            supervisor.log.reopen();
            supervisor.observer.reopen();
            let _ = request.reply.send(Reply::Reopened);
        }
        Command::Reload => {
            let reason = "reload refused: the server is stopping".to_owned();
            let _ = request.reply.send(Reply::Failed { reason, exit_code: 69 });
        }
    }
}

/// Drains all workers. A second signal to stop kills them.
async fn drain(
    supervisor: &mut Supervisor,
    end: End,
    signals: &mut Signals,
    answers: &mut Vec<oneshot::Sender<Reply>>,
) -> Result<(), Failure> {
    supervisor.give_up_starting();
    supervisor.set_state(ServerState::Stopping);
    let before = supervisor.totals().counts;
    tracing::info!(
        target: log_target::SUPERVISOR,
        "draining, requests in progress: {}; they have shutdown_timeout = {} to finish, and a second signal ends them at once",
        before.requests_in_progress(),
        format_duration(supervisor.current.launch.prepared.config.server.shutdown_timeout),
    );
    supervisor.current.set_desired_state(DesiredState::End(end));
    loop {
        tokio::select! {
            ended = supervisor.ends.join_next() => match ended {
                Some(Ok(number)) => supervisor.note_generation_ended(number),
                Some(Err(error)) => tracing::error!(
                    target: log_target::SUPERVISOR,
                    "failed to wait for a generation to drain: {error}"
                ),
                None => break,
            },
            asked = signals.next() => if asked.is_stop() {
                tracing::warn!(target: log_target::SUPERVISOR, "stopping immediately");
                supervisor.draining.iter().chain([&supervisor.current]).for_each(|view| view.set_desired_state(DesiredState::Kill));
            },
            rest = joined(&mut supervisor.rest) => supervisor.add_predecessor(rest),
            request = next_request(&mut supervisor.control) => reply(supervisor, request, answers),
        }
    }
    let since = supervisor.totals().counts.since(before);
    match since.requests_cut + since.requests_lost {
        0 => Ok(()),
        cut => Err(Failure::Cut { cut }),
    }
}
