//! The events that the supervisor's loop waits for.

use std::path::Path;

use tokio::task::JoinHandle;

use super::control_socket::admin::{ControlSocket, Request};
use super::develop::{Develop, Wanted};
use super::signal::Signals;
use super::watch::Watch;

/// Resolves at a signal to stop. Ignores all other signals.
pub(super) async fn asked_to_abort(signals: &mut Signals) {
    while !signals.next().await.is_stop() {}
}

/// The next request of a client of the control socket. Without a socket, never resolves. Cancel safe.
pub(super) async fn next_request(control: &mut Option<ControlSocket>) -> Request {
    if let Some(control) = control
        && let Some(request) = control.requests.recv().await
    {
        return request;
    }
    std::future::pending().await
}

/// Resolves when a watched file was written. Without `--watch`, never resolves. Cancel safe. `building` is as for
/// [`Watch::changed`].
pub(super) async fn changed(watch: &mut Option<Watch>, building: Option<&Path>) {
    match watch {
        Some(watch) => watch.changed(building).await,
        None => std::future::pending().await,
    }
}

/// Resolves when `daylily dev` wants another generation. Without it, never resolves. Cancel safe.
pub(super) async fn wanted(develop: &mut Option<Develop>) -> Wanted {
    match develop {
        Some(develop) => develop.wanted().await,
        None => std::future::pending().await,
    }
}

/// Waits for the task and clears it; without a task, never resolves. Cancel safe.
pub(super) async fn joined<T, E: From<std::io::Error>>(task: &mut Option<JoinHandle<Result<T, E>>>) -> Result<T, E> {
    let Some(running) = task else { return std::future::pending().await };
    let outcome = running.await;
    *task = None;
    outcome.map_err(std::io::Error::other)?
}
