//! A component that is loaded and linked, and its exported function that handles requests.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Linker, Lower, Resource, TypedFunc,
};
use wasmtime::{Engine, Module, Store};
use wasmtime_wasi_http::p2::bindings::http::types::{IncomingRequest, ResponseOutparam};
use wasmtime_wasi_http::p3::bindings::http::types::{ErrorCode, Request, Response};

use super::direct::handler::{Direct, DirectLinker};
use crate::artifact::{Artifact, Form, LoadError};
use crate::component_link::parts::import_name;
use crate::engine::pool::{Engines, PoolKind};
use crate::wasi::state::State;
use crate::wasi::{link, missing};

/// A linked component, ready to be instantiated.
pub(crate) enum Handler {
    /// A module that is linked directly, of either WASI version.
    Direct(Direct),
    /// `wasi:http/incoming-handler@0.2.x`.
    P2(HandleP2),
    /// `wasi:http/handler@0.3.x`.
    P3(HandleP3),
}

impl Handler {
    /// Whether its instances do not use wasmtime's component runtime.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }
}

pub(crate) type HandleP2 = Export<(Resource<IncomingRequest>, Resource<ResponseOutparam>), ()>;
pub(crate) type HandleP3 = Export<(Resource<Request>,), (Result<Resource<Response>, ErrorCode>,)>;

/// A linked component, and one of its exported functions.
pub(crate) struct Export<Params, Results> {
    linked: InstancePre<State>,
    function: ComponentExportIndex,
    /// Whether the function's type was compared with `fn(Params) -> Results`. The comparison is slow, and its result is
    /// the same for every instance.
    is_checked: AtomicBool,
    as_type: PhantomData<fn(Params) -> Results>,
}

/// Loads components into their pools. Those of one pool share the host's functions. This saves memory, and the
/// functions stay in the CPU's caches between requests to different components.
pub(crate) struct Loader<'a> {
    engines: &'a Engines,
    linkers: HashMap<PoolKind, Linker<State>>,
    direct_linkers: HashMap<PoolKind, DirectLinker>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(engines: &'a Engines) -> Self {
        Self { engines, linkers: HashMap::new(), direct_linkers: HashMap::new() }
    }

    /// Loads compiled code into its pool, and links it.
    ///
    /// # Errors
    ///
    /// If an import is provided with another type, or if an instance does not fit into the pool's slots.
    pub(crate) fn load(&mut self, artifact: &Artifact) -> Result<Handler, LoadError> {
        let refused = |error| LoadError::Refused { error, component: artifact.source.name() };
        let kind = artifact.facts.pool;
        let engine =
            self.engines.pool(kind).ok_or_else(|| refused(wasmtime::format_err!("its engine was not prepared")))?;
        let mapped = match artifact.facts.form {
            Form::Component => component(engine, artifact.code()).map(Loaded::Component),
            Form::Module => module(engine, artifact.code()).map(Loaded::Module),
            Form::Parts { .. } => in_parts(engine, artifact),
        };
        let loaded = mapped.map_err(|error| LoadError::Unmappable { error, component: artifact.source.name() })?;
        self.link(kind, engine, &loaded, artifact.facts.exports_p3).map_err(refused)
    }

    fn link(&mut self, kind: PoolKind, engine: &Engine, code: &Loaded, exports_p3: bool) -> wasmtime::Result<Handler> {
        match code {
            // A P2 handler that imports P3 interfaces runs in the P3 pool.
            Loaded::Component(component) => {
                let linker = missing::with_traps(self.linker(kind, engine)?, component, engine, kind.wasi_version)?;
                Handler::new(linker.instantiate_pre(component)?, exports_p3)
            }
            Loaded::Parts(component, modules) => {
                let linker = self.linker(kind, engine)?;
                let mut linker = missing::with_traps(linker, component, engine, kind.wasi_version)?.into_owned();
                for (index, module) in modules.iter().enumerate() {
                    linker.root().module(&import_name(index), module)?;
                }
                Handler::new(linker.instantiate_pre(component)?, exports_p3)
            }
            Loaded::Module(module) => self.direct_linker(kind, engine)?.link(module).map(Handler::Direct),
        }
    }

    fn linker(&mut self, kind: PoolKind, engine: &Engine) -> wasmtime::Result<&Linker<State>> {
        Ok(match self.linkers.entry(kind) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(link::linker(engine, kind.wasi_version)?),
        })
    }

    fn direct_linker(&mut self, kind: PoolKind, engine: &Engine) -> wasmtime::Result<&mut DirectLinker> {
        Ok(match self.direct_linkers.entry(kind) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(DirectLinker::new(engine)?),
        })
    }
}

