//! The state of a worker process: its routes, each with a component that is ready to be instantiated.

use std::sync::{Arc, OnceLock, Weak};

use daylily_core::config::{RouteLimits, ServerLimits};
use daylily_core::route::{PathPattern, RouteTable, Target};
use http::{HeaderMap, HeaderName};
use tokio::sync::Semaphore;

use crate::call::app::App;
use crate::http::admission::{Admission, RouteShare};
use crate::http::date::Date;
use crate::http::dev_server::DevServer;
use crate::http::files::Files;
use crate::http::pulse::Pulse;
use crate::observe::log::OncePerSecond;
use crate::observe::metrics::WorkerMetrics;
use crate::observe::record::Recorder;
use crate::observe::scoreboard::Slot;
use crate::storage::client::StoreClient;
use crate::sys::drain::Drain;
use crate::wasi::file_threads::RouteFiles;

/// The fields of a request that a schedule sends: its name, the time at which it was due, and the number of the attempt.
pub(crate) const SCHEDULE: HeaderName = HeaderName::from_static("daylily-schedule");
pub(crate) const SCHEDULED_TIME: HeaderName = HeaderName::from_static("daylily-scheduled-time");
pub(crate) const SCHEDULE_ATTEMPT: HeaderName = HeaderName::from_static("daylily-schedule-attempt");

/// Removes these fields from the request of a client, which has no right to them.
#[cold]
pub(crate) fn remove_schedule(headers: &mut HeaderMap) {
    for name in [SCHEDULE, SCHEDULED_TIME, SCHEDULE_ATTEMPT] {
        headers.remove(name);
    }
}

/// The state that all requests in this process share.
pub(crate) struct Worker {
    pub(crate) table: RouteTable,
    /// Indexed by the indices that the table returns.
    pub(crate) routes: Vec<WorkerRoute>,
    pub(crate) admission: Admission,
    /// The key-value stores, in the order of the configuration.
    pub(crate) stores: Vec<Arc<StoreClient>>,
    /// With the clients that it trusts.
    pub(crate) limits: ServerLimits,
    /// Permits for connections: `max_connections`, or what the descriptor limit allows.
    pub(crate) connections: Arc<Semaphore>,
    /// Error responses contain the details that are otherwise only in the log.
    pub(crate) dev: bool,
    /// What `daylily dev` adds.
    pub(crate) dev_server: Option<DevServer>,
    pub(crate) overload: OncePerSecond,
    /// Whether the worker drains, and how far it has got.
    pub(crate) drain: Drain,
    /// The correct `date` of responses while hyper's is wrong.
    pub(crate) date: Date,
    /// Timer for requests in progress to check on their clients and deadlines.
    pub(crate) pulse: Pulse,
    /// Counters on the scoreboard, which the supervisor reads.
    pub(crate) counters: &'static Slot,
    /// Makes the records of requests.
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// Itself, for requests that guests send to each other. Not set in a process that serves none.
    pub(crate) itself: OnceLock<Weak<Self>>,
}

/// The middleware of a route, in its order.
pub(crate) struct Links(Vec<Link>);

/// One component of it.
pub(crate) struct Link {
    pub(crate) app: Arc<App>,
    /// The index of its name among the recorder's.
    pub(crate) name: usize,
}

impl Links {
    pub(crate) fn new(apps: Vec<Arc<App>>) -> Self {
        Self(apps.into_iter().map(|app| Link { app, name: 0 }).collect())
    }

    /// Adds the names to those of the recorder.
    pub(crate) fn add_names(&mut self, names: &mut Vec<Arc<str>>) {
        for link in &mut self.0 {
            link.name = names.len();
            names.push(Arc::clone(&link.app.settings().route));
        }
    }

    pub(crate) fn all(&self) -> &[Link] {
        &self.0
    }
}

/// One route of a worker.
pub(crate) struct WorkerRoute {
    pub(crate) name: Arc<str>,
    /// The paths that it matches; the table has them, too.
    pub(crate) path: PathPattern,
    pub(crate) limits: RouteLimits,
    /// What its requests pass before all else.
    pub(crate) links: Links,
    /// Whether its requests need one of the rare steps: those of `has_schedule` and of `limits.server_timing`. One check
    /// for all of them, because every request has it.
    pub(crate) is_special: bool,
    /// A schedule sends requests to it.
    pub(crate) has_schedule: bool,
    /// What is served where there is a file.
    pub(crate) files: Option<Files>,
    /// What answers everything else.
    pub(crate) app: Option<Arc<App>>,
    /// The threads for calls that wait for a disk.
    pub(crate) threads: Arc<RouteFiles>,
    pub(crate) share: RouteShare,
}

impl WorkerRoute {
    /// What gets its requests first, beside `files` of a route without middleware.
    pub(crate) fn first(&self) -> Option<&Arc<App>> {
        self.links.all().first().map(|link| &link.app).or(self.app.as_ref())
    }
}

impl Worker {
    /// Begins to be shared by the requests in this process.
    pub(crate) fn share(self) -> Arc<Self> {
        let worker = Arc::new(self);
        // It was not set before.
        let _ = worker.itself.set(Arc::downgrade(&worker));
        worker
    }

    /// Itself, if it is shared.
    pub(crate) fn shared(&self) -> Option<Arc<Self>> {
        self.itself.get()?.upgrade()
    }

    /// The route for a target, and its index.
    pub(crate) fn route(&self, target: &Target<'_>) -> Option<(usize, &WorkerRoute)> {
        let index = self.table.find(target.host, target.path)?;
        Some((index, self.routes.get(index)?))
    }

    /// Counts the file calls that do not return on the scoreboard.
    pub(crate) fn note_blocked(&self) {
        let (mut calls, mut routes) = (0, 0);
        for route in &self.routes {
            let of_links = route.links.all().iter().map(|link| &link.app.settings().files);
            for threads in of_links.chain([&route.threads]) {
                calls += threads.blocked_calls() as u64;
                routes += u64::from(threads.is_blocked());
            }
        }
        self.counters.blocked_calls.set(calls);
        self.counters.blocked_routes.set(routes);
    }
}
