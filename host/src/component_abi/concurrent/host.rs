//! The host's ends of streams and futures, and values that the host provides later.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use wasmparser::component_types::{ComponentDefinedType, ComponentValType};
use wasmtime::{bail, ensure};

use super::channel::{Buffer, End, Kind, Payload};
use crate::component_abi::handles::Waitable;
use crate::component_abi::lower::Lowered;
use crate::component_abi::{FlatValues, Host, Lift, Lifting, Location, Lower, Lowering, Wit, WitTypes};

/// The result of a read or a write at the host's end.
pub(crate) enum Transfer {
    /// This many bytes were transferred.
    Done(usize),
    /// The end is closed: no more bytes are accepted, or there are none left.
    Ended,
}

/// The host's reading end of a stream that the guest writes. Dropped when the guest ends, or when the reader is closed.
pub(crate) trait ByteSink<T>: Send {
    /// Accepts at least one of `bytes`. If `bytes` is empty: becomes ready when a byte could be accepted. Wakes `cx` if
    /// it is pending.
    fn poll_write(&mut self, cx: &mut Context<'_>, host: &mut T, bytes: &[u8]) -> wasmtime::Result<Poll<Transfer>>;

    /// The guest has dropped the writable end: no more bytes follow.
    fn end(self: Box<Self>, host: &mut T);

    /// Whether an instance whose guest has ended is kept until another host end has written everything to this one.
    fn keeps_instance(&self) -> bool {
        true
    }
}

/// The host's writing end of a stream that the guest reads. Dropped when the guest has dropped the readable end.
pub(crate) trait ByteSource<T>: Any + Send {
    /// Writes at least one byte to `room`. If `room` is empty: becomes ready when a byte could be written. Wakes `cx`
    /// if it is pending.
    fn poll_read(&mut self, cx: &mut Context<'_>, host: &mut T, room: &mut [u8]) -> wasmtime::Result<Poll<Transfer>>;
}

/// The host's reading end of a future that the guest writes.
pub(super) trait ValueSink<T>: Send {
    fn take(self: Box<Self>, host: &mut T, memory: &[u8], at: Range<usize>) -> wasmtime::Result<()>;
    /// Takes a value that the host itself provides.
    fn take_value(self: Box<Self>, host: &mut T, value: Box<dyn Any>) -> wasmtime::Result<()>;
}

struct Then<V, F> {
    then: F,
    of: PhantomData<fn(V)>,
}

pub(super) fn value_sink<T, V, F>(then: F) -> Box<dyn ValueSink<T>>
where
    T: Host,
    V: Lift,
    F: FnOnce(&mut T, V) -> wasmtime::Result<()> + Send + 'static,
{
    Box::new(Then { then, of: PhantomData })
}

impl<T, V, F> ValueSink<T> for Then<V, F>
where
    T: Host,
    V: Lift,
    F: FnOnce(&mut T, V) -> wasmtime::Result<()> + Send,
{
    fn take(self: Box<Self>, host: &mut T, memory: &[u8], at: Range<usize>) -> wasmtime::Result<()> {
        let bytes = memory.get(at).unwrap_or_default();
        let value = V::load(&mut host.guest().lifting(memory), bytes)?;
        (self.then)(host, value)
    }

    fn take_value(self: Box<Self>, host: &mut T, value: Box<dyn Any>) -> wasmtime::Result<()> {
        match value.downcast() {
            Ok(value) => (self.then)(host, *value),
            Err(_) => bail!("a future of another type"),
        }
    }
}

/// A value that is available later: of a future that the guest reads, or the result of a function.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = Box<dyn Value<T>>> + Send>>;

/// A value that is available.
pub(crate) trait Value<T>: Send {
    fn lower(self: Box<Self>, host: &mut T) -> wasmtime::Result<Lowered>;
    fn into_any(self: Box<Self>, host: &mut T) -> wasmtime::Result<Box<dyn Any>>;
}

/// A value that is made, with access to the host, by the closure that `future` returns.
pub(crate) fn later<T, V, M>(future: impl Future<Output = M> + Send + 'static) -> Later<T>
where
    T: Host,
    V: Lower + 'static,
    M: FnOnce(&mut T) -> wasmtime::Result<V> + Send + 'static,
{
    Box::pin(async move { Box::new(Made { make: future.await, of: PhantomData }) as Box<dyn Value<T>> })
}

struct Made<V, M> {
    make: M,
    of: PhantomData<fn() -> V>,
}

impl<T, V, M> Value<T> for Made<V, M>
where
    T: Host,
    V: Lower + 'static,
    M: FnOnce(&mut T) -> wasmtime::Result<V> + Send,
{
    fn lower(self: Box<Self>, host: &mut T) -> wasmtime::Result<Lowered> {
        let value = (self.make)(host)?;
        host.guest().lowered(value)
    }

    fn into_any(self: Box<Self>, host: &mut T) -> wasmtime::Result<Box<dyn Any>> {
        Ok(Box::new((self.make)(host)?))
    }
}

/// The host's end of a channel.
#[derive(Default)]
pub(super) enum HostEnd<T> {
    /// The host has no end, or none is attached yet.
    #[default]
    Nothing,
    Sink(Box<dyn ByteSink<T>>),
    Source(Box<dyn ByteSource<T>>),
    ValueSink(Box<dyn ValueSink<T>>),
    Later(Later<T>),
}

/// The result of one poll of the host's end.
pub(super) enum Step {
    /// No host end is attached yet.
    None,
    /// Pending: `cx` is woken when it is to be polled again.
    Waits,
    Copied(usize),
    Ended,
    /// The host took a future's value.
    Taken,
    /// A future's value is available to the guest.
    Given(Lowered),
}

impl<T: Host> HostEnd<T> {
    /// Polls the host's end for the guest's read or write, whose buffer is at `at` in its memory.
    pub(super) fn step(
        self,
        host: &mut T,
        memory: &mut [u8],
        cx: &mut Context<'_>,
        at: Range<usize>,
    ) -> wasmtime::Result<(Self, Step)> {
        Ok(match self {
            Self::Nothing => (self, Step::None),
            Self::Sink(mut sink) => match sink.poll_write(cx, host, memory.get(at).unwrap_or_default())? {
                Poll::Ready(Transfer::Ended) => (Self::Nothing, Step::Ended),
                Poll::Ready(Transfer::Done(count)) => (Self::Sink(sink), Step::Copied(count)),
                Poll::Pending => (Self::Sink(sink), Step::Waits),
            },
            Self::Source(mut source) => match source.poll_read(cx, host, memory.get_mut(at).unwrap_or_default())? {
                Poll::Ready(Transfer::Ended) => (Self::Nothing, Step::Ended),
                Poll::Ready(Transfer::Done(count)) => (Self::Source(source), Step::Copied(count)),
                Poll::Pending => (Self::Source(source), Step::Waits),
            },
            Self::ValueSink(sink) => {
                sink.take(host, memory, at)?;
                (Self::Nothing, Step::Taken)
            }
            Self::Later(mut later) => match later.as_mut().poll(cx) {
                Poll::Ready(value) => (Self::Nothing, Step::Given(value.lower(host)?)),
                Poll::Pending => (Self::Later(later), Step::Waits),
            },
        })
    }
}

/// The readable end of a stream of bytes.
#[derive(Debug)]
pub(crate) struct StreamReader(pub(super) usize);

/// The readable end of a future.
#[derive(Debug)]
pub(crate) struct FutureReader<V>(pub(super) usize, pub(super) PhantomData<fn() -> V>);

pub(crate) fn byte_stream() -> Payload {
    Payload::of::<u8>(Kind::Stream)
}

impl Payload {
    pub(crate) fn of<V: Wit>(kind: Kind) -> Self {
        Self { kind, of: std::any::TypeId::of::<V>(), size: V::SIZE, align: V::ALIGN }
    }

    /// The range of a buffer in memory.
    pub(super) fn range(&self, buffer: Buffer, memory_bytes: usize) -> wasmtime::Result<Range<usize>> {
        let start = buffer.address as usize;
        match (buffer.count as usize).checked_mul(self.size) {
            Some(0) => Ok(0..0),
            Some(length) if start + length <= memory_bytes => Ok(start..start + length),
            _ => bail!("pointer out of bounds of memory"),
        }
    }

    /// Checks alignment. Called when an item is copied, not when the operation starts, as in wasmtime.
    pub(super) fn ensure_aligned(&self, buffer: Buffer) -> wasmtime::Result<()> {
        ensure!((buffer.address as usize).is_multiple_of(self.align), "pointer not aligned");
        Ok(())
    }
}

impl<V> FutureReader<V> {
    pub(super) fn new(channel: usize) -> Self {
        Self(channel, PhantomData)
    }
}

impl Wit for StreamReader {
    crate::component_abi::in_the_form_of!(u32);

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        matches!(types.defined(ty), Some(ComponentDefinedType::Stream { ty: payload, .. }) if u8::is_payload(types, *payload))
    }
}

impl Lift for StreamReader {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        let handle = flat.u32()?;
        cx.reader(handle, byte_stream()).map(Self)
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        let handle = u32::load(cx, bytes)?;
        cx.reader(handle, byte_stream()).map(Self)
    }
}

impl Lower for StreamReader {
    fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
        cx.handles.insert_waitable(Waitable::End(End::Reader, self.0))?.store(cx, to)
    }
}

impl<V: Wit> Wit for FutureReader<V> {
    crate::component_abi::in_the_form_of!(u32);

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        matches!(types.defined(ty), Some(ComponentDefinedType::Future { ty: payload, .. }) if V::is_payload(types, *payload))
    }
}

impl<V: Wit> Lift for FutureReader<V> {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        let handle = flat.u32()?;
        cx.reader(handle, Payload::of::<V>(Kind::Future)).map(Self::new)
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        let handle = u32::load(cx, bytes)?;
        cx.reader(handle, Payload::of::<V>(Kind::Future)).map(Self::new)
    }
}

impl<V: Wit> Lower for FutureReader<V> {
    fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
        cx.handles.insert_waitable(Waitable::End(End::Reader, self.0))?.store(cx, to)
    }
}
