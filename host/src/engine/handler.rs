//! A component that is loaded and linked, and the function of it that answers requests.

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

use super::artefact::{Artefact, Form, LoadError};
use super::config::{Engines, PoolKind};
use super::direct::{Direct, DirectLinker};
use super::store::State;
use crate::host_api::link;

/// A linked component: everything but the instance.
pub(crate) enum Handler {
    /// Either, of a module that is linked directly.
    Direct(Direct),
    /// `wasi:http/incoming-handler@0.2.x`.
    V2(HandleV2),
    /// `wasi:http/handler@0.3.x`.
    V3(HandleV3),
}

impl Handler {
    /// Whether its instances are without wasmtime's component runtime.
    pub(super) fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }
}

pub(super) type HandleV2 = Export<(Resource<IncomingRequest>, Resource<ResponseOutparam>), ()>;
pub(super) type HandleV3 = Export<(Resource<Request>,), (Result<Resource<Response>, ErrorCode>,)>;

/// A linked component, and one function that it exports.
pub(crate) struct Export<Params, Results> {
    linked: InstancePre<State>,
    function: ComponentExportIndex,
    /// The function's type was compared with `fn(Params) -> Results`. That takes a while, and the outcome is the
    /// same for every instance.
    is_checked: AtomicBool,
    as_type: PhantomData<fn(Params) -> Results>,
}

/// Loads components into their pools. Those of one pool share the host's functions, which take less memory then,
/// and which requests to one find in the CPU's caches after requests to another.
pub(crate) struct Loader<'a> {
    engines: &'a Engines,
    linkers: HashMap<PoolKind, Linker<State>>,
    direct_linkers: HashMap<PoolKind, DirectLinker>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(engines: &'a Engines) -> Self {
        Self { engines, linkers: HashMap::new(), direct_linkers: HashMap::new() }
    }

    /// Loads compiled code into its pool and links it.
    ///
    /// # Errors
    ///
    /// When an import is provided under that name but with another type, or the pool has no room for
    /// an instance of it.
    pub(crate) fn load(&mut self, artefact: &Artefact) -> Result<Handler, LoadError> {
        let refused = |error| LoadError::Refused { error, component: artefact.source.name() };
        let kind = artefact.facts.pool;
        let engine =
            self.engines.pool(kind).ok_or_else(|| refused(wasmtime::format_err!("its engine was not prepared")))?;
        let mapped = match artefact.facts.form {
            Form::Component => component(engine, artefact.code()).map(Loaded::Component),
            Form::Module => module(engine, artefact.code()).map(Loaded::Module),
        };
        let loaded = mapped.map_err(|error| LoadError::Unmappable { error, component: artefact.source.name() })?;
        self.link(kind, engine, &loaded, artefact.facts.exports_v3).map_err(refused)
    }

    fn link(&mut self, kind: PoolKind, engine: &Engine, code: &Loaded, exports_v3: bool) -> wasmtime::Result<Handler> {
        match code {
            // A 0.2 handler that imports 0.3 interfaces runs in the 0.3 pool.
            Loaded::Component(component) => {
                Handler::new(self.linker(kind, engine)?.instantiate_pre(component)?, exports_v3)
            }
            Loaded::Module(module) => self.direct_linker(kind, engine)?.link(module).map(Handler::Direct),
        }
    }

    fn linker(&mut self, kind: PoolKind, engine: &Engine) -> wasmtime::Result<&Linker<State>> {
        Ok(match self.linkers.entry(kind) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(link::linker(engine, kind.flavour)?),
        })
    }

    fn direct_linker(&mut self, kind: PoolKind, engine: &Engine) -> wasmtime::Result<&mut DirectLinker> {
        Ok(match self.direct_linkers.entry(kind) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(DirectLinker::new(engine)?),
        })
    }
}

/// Code that is mapped.
enum Loaded {
    Component(Component),
    Module(Module),
}

impl Handler {
    /// # Errors
    ///
    /// When the component has no function of that name.
    pub(super) fn new(linked: InstancePre<State>, exports_v3: bool) -> wasmtime::Result<Self> {
        if exports_v3 {
            Export::new(linked, "wasi:http/handler@0.3.0").map(Self::V3)
        } else {
            Export::new(linked, "wasi:http/incoming-handler@0.2.12").map(Self::V2)
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::Direct(direct) => direct.engine(),
            Self::V2(export) => export.linked.engine(),
            Self::V3(export) => export.linked.engine(),
        }
    }
}

impl<Params, Results> Export<Params, Results>
where
    Params: ComponentNamedList + Lower,
    Results: ComponentNamedList + Lift,
{
    /// The `handle` of an interface, of any version that is compatible with the one that is named.
    fn new(linked: InstancePre<State>, interface: &str) -> wasmtime::Result<Self> {
        let component = linked.component();
        let function = component
            .get_export_index(None, interface)
            .and_then(|interface| component.get_export_index(Some(&interface), "handle"))
            .ok_or_else(no_function)?;
        Ok(Self { linked, function, is_checked: AtomicBool::new(false), as_type: PhantomData })
    }

    /// Makes an instance, which goes with the store, and returns its function.
    ///
    /// # Errors
    ///
    /// When the pool has no slot left, the component cannot be instantiated, or the function's type is another
    /// one.
    pub(super) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<TypedFunc<Params, Results>> {
        let instance = self.linked.instantiate_async(&mut *store).await?;
        if !self.is_checked.load(Relaxed) {
            let function = instance.get_typed_func(store, self.function)?;
            self.is_checked.store(true, Relaxed);
            return Ok(function);
        }
        let function = instance.get_func(store, self.function).ok_or_else(no_function)?;
        #[expect(unsafe_code, reason = "comparing the types would be done anew for each request")]
        // SAFETY: an instance of the same component, linked to the same host, had a function of this type here.
        Ok(unsafe { TypedFunc::new_unchecked(function) })
    }
}

fn no_function() -> wasmtime::Error {
    wasmtime::format_err!("its HTTP handler exports no function `handle`")
}

/// Maps the code of a component: all processes that do share its pages.
#[expect(unsafe_code, reason = "wasmtime trusts compiled code completely; this was compiled or checked by us")]
fn component(engine: &Engine, code: &File) -> wasmtime::Result<Component> {
    // SAFETY: `code` comes from `Component::serialize`, or from a cache that only we can write, with its
    // digest checked after it was read into this file, which has been sealed since.
    unsafe { Component::deserialize_file(engine, path(code)) }
}

/// The same for a module.
#[expect(unsafe_code, reason = "as above")]
fn module(engine: &Engine, code: &File) -> wasmtime::Result<Module> {
    // SAFETY: as above, from `Module::serialize`.
    unsafe { Module::deserialize_file(engine, path(code)) }
}

/// wasmtime takes a path; this one leads to the file that we have open, whatever its name is.
fn path(code: &File) -> String {
    format!("/dev/fd/{}", code.as_raw_fd())
}
