//! `wasi:io`: errors, polling and streams.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::StreamError as HostStreamError;
use wasmtime_wasi::p2::bindings::io::error::HostError;
use wasmtime_wasi::p2::bindings::io::poll::{Host as HostPoll, HostPollable, Pollable};
use wasmtime_wasi::p2::bindings::io::streams::{
    Error as IoError, Host as HostStreams, HostInputStream, HostOutputStream, InputStream, OutputStream, StreamError,
};

use crate::component_abi::{Borrow, Function, variant};
use crate::wasi::error_codes::code_or_trap;
use crate::wasi::state::State;

const ERROR: &str = "wasi:io/error";
const POLL: &str = "wasi:io/poll";
const STREAMS: &str = "wasi:io/streams";

resources! { ERROR => IoError = "error", }
resources! { POLL => Pollable = "pollable", }
resources! { STREAMS => InputStream = "input-stream", OutputStream = "output-stream", }

variant!(StreamError {
    "last-operation-failed" => LastOperationFailed(Resource<IoError>),
    "closed" => Closed,
});

type Streamed<T> = Result<T, StreamError>;

fn streamed<T>(result: Result<T, HostStreamError>, state: &mut State) -> wasmtime::Result<Streamed<T>> {
    code_or_trap(result, |error| state.table().convert_stream_error(error))
}

pub(crate) fn functions() -> Vec<Function<State>> {
    [poll(), input(), output(), blocking_output()].into_iter().flatten().collect()
}

fn poll() -> Vec<Function<State>> {
    functions! { state =>
        ERROR {
            drop(error: IoError) => HostError::drop(state.table(), error);
            fn "[method]error.to-debug-string"(error: Borrow<IoError>) =>
                HostError::to_debug_string(state.table(), error.0);
        }
        POLL {
            drop(pollable: Pollable) => HostPollable::drop(state.table(), pollable);
            async "[method]pollable.ready"(pollable: Borrow<Pollable>) =>
                HostPollable::ready(state.table(), pollable.0).await;
            async "[method]pollable.block"(pollable: Borrow<Pollable>) =>
                HostPollable::block(state.table(), pollable.0).await;
            async "poll"(pollables: Vec<Borrow<Pollable>>) =>
                HostPoll::poll(state.table(), pollables.into_iter().map(|pollable| pollable.0).collect()).await;
        }
    }
}

type Input = Borrow<InputStream>;

fn input() -> Vec<Function<State>> {
    functions! { state =>
        STREAMS {
            async_drop(stream: InputStream) => HostInputStream::drop(state.table(), stream).await;
            fn "[method]input-stream.read"(stream: Input, len: u64) =>
                streamed(HostInputStream::read(state.table(), stream.0, len), state);
            async "[method]input-stream.blocking-read"(stream: Input, len: u64) =>
                streamed(HostInputStream::blocking_read(state.table(), stream.0, len).await, state);
            fn "[method]input-stream.skip"(stream: Input, len: u64) =>
                streamed(HostInputStream::skip(state.table(), stream.0, len), state);
            async "[method]input-stream.blocking-skip"(stream: Input, len: u64) =>
                streamed(HostInputStream::blocking_skip(state.table(), stream.0, len).await, state);
            fn "[method]input-stream.subscribe"(stream: Input) => HostInputStream::subscribe(state.table(), stream.0);
        }
    }
}

type Output = Borrow<OutputStream>;

fn output() -> Vec<Function<State>> {
    functions! { state =>
        STREAMS {
            async_drop(stream: OutputStream) => HostOutputStream::drop(state.table(), stream).await;
            fn "[method]output-stream.check-write"(stream: Output) =>
                streamed(HostOutputStream::check_write(state.table(), stream.0), state);
            fn "[method]output-stream.write"(stream: Output, bytes: Vec<u8>) =>
                streamed(HostOutputStream::write(state.table(), stream.0, bytes), state);
            fn "[method]output-stream.flush"(stream: Output) =>
                streamed(HostOutputStream::flush(state.table(), stream.0), state);
            fn "[method]output-stream.subscribe"(stream: Output) =>
                HostOutputStream::subscribe(state.table(), stream.0);
            fn "[method]output-stream.write-zeroes"(stream: Output, len: u64) =>
                streamed(HostOutputStream::write_zeroes(state.table(), stream.0, len), state);
            fn "[method]output-stream.splice"(stream: Output, from: Input, len: u64) =>
                streamed(HostOutputStream::splice(state.table(), stream.0, from.0, len), state);
        }
    }
}

fn blocking_output() -> Vec<Function<State>> {
    functions! { state =>
        STREAMS {
            async "[method]output-stream.blocking-write-and-flush"(stream: Output, bytes: Vec<u8>) =>
                streamed(HostOutputStream::blocking_write_and_flush(state.table(), stream.0, bytes).await, state);
            async "[method]output-stream.blocking-flush"(stream: Output) =>
                streamed(HostOutputStream::blocking_flush(state.table(), stream.0).await, state);
            async "[method]output-stream.blocking-write-zeroes-and-flush"(stream: Output, len: u64) =>
                streamed(HostOutputStream::blocking_write_zeroes_and_flush(state.table(), stream.0, len).await, state);
            async "[method]output-stream.blocking-splice"(stream: Output, from: Input, len: u64) =>
                streamed(HostOutputStream::blocking_splice(state.table(), stream.0, from.0, len).await, state);
        }
    }
}
