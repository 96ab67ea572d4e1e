//! Removes the shim module from components.
//!
//! A component's imports are lowered to core functions that need the memory of its core module, which does not exist
//! yet when they are created. So wit-component puts a shim module before that module, with a table, and for each such
//! function one that calls an element of the table. A third module, the fixups module, fills the table when the memory
//! exists. Each instance of the component has all three, and looks up each function of the shim.
//!
//! This module moves the table and the functions that call its elements into the main module, and removes the shim. The
//! functions' behaviour does not change: one that is called before the table is filled still traps. A component of any
//! other form is left unchanged.

use wasm_encoder::Component;
use wasm_encoder::reencode::{self, ReencodeComponent as _};
use wasmparser::{Parser, Validator, WasmFeatures};

mod component;
pub(crate) mod main_module;
pub(crate) mod outline;
pub(crate) mod plan;
pub(crate) mod shim;
#[cfg(test)]
mod tests;

/// Must be incremented with every change to this module's output: it is a part of the cache key.
pub(crate) const VERSION: u32 = 2;

/// The component uses its shim in a way that is not supported.
#[derive(Debug, thiserror::Error)]
#[error("it uses its shim in another way")]
pub(crate) struct Unfit;

type Result<T> = std::result::Result<T, reencode::Error<Unfit>>;

/// The component without its shim. None if it has no shim of the known form.
pub(crate) fn relink(bytes: &[u8]) -> Option<Vec<u8>> {
    let plan = plan::Plan::of(&outline::Outline::read(bytes).ok()?)?;
    // An invalid component could become valid, since more functions and tables are added to it.
    Validator::new_with_features(WasmFeatures::default()).validate_all(bytes).ok()?;
    let mut relinked = Component::new();
    component::Relinker::new(&plan).parse_component(&mut relinked, Parser::new(0), bytes).ok()?;
    Some(relinked.finish())
}
