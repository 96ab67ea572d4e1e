//! Streams and futures from the guest's side: the ends that it holds, its reads and writes, and their results. The
//! host's side is in [`super::host`].

use std::any::TypeId;

use slab::Slab;
use wasmtime::{Trap, bail, ensure};

use crate::component_abi::guest::Pending;

/// Upper bound (exclusive) of the items in one read or write.
const MAX_ITEMS: u32 = 1 << 28;

/// Bytes that are copied at a time when the guest holds both ends of a stream. The copy blocks the event loop, so the
/// bound is that of one call into the host.
const MAX_COPIED_BYTES: usize = 2 << 20;

/// The result code of an operation that completes later, with an event.
pub(super) const BLOCKED: u32 = u32::MAX;

/// Whether a channel carries many items or one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Future,
}

/// The type of a channel: stream or future, and its item type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(super) kind: Kind,
    pub(super) of: TypeId,
    /// An item's size and alignment in memory, in bytes.
    pub(super) size: usize,
    pub(super) align: usize,
}

/// One of the two ends of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
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
    /// Whether a future's value has been transferred.
    pub(super) is_done: bool,
}

/// The owner of an end, and the state of its operation.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) owner: Owner,
    /// The buffer of the guest's read or write in progress.
    pub(super) pending: Option<Buffer>,
    /// The result of an operation that has not been delivered to the guest yet.
    event: Option<CopyOutcome>,
    /// What the guest's handle of this end permits.
    local: Local,
}

/// The state of a handle. It corresponds to wasmtime's `TransmitLocalState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    /// No operation is in progress. The handle permits reading or writing, as `end` says.
    Idle {
        end: End,
        /// The guest was notified that the other end was dropped: further operations trap.
        done: bool,
    },
    /// An operation is in progress.
    Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Guest,
    Host,
    Dropped,
}

/// The buffer of a read or write in the guest's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) address: u32,
    pub(super) count: u32,
    /// The end whose handle the guest passed: see [`Channel::ensure_busy`].
    pub(super) via: End,
}

/// The result of an operation.
#[derive(Debug)]
pub(super) struct CopyOutcome {
    pub(super) result: CopyResult,
    /// Items that were copied.
    pub(super) count: u32,
    /// A value that must be written to the guest's memory, after `realloc`, before the result is delivered.
    pub(super) pending: Option<Box<Pending>>,
    /// The end whose handle the guest passed. None if there was no operation, and the event only says that the other
    /// end was dropped.
    via: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyResult {
    Completed = 0,
    /// The other end was dropped.
    Dropped = 1,
    Cancelled = 2,
}

/// The channels of one instance.
#[derive(Debug, Default)]
pub(crate) struct Channels(Slab<Channel>);

impl Channels {
    pub(super) fn insert(&mut self, channel: Channel) -> usize {
        self.0.insert(channel)
    }

    pub(super) fn get(&mut self, number: usize) -> Option<&mut Channel> {
        self.0.get_mut(number)
    }

    /// # Errors
    ///
    /// If there is no such channel, or its type is another one.
    pub(super) fn of(&mut self, number: usize, payload: Payload) -> wasmtime::Result<&mut Channel> {
        match self.0.get_mut(number) {
            Some(channel) if channel.payload == payload => Ok(channel),
            Some(_) => bail!("a stream or future of another type"),
            None => bail!("unknown stream or future"),
        }
    }

    /// Transfers the readable end of a channel from the guest to the host.
    pub(crate) fn give_reader(&mut self, number: usize, payload: Payload) -> wasmtime::Result<()> {
        self.of(number, payload)?.give_reader()
    }

    pub(super) fn remove(&mut self, number: usize) {
        self.0.try_remove(number);
    }

    /// An exclusive upper bound of the channel numbers.
    pub(super) fn end(&self) -> usize {
        self.0.capacity()
    }
}

impl CopyOutcome {
    pub(super) const CANCELLED: Self = Self { result: CopyResult::Cancelled, count: 0, pending: None, via: None };

    /// The result code in the canonical ABI's encoding.
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

    /// Records that `count` items were copied between the guest's own two ends. `rest` is the part of the buffer that
    /// may still be copied before the event is delivered.
    fn progress(&mut self, count: u32, rest: Option<Buffer>) {
        let before = self.event.take().map_or(0, |event| event.count);
        self.complete(before + count, None);
        self.pending = rest;
    }

