//! Packages of WASI 0.2 as wasmtime-wasi implements them, added to the linker of components.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::{LinkOptions, cli, clocks, io, random, sockets};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};

use super::state::State;

pub(super) fn cli_p2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, State::cli)
}

pub(super) fn clocks_p2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)
}

/// `wasi:io` with only the resource table as its state. `add_to_linker_async` of wasmtime-wasi would use the whole WASI
/// context, which a store creates only when a guest uses it, while every 0.2 response is written through a stream.
pub(super) fn io_p2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<State, Table>(linker, State::table)?;
    io::poll::add_to_linker::<State, Table>(linker, State::table)?;
    io::streams::add_to_linker::<State, Table>(linker, State::table)
}

/// The marker type for which `wasi:io` is added to the linker.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

pub(super) fn random_p2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    random::insecure::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    random::random::add_to_linker::<State, WasiRandom>(linker, State::random)
}

pub(super) fn sockets_p2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    sockets::instance_network::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::network::add_to_linker::<State, WasiSockets>(linker, &(&LinkOptions::default()).into(), State::sockets)?;
    sockets::tcp::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::udp::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::udp_create_socket::add_to_linker::<State, WasiSockets>(linker, State::sockets)
}
