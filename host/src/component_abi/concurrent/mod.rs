//! Concurrency within one instance: calls of asynchronous functions, streams and futures, and waiting for them.
//!
//! An instance has one task, the call of its handler. The task starts operations, which complete at once or later; the
//! host advances all of them whenever the guest waits. The result of an operation is delivered as an event of its
//! waitable: a subtask, or an end of a stream or future.

mod built_in;
mod channel;
mod function;
mod host;
mod wait;

use std::mem;
use std::task::{Context, Poll};

use slab::Slab;
use wasmtime::ensure;

pub(crate) use built_in::{BuiltIn, of_futures, of_streams, of_tasks, task_return};
pub(crate) use channel::Kind;
use channel::{Channel, Owner};
pub(super) use channel::{Channels, End, Payload};
pub(crate) use host::{ByteSink, ByteSource, FutureReader, Later, StreamReader, Transfer, later};
use host::{HostEnd, Step, ValueSink, value_sink};
pub(crate) use wait::{Event, ensure_returned, finish, next_event, take_values, yield_now};

use super::guest::{Guest, Host, Pending};
use super::handles::Waitable;
use super::lower::MAX_RESULT_BYTES;
use super::{Lift, Wit};

/// Streams and futures that one instance may pass on (see [`Passing`]) at a time. No handle of the guest's counts for
/// them any more, so they need their own limit.
const MAX_PASSING: usize = 100;

/// Bytes charged for the host's end of a stream or a future: a boxed future, source or sink.
const HOST_END_BYTES: usize = 512;

/// Bytes charged when a stream or a future is created, with both handles.
pub(super) const CHANNEL_BYTES: usize = size_of::<Channel>() + HOST_END_BYTES + 128;

/// Bytes charged for a call that did not return at once: mostly the future of the host's function.
const SUBTASK_BYTES: usize = 4 << 10;

/// Bytes that are copied at a time from one host stream to another.
const PASSING_BYTES: usize = 16 << 10;

/// All concurrent operations of one instance.
pub(crate) struct Concurrent<T> {
    pub(super) channels: Channels,
    /// The host's end of each channel, by the channel's number.
    ends: Vec<HostEnd<T>>,
    subtasks: Slab<Subtask<T>>,
    passing: Vec<Passing<T>>,
    pub(super) context: [u32; 2],
    /// The context slots of the guest's `realloc` while it runs.
    pub(super) context_of_realloc: [u32; 2],
    backpressure: u16,
    has_returned: bool,
}

/// A call of an asynchronous function that did not return at once.
struct Subtask<T> {
    /// None once the call has returned or was cancelled.
    running: Option<Later<T>>,
    /// The address of its result in the guest's memory, and the result's size.
    to: u32,
    size: usize,
    /// The handle that it has borrowed, or 0.
    lent: u32,
    event: Option<(Status, Option<Box<Pending>>)>,
}

/// The state of a subtask, with the canonical ABI's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Started = 1,
    Returned = 2,
    Cancelled = 4,
}

/// A transfer between two host ends: the guest has passed a stream or a future of the host's to the host.
enum Passing<T> {
    Value { later: Later<T>, sink: Box<dyn ValueSink<T>>, keeps_instance: bool },
    Bytes { source: Box<dyn ByteSource<T>>, sink: Box<dyn ByteSink<T>>, read: Vec<u8> },
}

impl<T> Default for Concurrent<T> {
    fn default() -> Self {
        Self {
            channels: Channels::default(),
            ends: Vec::new(),
            subtasks: Slab::default(),
            passing: Vec::new(),
            context: [0; 2],
            context_of_realloc: [0; 2],
            backpressure: 0,
            has_returned: false,
        }
    }
}

impl<T> Concurrent<T> {
    fn insert(&mut self, channel: Channel, end: HostEnd<T>) -> usize {
        let number = self.channels.insert(channel);
        if self.ends.len() <= number {
            self.ends.resize_with(number + 1, HostEnd::default);
        }
        self.put(number, end);
        number
    }

