//! `fields`: the functions that make the host keep more memory, which account for it first.

/// These functions, with the bindings of `$release`: `p2` or `p3`. `$error` is the error of its implementation.
macro_rules! counted_fields {
    ($release:ident, $error:ty) => {
        use wasmtime::StoreContextMut;
        use wasmtime::component::{LinkerInstance, Resource};
        use wasmtime_wasi_http::$release::bindings::http::types::{HeaderError, HostFields};
        use wasmtime_wasi_http::{FieldMap, WasiHttpView};

        use crate::wasi::error_codes;
        use crate::wasi::host_memory::{field_bytes, map_bytes};
        use crate::wasi::state::State;

        pub(crate) type Entries = Vec<(String, Vec<u8>)>;
        type Fields = Resource<FieldMap>;
        type OrTrap<T> = wasmtime::Result<Result<T, HeaderError>>;

        pub(crate) fn code_or_trap<T>(result: Result<T, $error>) -> OrTrap<T> {
            error_codes::code_or_trap(result, <$error>::downcast)
        }

        pub(crate) fn from_list(state: &mut State, list: Entries) -> OrTrap<Fields> {
            state.charge(list.iter().map(|(name, value)| field_bytes(name, value)).sum())?;
            code_or_trap(HostFields::from_list(&mut state.http(), list))
        }

        pub(crate) fn set(state: &mut State, fields: Fields, name: String, values: Vec<Vec<u8>>) -> OrTrap<()> {
            state.charge(values.iter().map(|value| field_bytes(&name, value)).sum())?;
            code_or_trap(HostFields::set(&mut state.http(), fields, name, values))
        }

        pub(crate) fn append(state: &mut State, fields: Fields, name: String, value: Vec<u8>) -> OrTrap<()> {
            state.charge(field_bytes(&name, &value))?;
            code_or_trap(HostFields::append(&mut state.http(), fields, name, value))
        }

        /// Accounts for a full copy now. The copy is made when either resource is changed.
        pub(crate) fn clone(state: &mut State, fields: Fields) -> wasmtime::Result<Fields> {
            let bytes = state.table().get(&fields).map_or(0, |fields| map_bytes(fields));
            state.charge(bytes)?;
            HostFields::clone(&mut state.http(), fields)
        }

        /// Replaces these functions for components. The linker must allow shadowing.
        pub(crate) fn count_fields(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
            type Store<'a> = StoreContextMut<'a, State>;
            types.func_wrap("[static]fields.from-list", |mut store: Store<'_>, (list,): (Entries,)| {
                Ok((from_list(store.data_mut(), list)?,))
            })?;
            types.func_wrap(
                "[method]fields.set",
                |mut store: Store<'_>, (fields, name, values): (Fields, String, Vec<Vec<u8>>)| {
                    Ok((set(store.data_mut(), fields, name, values)?,))
                },
            )?;
            types.func_wrap(
                "[method]fields.append",
                |mut store: Store<'_>, (fields, name, value): (Fields, String, Vec<u8>)| {
                    Ok((append(store.data_mut(), fields, name, value)?,))
                },
            )?;
            types.func_wrap("[method]fields.clone", |mut store: Store<'_>, (fields,): (Fields,)| {
                Ok((clone(store.data_mut(), fields)?,))
            })
        }
    };
}

pub(crate) mod p2 {
    counted_fields!(p2, wasmtime_wasi_http::p2::HeaderError);
}

pub(crate) mod p3 {
    counted_fields!(p3, wasmtime_wasi::TrappableError<HeaderError>);
}
