//! wasi:cli, wasi:clocks and wasi:random.

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

use super::drop;
use crate::canonical::{Function, record};
use crate::engine::State;

const MONOTONIC: &str = "wasi:clocks/monotonic-clock";
const WALL: &str = "wasi:clocks/wall-clock";
const RANDOM: &str = "wasi:random/random";
const INSECURE: &str = "wasi:random/insecure";
const ENVIRONMENT: &str = "wasi:cli/environment";
const EXIT: &str = "wasi:cli/exit";

resources! { "wasi:cli/terminal-input" => TerminalInput = "terminal-input", }
resources! { "wasi:cli/terminal-output" => TerminalOutput = "terminal-output", }

record!(Datetime { seconds: u64 = "seconds", nanoseconds: u32 = "nanoseconds" });

pub(super) fn functions() -> Vec<Function<State>> {
    [environment(), stdio(), clocks(), random()].into_iter().flatten().collect()
}

fn environment() -> Vec<Function<State>> {
    vec![
        Function::new(ENVIRONMENT, "get-environment", |state: &mut State, ()| {
            environment::Host::get_environment(&mut state.cli())
        }),
        Function::new(ENVIRONMENT, "get-arguments", |state: &mut State, ()| {
            environment::Host::get_arguments(&mut state.cli())
        }),
        Function::new(ENVIRONMENT, "initial-cwd", |state: &mut State, ()| {
            environment::Host::initial_cwd(&mut state.cli())
        }),
        Function::new(EXIT, "exit", |state: &mut State, (status,): (Result<(), ()>,)| {
            exit::Host::exit(&mut state.cli(), status)
        }),
    ]
}

fn stdio() -> Vec<Function<State>> {
    vec![
        drop(|state, terminal: Resource<TerminalInput>| HostTerminalInput::drop(&mut state.cli(), terminal)),
        drop(|state, terminal: Resource<TerminalOutput>| HostTerminalOutput::drop(&mut state.cli(), terminal)),
        Function::new("wasi:cli/stdin", "get-stdin", |state: &mut State, ()| stdin::Host::get_stdin(&mut state.cli())),
        Function::new("wasi:cli/stdout", "get-stdout", |state: &mut State, ()| {
            stdout::Host::get_stdout(&mut state.cli())
        }),
        Function::new("wasi:cli/stderr", "get-stderr", |state: &mut State, ()| {
            stderr::Host::get_stderr(&mut state.cli())
        }),
        Function::new("wasi:cli/terminal-stdin", "get-terminal-stdin", |state: &mut State, ()| {
            terminal_stdin::Host::get_terminal_stdin(&mut state.cli())
        }),
        Function::new("wasi:cli/terminal-stdout", "get-terminal-stdout", |state: &mut State, ()| {
            terminal_stdout::Host::get_terminal_stdout(&mut state.cli())
        }),
        Function::new("wasi:cli/terminal-stderr", "get-terminal-stderr", |state: &mut State, ()| {
            terminal_stderr::Host::get_terminal_stderr(&mut state.cli())
        }),
    ]
}

fn clocks() -> Vec<Function<State>> {
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

fn random() -> Vec<Function<State>> {
    vec![
        Function::new(RANDOM, "get-random-bytes", |state: &mut State, (len,): (u64,)| {
            random::Host::get_random_bytes(state.random(), len)
        }),
        Function::new(RANDOM, "get-random-u64", |state: &mut State, ()| random::Host::get_random_u64(state.random())),
        Function::new(INSECURE, "get-insecure-random-bytes", |state: &mut State, (len,): (u64,)| {
            insecure::Host::get_insecure_random_bytes(state.random(), len)
        }),
        Function::new(INSECURE, "get-insecure-random-u64", |state: &mut State, ()| {
            insecure::Host::get_insecure_random_u64(state.random())
        }),
        Function::new("wasi:random/insecure-seed", "insecure-seed", |state: &mut State, ()| {
            insecure_seed::Host::insecure_seed(state.random())
        }),
    ]
}
