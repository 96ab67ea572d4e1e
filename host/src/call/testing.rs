//! Components under test, each with a pool for one instance.

use std::sync::Arc;

use daylily_core::config::RouteLimits;
use wasmtime::Module;
use wasmtime::component::Component;

use super::direct::handler::DirectLinker;
use super::handler::Handler;
use crate::artifact::Form;
use crate::call::app::App;
use crate::component_link;
use crate::engine::pool::{Engines, Needs, PoolKind, StackDetail, WasiVersion};
use crate::wasi::link::{self, functions};
use crate::wasi::settings::AppSettings;

/// The needs of one instance of any component under test.
pub(crate) fn needs() -> Needs {
    let limits = RouteLimits::default();
    Needs {
        memories: 2,
        memory_bytes: limits.max_memory_bytes,
        tables: 4,
        table_elements: 0,
        core_instances: limits.max_instances,
        stacks: 8,
    }
}

/// A component in a pool of the usual configuration.
pub(crate) fn app(kind: PoolKind, form: Form, component: &[u8], limits: RouteLimits) -> Arc<App> {
    let engines = Engines::new(&[(kind, needs())], 1, StackDetail::Names).expect("a pool");
    app_in(Arc::new(engines), kind, form, component, limits)
}

/// A component in a given pool.
pub(crate) fn app_in(
    engines: Arc<Engines>,
    kind: PoolKind,
    form: Form,
    component: &[u8],
    limits: RouteLimits,
) -> Arc<App> {
    let engine = engines.pool(kind).expect("the pool");
    let is_p3 = kind.wasi_version == WasiVersion::P3;
    let handler = match form {
        Form::Component => {
            let component = Component::new(engine, component).expect("its code");
            let linker = link::linker(engine, kind.wasi_version).expect("a linker");
            Handler::new(linker.instantiate_pre(&component).expect("its imports"), is_p3)
        }
        Form::Module => {
            let module = component_link::direct::main_module(component, &functions()).expect("its main module");
            let module = Module::new(engine, module).expect("its code");
            DirectLinker::new(engine).expect("a linker").link(&module).map(Handler::Direct)
        }
        Form::Parts { .. } => panic!("its parts are tested with the components that have them"),
    };
    let settings = AppSettings::granting_nothing("under test", limits);
    Arc::new(App::new(&engines, &Arc::new(handler.expect("its export")), settings))
}
