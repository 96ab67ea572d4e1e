//! From a configuration to a worker: every component compiled once, loaded and linked, every route with its grants. The
//! supervisor compiles, the worker does the rest.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use daylily_core::allow_http::RouteGrant;
use daylily_core::config::{ComponentSource, Config, Grants, Link, Route, RouteLimits};
use daylily_core::limits::route_share;
use daylily_core::route::RouteTable;
use tokio::sync::Semaphore;

use super::role::{self, Abilities};
use crate::artifact::compile::{self, Compiler};
use crate::artifact::inspect::Inspection;
use crate::artifact::{Artifact, LoadError, Source};
use crate::call::app::App;
use crate::call::handler::{Handler, Loader};
use crate::engine::pool::{Engines, Needs, PoolKind, StackDetail};
use crate::http::admission::{Admission, RouteShare};
use crate::http::date::Date;
use crate::http::dev_server::{DevServer, DevSettings};
use crate::http::files::Files;
use crate::http::pulse::Pulse;
use crate::http::server::{Links, Worker, WorkerRoute};
use crate::observe::journal::{self, Journal};
use crate::observe::log::OncePerSecond;
use crate::observe::metrics::{self, BlockCounts, BlockNames, WorkerMetrics};
use crate::observe::record::Recorder;
use crate::observe::scoreboard::Slot;
use crate::observe::source_map::Bundle;
use crate::storage::client::StoreClient;
use crate::sys::drain::Drain;
use crate::wasi::file_threads::RouteFiles;
use crate::wasi::http::client::{Callee, OutgoingClient, OutgoingPolicy};
use crate::wasi::keyvalue::GrantedStores;
use crate::wasi::link;
use crate::wasi::settings::{self, AppSettings};

/// What a worker needs besides its configuration and components.
pub(crate) struct WorkerContext {
    /// Maximum number of connections at a time.
    pub(crate) connection_limit: usize,
    /// Under `daylily dev`.
    pub(crate) dev: Option<DevSettings>,
    pub(crate) drain: Drain,
    pub(crate) counters: &'static Slot,
    pub(crate) journal: Arc<Journal>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// For each store of the configuration, what it is reached through.
    pub(crate) doorbells: Vec<UnixStream>,
}

impl WorkerContext {
    /// For a process that is not a worker: no process reads its counters or its journal.
    ///
    /// # Errors
    ///
    /// When there is no memory for them.
    pub(crate) fn unshared(connection_limit: usize) -> io::Result<Self> {
        let journal = Journal::open(journal::create()?.as_fd())?;
        let metrics = WorkerMetrics::open(metrics::create(&BlockNames::default())?.as_fd(), BlockCounts::default())?;
        let (drain, counters, doorbells) = (Drain::new(), Slot::unshared(), Vec::new());
        Ok(Self { connection_limit, dev: None, drain, counters, journal, metrics, doorbells })
    }
}

/// Loads and links all that `config` serves. `artifacts` has one for each of its [`sources`].
///
/// # Errors
///
/// All components that cannot be served, each with its reason.
pub(crate) fn worker(
    config: &Config,
    artifacts: &[Artifact],
    context: WorkerContext,
) -> Result<Worker, Vec<LoadError>> {
    let needs = needs(&config.routes, artifacts)?;
    let engines = Engines::new(&needs, config.server.max_concurrency, StackDetail::of(config.dev));
    let engines = Arc::new(engines.map_err(|error| vec![LoadError::Pool { error }])?);
    let mut loader = Loader::new(&engines);
    let handlers = all(artifacts.iter().map(|artifact| {
        let handler = loader.load(artifact)?;
        Ok((&artifact.source, Arc::new(handler)))
    }))?;
    let handlers: HashMap<&Source, Arc<Handler>> = handlers.into_iter().collect();
    let outgoing = OutgoingClient::new();
    let stores = context.doorbells.into_iter().zip(&config.stores);
    let stores: Vec<_> = stores.map(|(bell, store)| Arc::new(StoreClient::new(store.clone(), bell))).collect();
    let app = |component: &ComponentSource, mut settings: AppSettings| -> Result<Arc<App>, LoadError> {
        let source = source_of(component);
        let artifact = artifacts.iter().find(|artifact| artifact.source == source);
        let (artifact, handler) =
            artifact.zip(handlers.get(&source)).ok_or_else(|| LoadError::not_compiled(&source))?;
        settings.limits.max_instances = artifact.facts.max_instances(&settings.limits);
        Ok(Arc::new(App::new(&engines, handler, settings)))
    };
    let mut routes = all(config.routes.iter().map(|route| {
        let link = |link: &Link| app(&link.component, settings(config, &Guest::of_link(link), &outgoing, &stores)?);
        let links = route.middleware.iter().map(link).collect::<Result<_, _>>()?;
        let settings = settings(config, &Guest::of(route), &outgoing, &stores)?;
        let (name, threads) = (Arc::clone(&settings.route), Arc::clone(&settings.files));
        let files = files(route, &threads)?;
        let end = route.component.as_ref().map(|component| app(component, settings)).transpose()?;
        let share = share(config, route);
        let has_schedule = config.schedules.iter().any(|schedule| schedule.route == route.name);
        let is_special = has_schedule || route.limits.server_timing;
        let (path, limits, links) = (route.path.clone(), route.limits, Links::new(links));
        Ok(WorkerRoute { name, path, limits, links, is_special, has_schedule, files, app: end, threads, share })
    }))?;
    let mut names: Vec<Arc<str>> = routes.iter().map(|route: &WorkerRoute| Arc::clone(&route.name)).collect();
    for route in &mut routes {
        route.links.add_names(&mut names);
    }
    let shares = routes.iter().map(|route| route.share.clone()).collect();
    Ok(Worker {
        table: RouteTable::new(&config.routes),
        routes,
        admission: Admission::new(&config.server, shares),
        stores,
        limits: config.server.clone(),
        connections: Arc::new(Semaphore::new(context.connection_limit.min(Semaphore::MAX_PERMITS))),
        dev: config.dev,
        dev_server: context.dev.map(DevServer::new),
        overload: OncePerSecond::new(),
        drain: context.drain,
        date: Date::new(SystemTime::now()),
        pulse: Pulse::default(),
        counters: context.counters,
        recorder: Recorder::new(
            context.counters,
            context.journal,
            Arc::clone(&context.metrics),
            &config.access_log,
            names,
        ),
        metrics: context.metrics,
        itself: OnceLock::new(),
    })
}

