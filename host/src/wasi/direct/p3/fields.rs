//! `wasi:http/types`: fields.

use wasmtime::component::{LinkerInstance, Resource};
use wasmtime_wasi_http::p3::bindings::http::types::{HeaderError, HostFields};
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::TYPES;
use super::error::told;
use crate::component_abi::{Borrow, Function};
use crate::wasi::direct::common::common_fields;
use crate::wasi::host_memory::{field_bytes, map_bytes};
use crate::wasi::state::State;

common_fields!(HeaderError);

/// Takes the fields out of the table and makes them immutable, as the fields of a message are.
pub(super) fn take(state: &mut State, fields: Resource<FieldMap>) -> wasmtime::Result<FieldMap> {
    let mut fields = state.table().delete(fields)?;
    fields.set_immutable();
    Ok(fields)
}

pub(super) fn functions() -> Vec<Function<State>> {
    let others = functions! { state =>
        TYPES {
            fn "[method]fields.get-and-delete"(fields: Fields, name: String) =>
                told(HostFields::get_and_delete(&mut state.http(), fields.0, name));
            fn "[method]fields.copy-all"(fields: Fields) => HostFields::copy_all(&mut state.http(), fields.0);
        }
    };
    common_fields().into_iter().chain(others).collect()
}
