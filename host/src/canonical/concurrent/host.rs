//! The host's ends of streams and futures, and what it does later.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use wasmparser::component_types::{ComponentDefinedType, ComponentValType};
use wasmtime::{bail, ensure};

use super::channel::{Buffer, End, Kind, Payload};
use crate::canonical::handles::Waitable;
use crate::canonical::lower::Lowered;
use crate::canonical::{FlatValues, Host, Lift, Lifting, Lower, Lowering, Place, Wit, WitTypes};

/// What became of bytes.
pub(crate) enum Transfer {
    /// So many were taken or given.
    Done(usize),
    /// Nobody wants more, or there are no more.
    Ended,
}

/// Takes the bytes of a stream that the guest writes. Dropped when the guest ends, or nobody reads any longer.
pub(crate) trait ByteSink<T>: Send {
    /// Takes some, and at least one; of none, whether it could take one. Ready at once or when woken.
    fn poll_write(&mut self, cx: &mut Context<'_>, host: &mut T, bytes: &[u8]) -> wasmtime::Result<Poll<Transfer>>;

    /// The guest has dropped its end: there is nothing more to come.
    fn end(self: Box<Self>, host: &mut T);
}

/// Gives the bytes of a stream that the guest reads. Dropped when the guest has dropped its end.
pub(crate) trait ByteSource<T>: Any + Send {
    /// Gives some, and at least one; with no room, whether it could give one. Ready at once or when woken.
    fn poll_read(&mut self, cx: &mut Context<'_>, host: &mut T, room: &mut [u8]) -> wasmtime::Result<Poll<Transfer>>;
}

/// Takes the value of a future that the guest writes.
pub(super) trait ValueSink<T>: Send {
    fn take(self: Box<Self>, host: &mut T, memory: &[u8], at: Range<usize>) -> wasmtime::Result<()>;
    /// One that comes from the host itself.
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

/// A value that is there later, for a future that the guest reads, or as the result of a function.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = Box<dyn Value<T>>> + Send>>;

/// A value that is there.
pub(crate) trait Value<T>: Send {
    fn lower(self: Box<Self>, host: &mut T) -> wasmtime::Result<Lowered>;
    fn into_any(self: Box<Self>, host: &mut T) -> wasmtime::Result<Box<dyn Any>>;
}

/// What `future` comes to, once it has been made of that.
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

/// What the host has at the other end of a channel.
#[derive(Default)]
pub(super) enum HostEnd<T> {
    /// Nothing, or not yet.
    #[default]
    Nothing,
    Sink(Box<dyn ByteSink<T>>),
    Source(Box<dyn ByteSource<T>>),
    ValueSink(Box<dyn ValueSink<T>>),
    Later(Later<T>),
}

/// What came of an attempt to go on with a channel.
pub(super) enum Step {
    /// There is nobody at the other end yet.
    None,
    /// `cx` is woken when it can go on.
    Waits,
    Copied(usize),
    Ended,
    /// A future's value was taken.
    Taken,
    /// A future's value is there.
    Given(Lowered),
}

impl<T: Host> HostEnd<T> {
    /// Goes on with what the guest reads to or writes from that part of its memory.
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

pub(in crate::canonical) fn byte_stream() -> Payload {
    Payload::of::<u8>(Kind::Stream)
}

impl Payload {
    pub(in crate::canonical) fn of<V: Wit>(kind: Kind) -> Self {
        Self { kind, of: std::any::TypeId::of::<V>(), size: V::SIZE, align: V::ALIGN }
    }

    /// Where items are in memory.
    pub(super) fn range(&self, buffer: Buffer, memory_bytes: usize) -> wasmtime::Result<Range<usize>> {
        let start = buffer.address as usize;
        match (buffer.count as usize).checked_mul(self.size) {
            Some(0) => Ok(0..0),
            Some(length) if start + length <= memory_bytes => Ok(start..start + length),
            _ => bail!("pointer out of bounds of memory"),
        }
    }

    /// Checked when an item is copied, not before: so does wasmtime.
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
    crate::canonical::in_the_form_of!(u32);

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
    fn store(self, cx: &mut Lowering<'_>, to: Place) -> wasmtime::Result<()> {
        cx.handles.insert_waitable(Waitable::End(End::Reader, self.0))?.store(cx, to)
    }
}

impl<V: Wit> Wit for FutureReader<V> {
    crate::canonical::in_the_form_of!(u32);

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
    fn store(self, cx: &mut Lowering<'_>, to: Place) -> wasmtime::Result<()> {
        cx.handles.insert_waitable(Waitable::End(End::Reader, self.0))?.store(cx, to)
    }
}
