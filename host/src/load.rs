//! From a configuration to a worker: every component compiled once, loaded and linked, every route with
//! its grants.

use std::collections::HashMap;
use std::sync::Arc;

use daylily_core::config::{ComponentSource, Config, Route};
use daylily_core::route::RouteTable;
use wasmtime_wasi_config::WasiConfigVariables;

use crate::admission::{Admission, RouteShare};
use crate::engine::{App, AppSettings, Artefact, Compiler, Engines, Flavour, Handler, LoadError, Needs, Source};
use crate::host_api::outgoing::{OutgoingClient, OutgoingPolicy};
use crate::log::OncePerSecond;
use crate::worker::{Worker, WorkerRoute};

/// Compiles, loads and links all that `config` serves.
///
/// # Errors
///
/// All components that cannot be served, each with its reason.
pub(crate) fn worker(config: &Config, connection_limit: usize) -> Result<Worker, Vec<LoadError>> {
    let artefacts = compile(&config.routes)?;
    let needs = needs(&config.routes, &artefacts)?;
    let engines =
        Engines::new(&needs, config.server.max_concurrency).map_err(|error| vec![LoadError::Pool { error }])?;
    let engines = Arc::new(engines);
    let handlers = all(artefacts.iter().map(|(source, artefact)| {
        let handler = Handler::load(&engines, artefact)?;
        Ok((source.clone(), handler))
    }))?;
    let handlers: HashMap<Source, Handler> = handlers.into_iter().collect();
    let outgoing = OutgoingClient::new();
    let routes = all(config.routes.iter().map(|route| {
        let handler = handlers.get(&source(route)).ok_or_else(|| LoadError::not_compiled(&source(route)))?;
        let settings = settings(route, &outgoing)?;
        let share = RouteShare::new(route.limits.max_concurrency);
        Ok(WorkerRoute { app: Arc::new(App::new(&engines, handler, settings)), share })
    }))?;
    Ok(Worker {
        table: RouteTable::new(&config.routes),
        routes,
        admission: Admission::new(&config.server),
        limits: config.server,
        connection_limit,
        dev: config.dev,
        overload: OncePerSecond::new(),
    })
}

/// One artefact for each component, however many routes have it.
fn compile(routes: &[Route]) -> Result<HashMap<Source, Artefact>, Vec<LoadError>> {
    let mut sources: Vec<Source> = Vec::new();
    for route in routes {
        let source = source(route);
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    let compiler = Compiler::default();
    let artefacts = all(sources.into_iter().map(|source| Ok((source.clone(), compiler.compile(&source)?))))?;
    Ok(artefacts.into_iter().collect())
}

fn needs(routes: &[Route], artefacts: &HashMap<Source, Artefact>) -> Result<Vec<(Flavour, Needs)>, Vec<LoadError>> {
    all(routes.iter().map(|route| {
        let artefact = artefacts.get(&source(route)).ok_or_else(|| LoadError::not_compiled(&source(route)))?;
        Ok((artefact.flavour, artefact.needs(&route.limits)?))
    }))
}

fn settings(route: &Route, outgoing: &OutgoingClient) -> Result<AppSettings, LoadError> {
    for dir in &route.grants.dirs {
        if let Err(error) = std::fs::read_dir(&dir.host) {
            return Err(LoadError::Directory { dir: dir.host.clone(), route: route.name.clone(), error });
        }
    }
    let allow_http = route.grants.allow_http.clone();
    Ok(AppSettings {
        route: route.name.as_str().into(),
        limits: route.limits,
        vars: Arc::new(WasiConfigVariables::from_iter(route.grants.vars.clone())),
        outgoing: OutgoingPolicy::new(outgoing, allow_http, &route.limits),
        grants: Arc::new(route.grants.clone()),
    })
}

fn source(route: &Route) -> Source {
    match &route.component {
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
