//! Direct linking, for components that need no component runtime.
//!
//! wit-component makes three core modules of an ordinary guest: the guest's own, a shim module, and a fixups module
//! that fills the shim's table (see [`relink`](crate::component_link::relink)). The reason is that the lowered functions that the guest
//! imports need its memory, which does not exist when they are created. wasmtime instantiates all three modules for
//! each request, and looks up all functions and the resources' tables again. None of that is necessary if the host's
//! functions are linked to the guest's own module as core functions ([`component_abi`](crate::component_abi)), and find its
//! memory in the store.
//!
//! This module checks whether a component has that form, and the types that the host has. Then it extracts the main
//! module and rewrites it: a call of a function whose result needs memory is followed by a loop, within the guest, that
//! allocates it. So the host never calls the guest during a call of the host. Components of any other form, or with
//! other imports, are compiled as components.

use wasmparser::component_types::ComponentFuncType;

mod built_in;
mod fixups;
mod form;
mod module;
mod surface;

use crate::component_abi::{self, Function, WitTypes};

/// Must be incremented with every change to this module's output: it is a part of the cache key.
pub(crate) const VERSION: u32 = 3;

/// The name of the exported memory of such a module.
pub(crate) const MEMORY: &str = "memory";

/// The prefix of the exports that are added to such a module, and these exports.
pub(crate) const OURS: &str = "daylily:";
pub(crate) const HANDLE: &str = "daylily:handle";
pub(crate) const CALLBACK: &str = "daylily:callback";
pub(crate) const REALLOC: &str = "daylily:realloc";

/// The handler interface, by WASI version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerInterface {
    P2,
    P3,
}

impl HandlerInterface {
    /// The handler that an interface is, if it is one.
    pub(crate) fn of(interface: &str) -> Option<Self> {
        match component_abi::release(interface)? {
            "wasi:http/incoming-handler@0.2" => Some(Self::P2),
            "wasi:http/handler@0.3" => Some(Self::P3),
            _ => None,
        }
    }
}

/// The types of the handlers, which a store's data has beside its functions.
pub(crate) trait HandlerTypes {
    /// Whether `ty` is the type of that handler's function.
    fn is_handler(handler: HandlerInterface, types: &WitTypes<'_>, ty: &ComponentFuncType) -> bool;
}

/// The rewritten main module of a component, to be linked to `functions`. None if the component cannot be linked
/// directly.
pub(crate) fn main_module<T: HandlerTypes>(component: &[u8], functions: &[Function<T>]) -> Option<Vec<u8>> {
    let form = form::Layout::of(component, functions)?;
    module::with_allocations(&form)
}
