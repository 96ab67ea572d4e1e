//! `wasi:cli`, `wasi:clocks` and `wasi:random`.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use wasmtime::component::Resource;
use wasmtime_wasi::cli::WasiCliView;
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi::p2::bindings::cli::{stderr, stdout};
use wasmtime_wasi::p3::bindings::cli::terminal_input::TerminalInput;
use wasmtime_wasi::p3::bindings::cli::terminal_output::TerminalOutput;
use wasmtime_wasi::p3::bindings::cli::types::ErrorCode;
use wasmtime_wasi::p3::bindings::cli::{environment, exit};
use wasmtime_wasi::p3::bindings::clocks::system_clock::Instant;
use wasmtime_wasi::p3::bindings::clocks::{monotonic_clock, system_clock};
use wasmtime_wasi::p3::bindings::random::insecure_seed;
use wasmtime_wasi::random::WasiRandomView;

use super::MESSAGE_BYTES;
use super::source::ClosedInput;
use crate::component_abi::{
    ByteSink, Function, FutureReader, StreamReader, Transfer, enumeration, later, pipe, record,
};
use crate::wasi::direct::common::{common_cli, common_random};
use crate::wasi::output::of_one_call;
use crate::wasi::state::State;

const MONOTONIC: &str = "wasi:clocks/monotonic-clock";

resources! { "wasi:cli/terminal-input" => TerminalInput = "terminal-input", }
resources! { "wasi:cli/terminal-output" => TerminalOutput = "terminal-output", }

record!(Instant { seconds: i64 = "seconds", nanoseconds: u32 = "nanoseconds" });

enumeration!(ErrorCode {
    "io" => Io,
    "illegal-byte-sequence" => IllegalByteSequence,
    "pipe" => Pipe,
});

/// How a standard stream of the process has ended.
pub(super) type Written = Result<(), ErrorCode>;

pub(crate) fn cli() -> Vec<Function<State>> {
    let others = functions! { state =>
        "wasi:cli/environment" {
            fn "get-initial-cwd"() => environment::Host::get_initial_cwd(&mut state.cli());
        }
        "wasi:cli/exit" {
            fn "exit-with-code"(code: u8) => exit::Host::exit_with_code(&mut state.cli(), code);
        }
        "wasi:cli/stdin" {
            fn "read-via-stream"() => read_via_stream(state);
        }
        "wasi:cli/stdout" {
            fn "write-via-stream"(data: StreamReader) =>
                write_via_stream(stdout::Host::get_stdout(&mut state.cli())?, data, state);
        }
        "wasi:cli/stderr" {
            fn "write-via-stream"(data: StreamReader) =>
                write_via_stream(stderr::Host::get_stderr(&mut state.cli())?, data, state);
        }
    };
    common_cli!(p3).into_iter().chain(others).collect()
}

/// The standard input, which is closed.
fn read_via_stream(state: &mut State) -> wasmtime::Result<(StreamReader, FutureReader<Written>)> {
    state.charge(MESSAGE_BYTES)?;
    let guest = state.guest();
    let (open, closed) = oneshot::channel();
    let done = async move {
        // The sender is only dropped.
        let _ = closed.await;
        |_: &mut State| wasmtime::error::Ok(Written::Ok(()))
    };
    let done = guest.future(later(done));
    Ok((guest.stream(ClosedInput::new(open)), done))
}

fn write_via_stream(
    stream: Resource<DynOutputStream>,
    data: StreamReader,
    state: &mut State,
) -> wasmtime::Result<FutureReader<Written>> {
    state.charge(MESSAGE_BYTES)?;
    let stream = state.table().delete(stream)?;
    let (sender, written) = oneshot::channel();
    pipe(state, data, Box::new(Output { stream, failed: Some(sender) }))?;
    let written = async move {
        let written = written.await.map_or(Ok(()), Err);
        move |_: &mut State| wasmtime::error::Ok(written)
    };
    Ok(state.guest().future(later(written)))
}

/// Writes the guest's output to the log.
struct Output {
    stream: DynOutputStream,
    failed: Option<oneshot::Sender<ErrorCode>>,
}

impl ByteSink<State> for Output {
    fn poll_write(&mut self, cx: &mut Context<'_>, _: &mut State, bytes: &[u8]) -> wasmtime::Result<Poll<Transfer>> {
        if matches!(self.stream.check_write(), Ok(0)) && self.stream.ready().as_mut().poll(cx).is_pending() {
            return Ok(Poll::Pending);
        }
        let bytes = of_one_call(bytes);
        if self.stream.write(Bytes::copy_from_slice(bytes)).is_err() {
            if let Some(failed) = self.failed.take() {
                let _ = failed.send(ErrorCode::Io);
            }
            return Ok(Poll::Ready(Transfer::Ended));
        }
        Ok(Poll::Ready(Transfer::Done(bytes.len())))
    }

    fn end(self: Box<Self>, _: &mut State) {}

    /// As in a component, a body that a guest has connected with its output does not keep an instance.
    fn keeps_instance(&self) -> bool {
        false
    }
}

pub(crate) fn clocks() -> Vec<Function<State>> {
    let wait_for = Function::new_concurrent::<(u64,), (), _>(MONOTONIC, "wait-for", |_, (nanos,)| Ok(sleep(nanos)));
    let wait_until =
        Function::new_concurrent::<(u64,), (), _>(MONOTONIC, "wait-until", |state: &mut State, (when,)| {
            let now = monotonic_clock::Host::now(&mut state.clocks())?;
            Ok(sleep(when.saturating_sub(now)))
        });
    let others = functions! { state =>
        MONOTONIC {
            fn "now"() => monotonic_clock::Host::now(&mut state.clocks());
            fn "get-resolution"() => monotonic_clock::Host::get_resolution(&mut state.clocks());
        }
        "wasi:clocks/system-clock" {
            fn "now"() => system_clock::Host::now(&mut state.clocks());
            fn "get-resolution"() => system_clock::Host::get_resolution(&mut state.clocks());
        }
    };
    wait_for.into_iter().chain(wait_until).chain(others).collect()
}

fn sleep(nanos: u64) -> crate::component_abi::Later<State> {
    later(async move {
        if nanos > 0 {
            tokio::time::sleep(Duration::from_nanos(nanos)).await;
        }
        |_: &mut State| wasmtime::error::Ok(())
    })
}

pub(crate) fn random() -> Vec<Function<State>> {
    let seed = functions! { state =>
        "wasi:random/insecure-seed" {
            fn "get-insecure-seed"() => insecure_seed::Host::get_insecure_seed(state.random());
        }
    };
    common_random!(p3).into_iter().chain(seed).collect()
}
