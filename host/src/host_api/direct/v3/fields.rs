//! wasi:http/types: fields.

use wasmtime::component::Resource;
use wasmtime_wasi_http::p3::bindings::http::types::HostFields;
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::super::drop;
use super::TYPES;
use super::error::told;
use crate::canonical::{Borrow, Function};
use crate::engine::State;

type Fields = Borrow<FieldMap>;

pub(super) fn functions() -> Vec<Function<State>> {
    vec![
        drop(|state, fields: Resource<FieldMap>| HostFields::drop(&mut state.http(), fields)),
        Function::new(TYPES, "[constructor]fields", |state: &mut State, ()| HostFields::new(&mut state.http())),
        Function::new(TYPES, "[static]fields.from-list", |state: &mut State, (list,): (Vec<(String, Vec<u8>)>,)| {
            told(HostFields::from_list(&mut state.http(), list))
        }),
        Function::new(TYPES, "[method]fields.get", |state: &mut State, (fields, name): (Fields, String)| {
            HostFields::get(&mut state.http(), fields.0, name)
        }),
        Function::new(TYPES, "[method]fields.has", |state: &mut State, (fields, name): (Fields, String)| {
            HostFields::has(&mut state.http(), fields.0, name)
        }),
        Function::new(
            TYPES,
            "[method]fields.set",
            |state: &mut State, (fields, name, values): (Fields, String, Vec<Vec<u8>>)| {
                told(HostFields::set(&mut state.http(), fields.0, name, values))
            },
        ),
        Function::new(TYPES, "[method]fields.delete", |state: &mut State, (fields, name): (Fields, String)| {
            told(HostFields::delete(&mut state.http(), fields.0, name))
        }),
        Function::new(TYPES, "[method]fields.get-and-delete", |state: &mut State, (fields, name): (Fields, String)| {
            told(HostFields::get_and_delete(&mut state.http(), fields.0, name))
        }),
        Function::new(
            TYPES,
            "[method]fields.append",
            |state: &mut State, (fields, name, value): (Fields, String, Vec<u8>)| {
                told(HostFields::append(&mut state.http(), fields.0, name, value))
            },
        ),
        Function::new(TYPES, "[method]fields.copy-all", |state: &mut State, (fields,): (Fields,)| {
            HostFields::copy_all(&mut state.http(), fields.0)
        }),
        Function::new(TYPES, "[method]fields.clone", |state: &mut State, (fields,): (Fields,)| {
            HostFields::clone(&mut state.http(), fields.0)
        }),
    ]
}
