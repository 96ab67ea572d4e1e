//! A module that is loaded and linked, and its function that handles requests.

use std::collections::HashMap;

use wasmtime::{
    Engine, Extern, ExternType, FuncType, Instance, InstancePre, Linker, Module, ModuleExport, Store, TypedFunc,
    WasmParams, WasmResults, bail,
};

use super::task::Task;
use crate::component_abi::Function;
use crate::component_link::direct::{CALLBACK, HANDLE, MEMORY, REALLOC};
use crate::wasi::link;
use crate::wasi::state::State;

/// A linked module, ready to be instantiated.
pub(crate) struct Direct {
    linked: InstancePre<State>,
    memory: ModuleExport,
    handle: ModuleExport,
    /// Called with an event that the guest has waited for; only in P3 handlers.
    callback: Option<ModuleExport>,
    realloc: Option<ModuleExport>,
}

/// Links the modules of one engine, which share the host's functions.
pub(crate) struct DirectLinker {
    linker: Linker<State>,
    /// Functions that are not in the linker yet, by the module and name under which they are imported.
    functions: HashMap<(String, String), Function<State>>,
}

impl DirectLinker {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        Self::of(engine, link::functions())
    }

    /// A linker that provides these functions.
    pub(crate) fn of(engine: &Engine, functions: Vec<Function<State>>) -> wasmtime::Result<Self> {
        let functions = functions.into_iter().map(|function| (function.import(), function));
        Ok(Self { linker: link::core_linker(engine)?, functions: functions.collect() })
    }

    /// # Errors
    ///
    /// If the module was not made by [`main_module`](super::main_module).
    pub(crate) fn link(&mut self, module: &Module) -> wasmtime::Result<Direct> {
        for import in module.imports() {
            let import = (import.module().to_owned(), import.name().to_owned());
            if let Some(function) = self.functions.remove(&import) {
                function.define(&mut self.linker)?;
            }
        }
        let function = |name, params, results| match module.get_export(name) {
            Some(ExternType::Func(ty)) if is_of_i32(&ty, params, results) => Ok(module.get_export_index(name)),
            Some(_) => bail!("its module has another {name}"),
            None => Ok(None),
        };
        let callback = function(CALLBACK, 3, 1)?;
        let handle = if callback.is_some() { function(HANDLE, 1, 1)? } else { function(HANDLE, 2, 0)? };
        let not_there = |what| wasmtime::format_err!("its module has no {what}");
        Ok(Direct {
            linked: self.linker.instantiate_pre(module)?,
            memory: module.get_export_index(MEMORY).ok_or_else(|| not_there(MEMORY))?,
            handle: handle.ok_or_else(|| not_there(HANDLE))?,
            callback,
            realloc: function(REALLOC, 4, 1)?,
        })
    }
}

fn is_of_i32(ty: &FuncType, params: usize, results: usize) -> bool {
    ty.params().len() == params
        && ty.results().len() == results
        && ty.params().chain(ty.results()).all(|ty| ty.is_i32())
}

/// An instance's function that handles requests.
pub(crate) enum Handle {
    /// Takes the handles of the request and of the response outparam.
    P2(TypedFunc<(u32, u32), ()>),
    P3(Task),
}

impl Direct {
    pub(crate) fn engine(&self) -> &Engine {
        self.linked.module().engine()
    }

    /// Creates an instance in the store, and returns its function.
    ///
    /// # Errors
    ///
    /// If no slot is free, or the module traps during its instantiation.
    pub(crate) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Handle> {
        let instance = self.linked.instantiate_async(&mut *store).await?;
        let memory = export(instance, store, &self.memory)?.into_memory();
        store.data_mut().guest().memory = memory;
        let Some(callback) = &self.callback else {
            return Ok(Handle::P2(function(instance, store, &self.handle)?));
        };
        Ok(Handle::P3(Task {
            handle: function(instance, store, &self.handle)?,
            callback: function(instance, store, callback)?,
            realloc: match &self.realloc {
                Some(realloc) => Some(function(instance, store, realloc)?),
                None => None,
            },
        }))
    }
}

fn export(instance: Instance, store: &mut Store<State>, export: &ModuleExport) -> wasmtime::Result<Extern> {
    instance.get_module_export(store, export).ok_or_else(|| wasmtime::format_err!("an export is not there"))
}

fn function<P: WasmParams, R: WasmResults>(
    instance: Instance,
    store: &mut Store<State>,
    name: &ModuleExport,
) -> wasmtime::Result<TypedFunc<P, R>> {
    let function = export(instance, store, name)?.into_func();
    let function = function.ok_or_else(|| wasmtime::format_err!("an export is no function"))?;
    #[expect(unsafe_code, reason = "the types would be compared again for each request")]
    // SAFETY: `DirectLinker::link` has checked that the module's function has this type.
    Ok(unsafe { TypedFunc::new_unchecked(&*store, function) })
}
