//! Streams and futures, as the guest sees them: which of both ends it has, what it does with them, and what came of
//! that. What the host does with the other end is in [`super::host`].

use std::any::TypeId;
use std::ops::Range;

use slab::Slab;
use wasmtime::{Trap, bail, ensure};

use crate::canonical::guest::Pending;

/// Items that one operation may be about, at most.
const MAX_ITEMS: u32 = 1 << 28;

/// What an operation returns that goes on until there is an event.
pub(super) const BLOCKED: u32 = u32::MAX;

/// Which of the two it is: many items, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Future,
}

/// What a stream or a future is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::canonical) struct Payload {
    pub(super) kind: Kind,
    pub(super) of: TypeId,
    /// Bytes that an item takes in memory, and its alignment there.
    pub(super) size: usize,
    pub(super) align: usize,
}

/// One of the two ends of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::canonical) enum End {
    Reader,
    Writer,
}

impl End {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Reader => Self::Writer,
            Self::Writer => Self::Reader,
        }
    }
}

/// A stream or a future.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) payload: Payload,
    pub(super) reader: Side,
    pub(super) writer: Side,
    /// A future's value has been passed.
    pub(super) is_done: bool,
}

/// Who has an end, and what is done with it.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) owner: Owner,
    /// What the guest reads or writes.
    pub(super) pending: Option<Buffer>,
    /// What came of it, which the guest does not know yet.
    event: Option<Outcome>,
    /// The guest knows that the other end is gone.
    knows_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Guest,
    Host,
    Nobody,
}

/// Items in the guest's memory that it reads to or writes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) address: u32,
    pub(super) count: u32,
}

/// What came of an operation.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) result: CopyResult,
    /// Items that were copied.
    pub(super) count: u32,
    /// What must still come into the guest's memory before it is told.
    pub(super) pending: Option<Pending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyResult {
    Completed = 0,
    /// The other end is gone.
    Dropped = 1,
    Cancelled = 2,
}

/// The channels of one instance.
#[derive(Debug, Default)]
pub(in crate::canonical) struct Channels(Slab<Channel>);

impl Channels {
    pub(super) fn insert(&mut self, channel: Channel) -> usize {
        self.0.insert(channel)
    }

    pub(super) fn get(&mut self, number: usize) -> Option<&mut Channel> {
        self.0.get_mut(number)
    }

    /// # Errors
    ///
    /// When there is no such channel, or it is of something else.
    pub(super) fn of(&mut self, number: usize, payload: Payload) -> wasmtime::Result<&mut Channel> {
        match self.0.get_mut(number) {
            Some(channel) if channel.payload == payload => Ok(channel),
            Some(_) => bail!("a stream or future of another type"),
            None => bail!("unknown stream or future"),
        }
    }

    /// The guest hands the readable end of one over.
    pub(in crate::canonical) fn give_reader(&mut self, number: usize, payload: Payload) -> wasmtime::Result<()> {
        self.of(number, payload)?.give_reader()
    }

    pub(super) fn remove(&mut self, number: usize) {
        self.0.try_remove(number);
    }

    /// All numbers are below this one.
    pub(super) fn end(&self) -> usize {
        self.0.capacity()
    }
}

impl Outcome {
    /// As the guest is told.
    pub(super) fn code(&self) -> u32 {
        self.count << 4 | self.result as u32
    }
}

impl Side {
    fn of(owner: Owner) -> Self {
        Self { owner, pending: None, event: None, knows_end: false }
    }

    fn is_busy(&self) -> bool {
        self.pending.is_some() || self.event.is_some()
    }

    pub(super) fn has_event(&self) -> bool {
        self.event.is_some()
    }

    /// Something was copied, all of it or a part. What is left may still be copied before the guest is told.
    fn progress(&mut self, count: u32, rest: Option<Buffer>) {
        let before = self.event.take().map_or(0, |event| event.count);
        self.event = Some(Outcome { result: CopyResult::Completed, count: before + count, pending: None });
        self.pending = rest;
    }

    /// The operation has come to its end.
    pub(super) fn complete(&mut self, count: u32, pending: Option<Pending>) {
        self.progress(count, None);
        if let Some(event) = &mut self.event {
            event.pending = pending;
        }
    }

    /// The other end is gone while the guest wanted something of it.
    pub(super) fn end(&mut self, is_future: bool) {
        if !self.is_busy() {
            return;
        }
        self.pending = None;
        match &mut self.event {
            // The value has been passed before.
            Some(_) if is_future => {}
            Some(event) => event.result = CopyResult::Dropped,
            None => self.event = Some(Outcome { result: CopyResult::Dropped, count: 0, pending: None }),
        }
    }
}

impl Channel {
    pub(super) fn new(payload: Payload, reader: Owner, writer: Owner) -> Self {
        Self { payload, reader: Side::of(reader), writer: Side::of(writer), is_done: false }
    }

    pub(super) fn is_future(&self) -> bool {
        self.payload.kind == Kind::Future
    }

    pub(super) fn side(&mut self, end: End) -> &mut Side {
        match end {
            End::Reader => &mut self.reader,
            End::Writer => &mut self.writer,
        }
    }