    /// Memory kept for streams, futures and calls, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        let waiting = |subtask: &Subtask<T>| match &subtask.event {
            Some((_, Some(pending))) => pending.kept_bytes(),
            _ => 0,
        };
        let ends = self.ends.iter().filter(|end| !matches!(end, HostEnd::Nothing)).count();
        let subtasks = self.subtasks.iter().map(|(_, subtask)| SUBTASK_BYTES + waiting(subtask)).sum::<usize>();
        let passing = self.passing.len() * (PASSING_BYTES + HOST_END_BYTES);
        let places =
            self.ends.capacity() * size_of::<HostEnd<T>>() + self.subtasks.capacity() * size_of::<Subtask<T>>();
        self.channels.kept_bytes() + ends * HOST_END_BYTES + places + subtasks + passing
    }

    fn put(&mut self, number: usize, end: HostEnd<T>) {
        if let Some(place) = self.ends.get_mut(number) {
            *place = end;
        }
    }

    fn take(&mut self, number: usize) -> HostEnd<T> {
        self.ends.get_mut(number).map(mem::take).unwrap_or_default()
    }

    fn remove(&mut self, number: usize) -> HostEnd<T> {
        self.channels.remove(number);
        self.take(number)
    }

    fn pass(&mut self, passing: Passing<T>) -> wasmtime::Result<()> {
        ensure!(self.passing.len() < MAX_PASSING, "more than {MAX_PASSING} streams and futures are passed on");
        self.passing.push(passing);
        Ok(())
    }

    fn has_event(&mut self, of: Waitable) -> bool {
        match of {
            Waitable::Subtask(number) => self.subtasks.get_mut(number).is_some_and(|subtask| subtask.event.is_some()),
            Waitable::End(end, number) => self.channels.get(number).is_some_and(|it| it.side(end).has_event()),
        }
    }
}

/// What host functions do with the ends of streams and futures.
impl<T: Host> Guest<T> {
    /// A stream from which the guest reads the bytes of `source`.
    pub(crate) fn stream(&mut self, source: impl ByteSource<T>) -> StreamReader {
        let channel = Channel::new(host::byte_stream(), Owner::Guest, Owner::Host);
        StreamReader(self.concurrent.insert(channel, HostEnd::Source(Box::new(source))))
    }

    /// A future from which the guest reads the value of `later`.
    pub(crate) fn future<V: Wit>(&mut self, later: Later<T>) -> FutureReader<V> {
        const { assert!(V::SIZE <= MAX_RESULT_BYTES, "a value that there is no room for here") };
        let channel = Channel::new(Payload::of::<V>(Kind::Future), Owner::Guest, Owner::Host);
        FutureReader::new(self.concurrent.insert(channel, HostEnd::Later(later)))
    }

    /// Takes the source of a stream that the host writes, and removes the stream. Otherwise returns the reader.
    pub(crate) fn take_source(&mut self, reader: StreamReader) -> Result<Box<dyn ByteSource<T>>, StreamReader> {
        match self.concurrent.take(reader.0) {
            HostEnd::Source(source) => {
                self.concurrent.remove(reader.0);
                Ok(source)
            }
            other => {
                self.concurrent.put(reader.0, other);
                Err(reader)
            }
        }
    }

    /// Returns readable ends to the guest that it had transferred to the host.
    pub(crate) fn take_back<V>(&mut self, contents: &StreamReader, trailers: &FutureReader<V>) {
        for number in [contents.0, trailers.0] {
            if let Some(channel) = self.concurrent.channels.get(number) {
                channel.reader.owner = Owner::Guest;
            }
        }
    }

    /// Closes the readable end of a stream.
    pub(crate) fn close(&mut self, reader: &StreamReader) {
        self.close_channel(reader.0);
    }

    /// Closes the readable end of a future.
    pub(crate) fn close_future<V>(&mut self, reader: &FutureReader<V>) {
        self.close_channel(reader.0);
    }

