//! `wasi:config`: the variables that `vars` grants.

use wasmtime::component::Linker;
use wasmtime_wasi_config::WasiConfig;

use super::state::State;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_config::add_to_linker(linker, |state| WasiConfig::from(state.vars()))
}
