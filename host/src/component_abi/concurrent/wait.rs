//! Waiting for an event of a waitable set.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use wasmtime::{Trap, ensure};

use super::channel::{CopyOutcome, End, Kind};
use super::{Passing, pass_on, progress};
use crate::component_abi::guest::{Guest, HasHost, Host, parts};
use crate::component_abi::handles::Waitable;

/// An event of a waitable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) code: u32,
    /// The waitable's handle.
    pub(crate) waitable: u32,
    /// The operation's result code.
    pub(crate) status: u32,
}

impl Event {
    pub(crate) const NONE: Self = Self { code: 0, waitable: 0, status: 0 };
}

/// The canonical ABI's event code.
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
    /// Takes the next event of a set. Its value may need memory that must be allocated before the event is delivered.
    fn take_event(&mut self, set: u32) -> wasmtime::Result<Option<Event>> {
        self.handles.ensure_set(set)?;
        let ready = self.handles.joined(set).filter(|(_, waitable)| self.concurrent.has_event(*waitable));
        // The order of wasmtime's waitable set: subtasks first, then by age.
        let Some((handle, waitable)) = ready.min_by_key(|(_, waitable)| waitable.rank()) else { return Ok(None) };
        let (kind, status) = match waitable {
            Waitable::Subtask(number) => (Kind::Future, self.subtask_status(number)),
            Waitable::End(end, number) => {
                let Some(channel) = self.concurrent.channels.get(number) else { return Ok(None) };
                let (kind, outcome) = (channel.payload.kind, channel.deliver(end)?);
                (kind, outcome.map(|outcome| self.event_code(outcome)))
            }
        };
        Ok(status.map(|status| Event { code: code(waitable, kind), waitable: handle, status }))
    }

    /// The result code for the guest. If a value still needs memory, it becomes the pending result, which is allocated
    /// and written before the guest sees the code.
    pub(super) fn event_code(&mut self, mut outcome: CopyOutcome) -> u32 {
        self.pending = outcome.pending.take().map(|pending| *pending);
        outcome.code()
    }

    /// The same for a subtask: its status, if it has an event.
    pub(super) fn subtask_status(&mut self, number: usize) -> Option<u32> {
        let (status, pending) = self.concurrent.subtasks.get_mut(number)?.event.take()?;
        self.pending = pending.map(|pending| *pending);
        Some(status as u32)
    }
}

/// The set's next event. If there is none yet, all operations are advanced first.
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
        // No operation is in progress that could ever wake the guest.
        None => Poll::Ready(Err(Trap::AsyncDeadlock.into())),
    }
}

/// Waits for an event of the set. Its result may need memory: then that must be allocated before anything else.
///
/// # Errors
///
/// If there is no such set, or no operation in progress that could ever cause an event.
pub(crate) async fn next_event<T: Host>(store: &mut impl HasHost<T>, set: u32) -> wasmtime::Result<Event> {
    poll_fn(|cx| poll_event(store, cx, set)).await
}

/// An event of the set that is available now, or [`Event::NONE`]. Operations are not advanced: a guest that polls must
/// yield, as in wasmtime.
pub(super) fn event_now<T: Host>(store: &mut impl HasHost<T>, set: u32) -> wasmtime::Result<Event> {
    Ok(parts(store).1.guest().take_event(set)?.unwrap_or(Event::NONE))
}

/// Yields to the event loop once, and advances all operations.
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
/// If the task has ended without calling `task.return`.
pub(crate) fn ensure_returned<T: Host>(guest: &Guest<T>) -> wasmtime::Result<()> {
    ensure!(guest.concurrent.has_returned, Trap::NoAsyncResult);
    Ok(())
}

/// Called when the task has ended: advances all operations once more, so that what the guest wrote last is taken, and
/// then waits for those transfers between two host ends that keep the instance.
pub(crate) async fn finish<T: Host>(store: &mut impl HasHost<T>) -> wasmtime::Result<()> {
    let (memory, host) = parts(store);
    progress(host, memory, &mut Context::from_waker(Waker::noop()))?;
    poll_fn(|cx| {
        let (_, host) = parts(store);
        pass_on(host, cx)?;
        let is_kept = host.guest().concurrent.passing.iter().any(Passing::keeps_instance);
        if is_kept { Poll::Pending } else { Poll::Ready(Ok(())) }
    })
    .await
}

/// Called when the guest has trapped or exited: takes those values of futures that the guest has passed on which are
/// available by now, such as the trailers of a response. In a component, this is done while the guest waits.
pub(crate) fn take_values<T: Host>(store: &mut impl HasHost<T>) {
    let (_, host) = parts(store);
    let cx = &mut Context::from_waker(Waker::noop());
    let passing = std::mem::take(&mut host.guest().concurrent.passing);
    let left = passing.into_iter().filter_map(|one| match one {
        Passing::Value { .. } => one.go_on(host, cx).ok().flatten(),
        Passing::Bytes { .. } => Some(one),
    });
    let left = left.collect();
    host.guest().concurrent.passing = left;
}

/// Waits for `poll`. If it is not ready at once, all operations are advanced meanwhile.
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
