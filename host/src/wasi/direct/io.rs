//! `wasi:io`: errors, polling and streams.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::StreamError as HostStreamError;
use wasmtime_wasi::p2::bindings::io::error::HostError;
use wasmtime_wasi::p2::bindings::io::poll::{Host as HostPoll, HostPollable, Pollable};
use wasmtime_wasi::p2::bindings::io::streams::{
    Error as IoError, Host as HostStreams, HostInputStream, HostOutputStream, InputStream, OutputStream, StreamError,
};

use super::{drop, told};
use crate::component_abi::{Borrow, Function, variant};
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

fn streamed<T>(state: &mut State, result: Result<T, HostStreamError>) -> wasmtime::Result<Streamed<T>> {
    told(result, |error| state.table().convert_stream_error(error))
}

pub(crate) fn functions() -> Vec<Function<State>> {
    [poll(), input(), output(), blocking_output()].into_iter().flatten().collect()
}

fn poll() -> Vec<Function<State>> {
    vec![
        drop(|state, error: Resource<IoError>| HostError::drop(state.table(), error)),
        drop(|state, pollable: Resource<Pollable>| HostPollable::drop(state.table(), pollable)),
        Function::new(ERROR, "[method]error.to-debug-string", |state: &mut State, (error,): (Borrow<IoError>,)| {
            HostError::to_debug_string(state.table(), error.0)
        }),
        Function::new_async(POLL, "[method]pollable.ready", |state: &mut State, (pollable,): (Borrow<Pollable>,)| {
            Box::pin(HostPollable::ready(state.table(), pollable.0))
        }),
        Function::new_async(POLL, "[method]pollable.block", |state: &mut State, (pollable,): (Borrow<Pollable>,)| {
            Box::pin(HostPollable::block(state.table(), pollable.0))
        }),
        Function::new_async(POLL, "poll", |state: &mut State, (pollables,): (Vec<Borrow<Pollable>>,)| {
            let pollables = pollables.into_iter().map(|pollable| pollable.0).collect();
            Box::pin(HostPoll::poll(state.table(), pollables))
        }),
    ]
}

type Input = Borrow<InputStream>;

fn input() -> Vec<Function<State>> {
    vec![
        Function::new_async_drop(|state: &mut State, stream: Resource<InputStream>| {
            Box::pin(HostInputStream::drop(state.table(), stream))
        }),
        Function::new(STREAMS, "[method]input-stream.read", |state: &mut State, (stream, len): (Input, u64)| {
            let read = HostInputStream::read(state.table(), stream.0, len);
            streamed(state, read)
        }),
        Function::new_async(
            STREAMS,
            "[method]input-stream.blocking-read",
            |state: &mut State, (stream, len): (Input, u64)| {
                Box::pin(async move {
                    let read = HostInputStream::blocking_read(state.table(), stream.0, len).await;
                    streamed(state, read)
                })
            },
        ),
        Function::new(STREAMS, "[method]input-stream.skip", |state: &mut State, (stream, len): (Input, u64)| {
            let skipped = HostInputStream::skip(state.table(), stream.0, len);
            streamed(state, skipped)
        }),
        Function::new_async(
            STREAMS,
            "[method]input-stream.blocking-skip",
            |state: &mut State, (stream, len): (Input, u64)| {
                Box::pin(async move {
                    let skipped = HostInputStream::blocking_skip(state.table(), stream.0, len).await;
                    streamed(state, skipped)
                })
            },
        ),
        Function::new(STREAMS, "[method]input-stream.subscribe", |state: &mut State, (stream,): (Input,)| {
            HostInputStream::subscribe(state.table(), stream.0)
        }),
    ]
}

type Output = Borrow<OutputStream>;

fn output() -> Vec<Function<State>> {
    vec![
        Function::new_async_drop(|state: &mut State, stream: Resource<OutputStream>| {
            Box::pin(HostOutputStream::drop(state.table(), stream))
        }),
        Function::new(STREAMS, "[method]output-stream.check-write", |state: &mut State, (stream,): (Output,)| {
            let room = HostOutputStream::check_write(state.table(), stream.0);
            streamed(state, room)
        }),
        Function::new(
            STREAMS,
            "[method]output-stream.write",
            |state: &mut State, (stream, bytes): (Output, Vec<u8>)| {
                let written = HostOutputStream::write(state.table(), stream.0, bytes);
                streamed(state, written)
            },
        ),
        Function::new(STREAMS, "[method]output-stream.flush", |state: &mut State, (stream,): (Output,)| {
            let flushed = HostOutputStream::flush(state.table(), stream.0);
            streamed(state, flushed)
        }),
        Function::new(STREAMS, "[method]output-stream.subscribe", |state: &mut State, (stream,): (Output,)| {
            HostOutputStream::subscribe(state.table(), stream.0)
        }),
        Function::new(
            STREAMS,
            "[method]output-stream.write-zeroes",
            |state: &mut State, (stream, len): (Output, u64)| {
                let written = HostOutputStream::write_zeroes(state.table(), stream.0, len);
                streamed(state, written)
            },
        ),
        Function::new(
            STREAMS,
            "[method]output-stream.splice",
            |state: &mut State, (stream, from, len): (Output, Input, u64)| {
                let spliced = HostOutputStream::splice(state.table(), stream.0, from.0, len);
                streamed(state, spliced)
            },
        ),
    ]
}

fn blocking_output() -> Vec<Function<State>> {
    vec![
        Function::new_async(
            STREAMS,
            "[method]output-stream.blocking-write-and-flush",
            |state: &mut State, (stream, bytes): (Output, Vec<u8>)| {
                Box::pin(async move {
                    let written = HostOutputStream::blocking_write_and_flush(state.table(), stream.0, bytes).await;
                    streamed(state, written)
                })
            },
        ),
        Function::new_async(
            STREAMS,
            "[method]output-stream.blocking-flush",
            |state: &mut State, (stream,): (Output,)| {
                Box::pin(async move {
                    let flushed = HostOutputStream::blocking_flush(state.table(), stream.0).await;
                    streamed(state, flushed)
                })
            },
        ),
        Function::new_async(
            STREAMS,
            "[method]output-stream.blocking-write-zeroes-and-flush",
            |state: &mut State, (stream, len): (Output, u64)| {
                Box::pin(async move {
                    let table = state.table();
                    let written = HostOutputStream::blocking_write_zeroes_and_flush(table, stream.0, len).await;
                    streamed(state, written)
                })
            },
        ),
        Function::new_async(
            STREAMS,
            "[method]output-stream.blocking-splice",
            |state: &mut State, (stream, from, len): (Output, Input, u64)| {
                Box::pin(async move {
                    let spliced = HostOutputStream::blocking_splice(state.table(), stream.0, from.0, len).await;
                    streamed(state, spliced)
                })
            },
        ),
    ]
}
