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

#[cfg(test)]
mod agreement;
mod filling;
mod form;
mod handler;
mod module;
mod surface;
#[cfg(test)]
mod tests;

pub(crate) use handler::Direct;
pub(super) use handler::DirectLinker;

use crate::canonical::Function;

/// To be raised with every change here of what comes out: compiled code is cached by it.
pub(super) const VERSION: u32 = 1;

/// How the memory of such a module is exported.
pub(super) const MEMORY: &str = "memory";

/// The interface that it exports, without its version.
const HANDLER: &str = "wasi:http/incoming-handler";

/// Whether an export of a core module is its handler's function.
fn is_handle(export: &str) -> bool {
    export.strip_suffix("#handle").is_some_and(is_handler)
}

/// Whether an interface is the handler's, of any version.
fn is_handler(interface: &str) -> bool {
    surface::without_version(interface) == Some(HANDLER)
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
