//! A component under the settings of one route.

use std::sync::Arc;

use daylily_core::config::{Grants, RouteLimits};
use wasmtime::Engine;
use wasmtime_wasi_config::WasiConfigVariables;

use super::handler::Handler;
use crate::engine::meter::Habit;
use crate::engine::pool::Engines;
use crate::wasi::files::RouteFiles;
use crate::wasi::http::client::OutgoingPolicy;

/// A route's settings for its component.
#[derive(Clone)]
pub(crate) struct AppSettings {
    /// The route's name, for the log.
    pub(crate) route: Arc<str>,
    pub(crate) limits: RouteLimits,
    pub(crate) grants: Arc<Grants>,
    pub(crate) vars: Arc<WasiConfigVariables>,
    pub(crate) outgoing: Arc<OutgoingPolicy>,
    /// The thread pool for the route's file operations.
    pub(crate) files: Arc<RouteFiles>,
}

/// A component under the settings of one route.
pub(crate) struct App {
    pub(crate) handler: Arc<Handler>,
    pub(crate) engines: Arc<Engines>,
    pub(crate) habit: Arc<Habit>,
    settings: AppSettings,
}

impl App {
    pub(crate) fn new(engines: &Arc<Engines>, handler: &Arc<Handler>, settings: AppSettings) -> Self {
        Self { handler: Arc::clone(handler), engines: Arc::clone(engines), habit: Arc::default(), settings }
    }

    pub(crate) fn settings(&self) -> &AppSettings {
        &self.settings
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.handler.engine()
    }
}
