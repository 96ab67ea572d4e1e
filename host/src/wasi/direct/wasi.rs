//! `wasi:cli`, `wasi:clocks` and `wasi:random`.

use wasmtime::component::Resource;
use wasmtime_wasi::cli::WasiCliView;
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::bindings::cli::terminal_input::{HostTerminalInput, TerminalInput};
use wasmtime_wasi::p2::bindings::cli::terminal_output::{HostTerminalOutput, TerminalOutput};
use wasmtime_wasi::p2::bindings::cli::{
    environment, exit, stderr, stdin, stdout, terminal_stderr, terminal_stdin, terminal_stdout,
};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::random::WasiRandomView;

use super::common::common_wasi;
use super::drop;
use crate::component_abi::{Function, record};
use crate::wasi::state::State;

const WALL: &str = "wasi:clocks/wall-clock";

common_wasi!();

record!(Datetime { seconds: u64 = "seconds", nanoseconds: u32 = "nanoseconds" });

pub(crate) fn cli() -> Vec<Function<State>> {
    let others = [
        Function::new(ENVIRONMENT, "initial-cwd", |state: &mut State, ()| {
            environment::Host::initial_cwd(&mut state.cli())
        }),
        Function::new("wasi:cli/stdin", "get-stdin", |state: &mut State, ()| stdin::Host::get_stdin(&mut state.cli())),
        Function::new("wasi:cli/stdout", "get-stdout", |state: &mut State, ()| {
            stdout::Host::get_stdout(&mut state.cli())
        }),
        Function::new("wasi:cli/stderr", "get-stderr", |state: &mut State, ()| {
            stderr::Host::get_stderr(&mut state.cli())
        }),
    ];
    common_cli().into_iter().chain(others).collect()
}

pub(crate) fn clocks() -> Vec<Function<State>> {
    vec![
        Function::new(MONOTONIC, "now", |state: &mut State, ()| monotonic_clock::Host::now(&mut state.clocks())),
        Function::new(MONOTONIC, "resolution", |state: &mut State, ()| {
            monotonic_clock::Host::resolution(&mut state.clocks())
        }),
        Function::new(MONOTONIC, "subscribe-instant", |state: &mut State, (when,): (u64,)| {
            monotonic_clock::Host::subscribe_instant(&mut state.clocks(), when)
        }),
        Function::new(MONOTONIC, "subscribe-duration", |state: &mut State, (duration,): (u64,)| {
            monotonic_clock::Host::subscribe_duration(&mut state.clocks(), duration)
        }),
        Function::new(WALL, "now", |state: &mut State, ()| wall_clock::Host::now(&mut state.clocks())),
        Function::new(WALL, "resolution", |state: &mut State, ()| wall_clock::Host::resolution(&mut state.clocks())),
    ]
}

pub(crate) fn random() -> Vec<Function<State>> {
    let seed = Function::new("wasi:random/insecure-seed", "insecure-seed", |state: &mut State, ()| {
        insecure_seed::Host::insecure_seed(state.random())
    });
    common_random().into_iter().chain([seed]).collect()
}