    /// The guest begins to read or to write.
    pub(super) fn begin(&mut self, end: End, buffer: Buffer, memory_bytes: usize) -> wasmtime::Result<()> {
        if buffer.count >= MAX_ITEMS {
            bail!(Trap::StreamOpTooBig);
        }
        self.payload.ensure_within(buffer, memory_bytes)?;
        let (is_done, side) = (self.is_done, self.side(end));
        if side.is_busy() {
            bail!(Trap::ConcurrentFutureStreamOp);
        }
        match end {
            _ if side.knows_end => bail!("cannot read or write after being notified that the other end dropped"),
            End::Reader if is_done => bail!("cannot read from future after previous read succeeded"),
            End::Writer if is_done => {
                bail!("cannot write to future after previous write succeeded or readable end dropped")
            }
            _ => {}
        }
        side.pending = Some(buffer);
        Ok(())
    }

    /// Does what can be done without the host.
    pub(super) fn meet(&mut self, memory: &mut [u8]) -> wasmtime::Result<()> {
        let is_future = self.is_future();
        match (self.reader.pending, self.writer.pending) {
            (Some(read), Some(written)) => self.copy(read, written, memory)?,
            (_, Some(_)) if self.reader.owner == Owner::Nobody => {
                self.writer.end(is_future);
                self.is_done |= is_future;
            }
            (Some(_), _) if self.writer.owner == Owner::Nobody => self.reader.end(is_future),
            _ => {}
        }
        Ok(())
    }

    /// The guest has both ends. With no items, one asks whether the other end is ready: only that operation is then
    /// complete, and with none on both sides, only writing.
    fn copy(&mut self, read: Buffer, written: Buffer, memory: &mut [u8]) -> wasmtime::Result<()> {
        let count = read.count.min(written.count);
        if self.payload.of != TypeId::of::<u8>() {
            bail!("cannot read from and write to intra-component future/stream with non-numeric payload");
        }
        let one = |buffer: Buffer| Buffer { count, ..buffer };
        let from = self.payload.range(one(written), memory.len())?;
        let to = self.payload.range(one(read), memory.len())?;
        memory.copy_within(from, to.start);
        let rest = |buffer: Buffer| {
            let (address, count) = (buffer.address.saturating_add(count), buffer.count - count);
            (count > 0).then_some(Buffer { address, count })
        };
        if written.count > 0 {
            self.reader.progress(count, rest(read));
        }
        if written.count == 0 || read.count > 0 {
            self.writer.progress(count, rest(written));
        }
        Ok(())
    }

    /// What came of an operation, for the guest, which may begin another one then.
    pub(super) fn deliver(&mut self, end: End) -> Option<Outcome> {
        let is_future = self.is_future();
        let side = self.side(end);
        let outcome = side.event.take()?;
        side.pending = None;
        // Whoever reads a future is told of its value, not of its end.
        side.knows_end = outcome.result == CopyResult::Dropped && !(is_future && end == End::Reader);
        Some(outcome)
    }

    /// Ends an operation that the guest does not want any longer.
    pub(super) fn cancel(&mut self, end: End) -> wasmtime::Result<Outcome> {
        if let Some(mut outcome) = self.deliver(end) {
            if outcome.result == CopyResult::Completed && !self.is_future() {
                outcome.result = CopyResult::Cancelled;
            }
            return Ok(outcome);
        }
        ensure!(self.side(end).pending.take().is_some(), "stream or future operation cancelled when none is pending");
        Ok(Outcome { result: CopyResult::Cancelled, count: 0, pending: None })
    }

    /// Whether the guest may give this end away, or drop it.
    fn ensure_idle(&mut self, end: End) -> wasmtime::Result<()> {
        ensure!(!self.side(end).is_busy(), "cannot remove a stream or future with an operation in progress");
        Ok(())
    }

    pub(super) fn drop_end(&mut self, end: End) -> wasmtime::Result<()> {
        self.ensure_idle(end)?;
        let is_future = self.is_future();
        if is_future && end == End::Writer && !self.is_done && !self.writer.knows_end {
            bail!("cannot drop future write end without first writing a value");
        }
        self.side(end).owner = Owner::Nobody;
        match end {
            End::Reader => self.writer.end(is_future),
            End::Writer => self.reader.end(is_future),
        }
        Ok(())
    }

    /// The guest hands its readable end over.
    pub(super) fn give_reader(&mut self) -> wasmtime::Result<()> {
        self.ensure_idle(End::Reader)?;
        ensure!(!self.reader.knows_end, "cannot lift a stream after being notified that the writable end dropped");
        ensure!(!self.is_done, "cannot lift a future after previous read succeeded");
        self.reader.owner = Owner::Host;
        Ok(())
    }
}

impl Payload {
    /// Where items are in memory. That they are aligned is checked when they are copied, as wasmtime does it.
    pub(super) fn range(&self, buffer: Buffer, memory_bytes: usize) -> wasmtime::Result<Range<usize>> {
        let range = self.ensure_within(buffer, memory_bytes)?;
        ensure!(range.start.is_multiple_of(self.align), "pointer not aligned");
        Ok(range)
    }

    fn ensure_within(&self, buffer: Buffer, memory_bytes: usize) -> wasmtime::Result<Range<usize>> {
        let start = buffer.address as usize;
        match (buffer.count as usize).checked_mul(self.size) {
            Some(0) => Ok(0..0),
            Some(length) if start + length <= memory_bytes => Ok(start..start + length),
            _ => bail!("pointer out of bounds of memory"),
        }
    }
}
