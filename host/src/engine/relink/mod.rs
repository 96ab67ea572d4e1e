//! Components with one core module less.
//!
//! What a component imports is given to its core module as functions that need the module's own memory, which is
//! not there yet. So wit-component puts a second module before it, the shim: a table, and for each such function
//! one that calls what the table will hold. A third fills the table when the memory is there. Every instance has
//! all three, and each function of the shim is looked up for each.
//!
//! Here the table and its callers are moved into the main module, and nothing is left of the shim. What the
//! functions do stays as it is, also when one is called before the table is filled, which traps. A component of
//! any other form is left alone.

use wasm_encoder::Component;
use wasm_encoder::reencode::{self, ReencodeComponent as _};
use wasmparser::{Parser, Validator, WasmFeatures};

mod component;
pub(super) mod main_module;
pub(super) mod outline;
pub(super) mod plan;
pub(super) mod shim;
#[cfg(test)]
mod tests;

/// To be raised with every change here of what comes out: compiled code is cached by it.
pub(super) const VERSION: u32 = 2;

/// What a component has that is not provided for.
#[derive(Debug, thiserror::Error)]
#[error("it uses its shim in another way")]
pub(super) struct Unfit;

type Result<T> = std::result::Result<T, reencode::Error<Unfit>>;

/// The component without its shim, when it has one in the form that is known.
pub(super) fn relink(bytes: &[u8]) -> Option<Vec<u8>> {
    let plan = plan::Plan::of(&outline::Outline::read(bytes).ok()?)?;
    // One that is not valid could become so: there are more functions and tables in it then.
    Validator::new_with_features(WasmFeatures::default()).validate_all(bytes).ok()?;
    let mut relinked = Component::new();
    component::Relinker::new(&plan).parse_component(&mut relinked, Parser::new(0), bytes).ok()?;
    Some(relinked.finish())
}
