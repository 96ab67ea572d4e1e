//! What the metrics are made from, at one time.

use std::time::Duration;

use daylily_core::config::{Config, RouteLimits, ServerLimits};
use daylily_core::limits::route_share;
use daylily_core::process_role::ProcessRole;
use daylily_core::request_outcome::RequestOutcome;
use serde::{Deserialize, Serialize};

use super::process::ProcessUse;
use crate::observe::metrics::{Exemplar, Snapshot, Sums, fields};
use crate::observe::server_page;
use crate::observer::collected::Scrape;

/// The limits of the generation that serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    server: ServerLimits,
    workers: u32,
    routes: Vec<(String, RouteLimits)>,
}

impl Limits {
    /// Of so many workers.
    pub(crate) fn of(config: &Config, workers: u32) -> Self {
        let routes = config.routes.iter().map(|route| (route.name.clone(), route.limits)).collect();
        Self { server: config.server.clone(), workers, routes }
    }

    /// The routes that have metrics of their own.
    fn with_metrics(&self) -> impl Iterator<Item = &(String, RouteLimits)> {
        self.routes.iter().take(usize::try_from(self.server.max_metric_routes).unwrap_or(usize::MAX))
    }

    /// Their names.
    pub(crate) fn route_names(&self) -> impl Iterator<Item = String> {
        self.with_metrics().map(|(name, _)| name.clone())
    }
}

/// All that is reported.
pub(crate) struct Page {
    scrape: Scrape,
    pub(super) server: server_page::Snapshot,
    processes: Vec<ProcessUse>,
    /// Of requests without a route, and of routes without a request.
    none: Snapshot,
}

/// The limits that requests can end by, with the outcome that says so.
const HITS: [(&str, RequestOutcome); 10] = [
    ("cpu_time", RequestOutcome::CpuLimit),
    ("wall_time", RequestOutcome::WallLimit),
    ("max_memory", RequestOutcome::MemoryLimit),
    ("max_body", RequestOutcome::BodyLimit),
    ("body_timeout", RequestOutcome::BodyTimeout),
    ("max_head", RequestOutcome::HeadLimit),
    ("head_timeout", RequestOutcome::HeadTimeout),
    ("max_queue", RequestOutcome::QueueFull),
    ("queue_timeout", RequestOutcome::QueueTimeout),
    ("shutdown_timeout", RequestOutcome::Cut),
];

