//! A component under the settings of one route.

use std::sync::Arc;

use wasmtime::Engine;

use super::handler::Handler;
use crate::engine::meter::Habit;
use crate::engine::pool::Engines;
use crate::wasi::settings::AppSettings;

/// A component under the settings of one route.
pub(crate) struct App {
    pub(crate) handler: Arc<Handler>,
    pub(crate) engines: Arc<Engines>,
    pub(crate) habit: Arc<Habit>,
    settings: Arc<AppSettings>,
}

impl App {
    pub(crate) fn new(engines: &Arc<Engines>, handler: &Arc<Handler>, settings: AppSettings) -> Self {
        let settings = Arc::new(settings);
        Self { handler: Arc::clone(handler), engines: Arc::clone(engines), habit: Arc::default(), settings }
    }

    pub(crate) fn settings(&self) -> &Arc<AppSettings> {
        &self.settings
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.handler.engine()
    }
}
