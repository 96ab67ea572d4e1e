//! The supervisor's state, for `daylily status`, for systemd and for the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::report::{Reply, RouteStatus, Status, WorkerStatus};
use crate::net::address::Address;
use crate::observe::counters::Totals;
use crate::observe::server_page::ServerState;
use crate::supervisor::generation::View;
use crate::supervisor::supervise::Supervisor;
use crate::supervisor::worker_session::WorkerSession;

/// The supervisor's state, as reported by `daylily status`.
pub(crate) struct Overview<'a> {
    pub(crate) state: ServerState,
    pub(crate) began: Instant,
    pub(crate) admin: Option<Address>,
    pub(crate) current: &'a View,
    pub(crate) draining: &'a [Arc<View>],
    pub(crate) totals: Totals,
}

impl Supervisor {
    pub(crate) fn overview(&self) -> Overview<'_> {
        Overview {
            state: self.state,
            began: self.began,
            admin: self.admin.address(),
            current: &self.current,
            draining: &self.draining,
            totals: self.totals(),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.account.totals(self.draining.iter().chain([&self.current]))
    }
}

/// What is printed to standard output when the server is ready: one line, one for each Unix socket, and one for the
/// admin listener; and one if no guest was named at all.
pub(crate) fn announcement(supervisor: &Supervisor) -> String {
    let view = &supervisor.current;
    let urls = urls(view);
    let workers = view.launch.workers;
    let line = format!(
        "Server running at {} with {workers} worker{}",
        urls.join(" and "),
        if workers == 1 { "" } else { "s" }
    );
    let hints = view.launch.sockets().addresses().into_iter().filter_map(|address| address.hint());
    let text = hints.fold(line, |text, hint| format!("{text}\n  try: {hint}"));
    let text = match supervisor.admin.address() {
        Some(admin) => format!("{text}\nAdmin listener at {}", admin.url()),
        None => text,
    };
    let what = &supervisor.what;
    match (&what.component, &what.config) {
        (None, None) => format!("{text}\n{HELLO_WORLD}"),
        _ => text,
    }
}

/// A user may have started daylily in another directory than that of the configuration.
const HELLO_WORLD: &str = "There is no daylily.toml in this directory, so this is the built-in Hello World; \
    `daylily COMPONENT.wasm` serves a component";

/// One line about the generation that serves.
pub(crate) fn summary(view: &View) -> String {
    let (workers, routes) = (view.launch.workers, view.launch.prepared.config.routes.len());
    format!(
        "generation {} serves {routes} route{} with {workers} worker{}",
        view.number(),
        if routes == 1 { "" } else { "s" },
        if workers == 1 { "" } else { "s" }
    )
}

pub(crate) fn answer(overview: &Overview<'_>, reply: oneshot::Sender<Reply>) {
    let _ = reply.send(Reply::Status(Box::new(status(overview))));
}

fn status(overview: &Overview<'_>) -> Status {
    let view = overview.current;
    let workers = |view: &View| -> Vec<WorkerStatus> {
        view.sessions.iter().filter(|session| !session.is_gone()).map(|session| worker(view, session)).collect()
    };
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_ms: ms(overview.began.elapsed()),
        generation: view.number(),
        state: format!("{:?}", overview.state).to_lowercase(),
        listen: urls(view),
        admin: overview.admin.as_ref().map(Address::url),
        routes: view.launch.prepared.config.routes.iter().map(RouteStatus::of).collect(),
        workers: workers(view),
        draining: overview.draining.iter().flat_map(|view| workers(view)).collect(),
        totals: overview.totals.into(),
    }
}

fn worker(view: &View, session: &WorkerSession) -> WorkerStatus {
    let status = session.status();
    WorkerStatus {
        worker: session.worker(),
        generation: view.number(),
        pid: status.pid,
        state: format!("{:?}", status.state).to_lowercase(),
        uptime_ms: ms(status.since.map(|since| since.elapsed()).unwrap_or_default()),
        restarts: status.totals.restarts,
        hangs: status.totals.hangs,
        connections: status.counts.connections_open(),
        requests_in_progress: status.counts.requests_in_progress(),
        requests: status.counts.requests_begun,
        blocked_file_calls: status.blocked_calls,
    }
}

fn urls(view: &View) -> Vec<String> {
    view.launch.sockets().addresses().iter().map(Address::url).collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
