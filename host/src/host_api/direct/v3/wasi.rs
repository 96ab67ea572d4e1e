//! wasi:cli, wasi:clocks and wasi:random.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use wasmtime::component::Resource;
use wasmtime_wasi::cli::WasiCliView;
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi::p2::bindings::cli::{stderr, stdout};
use wasmtime_wasi::p3::bindings::cli::terminal_input::{HostTerminalInput, TerminalInput};
use wasmtime_wasi::p3::bindings::cli::terminal_output::{HostTerminalOutput, TerminalOutput};
use wasmtime_wasi::p3::bindings::cli::types::ErrorCode;
use wasmtime_wasi::p3::bindings::cli::{environment, exit, terminal_stderr, terminal_stdin, terminal_stdout};
use wasmtime_wasi::p3::bindings::clocks::system_clock::Instant;
use wasmtime_wasi::p3::bindings::clocks::{monotonic_clock, system_clock};
use wasmtime_wasi::p3::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::random::WasiRandomView;

use super::super::drop;
use super::source::Nothing;
use crate::canonical::{ByteSink, Function, FutureReader, StreamReader, Transfer, enumeration, later, pipe, record};
use crate::engine::State;

const MONOTONIC: &str = "wasi:clocks/monotonic-clock";
const SYSTEM: &str = "wasi:clocks/system-clock";
const RANDOM: &str = "wasi:random/random";
const INSECURE: &str = "wasi:random/insecure";
const ENVIRONMENT: &str = "wasi:cli/environment";
const EXIT: &str = "wasi:cli/exit";

resources! { "wasi:cli/terminal-input" => TerminalInput = "terminal-input", }
resources! { "wasi:cli/terminal-output" => TerminalOutput = "terminal-output", }

record!(Instant { seconds: i64 = "seconds", nanoseconds: u32 = "nanoseconds" });

enumeration!(ErrorCode {
    "io" => Io,
    "illegal-byte-sequence" => IllegalByteSequence,
    "pipe" => Pipe,
});

/// What became of a stream of the process.
pub(super) type Written = Result<(), ErrorCode>;

/// What one write to the log may have at a time.
const MAX_WRITE_BYTES: usize = 64 << 10;

pub(super) fn functions() -> Vec<Function<State>> {
    [environment(), stdio(), terminals(), clocks(), random()].into_iter().flatten().collect()
}

fn environment() -> Vec<Function<State>> {
    vec![
        Function::new(ENVIRONMENT, "get-environment", |state: &mut State, ()| {
            environment::Host::get_environment(&mut state.cli())
        }),
        Function::new(ENVIRONMENT, "get-arguments", |state: &mut State, ()| {
            environment::Host::get_arguments(&mut state.cli())
        }),
        Function::new(ENVIRONMENT, "get-initial-cwd", |state: &mut State, ()| {
            environment::Host::get_initial_cwd(&mut state.cli())
        }),
        Function::new(EXIT, "exit", |state: &mut State, (status,): (Result<(), ()>,)| {
            exit::Host::exit(&mut state.cli(), status)
        }),
        Function::new(EXIT, "exit-with-code", |state: &mut State, (code,): (u8,)| {
            exit::Host::exit_with_code(&mut state.cli(), code)
        }),
    ]
}

fn stdio() -> Vec<Function<State>> {
    vec![
        // Nobody is at the other end.
        Function::new("wasi:cli/stdin", "read-via-stream", |state: &mut State, ()| {
            let guest = state.guest();
            let done: FutureReader<Written> =
                guest.future(later(async { |_: &mut State| wasmtime::error::Ok(Written::Ok(())) }));
            Ok((guest.stream(Nothing), done))
        }),
        Function::new("wasi:cli/stdout", "write-via-stream", |state: &mut State, (data,): (StreamReader,)| {
            let stream = stdout::Host::get_stdout(&mut state.cli())?;
            write_via_stream(state, stream, data)
        }),
        Function::new("wasi:cli/stderr", "write-via-stream", |state: &mut State, (data,): (StreamReader,)| {
            let stream = stderr::Host::get_stderr(&mut state.cli())?;
            write_via_stream(state, stream, data)
        }),
    ]
}

fn write_via_stream(
    state: &mut State,
    stream: Resource<DynOutputStream>,
    data: StreamReader,
) -> wasmtime::Result<FutureReader<Written>> {
    let stream = state.table().delete(stream)?;
    let (sender, written) = oneshot::channel();
    pipe(state, data, Box::new(Output { stream, failed: Some(sender) }))?;
    let written = async move {
        let written = written.await.map_or(Ok(()), Err);
        move |_: &mut State| wasmtime::error::Ok(written)
    };
    Ok(state.guest().future(later(written)))
}

/// What the guest writes, on its way to the log. It is never slow.
struct Output {
    stream: DynOutputStream,
    failed: Option<oneshot::Sender<ErrorCode>>,
}

impl ByteSink<State> for Output {
    fn poll_write(&mut self, _: &mut Context<'_>, _: &mut State, bytes: &[u8]) -> wasmtime::Result<Poll<Transfer>> {
        let bytes = bytes.get(..MAX_WRITE_BYTES).unwrap_or(bytes);
        if self.stream.write(Bytes::copy_from_slice(bytes)).is_err() {
            if let Some(failed) = self.failed.take() {
                let _ = failed.send(ErrorCode::Io);
            }
            return Ok(Poll::Ready(Transfer::Ended));
        }
        Ok(Poll::Ready(Transfer::Done(bytes.len())))
    }

    fn end(self: Box<Self>, _: &mut State) {}
}

fn terminals() -> Vec<Function<State>> {
    vec![
        drop(|state, terminal: Resource<TerminalInput>| HostTerminalInput::drop(&mut state.cli(), terminal)),
        drop(|state, terminal: Resource<TerminalOutput>| HostTerminalOutput::drop(&mut state.cli(), terminal)),
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
    let wait_for = Function::new_concurrent::<(u64,), (), _>(MONOTONIC, "wait-for", |_, (nanos,)| Ok(sleep(nanos)));
    let wait_until =
        Function::new_concurrent::<(u64,), (), _>(MONOTONIC, "wait-until", |state: &mut State, (when,)| {
            let now = monotonic_clock::Host::now(&mut state.clocks())?;
            Ok(sleep(when.saturating_sub(now)))
        });
    let others = [
        Function::new(MONOTONIC, "now", |state: &mut State, ()| monotonic_clock::Host::now(&mut state.clocks())),
        Function::new(MONOTONIC, "get-resolution", |state: &mut State, ()| {
            monotonic_clock::Host::get_resolution(&mut state.clocks())
        }),
        Function::new(SYSTEM, "now", |state: &mut State, ()| system_clock::Host::now(&mut state.clocks())),
        Function::new(SYSTEM, "get-resolution", |state: &mut State, ()| {
            system_clock::Host::get_resolution(&mut state.clocks())
        }),
    ];
    wait_for.into_iter().chain(wait_until).chain(others).collect()
}

fn sleep(nanos: u64) -> crate::canonical::Later<State> {
    later(async move {
        if nanos > 0 {
            tokio::time::sleep(Duration::from_nanos(nanos)).await;
        }
        |_: &mut State| wasmtime::error::Ok(())
    })
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
        Function::new("wasi:random/insecure-seed", "get-insecure-seed", |state: &mut State, ()| {
            insecure_seed::Host::get_insecure_seed(state.random())
        }),
    ]
}
