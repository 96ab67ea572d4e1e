//! Streams and futures, as the guest sees them: which of both ends it has, what it does with them, and what came of
//! that. What the host does with the other end is in [`super::host`].

use std::any::TypeId;

use slab::Slab;
use wasmtime::{Trap, bail, ensure};

use crate::canonical::guest::Pending;

/// Items that one operation may be about, at most.
const MAX_ITEMS: u32 = 1 << 28;

/// Bytes that are copied at a time from a guest's own end of a stream to its other one, which the event loop waits for:
/// what one call into the host may copy.
const MAX_COPIED_BYTES: usize = 2 << 20;

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
    /// What the guest may do with its handle of this end.
    local: Local,
}

/// The state of a handle, as wasmtime keeps it (`TransmitLocalState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    /// It may read, or, with [`End::Writer`], write.
    Idle {
        end: End,
        /// It may not any more: the guest was told that the other end is gone.
        done: bool,
    },
    /// An operation goes on.
    Busy,
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
    /// The end whose handle it was begun with: see [`Channel::cancel`].
    pub(super) via: End,
}

/// What came of an operation.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) result: CopyResult,
    /// Items that were copied.
    pub(super) count: u32,
    /// What must still come into the guest's memory before it is told.
    pub(super) pending: Option<Box<Pending>>,
    /// The end whose handle the operation was begun with; None when there was none, and the other end is gone.
    via: Option<End>,
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
    pub(super) const CANCELLED: Self = Self { result: CopyResult::Cancelled, count: 0, pending: None, via: None };

    /// As the guest is told.
    pub(super) fn code(&self) -> u32 {
        self.count << 4 | self.result as u32
    }
}

impl Side {
    fn of(owner: Owner, end: End) -> Self {
        Self { owner, pending: None, event: None, local: Local::Idle { end, done: false } }
    }

    pub(super) fn has_event(&self) -> bool {
        self.event.is_some()
    }

    /// Something was copied between the guest's own ends, all of it or a part. What is left may still be copied before
    /// the guest is told.
    fn progress(&mut self, count: u32, rest: Option<Buffer>) {
        let before = self.event.take().map_or(0, |event| event.count);
        self.complete(before + count, None);
        self.pending = rest;
    }

    /// The operation has come to its end. What the guest's other end copied before does not count: neither does it in
    /// wasmtime, where this event takes the place of the other.
    pub(super) fn complete(&mut self, count: u32, pending: Option<Box<Pending>>) {
        let via = self.pending.take().map(|buffer| buffer.via);
        self.event = Some(Outcome { result: CopyResult::Completed, count, pending, via });
    }

    /// The other end is gone. That is an event also when the guest wanted nothing of it.
    pub(super) fn end(&mut self, is_future: bool) {
        let via = self.pending.take().map(|buffer| buffer.via);
        match &mut self.event {
            // The value has been passed before.
            Some(_) if is_future => {}
            Some(event) => {
                event.result = CopyResult::Dropped;
                event.via = event.via.or(via);
            }
            None => self.event = Some(Outcome { result: CopyResult::Dropped, count: 0, pending: None, via }),
        }
    }
}

