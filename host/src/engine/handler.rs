//! The function of a component that answers requests.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use wasmtime::component::{ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower, Resource, TypedFunc};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::p2::bindings::http::types::{IncomingRequest, ResponseOutparam};
use wasmtime_wasi_http::p3::bindings::http::types::{ErrorCode, Request, Response};

use super::store::State;

/// A linked component: everything but the instance. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Handler {
    /// `wasi:http/incoming-handler@0.2.x`.
    V2(HandleV2),
    /// `wasi:http/handler@0.3.x`.
    V3(HandleV3),
}

pub(super) type HandleV2 = Export<(Resource<IncomingRequest>, Resource<ResponseOutparam>), ()>;
pub(super) type HandleV3 = Export<(Resource<Request>,), (Result<Resource<Response>, ErrorCode>,)>;

/// A linked component, and one function that it exports.
pub(crate) struct Export<Params, Results> {
    linked: InstancePre<State>,
    function: ComponentExportIndex,
    /// The function's type was compared with `fn(Params) -> Results`. That takes a while, and the outcome is the
    /// same for every instance.
    is_checked: Arc<OnceLock<()>>,
    as_type: PhantomData<fn(Params) -> Results>,
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
        Ok(Self { linked, function, is_checked: Arc::default(), as_type: PhantomData })
    }

    /// Makes an instance, which goes with the store, and returns its function.
    ///
    /// # Errors
    ///
    /// When the pool has no slot left, the component cannot be instantiated, or the function's type is another
    /// one.
    pub(super) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<TypedFunc<Params, Results>> {
        let instance = self.linked.instantiate_async(&mut *store).await?;
        if self.is_checked.get().is_none() {
            let function = instance.get_typed_func(store, self.function)?;
            let _ = self.is_checked.set(());
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

impl<Params, Results> Clone for Export<Params, Results> {
    fn clone(&self) -> Self {
        Self {
            linked: self.linked.clone(),
            function: self.function,
            is_checked: Arc::clone(&self.is_checked),
            as_type: PhantomData,
        }
    }
}
