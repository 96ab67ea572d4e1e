//! A component that is loaded, linked and ready to be instantiated.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use daylily_core::config::{Grants, RouteLimits};
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime_wasi_config::WasiConfigVariables;

use super::artefact::{Artefact, LoadError};
use super::config::Engines;
use super::handler::Handler;
use super::meter::Habit;
use crate::host_api::link;
use crate::host_api::outgoing::OutgoingPolicy;

/// What a route gives its component.
#[derive(Clone)]
pub(crate) struct AppSettings {
    /// The route's name, for the log.
    pub(crate) route: Arc<str>,
    pub(crate) limits: RouteLimits,
    pub(crate) grants: Arc<Grants>,
    pub(crate) vars: Arc<WasiConfigVariables>,
    pub(crate) outgoing: Arc<OutgoingPolicy>,
}

/// A component under the settings of one route.
pub(crate) struct App {
    pub(super) handler: Handler,
    pub(super) engines: Arc<Engines>,
    pub(super) habit: Arc<Habit>,
    settings: AppSettings,
}

impl Handler {
    /// Loads compiled code into its pool and links it.
    ///
    /// # Errors
    ///
    /// When an import is provided under that name but with another type, or the pool has no room for
    /// an instance of it.
    pub(crate) fn load(engines: &Engines, artefact: &Artefact) -> Result<Self, LoadError> {
        let refused = |error| LoadError::Refused { error, component: artefact.source.name() };
        let engine = engines
            .pool(artefact.facts.pool())
            .ok_or_else(|| refused(wasmtime::format_err!("its engine was not prepared")))?;
        let component = deserialize(engine, artefact.code())
            .map_err(|error| LoadError::Unmappable { error, component: artefact.source.name() })?;
        let linker = link::linker(engine, artefact.facts.flavour).map_err(refused)?;
        let linked = linker.instantiate_pre(&component).map_err(refused)?;
        // A 0.2 handler that imports 0.3 interfaces runs in the 0.3 pool.
        Self::new(linked, artefact.facts.exports_v3).map_err(refused)
    }
}

/// Maps the code: all processes that do share its pages.
#[expect(unsafe_code, reason = "wasmtime trusts compiled code completely; this was compiled or checked by us")]
fn deserialize(engine: &Engine, code: &File) -> wasmtime::Result<Component> {
    // wasmtime takes a path; this one leads to the file that we have open, whatever its name is.
    let path = format!("/dev/fd/{}", code.as_raw_fd());
    // SAFETY: `code` comes from `Component::serialize`, or from a cache that only we can write, with its
    // digest checked after it was read into this file, which has been sealed since.
    unsafe { Component::deserialize_file(engine, path) }
}

impl App {
    pub(crate) fn new(engines: &Arc<Engines>, handler: &Handler, settings: AppSettings) -> Self {
        Self { handler: handler.clone(), engines: Arc::clone(engines), habit: Arc::default(), settings }
    }

    pub(crate) fn settings(&self) -> &AppSettings {
        &self.settings
    }

    pub(super) fn engine(&self) -> &Engine {
        self.handler.engine()
    }
}