    /// Completes the operation. Items that were copied from or to the guest's own other end before are not counted:
    /// neither are they in wasmtime, where this event replaces the earlier one.
    pub(super) fn complete(&mut self, count: u32, pending: Option<Box<Pending>>) {
        let via = self.pending.take().map(|buffer| buffer.via);
        self.event = Some(CopyOutcome { result: CopyResult::Completed, count, pending, via });
    }

    /// Records that the other end was dropped. This is an event even without an operation in progress.
    pub(super) fn end(&mut self, is_future: bool) {
        let via = self.pending.take().map(|buffer| buffer.via);
        match &mut self.event {
            // The value has been transferred already.
            Some(_) if is_future => {}
            Some(event) => {
                event.result = CopyResult::Dropped;
                event.via = event.via.or(via);
            }
            None => self.event = Some(CopyOutcome { result: CopyResult::Dropped, count: 0, pending: None, via }),
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

    /// Starts a read or a write. Returns a result at once if the other end was dropped.
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
        if self.side(end.other()).owner == Owner::Dropped {
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

    /// Takes the result of an operation that has just been started, if it has completed already.
    pub(super) fn begun(&mut self, end: End, via: End) -> Option<CopyOutcome> {
        let outcome = self.side(end).event.take()?;
        self.side(end).pending = None;
        self.settle(end, via, outcome.result);
        Some(outcome)
    }

    /// Sets the handle idle, so that the guest may start another operation with it.
    fn settle(&mut self, end: End, via: End, result: CopyResult) {
        // A future's reader is notified of its value, not of the dropped writer.
        let done = result == CopyResult::Dropped && !(self.is_future() && end == End::Reader);
        self.side(via).local = Local::Idle { end, done };
    }

    /// Copies between the two ends if the guest holds both and has an operation in progress at each.
    pub(super) fn meet(&mut self, memory: &mut [u8]) -> wasmtime::Result<()> {
        match (self.reader.pending, self.writer.pending) {
            (Some(read), Some(written)) => self.copy(read, written, memory),
            _ => Ok(()),
        }
    }

    /// Copies between the guest's own two ends, at most [`MAX_COPIED_BYTES`] at a time. An operation with a count of 0
    /// asks whether the other end is ready: it alone completes then; if both counts are 0, only the write completes.
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
            // What exceeds the limit is left to the next operations at both ends.
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

    /// Takes the result of an operation in order to deliver it to the guest, which may then start another one.
    ///
    /// # Errors
    ///
    /// If the operation was started with the handle of the other end: see [`Self::ensure_busy`].
    pub(super) fn deliver(&mut self, end: End) -> wasmtime::Result<Option<CopyOutcome>> {
        let Some(outcome) = self.side(end).event.take() else { return Ok(None) };
        if let Some(via) = outcome.via {
            ensure!(via == end && self.side(end).local == Local::Busy, "an event of another end");
            self.side(end).pending = None;
            self.side(end).local = Local::Idle { end, done: outcome.result == CopyResult::Dropped };
        }
        Ok(Some(outcome))
    }

    /// Checks that there is an operation to cancel. As in wasmtime, a busy handle of the other end is accepted too, and
    /// then counts as a handle of this end.
    pub(super) fn ensure_busy(&mut self, via: End) -> wasmtime::Result<()> {
        let is_busy = self.side(via).local == Local::Busy;
        ensure!(is_busy, "stream or future operation cancelled when none is pending, or through its other end");
        Ok(())
    }

    /// Takes the result of an operation that the guest cancels, if it has completed already.
    pub(super) fn cancel(&mut self, end: End) -> wasmtime::Result<Option<CopyOutcome>> {
        let is_stream = !self.is_future();
        Ok(self.deliver(end)?.map(|mut outcome| {
            if outcome.result == CopyResult::Completed && is_stream {
                outcome.result = CopyResult::Cancelled;
            }
            outcome
        }))
    }

    /// Discards the operation in progress at that end.
    pub(super) fn cancelled(&mut self, end: End, via: End) {
        self.side(end).pending = None;
        let side = self.side(via);
        if side.local == Local::Busy {
            side.local = Local::Idle { end, done: false };
        }
    }

    /// Checks that the guest may transfer or drop this end with that handle. Returns whether the guest was notified
    /// that the other end was dropped.
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

    /// Marks an end as dropped, and notifies the other one.
    pub(super) fn gone(&mut self, end: End) {
        let is_future = self.is_future();
        self.side(end).owner = Owner::Dropped;
        let other = self.side(end.other());
        if other.owner != Owner::Dropped {
            other.end(is_future);
        }
    }

    /// Transfers the readable end from the guest to the host.
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
