//! The guest waits: until one of the waitables of a set has an event.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use wasmtime::{Trap, ensure};

use super::channel::{End, Kind, Outcome};
use super::{pass_on, progress};
use crate::canonical::guest::{Guest, HasHost, Host, parts};
use crate::canonical::handles::Waitable;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) code: u32,
    /// The handle of what it happened to.
    pub(crate) waitable: u32,
    /// What came of it.
    pub(crate) status: u32,
}

impl Event {
    pub(crate) const NONE: Self = Self { code: 0, waitable: 0, status: 0 };
}

/// The number by which a guest knows what kind of event it is.
fn code(of: Waitable, kind: Kind) -> u32 {
    match (of, kind) {
        (Waitable::Subtask(_), _) => 1,
        (Waitable::End(End::Reader, _), Kind::Stream) => 2,
        (Waitable::End(End::Writer, _), Kind::Stream) => 3,
        (Waitable::End(End::Reader, _), Kind::Future) => 4,
        (Waitable::End(End::Writer, _), Kind::Future) => 5,
    }
}

impl<T: Host> Guest<T> {
    /// The next event of a set. Memory for it may have to be allocated before the guest is told.
    fn take_event(&mut self, set: u32) -> wasmtime::Result<Option<Event>> {
        self.handles.ensure_set(set)?;
        let ready = self.handles.joined(set).filter(|(_, waitable)| self.concurrent.has_event(*waitable));
        // The order of wasmtime's set: calls first, then what was made first.
        let Some((handle, waitable)) = ready.min_by_key(|(_, waitable)| waitable.rank()) else { return Ok(None) };
        let (kind, status) = match waitable {
            Waitable::Subtask(number) => (Kind::Future, self.subtask_status(number)),
            Waitable::End(end, number) => {
                let Some(channel) = self.concurrent.channels.get(number) else { return Ok(None) };
                let (kind, outcome) = (channel.payload.kind, channel.deliver(end)?);
                (kind, outcome.map(|outcome| self.told(outcome)))
            }
        };
        Ok(status.map(|status| Event { code: code(waitable, kind), waitable: handle, status }))
    }

    /// What the guest is told of an operation, when what came of it is in its memory, or will be by then.
    pub(super) fn told(&mut self, mut outcome: Outcome) -> u32 {
        self.pending = outcome.pending.take().map(|pending| *pending);
        outcome.code()
    }

    /// The same of a call.
    pub(super) fn subtask_status(&mut self, number: usize) -> Option<u32> {
        let (status, pending) = self.concurrent.subtasks.get_mut(number)?.event.take()?;
        self.pending = pending.map(|pending| *pending);
        Some(status as u32)
    }
}

/// An event of the set that is there now, after everything had a chance to go on.
fn poll_event<T: Host>(store: &mut impl HasHost<T>, cx: &mut Context<'_>, set: u32) -> Poll<wasmtime::Result<Event>> {
    let (memory, host) = parts(store);
    if let Some(event) = host.guest().take_event(set)? {
        return Poll::Ready(Ok(event));
    }
    host.guest_waits();
    let is_at_work = progress(host, memory, cx)?;
    match host.guest().take_event(set)? {
        Some(event) => Poll::Ready(Ok(event)),
        None if is_at_work => Poll::Pending,
        // Nothing will ever wake it.
        None => Poll::Ready(Err(Trap::AsyncDeadlock.into())),
    }
}

/// Waits for an event of the set. Its result may need memory: that is to be allocated before anything else is done.
///
/// # Errors
///
/// When there is no such set, or nothing that could have an event any more.
pub(crate) async fn next_event<T: Host>(store: &mut impl HasHost<T>, set: u32) -> wasmtime::Result<Event> {
    poll_fn(|cx| poll_event(store, cx, set)).await
}

/// An event of the set, or [`Event::NONE`]. Nothing goes on for it: a guest that polls must yield, as in wasmtime.
pub(super) fn event_now<T: Host>(store: &mut impl HasHost<T>, set: u32) -> wasmtime::Result<Event> {
    Ok(parts(store).1.guest().take_event(set)?.unwrap_or(Event::NONE))
}

/// Lets others run, and everything go on.
pub(crate) async fn yield_now<T: Host>(store: &mut impl HasHost<T>) -> wasmtime::Result<()> {
    let mut has_yielded = false;
    poll_fn(|cx| {
        let (memory, host) = parts(store);
        host.guest_waits();
        progress(host, memory, cx)?;
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// # Errors
///
/// When the task, which has come to its end, has not returned a result.
pub(crate) fn ensure_returned<T: Host>(guest: &Guest<T>) -> wasmtime::Result<()> {
    ensure!(guest.concurrent.has_returned, Trap::NoAsyncResult);
    Ok(())
}

/// The guest has come to its end: what it has written and nobody has asked for before is taken, and what it has only
/// passed on is waited for.
pub(crate) async fn finish<T: Host>(store: &mut impl HasHost<T>) -> wasmtime::Result<()> {
    let (memory, host) = parts(store);
    progress(host, memory, &mut Context::from_waker(Waker::noop()))?;
    poll_fn(|cx| if pass_on(parts(store).1, cx)? { Poll::Pending } else { Poll::Ready(Ok(())) }).await
}

/// Waits for something, while everything goes on, if it is not there at once.
pub(super) async fn meanwhile<T: Host, V>(
    store: &mut impl HasHost<T>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<V>,
) -> wasmtime::Result<V> {
    let mut waits = false;
    poll_fn(|cx| {
        if !std::mem::replace(&mut waits, true)
            && let Poll::Ready(value) = poll(cx)
        {
            return Poll::Ready(Ok(value));
        }
        let (memory, host) = parts(store);
        host.guest_waits();
        progress(host, memory, cx)?;
        poll(cx).map(Ok)
    })
    .await
}