/// Code that is mapped into memory.
enum Loaded {
    Component(Component),
    Module(Module),
    /// A component, and the modules that it imports.
    Parts(Component, Vec<Module>),
}

fn in_parts(engine: &Engine, artifact: &Artifact) -> wasmtime::Result<Loaded> {
    let modules = artifact.modules().map(|code| module(engine, code)).collect::<wasmtime::Result<_>>()?;
    Ok(Loaded::Parts(component(engine, artifact.code())?, modules))
}

impl Handler {
    /// # Errors
    ///
    /// If the component exports no function of that name.
    pub(crate) fn new(linked: InstancePre<State>, exports_p3: bool) -> wasmtime::Result<Self> {
        if exports_p3 {
            Export::new(linked, "wasi:http/handler@0.3.0").map(Self::P3)
        } else {
            Export::new(linked, "wasi:http/incoming-handler@0.2.12").map(Self::P2)
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        match self {
            Self::Direct(direct) => direct.engine(),
            Self::P2(export) => export.linked.engine(),
            Self::P3(export) => export.linked.engine(),
        }
    }
}

impl<Params, Results> Export<Params, Results>
where
    Params: ComponentNamedList + Lower,
    Results: ComponentNamedList + Lift,
{
    /// The `handle` function of an exported interface whose version is compatible with the named one.
    fn new(linked: InstancePre<State>, interface: &str) -> wasmtime::Result<Self> {
        let component = linked.component();
        let function = component
            .get_export_index(None, interface)
            .and_then(|interface| component.get_export_index(Some(&interface), "handle"))
            .ok_or_else(no_function)?;
        Ok(Self { linked, function, is_checked: AtomicBool::new(false), as_type: PhantomData })
    }

    /// Creates an instance in the store, and returns its function.
    ///
    /// # Errors
    ///
    /// If the pool has no free slot, the component cannot be instantiated, or the function has another type.
    pub(crate) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<TypedFunc<Params, Results>> {
        let instance = self.linked.instantiate_async(&mut *store).await?;
        if !self.is_checked.load(Relaxed) {
            let function = instance.get_typed_func(store, self.function)?;
            self.is_checked.store(true, Relaxed);
            return Ok(function);
        }
        let function = instance.get_func(store, self.function).ok_or_else(no_function)?;
        #[expect(unsafe_code, reason = "the types would be compared again for each request")]
        // SAFETY: this function had this type in an earlier instance of the same component, linked to the same host.
        Ok(unsafe { TypedFunc::new_unchecked(function) })
    }
}

fn no_function() -> wasmtime::Error {
    wasmtime::format_err!("its HTTP handler exports no function `handle`")
}

/// Maps a component's code, whose pages are shared between processes.
#[expect(unsafe_code, reason = "wasmtime trusts compiled code completely; this was compiled or checked by us")]
fn component(engine: &Engine, code: &File) -> wasmtime::Result<Component> {
    // SAFETY: `code` comes from `Component::serialize`, or from a cache that no other user can write to. Its digest was
    // checked after it was read into this file, which has been sealed since.
    unsafe { Component::deserialize_file(engine, path(code)) }
}

/// Maps a module's code likewise.
#[expect(unsafe_code, reason = "as above")]
fn module(engine: &Engine, code: &File) -> wasmtime::Result<Module> {
    // SAFETY: as above, from `Module::serialize`.
    unsafe { Module::deserialize_file(engine, path(code)) }
}

/// wasmtime requires a path. This one refers to the open file, whatever its name is.
fn path(code: &File) -> String {
    format!("/dev/fd/{}", code.as_raw_fd())
}
