//! Components that need no component runtime.
//!
//! wit-component makes an ordinary guest of three core modules: the guest's own, a shim and one that fills the shim's
//! table (see [`relink`](super::relink)), because the functions that the guest imports need its memory, which is not
//! there when they are made. wasmtime instantiates all three for each request, and looks up each function and the
//! resources' tables anew. None of that is needed when the host's functions are linked to the guest's own module as
//! the core functions that they are ([`canonical`](crate::canonical)), and find its memory in the store.
//!
//! Here it is found out whether a component is of that form, and means the same types as we do. Then its main module
//! is taken out, and given what it lacks: a function whose result needs memory is followed by a loop that allocates
//! it, in the guest. So the host never calls the guest while the guest calls the host. A component of any other form,
//! or one that imports anything else, is compiled as a component.

use wasm_encoder::reencode;
use wasmparser::component_types::ComponentFuncType;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod agreement03;
#[cfg(test)]
mod agreement_ends;
mod built_in;
mod filling;
mod form;
mod handler;
mod module;
mod surface;
mod task;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests03;

pub(crate) use handler::Direct;
pub(super) use handler::{DirectLinker, Handle};

use crate::canonical::{self, Function, WitTypes};
use crate::host_api::direct;

/// To be raised with every change here of what comes out: compiled code is cached by it.
pub(super) const VERSION: u32 = 3;

/// How the memory of such a module is exported.
pub(super) const MEMORY: &str = "memory";

/// How the names of exports begin that are added to such a module, and those exports.
const OURS: &str = "daylily:";
const HANDLE: &str = "daylily:handle";
const CALLBACK: &str = "daylily:callback";
const REALLOC: &str = "daylily:realloc";

/// What answers requests, by the release of WASI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handler {
    V2,
    V3,
}

impl Handler {
    /// Which one an interface is.
    fn of(interface: &str) -> Option<Self> {
        match canonical::release(interface)? {
            "wasi:http/incoming-handler@0.2" => Some(Self::V2),
            "wasi:http/handler@0.3" => Some(Self::V3),
            _ => None,
        }
    }

    /// Whether its function has the type that a component means.
    fn is(self, types: &WitTypes<'_>, ty: &ComponentFuncType) -> bool {
        match self {
            Self::V2 => canonical::is::<direct::ParamsV2, ()>(types, ty),
            Self::V3 => canonical::is_async::<direct::ParamsV3, direct::Answer>(types, ty),
        }
    }
}

/// What a module has that is not provided for.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be linked directly")]
struct Unfit;

type Result<T> = std::result::Result<T, reencode::Error<Unfit>>;

/// The main module of a component, to be linked to `functions`.
pub(super) fn main_module<T>(component: &[u8], functions: &[Function<T>]) -> Option<Vec<u8>> {
    let form = form::Form::of(component, functions)?;
    module::with_allocations(&form)
}
