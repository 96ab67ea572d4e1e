//! A module that is loaded and linked, and its function that answers requests.

use std::collections::HashSet;

use wasmtime::{Engine, Extern, ExternType, Instance, InstancePre, Linker, Module, ModuleExport, Store, TypedFunc};

use super::surface::without_version;
use super::{MEMORY, is_handle};
use crate::canonical::Function;
use crate::engine::store::State;
use crate::host_api::direct;

/// The handles of the request and of what is to become its response.
pub(in crate::engine) type Handle = TypedFunc<(u32, u32), ()>;

/// A linked module: everything but the instance.
pub(crate) struct Direct {
    linked: InstancePre<State>,
    memory: ModuleExport,
    handle: ModuleExport,
}

/// Links modules of one engine. They share the host's functions.
pub(in crate::engine) struct DirectLinker {
    linker: Linker<State>,
    functions: Vec<Function<State>>,
    /// The interfaces whose functions the linker has, with the versions under which it has them.
    defined: HashSet<String>,
}

impl DirectLinker {
    pub(in crate::engine) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        Ok(Self { linker: direct::linker(engine)?, functions: direct::functions(), defined: HashSet::new() })
    }

    /// # Errors
    ///
    /// When the module is not what [`main_module`](super::main_module) makes of a component.
    pub(in crate::engine) fn link(&mut self, module: &Module) -> wasmtime::Result<Direct> {
        for import in module.imports() {
            if self.defined.contains(import.module()) {
                continue;
            }
            let Some(interface) = without_version(import.module()) else { continue };
            for function in self.functions.iter().filter(|function| function.interface == interface) {
                function.define(&mut self.linker, import.module())?;
            }
            self.defined.insert(import.module().to_owned());
        }
        let not_there = |what| wasmtime::format_err!("its module has no {what}");
        let handle = module.exports().map(|export| export.name()).find(|name| is_handle(name));
        let handle = handle.ok_or_else(|| not_there("handler"))?;
        if !matches!(module.get_export(handle), Some(ExternType::Func(ty)) if is_handles(&ty)) {
            return Err(not_there("handler of that type"));
        }
        Ok(Direct {
            linked: self.linker.instantiate_pre(module)?,
            memory: module.get_export_index(MEMORY).ok_or_else(|| not_there("memory"))?,
            handle: module.get_export_index(handle).ok_or_else(|| not_there("handler"))?,
        })
    }
}

fn is_handles(ty: &wasmtime::FuncType) -> bool {
    ty.results().len() == 0 && ty.params().len() == 2 && ty.params().all(|param| param.is_i32())
}

impl Direct {
    pub(in crate::engine) fn engine(&self) -> &Engine {
        self.linked.module().engine()
    }

    /// Makes an instance, which goes with the store, and returns its function.
    ///
    /// # Errors
    ///
    /// When there is no slot left, or the module traps at its start.
    pub(in crate::engine) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Handle> {
        let instance = self.linked.instantiate_async(&mut *store).await?;
        let memory = export(instance, store, &self.memory)?.into_memory();
        store.data_mut().guest().memory = memory;
        let handle = export(instance, store, &self.handle)?.into_func();
        let handle = handle.ok_or_else(|| wasmtime::format_err!("its handler is no function"))?;
        #[expect(unsafe_code, reason = "comparing the types would be done anew for each request")]
        // SAFETY: the module's function has this type: `DirectLinker::link` compared it.
        Ok(unsafe { Handle::new_unchecked(&*store, handle) })
    }
}

fn export(instance: Instance, store: &mut Store<State>, export: &ModuleExport) -> wasmtime::Result<Extern> {
    instance.get_module_export(store, export).ok_or_else(|| wasmtime::format_err!("an export is not there"))
}
