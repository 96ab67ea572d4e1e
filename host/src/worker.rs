//! What one process serves: its routes, each with a component ready to be instantiated.

use std::sync::Arc;

use daylily_core::config::ServerLimits;
use daylily_core::route::RouteTable;

use tokio::sync::Semaphore;

use crate::admission::{Admission, RouteShare};
use crate::control::scoreboard::Slot;
use crate::date::Date;
use crate::drain::Drain;
use crate::engine::App;
use crate::inbound::Target;
use crate::log::OncePerSecond;
use crate::pulse::Pulse;

/// Everything that requests in this process share.
pub(crate) struct Worker {
    pub(crate) table: RouteTable,
    /// In the order of the table's indices.
    pub(crate) routes: Vec<WorkerRoute>,
    pub(crate) admission: Admission,
    pub(crate) limits: ServerLimits,
    /// Permits for connections: `max_connections`, or what the descriptor limit allows.
    pub(crate) connections: Arc<Semaphore>,
    /// Refusals tell the client what the log says.
    pub(crate) dev: bool,
    pub(crate) overload: OncePerSecond,
    /// How far this worker is on its way to its end.
    pub(crate) drain: Drain,
    /// The `date` of responses while hyper's is wrong.
    pub(crate) date: Date,
    /// When requests that wait look around.
    pub(crate) pulse: Pulse,
    /// What the supervisor sees of it.
    pub(crate) counters: &'static Slot,
}

/// One route of a worker.
pub(crate) struct WorkerRoute {
    pub(crate) app: Arc<App>,
    pub(crate) share: RouteShare,
}

impl Worker {
    pub(crate) fn route(&self, target: &Target<'_>) -> Option<&WorkerRoute> {
        self.routes.get(self.table.find(target.host, target.path)?)
    }

    /// Shows the supervisor which file calls do not return.
    pub(crate) fn note_blocked(&self) {
        let (mut calls, mut routes) = (0, 0);
        for route in &self.routes {
            let files = &route.app.settings().files;
            calls += files.blocked_calls() as u64;
            routes += u64::from(files.is_blocked());
        }
        self.counters.note_blocked(calls, routes);
    }
}
