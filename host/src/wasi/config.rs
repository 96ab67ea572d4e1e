//! `wasi:config`: the variables that `vars` grants.

use wasmtime_wasi_config::WasiConfig;

use super::HostInterface;
use super::state::State;

pub(super) const INTERFACE: HostInterface = HostInterface {
    name: "wasi:config/store",
    // The version of wasmtime-wasi-config.
    version: "0.2.0-rc.1",
    add_to_linker: |linker| {
        wasmtime_wasi_config::add_to_linker(linker, |state: &mut State| WasiConfig::from(state.vars()))
    },
    functions: Vec::new,
};
