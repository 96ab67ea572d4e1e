//! Health checks, and the state of the server with its reasons.

use std::sync::atomic::Ordering::Relaxed;

use http::StatusCode;
use serde::Serialize;

use super::Server;
use super::routes::{Answer, JSON, Question};
use crate::observe::server_page::{ServerState, SessionState, Snapshot};

impl Server {
    /// Whether the supervisor runs, and its event loop does.
    fn is_alive(&self) -> bool {
        self.is_alive.load(Relaxed) && self.page.is_beating()
    }

    /// The state of the server, while its supervisor runs.
    fn state(&self) -> Option<Snapshot> {
        self.is_alive().then(|| self.page.read()).flatten()
    }
}

/// `/livez`: whether the supervisor runs and does not hang.
pub(super) fn live(question: &Question<'_>) -> Answer {
    check(question.server.is_alive(), "not alive\n")
}

/// `/readyz`: whether new clients should come.
pub(super) fn ready(question: &Question<'_>) -> Answer {
    check(question.server.state().is_some_and(|state| state.is_ready()), "not ready\n")
}

/// `/startupz`: whether the first generation has become ready.
pub(super) fn started(question: &Question<'_>) -> Answer {
    check(question.server.state().is_some_and(|state| state.has_started()), "not started\n")
}

/// Without reasons, because no token is needed.
fn check(is_ok: bool, otherwise: &'static str) -> Answer {
    if is_ok { Answer::text(StatusCode::OK, "ok\n") } else { Answer::text(StatusCode::SERVICE_UNAVAILABLE, otherwise) }
}

/// `/status`. Fields may be added, but not renamed or removed.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    /// The process id of the supervisor.
    pid: u32,
    state: String,
    ready: bool,
    /// Why it is not ready.
    reasons: Vec<String>,
    uptime_ms: u64,
    /// The generation that serves; 0 before the first one does.
    generation: u64,
    workers_expected: usize,
    workers_ready: usize,
    workers: Vec<Worker>,
    /// The numbers of the generations that drain.
    draining: Vec<u64>,
}

#[derive(Serialize)]
struct Worker {
    worker: usize,
    pid: Option<u32>,
    state: String,
}

/// `/status`: the state of the server as JSON.
pub(super) fn status(question: &Question<'_>) -> Answer {
    if !question.server.is_alive() {
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the supervisor has ended or hangs\n");
    }
    let Some(state) = question.server.state() else {
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the supervisor does not respond\n");
    };
    match serde_json::to_vec(&Status::of(&state)) {
        Ok(mut json) => {
            json.push(b'\n');
            Answer::new(StatusCode::OK, JSON, json)
        }
        Err(_) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"),
    }
}

impl Status {
    fn of(snapshot: &Snapshot) -> Self {
        let workers = snapshot.workers.iter().enumerate().map(|(worker, seen)| Worker {
            worker,
            pid: Some(seen.pid).filter(|pid| *pid > 0),
            state: word(seen.state),
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: snapshot.pid,
            state: word(snapshot.state),
            ready: snapshot.is_ready(),
            reasons: reasons(snapshot),
            uptime_ms: u64::try_from(snapshot.uptime().as_millis()).unwrap_or(u64::MAX),
            generation: snapshot.generation,
            workers_expected: snapshot.workers.len(),
            workers_ready: snapshot.ready_workers(),
            workers: workers.collect(),
            draining: snapshot.draining.clone(),
        }
    }
}

/// Empty if and only if the server is ready.
fn reasons(snapshot: &Snapshot) -> Vec<String> {
    let state = match snapshot.state {
        ServerState::Starting => Some("the first workers are not ready yet"),
        ServerState::Stopping => Some("the server is stopping"),
        ServerState::Serving | ServerState::Reloading | ServerState::Upgrading => None,
    };
    let worker = |(number, state)| format!("worker {number} is {}", word(state));
    let workers = snapshot.workers.iter().map(|worker| worker.state).enumerate();
    let workers = workers.filter(|(_, state)| *state != SessionState::Ready);
    state.map(str::to_owned).into_iter().chain(workers.map(worker)).collect()
}

/// A state as `daylily status` prints it.
fn word(state: impl std::fmt::Debug) -> String {
    format!("{state:?}").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::server_page::PageWorker;

    #[test]
    fn a_server_that_is_not_ready_has_a_reason() {
        #[track_caller]
        fn check(state: ServerState, workers: &[SessionState], expected: &[&str]) {
            let workers = workers.iter().map(|state| PageWorker { pid: 1, state: *state }).collect();
            let snapshot = Snapshot { state, workers, generation: 1, ..Snapshot::default() };
            assert_eq!(reasons(&snapshot), expected);
            assert_eq!(snapshot.is_ready(), expected.is_empty());
        }
        use SessionState::{Ended, Ready, Waiting};
        check(ServerState::Serving, &[Ready, Ready], &[]);
        check(ServerState::Reloading, &[Ready], &[]);
        check(ServerState::Upgrading, &[Ready], &[]);
        check(ServerState::Serving, &[Ready, Waiting], &["worker 1 is waiting"]);
        check(ServerState::Stopping, &[Ended], &["the server is stopping", "worker 0 is ended"]);
        check(ServerState::Starting, &[Ready], &["the first workers are not ready yet"]);
    }
}