    fn close_channel(&mut self, number: usize) {
        let Some(channel) = self.concurrent.channels.get(number) else { return };
        channel.gone(End::Reader);
        if channel.writer.owner != Owner::Guest {
            self.concurrent.remove(number);
        }
    }
}

/// Attaches `sink` to the stream, so that it receives what the guest writes.
///
/// # Errors
///
/// If the guest passes on too many streams and futures at a time.
pub(crate) fn pipe<T: Host>(host: &mut T, reader: StreamReader, sink: Box<dyn ByteSink<T>>) -> wasmtime::Result<()> {
    let concurrent = &mut host.guest().concurrent;
    match concurrent.take(reader.0) {
        HostEnd::Source(source) => {
            concurrent.remove(reader.0);
            concurrent.pass(Passing::Bytes { source, sink, read: Vec::new() })?;
        }
        _ if concurrent.channels.get(reader.0).is_some_and(|channel| channel.writer.owner == Owner::Dropped) => {
            concurrent.remove(reader.0);
            sink.end(host);
        }
        _ => concurrent.put(reader.0, HostEnd::Sink(sink)),
    }
    Ok(())
}

/// Calls `then` with the future's value when it is available, which may be never. `keeps_instance` says whether an
/// instance whose guest has ended is kept until then, if the host provides the value.
///
/// # Errors
///
/// If the guest passes on too many streams and futures at a time.
pub(crate) fn when_ready<T, V, F>(
    host: &mut T,
    reader: &FutureReader<V>,
    keeps_instance: bool,
    then: F,
) -> wasmtime::Result<()>
where
    T: Host,
    V: Lift,
    F: FnOnce(&mut T, V) -> wasmtime::Result<()> + Send + 'static,
{
    let concurrent = &mut host.guest().concurrent;
    let sink = value_sink(then);
    match concurrent.take(reader.0) {
        HostEnd::Later(later) => {
            concurrent.remove(reader.0);
            concurrent.pass(Passing::Value { later, sink, keeps_instance })?;
        }
        _ => concurrent.put(reader.0, HostEnd::ValueSink(sink)),
    }
    Ok(())
}

/// Advances all operations. Returns whether the host is still working on any of them, and will wake `cx`.
fn progress<T: Host>(host: &mut T, memory: &mut [u8], cx: &mut Context<'_>) -> wasmtime::Result<bool> {
    let mut is_at_work = false;
    for number in 0..host.guest().concurrent.channels.end() {
        is_at_work |= advance(host, memory, cx, number)?;
    }
    for number in 0..host.guest().concurrent.subtasks.capacity() {
        is_at_work |= advance_subtask(host, memory, cx, number)?;
    }
    Ok(is_at_work | pass_on(host, cx)?)
}

/// Advances one channel. Returns whether the host's end is pending.
fn advance<T: Host>(host: &mut T, memory: &mut [u8], cx: &mut Context<'_>, number: usize) -> wasmtime::Result<bool> {
    let concurrent = &mut host.guest().concurrent;
    let Some(channel) = concurrent.channels.get(number) else { return Ok(false) };
    channel.meet(memory)?;
    let (end, buffer) = match (channel.reader.pending, channel.writer.pending) {
        (Some(buffer), None) if channel.writer.owner == Owner::Host => (End::Reader, buffer),
        (None, Some(buffer)) if channel.reader.owner == Owner::Host => (End::Writer, buffer),
        _ => return Ok(false),
    };
    let payload = channel.payload;
    let range = payload.range(buffer, memory.len())?;
    let host_end = concurrent.take(number);
    if matches!(host_end, HostEnd::ValueSink(_)) {
        payload.ensure_aligned(buffer)?;
    }
    let (rest, step) = host_end.step(host, memory, cx, range)?;
    let concurrent = &mut host.guest().concurrent;
    concurrent.put(number, rest);
    let Some(channel) = concurrent.channels.get(number) else { return Ok(false) };
    match step {
        Step::None => return Ok(false),
        Step::Waits => return Ok(true),
        Step::Copied(count) => channel.side(end).complete(u32::try_from(count)?, None),
        Step::Ended => {
            channel.gone(end.other());
        }
        Step::Taken => {
            channel.is_done = true;
            channel.side(end).complete(0, None);
        }
        Step::Given(value) => {
            channel.is_done = true;
            payload.ensure_aligned(buffer)?;
            let pending = Pending::unless_written(value, buffer.address, payload.size, memory)?.map(Box::new);
            channel.side(end).complete(0, pending);
        }
    }
    Ok(false)
}