impl Channel {
    pub(super) fn new(payload: Payload, reader: Owner, writer: Owner) -> Self {
        Self { payload, reader: Side::of(reader, End::Reader), writer: Side::of(writer, End::Writer), is_done: false }
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

    /// The guest begins to read or to write. With what comes of it at once, if the other end is gone.
    pub(super) fn begin(
        &mut self,
        end: End,
        buffer: Buffer,
        memory_bytes: usize,
    ) -> wasmtime::Result<Option<CopyResult>> {
        if buffer.count >= MAX_ITEMS {
            bail!(Trap::StreamOpTooBig);
        }
        self.payload.range(buffer, memory_bytes)?;
        match self.side(buffer.via).local {
            Local::Idle { end: of, done } if of == end => {
                ensure!(!done, "cannot read or write after being notified that the other end dropped");
            }
            _ => bail!(Trap::ConcurrentFutureStreamOp),
        }
        match end {
            End::Reader if self.is_done => bail!("cannot read from future after previous read succeeded"),
            End::Writer if self.is_done => {
                bail!("cannot write to future after previous write succeeded or readable end dropped")
            }
            _ => {}
        }
        if self.side(end.other()).owner == Owner::Nobody {
            self.is_done |= self.is_future();
            self.settle(end, buffer.via, CopyResult::Dropped);
            return Ok(Some(CopyResult::Dropped));
        }
        let side = self.side(end);
        ensure!(side.pending.is_none() && side.owner == Owner::Guest, "this end of a stream or future is in use");
        side.pending = Some(buffer);
        self.side(buffer.via).local = Local::Busy;
        Ok(None)
    }

    /// What came of an operation that was just begun, if that is known.
    pub(super) fn begun(&mut self, end: End, via: End) -> Option<Outcome> {
        let outcome = self.side(end).event.take()?;
        self.side(end).pending = None;
        self.settle(end, via, outcome.result);
        Some(outcome)
    }

    /// The guest may begin another operation with that handle.
    fn settle(&mut self, end: End, via: End, result: CopyResult) {
        // Who reads a future is told of its value, not of its end.
        let done = result == CopyResult::Dropped && !(self.is_future() && end == End::Reader);
        self.side(via).local = Local::Idle { end, done };
    }

    /// Does what can be done without the host.
    pub(super) fn meet(&mut self, memory: &mut [u8]) -> wasmtime::Result<()> {
        match (self.reader.pending, self.writer.pending) {
            (Some(read), Some(written)) => self.copy(read, written, memory),
            _ => Ok(()),
        }
    }

    /// The guest has both ends; at most [`MAX_COPIED_BYTES`] are copied at a time. With no items, one asks whether the
    /// other end is ready: only that operation is then complete, and with none on both sides, only writing.
    fn copy(&mut self, read: Buffer, written: Buffer, memory: &mut [u8]) -> wasmtime::Result<()> {
        let most = u32::try_from(MAX_COPIED_BYTES / self.payload.size.max(1)).unwrap_or(u32::MAX);
        let count = read.count.min(written.count).min(most);
        if self.payload.of != TypeId::of::<u8>() {
            bail!("cannot read from and write to intra-component future/stream with non-numeric payload");
        }
        let one = |buffer: Buffer| Buffer { count, ..buffer };
        let from = self.payload.range(one(written), memory.len())?;
        let to = self.payload.range(one(read), memory.len())?;
        memory.copy_within(from, to.start);
        let copied = count;
        let rest = |buffer: Buffer| {
            let (address, count) = (buffer.address.saturating_add(count), buffer.count - count);
            // What is over the limit is for the next operation of both.
            (count > 0 && copied < most).then_some(Buffer { address, count, ..buffer })
        };
        if written.count > 0 {
            self.reader.progress(count, rest(read));
        }
        if written.count == 0 || read.count > 0 {
            self.writer.progress(count, rest(written));
        }
        Ok(())
    }

    /// Takes what came of an operation, for the guest, which may begin another one then.
    ///
    /// # Errors
    ///
    /// When the operation was begun with the handle of the other end: see [`Self::cancel`].
    pub(super) fn deliver(&mut self, end: End) -> wasmtime::Result<Option<Outcome>> {
        let Some(outcome) = self.side(end).event.take() else { return Ok(None) };
        if let Some(via) = outcome.via {
            ensure!(via == end && self.side(end).local == Local::Busy, "an event of another end");
            self.side(end).pending = None;
            self.side(end).local = Local::Idle { end, done: outcome.result == CopyResult::Dropped };
        }
        Ok(Some(outcome))
    }

    /// Whether there is an operation to cancel. As in wasmtime, the handle of the other end will do when that is busy:
    /// it is then a handle of this one.
    pub(super) fn ensure_busy(&mut self, via: End) -> wasmtime::Result<()> {
        let is_busy = self.side(via).local == Local::Busy;
        ensure!(is_busy, "stream or future operation cancelled when none is pending, or through its other end");
        Ok(())
    }

    /// What came of an operation that the guest does not want any longer, if that is known.
    pub(super) fn cancel(&mut self, end: End) -> wasmtime::Result<Option<Outcome>> {
        let is_stream = !self.is_future();
        Ok(self.deliver(end)?.map(|mut outcome| {
            if outcome.result == CopyResult::Completed && is_stream {
                outcome.result = CopyResult::Cancelled;
            }
            outcome
        }))
    }

    /// Nothing goes on any more at that end.
    pub(super) fn cancelled(&mut self, end: End, via: End) {
        self.side(end).pending = None;
        let side = self.side(via);
        if side.local == Local::Busy {
            side.local = Local::Idle { end, done: false };
        }
    }

    /// Whether the guest may give this end away, or drop it, by that handle.
    fn ensure_idle(&mut self, end: End, via: End) -> wasmtime::Result<bool> {
        match self.side(via).local {
            Local::Idle { end: of, done } if of == end => Ok(done),
            Local::Idle { .. } => bail!("handle is not this end of a stream or future"),
            Local::Busy => bail!("cannot remove a stream or future with an operation in progress"),
        }
    }

    /// The guest drops its handle of an end.
    pub(super) fn drop_end(&mut self, end: End, via: End) -> wasmtime::Result<()> {
        let done = self.ensure_idle(end, via)?;
        if self.is_future() && end == End::Writer && !self.is_done && !done {
            bail!("cannot drop future write end without first writing a value");
        }
        self.gone(end);
        Ok(())
    }

    /// An end is gone: the other one learns of it.
    pub(super) fn gone(&mut self, end: End) {
        let is_future = self.is_future();
        self.side(end).owner = Owner::Nobody;
        let other = self.side(end.other());
        if other.owner != Owner::Nobody {
            other.end(is_future);
        }
    }

    /// The guest hands its readable end over.
    pub(super) fn give_reader(&mut self) -> wasmtime::Result<()> {
        let done = self.ensure_idle(End::Reader, End::Reader)?;
        ensure!(!done, "cannot lift a stream after being notified that the writable end dropped");
        ensure!(!self.is_done, "cannot lift a future after previous read succeeded");
        self.reader.owner = Owner::Host;
        Ok(())
    }
}

mod kept;
#[cfg(test)]
mod tests;