/// The permits of `route`: how many requests may be in progress, if not only the server's limit applies, and how many
/// permits of the server each of them takes.
fn share(config: &Config, route: &Route) -> RouteShare {
    let guests = u32::try_from(route.middleware.len()).unwrap_or(u32::MAX).saturating_add(1);
    let of_several = config.routes.len() > 1;
    let default = of_several.then(|| (route_share(config.server.max_concurrency) / guests).max(1));
    RouteShare::new(route.limits.max_concurrency.or(default), guests)
}

/// The components of all routes, each once, in the order of the routes.
pub(crate) fn sources(routes: &[Route]) -> Vec<Source> {
    let mut seen = HashSet::new();
    routes.iter().flat_map(Route::components).map(source_of).filter(|source| seen.insert(source.clone())).collect()
}

/// One artifact for each of [`sources`]. Those in `known` are not compiled again.
///
/// # Errors
///
/// All components that cannot be served, or whose needs are over their limits.
pub(crate) fn artifacts(
    config: &Config,
    compiler: &Compiler,
    known: &[Artifact],
) -> Result<Vec<Artifact>, Vec<LoadError>> {
    let sources = sources(&config.routes);
    let artifacts = all(sources.iter().map(|source| compiler.artifact(source, known)))?;
    let faults = role::faults(&config.routes, |source| {
        let facts = artifacts.iter().find(|artifact| artifact.source == *source)?.facts;
        Some(Abilities { exports_p3: facts.exports_p3, imports_next: facts.imports_next })
    });
    if !faults.is_empty() {
        return Err(faults);
    }
    needs(&config.routes, &artifacts)?;
    Ok(artifacts)
}

/// All errors of the components and granted directories of `config` that can be found without compiling.
pub(crate) fn faults(config: &Config) -> Vec<LoadError> {
    let mut abilities = HashMap::new();
    let mut faults = Vec::new();
    for source in sources(&config.routes) {
        match compile::check(&source, config.missing_imports) {
            Ok(Inspection { exports_p3, imports_next, .. }) => {
                abilities.insert(source, Abilities { exports_p3, imports_next });
            }
            Err(error) => faults.push(error),
        }
    }
    faults.extend(role::faults(&config.routes, |source| abilities.get(source).copied()));
    let directories = config.routes.iter().flat_map(Guest::all).filter_map(|guest| check_directories(&guest).err());
    let threads = RouteFiles::new("".into());
    let files = config.routes.iter().filter_map(|route| files(route, &threads).err());
    faults.into_iter().chain(directories).chain(files).collect()
}

/// An import of one of a route's components through which it reaches nothing.
pub(crate) struct NotGranted {
    /// The name of the component, if it is middleware.
    pub(crate) link: Option<String>,
    pub(crate) import: String,
    /// The key that would grant something.
    pub(crate) key: &'static str,
}

