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
use wasm_encoder::reencode::ReencodeComponent as _;
use wasmparser::Parser;

use super::outline::Outline;
use super::types;

mod component;
mod module;
mod plan;
#[cfg(test)]
mod tests;

/// Must be incremented with every change to this module's output: it is a part of the cache key.
pub(crate) const VERSION: u32 = 2;

/// Whether a valid component with this outline would lose its shim.
pub(super) fn has_shim(outline: &Outline<'_>) -> bool {
    plan::Plan::of(outline).is_some()
}

/// The component without its shim. None if it has no shim of the known form.
pub(crate) fn relink(bytes: &[u8]) -> Option<Vec<u8>> {
    let plan = plan::Plan::of(&Outline::read(bytes).ok()?)?;
    // An invalid component could become valid, since more functions and tables are added to it.
    types(bytes)?;
    let mut relinked = Component::new();
    component::Relinker::new(&plan).parse_component(&mut relinked, Parser::new(0), bytes).ok()?;
    Some(relinked.finish())
}
