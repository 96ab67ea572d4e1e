//! `wasi:http/types`: fields.

use wasmtime::component::Resource;
use wasmtime_wasi_http::p3::bindings::http::types::HostFields;
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::TYPES;
use super::error::code_or_trap;
use crate::component_abi::{Borrow, Function};
use crate::wasi::direct::common::common_fields;
use crate::wasi::state::State;

/// Takes the fields out of the table and makes them immutable, as the fields of a message are.
pub(super) fn take(state: &mut State, fields: Resource<FieldMap>) -> wasmtime::Result<FieldMap> {
    let mut fields = state.table().delete(fields)?;
    fields.set_immutable();
    Ok(fields)
}

pub(super) fn functions() -> Vec<Function<State>> {
    let others = functions! { state =>
        TYPES {
            fn "[method]fields.get-and-delete"(fields: Borrow<FieldMap>, name: String) =>
                code_or_trap(HostFields::get_and_delete(&mut state.http(), fields.0, name));
            fn "[method]fields.copy-all"(fields: Borrow<FieldMap>) =>
                HostFields::copy_all(&mut state.http(), fields.0);
        }
    };
    common_fields!(p3).into_iter().chain(others).collect()
}
