//! `wasi:cli`, `wasi:clocks` and `wasi:random`.

use wasmtime_wasi::cli::WasiCliView;
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::bindings::cli::terminal_input::TerminalInput;
use wasmtime_wasi::p2::bindings::cli::terminal_output::TerminalOutput;
use wasmtime_wasi::p2::bindings::cli::{environment, stderr, stdin, stdout};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::insecure_seed;
use wasmtime_wasi::random::WasiRandomView;

use super::common::{common_cli, common_random};
use crate::component_abi::{Function, record};
use crate::wasi::state::State;

resources! { "wasi:cli/terminal-input" => TerminalInput = "terminal-input", }
resources! { "wasi:cli/terminal-output" => TerminalOutput = "terminal-output", }

record!(Datetime { seconds: u64 = "seconds", nanoseconds: u32 = "nanoseconds" });

pub(crate) fn cli() -> Vec<Function<State>> {
    let others = functions! { state =>
        "wasi:cli/environment" {
            fn "initial-cwd"() => environment::Host::initial_cwd(&mut state.cli());
        }
        "wasi:cli/stdin" {
            fn "get-stdin"() => stdin::Host::get_stdin(&mut state.cli());
        }
        "wasi:cli/stdout" {
            fn "get-stdout"() => stdout::Host::get_stdout(&mut state.cli());
        }
        "wasi:cli/stderr" {
            fn "get-stderr"() => stderr::Host::get_stderr(&mut state.cli());
        }
    };
    common_cli!(p2).into_iter().chain(others).collect()
}

pub(crate) fn clocks() -> Vec<Function<State>> {
    functions! { state =>
        "wasi:clocks/monotonic-clock" {
            fn "now"() => monotonic_clock::Host::now(&mut state.clocks());
            fn "resolution"() => monotonic_clock::Host::resolution(&mut state.clocks());
            fn "subscribe-instant"(when: u64) => monotonic_clock::Host::subscribe_instant(&mut state.clocks(), when);
            fn "subscribe-duration"(duration: u64) =>
                monotonic_clock::Host::subscribe_duration(&mut state.clocks(), duration);
        }
        "wasi:clocks/wall-clock" {
            fn "now"() => wall_clock::Host::now(&mut state.clocks());
            fn "resolution"() => wall_clock::Host::resolution(&mut state.clocks());
        }
    }
}

pub(crate) fn random() -> Vec<Function<State>> {
    let seed = functions! { state =>
        "wasi:random/insecure-seed" {
            fn "insecure-seed"() => insecure_seed::Host::insecure_seed(state.random());
        }
    };
    common_random!(p2).into_iter().chain(seed).collect()
}