/// The imports of a route's middleware and component that it is granted nothing for.
///
/// # Errors
///
/// If a component cannot be read.
pub(crate) fn not_granted(route: &Route) -> Result<Vec<NotGranted>, LoadError> {
    let mut found = Vec::new();
    for guest in Guest::all(route) {
        let Some(source) = guest.source() else { continue };
        let imports = compile::imports(&source)?;
        let link = (guest.name != route.name).then(|| guest.name.to_owned());
        let of_guest = link::not_granted(&imports, guest.grants).into_iter();
        found.extend(of_guest.map(|(import, key)| NotGranted { link: link.clone(), import: import.to_owned(), key }));
    }
    Ok(found)
}

fn needs(routes: &[Route], artifacts: &[Artifact]) -> Result<Vec<(PoolKind, Needs)>, Vec<LoadError>> {
    let by_source: HashMap<&Source, &Artifact> =
        artifacts.iter().map(|artifact| (&artifact.source, artifact)).collect();
    all(routes.iter().flat_map(Guest::all).filter_map(|guest| Some((guest.limits, guest.source()?))).map(
        |(limits, source)| {
            let artifact = by_source.get(&source).ok_or_else(|| LoadError::not_compiled(&source))?;
            Ok((artifact.facts.pool, artifact.needs(limits)?))
        },
    ))
}

/// The static files of a route that has them.
fn files(route: &Route, threads: &Arc<RouteFiles>) -> Result<Option<Files>, LoadError> {
    let Some(files) = &route.files else { return Ok(None) };
    let opened = Files::open(route, files, Arc::clone(threads));
    opened.map(Some).map_err(|error| LoadError::Files { dir: files.dir.clone(), route: route.name.clone(), error })
}

fn check_directories(guest: &Guest<'_>) -> Result<(), LoadError> {
    for dir in &guest.grants.dirs {
        if let Err(error) = std::fs::read_dir(&dir.host) {
            return Err(LoadError::Directory { dir: dir.host.clone(), route: guest.name.to_owned(), error });
        }
    }
    Ok(())
}

fn settings(
    config: &Config,
    guest: &Guest<'_>,
    outgoing: &OutgoingClient,
    stores: &[Arc<StoreClient>],
) -> Result<AppSettings, LoadError> {
    check_directories(guest)?;
    let Guest { name, limits, grants, .. } = *guest;
    let allow_http = grants.allow_http.clone();
    let name: Arc<str> = name.into();
    Ok(AppSettings {
        files: RouteFiles::new(Arc::clone(&name)),
        route: name,
        dev: config.dev,
        limits: *limits,
        mask: settings::mask(grants),
        stores: GrantedStores::of(grants, stores),
        bundle: match guest.source() {
            Some(Source::File(path)) if config.dev => Some(Bundle::of(&path)),
            _ => None,
        },
        outgoing: OutgoingPolicy::new(outgoing, allow_http, limits, callees(config, grants)),
        grants: Arc::new(grants.clone()),
    })
}

/// The routes that are granted to be called.
fn callees(config: &Config, grants: &Grants) -> Vec<Callee> {
    let callee = |grant: &RouteGrant| {
        let index = config.routes.iter().position(|route| route.name == grant.name)?;
        Some(Callee { name: grant.name.as_str().into(), index })
    };
    grants.allow_http.routes().iter().filter_map(callee).collect()
}

/// A guest of a route: one of its middleware, or its component, if it has one.
#[derive(Clone, Copy)]
struct Guest<'a> {
    name: &'a str,
    limits: &'a RouteLimits,
    grants: &'a Grants,
    component: Option<&'a ComponentSource>,
}

impl<'a> Guest<'a> {
    fn of(route: &'a Route) -> Self {
        let Route { name, limits, grants, component, .. } = route;
        Self { name, limits, grants, component: component.as_ref() }
    }

    fn of_link(link: &'a Link) -> Self {
        let Link { name, limits, grants, component, .. } = link;
        Self { name, limits, grants, component: Some(component) }
    }

    fn all(route: &'a Route) -> impl Iterator<Item = Self> {
        route.middleware.iter().map(Self::of_link).chain([Self::of(route)])
    }

    fn source(&self) -> Option<Source> {
        self.component.map(source_of)
    }
}

/// The component of a route that has one.
pub(crate) fn source(route: &Route) -> Option<Source> {
    route.component.as_ref().map(source_of)
}

pub(super) fn source_of(component: &ComponentSource) -> Source {
    match component {
        ComponentSource::HelloWorld => Source::HelloWorld,
        ComponentSource::File(path) => Source::File(path.clone()),
    }
}

/// All values, or all errors.
fn all<T>(results: impl Iterator<Item = Result<T, LoadError>>) -> Result<Vec<T>, Vec<LoadError>> {
    let mut values = Vec::new();
    let mut errors = Vec::new();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}
