//! Changes to components before they are compiled: bytes in, bytes out.
//!
//! [`direct`] extracts the main module of a component, and [`relink`] removes the shim of a component that cannot be
//! linked directly. [`parts`] takes the modules out of a component, for developers. The first two look for the modules that wit-component makes ([`outline`], [`main_module`], [`shim`]).

pub(crate) mod candidate;
pub(crate) mod direct;
mod main_module;
mod outline;
pub(crate) mod parts;
pub(crate) mod payloads;
pub(crate) mod relink;
mod shim;

use wasm_encoder::reencode::{self, ReencodeComponent, component_utils};
use wasm_encoder::{Component, ComponentSectionId, RawSection};
use wasmparser::types::Types;
use wasmparser::{Validator, WasmFeatures};

/// The component has a form that is not supported, so it is left unchanged.
#[derive(Debug, thiserror::Error)]
#[error("its form is not supported")]
struct Unfit;

type Result<T> = std::result::Result<T, reencode::Error<Unfit>>;

/// Adds a core module or a nested component as it is: it has index spaces of its own.
fn add_unchanged(component: &mut Component, id: ComponentSectionId, bytes: &[u8]) {
    component.section(&RawSection { id: id.into(), data: bytes });
}

/// Adds a custom section, unless it is the name section: that has the old indices, and is only for debugging.
fn add_custom_section(
    reencoder: &mut impl ReencodeComponent<Error = Unfit>,
    component: &mut Component,
    section: wasmparser::CustomSectionReader<'_>,
) -> Result<()> {
    if section.name() == "component-name" {
        return Ok(());
    }
    component_utils::parse_component_custom_section(reencoder, component, section)
}

/// The types of a valid component, whose core modules are validated as well. None for an invalid component: it could
/// become valid when it is rewritten, since it has more functions and types then.
fn types(component: &[u8]) -> Option<Types> {
    Validator::new_with_features(WasmFeatures::default()).validate_all(component).ok()
}