/// A limit of a route, by its key.
type RouteLimit = (&'static str, fn(&RouteLimits) -> f64);

const ROUTE_LIMITS: [RouteLimit; 5] = [
    ("cpu_time", |limits| limits.cpu_time.as_secs_f64()),
    ("wall_time", |limits| limits.wall_time.as_secs_f64()),
    ("max_memory", |limits| number(limits.max_memory_bytes)),
    ("max_body", |limits| number(limits.max_body_bytes)),
    ("body_timeout", |limits| limits.body_timeout.as_secs_f64()),
];

#[expect(clippy::cast_precision_loss, reason = "a metric is a floating-point number")]
fn number(value: u64) -> f64 {
    value as f64
}

impl Page {
    /// `server` is None if the supervisor is being stopped or killed while it writes.
    pub(crate) fn new(scrape: Scrape, server: Option<server_page::Snapshot>) -> Self {
        let server = server.unwrap_or_default();
        let workers = scrape.workers.iter().map(|pid| (ProcessRole::Worker, *pid));
        let processes = [(ProcessRole::Supervisor, server.pid), (ProcessRole::Observer, std::process::id())];
        let processes = processes.into_iter().chain(workers);
        let processes = processes.filter_map(|(role, pid)| ProcessUse::read(role, pid)).collect();
        Self { scrape, server, processes, none: Snapshot::default() }
    }

    fn sums(&self) -> &Sums {
        &self.scrape.sums
    }

    /// The sums of each route, also of those that have had no request.
    pub(super) fn routes(&self) -> impl Iterator<Item = (&str, &Snapshot)> {
        self.scrape.routes.iter().map(|name| (name.as_str(), self.sums().get(name).unwrap_or(&self.none)))
    }

    /// The numbers of all workers together.
    pub(super) fn workers(&self) -> &Snapshot {
        self.sums().get("").unwrap_or(&self.none)
    }

    /// The sums of each listener, also of those that have had no connection.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&str, &Snapshot)> {
        let sums = |name: &str| self.sums().listener(name).unwrap_or(&self.none);
        self.scrape.listeners.iter().map(move |name| (name.as_str(), sums(name)))
    }

    /// The sums of each schedule, also of those that have had no run.
    pub(super) fn schedules(&self) -> impl Iterator<Item = (&str, &Snapshot)> {
        let sums = |name: &str| self.sums().schedule(name).unwrap_or(&self.none);
        self.scrape.schedules.iter().map(move |name| (name.as_str(), sums(name)))
    }

    pub(super) fn exemplar(&self, route: &str) -> Option<Exemplar> {
        self.scrape.exemplars.get(route).copied()
    }

    /// Calls `add` with each limit: its key, its route, and its value.
    pub(super) fn limits(&self, add: &mut impl FnMut(&str, &str, f64)) {
        let Limits { server, workers, routes } = &self.scrape.limits;
        let is_shared = routes.len() > 1;
        let mut of_all = |key: &str, each: u32| add(key, "", f64::from(each) * f64::from(*workers));
        of_all("max_connections", server.max_connections);
        of_all("max_concurrency", server.max_concurrency);
        of_all("max_queue", server.max_queue);
        let mut time = |key: &str, limit: Duration| add(key, "", limit.as_secs_f64());
        time("queue_timeout", server.queue_timeout);
        time("head_timeout", server.head_timeout);
        time("shutdown_timeout", server.shutdown_timeout);
        add("max_head", "", number(server.max_head_bytes));
        for (name, limits) in self.scrape.limits.with_metrics() {
            let share = limits.max_concurrency.or(is_shared.then(|| route_share(server.max_concurrency)));
            add("max_concurrency", name, f64::from(share.unwrap_or(server.max_concurrency)) * f64::from(*workers));
            for (key, value) in ROUTE_LIMITS {
                add(key, name, value(limits));
            }
        }
    }

    /// Calls `add` with each limit of what exists at the same time: its key, its route, and how much is in use.
    pub(super) fn uses(&self, add: &mut impl FnMut(&str, &str, u64)) {
        let (mut running, mut queued) = (0, 0);
        for (route, sums) in self.routes() {
            let of_route = sums.in_progress().saturating_sub(sums.queued());
            running += of_route;
            queued += sums.queued();
            if !route.is_empty() {
                add("max_concurrency", route, of_route);
            }
        }
        add("max_concurrency", "", running);
        add("max_queue", "", queued);
        add("max_connections", "", self.sums().connections_open());
    }

    /// Calls `add` with how many requests of each route ended because of a limit.
    pub(super) fn hits(&self, add: &mut impl FnMut(&str, &str, u64)) {
        for (route, sums) in self.routes() {
            for (limit, outcome) in HITS {
                let count = sums.number(fields::OUTCOMES, outcome.number().into());
                // Requests that were refused before they had a route have none of a guest's limits.
                let may_hit = !route.is_empty() || !ROUTE_LIMITS.iter().any(|(key, _)| *key == limit);
                if may_hit || count > 0 {
                    add(limit, route, count);
                }
            }
        }
    }

    /// Calls `add` with each role of processes, and the sums over them.
    pub(super) fn by_role(&self, add: &mut impl FnMut(&str, &ProcessUse)) {
        for &role in ProcessRole::ALL {
            let of_role = self.processes.iter().filter(|process| process.role == role);
            add(role.as_str(), &of_role.fold(ProcessUse::none(role), |sum, process| sum.with(process)));
        }
    }
}