/// Advances one call. Returns whether it is still running.
fn advance_subtask<T: Host>(
    host: &mut T,
    memory: &mut [u8],
    cx: &mut Context<'_>,
    number: usize,
) -> wasmtime::Result<bool> {
    let subtasks = &mut host.guest().concurrent.subtasks;
    let Some(mut running) = subtasks.get_mut(number).and_then(|subtask| subtask.running.take()) else {
        return Ok(false);
    };
    let value = match running.as_mut().poll(cx) {
        Poll::Ready(value) => Some(value.lower(host)?),
        Poll::Pending => None,
    };
    let guest = host.guest();
    let Some(subtask) = guest.concurrent.subtasks.get_mut(number) else { return Ok(false) };
    let Some(value) = value else {
        subtask.running = Some(running);
        return Ok(true);
    };
    guest.handles.take_back(subtask.lent);
    let pending = Pending::unless_written(value, subtask.to, subtask.size, memory)?.map(Box::new);
    subtask.event = Some((Status::Returned, pending));
    Ok(false)
}

/// Advances the transfers between two host ends. Returns whether any are left.
fn pass_on<T: Host>(host: &mut T, cx: &mut Context<'_>) -> wasmtime::Result<bool> {
    let mut passing = mem::take(&mut host.guest().concurrent.passing);
    let mut left = Vec::new();
    while let Some(one) = passing.pop() {
        left.extend(one.go_on(host, cx)?);
    }
    let passing = &mut host.guest().concurrent.passing;
    passing.append(&mut left);
    Ok(!passing.is_empty())
}

impl<T: Host> Passing<T> {
    fn keeps_instance(&self) -> bool {
        match self {
            Self::Value { keeps_instance, .. } => *keeps_instance,
            Self::Bytes { sink, .. } => sink.keeps_instance(),
        }
    }

    /// Advances one transfer. None when it has ended.
    fn go_on(self, host: &mut T, cx: &mut Context<'_>) -> wasmtime::Result<Option<Self>> {
        match self {
            Self::Value { mut later, sink, keeps_instance } => match later.as_mut().poll(cx) {
                Poll::Pending => Ok(Some(Self::Value { later, sink, keeps_instance })),
                Poll::Ready(value) => {
                    let value = value.into_any(host)?;
                    sink.take_value(host, value)?;
                    Ok(None)
                }
            },
            Self::Bytes { mut source, mut sink, mut read } => loop {
                if read.is_empty() {
                    read.resize(PASSING_BYTES, 0);
                    match source.poll_read(cx, host, &mut read)? {
                        Poll::Ready(Transfer::Done(count)) => read.truncate(count),
                        Poll::Ready(Transfer::Ended) => {
                            sink.end(host);
                            return Ok(None);
                        }
                        Poll::Pending => {
                            read.clear();
                            return Ok(Some(Self::Bytes { source, sink, read }));
                        }
                    }
                }
                match sink.poll_write(cx, host, &read)? {
                    Poll::Ready(Transfer::Done(count)) => drop(read.drain(..count.min(read.len()))),
                    Poll::Ready(Transfer::Ended) => return Ok(None),
                    Poll::Pending => return Ok(Some(Self::Bytes { source, sink, read })),
                }
            },
        }
    }
}
