//! The canonical ABI's built-in functions for concurrency: those of tasks, waitables, streams and futures.

use std::task::{Context, Waker};

use wasmparser::component_types::ComponentValType;
use wasmtime::{Caller, Linker, Trap, bail, ensure};

use super::channel::{BLOCKED, Buffer, Channel, CopyOutcome, End, Kind, Owner, Payload};
use super::host::{HostEnd, byte_stream};
use super::{CHANNEL_BYTES, Status, advance, wait};
use crate::component_abi::function::{Define, Function, FunctionKind};
use crate::component_abi::guest::{Host, parts, write};
use crate::component_abi::handles::Waitable;
use crate::component_abi::{Lift, Wit, WitTypes};

/// A built-in function of the canonical ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    TaskReturn,
    TaskCancel,
    ContextGet(u32),
    ContextSet(u32),
    BackpressureInc,
    BackpressureDec,
    ThreadYield,
    WaitableSetNew,
    WaitableSetWait,
    WaitableSetPoll,
    WaitableSetDrop,
    WaitableJoin,
    SubtaskCancel,
    SubtaskDrop,
    New(Kind),
    Read(Kind),
    Write(Kind),
    CancelRead(Kind),
    CancelWrite(Kind),
    DropReadable(Kind),
    DropWritable(Kind),
}

impl<T: Host> Function<T> {
    fn built_in(
        built_in: BuiltIn,
        payload: &'static str,
        is: fn(&WitTypes<'_>, Option<ComponentValType>) -> bool,
        allocates: bool,
        define: Define<T>,
    ) -> Self {
        Self::from_parts(FunctionKind::BuiltIn { built_in, payload, is }, allocates, define)
    }

    /// A built-in function that has no type parameter.
    fn untyped(
        built_in: BuiltIn,
        define: impl for<'l> Fn(&'l mut Linker<T>, &str, &str) -> wasmtime::Result<&'l mut Linker<T>> + 'static,
    ) -> Self {
        let allocates =
            matches!(built_in, BuiltIn::WaitableSetWait | BuiltIn::WaitableSetPoll | BuiltIn::SubtaskCancel);
        let define: Define<T> = Box::new(move |linker, module, name| define(linker, module, name).map(drop));
        Self::built_in(built_in, "", |_, ty| ty.is_none(), allocates, define)
    }
}

/// The guest's memory and the host, after a check that the guest may call the host now.
fn enter<'a, T: Host>(caller: &'a mut Caller<'_, T>) -> wasmtime::Result<(&'a mut [u8], &'a mut T)> {
    let (memory, host) = parts(caller);
    host.guest().ensure_may_call()?;
    Ok((memory, host))
}

/// `task.return`: the handler's task returns its result.
pub(crate) fn task_return<T, R>(then: fn(&mut T, R) -> wasmtime::Result<()>) -> Function<T>
where
    T: Host,
    R: Lift + Send,
{
    let returned = move |host: &mut T, (result,): (R,)| {
        let concurrent = &mut host.guest().concurrent;
        if std::mem::replace(&mut concurrent.has_returned, true) {
            bail!(Trap::TaskCancelOrReturnTwice);
        }
        then(host, result)
    };
    Function::built_in(BuiltIn::TaskReturn, "", R::is_payload, false, Function::define_sync(returned))
}

/// The built-in functions of tasks, waitable sets and subtasks.
pub(crate) fn of_tasks<T: Host>() -> Vec<Function<T>> {
    let mut functions = vec![
        Function::untyped(BuiltIn::TaskCancel, |linker, module, name| {
            linker.func_wrap(module, name, |_: Caller<'_, T>| -> wasmtime::Result<()> {
                // The host never requests cancellation of a handler.
                bail!(Trap::TaskCancelNotCancelled)
            })
        }),
        Function::untyped(BuiltIn::BackpressureInc, |linker, module, name| {
            linker.func_wrap(module, name, |caller: Caller<'_, T>| backpressure(caller, |count| count.checked_add(1)))
        }),
        Function::untyped(BuiltIn::BackpressureDec, |linker, module, name| {
            linker.func_wrap(module, name, |caller: Caller<'_, T>| backpressure(caller, |count| count.checked_sub(1)))
        }),
        Function::untyped(BuiltIn::ThreadYield, |linker, module, name| {
            linker.func_wrap_async(module, name, |mut caller: Caller<'_, T>, (): ()| {
                Box::new(async move {
                    enter(&mut caller)?;
                    wait::yield_now(&mut caller).await?;
                    // The task was not cancelled.
                    Ok(0_u32)
                })
            })
        }),
    ];
    functions.extend([0, 1].into_iter().flat_map(context));
    functions.extend(of_sets());
    functions.extend(of_subtasks());
    functions
}

/// `backpressure.inc` and `backpressure.dec`. The count has no effect: an instance gets one call only. Both may
/// be called during `realloc`.
fn backpressure<T: Host>(mut caller: Caller<'_, T>, change: fn(u16) -> Option<u16>) -> wasmtime::Result<()> {
    let count = &mut caller.data_mut().guest().concurrent.backpressure;
    *count = change(*count).ok_or(Trap::BackpressureOverflow)?;
    Ok(())
}

fn context<T: Host>(slot: u32) -> [Function<T>; 2] {
    let at = slot as usize;
    [
        Function::untyped(BuiltIn::ContextGet(slot), move |linker, module, name| {
            linker.func_wrap(module, name, move |mut caller: Caller<'_, T>| {
                caller.data_mut().guest().context().get(at).copied().unwrap_or_default()
            })
        }),
        Function::untyped(BuiltIn::ContextSet(slot), move |linker, module, name| {
            linker.func_wrap(module, name, move |mut caller: Caller<'_, T>, value: u32| {
                if let Some(slot) = caller.data_mut().guest().context().get_mut(at) {
                    *slot = value;
                }
            })
        }),
    ]
}

fn of_sets<T: Host>() -> [Function<T>; 5] {
    [
        Function::untyped(BuiltIn::WaitableSetNew, |linker, module, name| {
            linker
                .func_wrap(module, name, |mut caller: Caller<'_, T>| enter(&mut caller)?.1.guest().handles.insert_set())
        }),
        Function::untyped(BuiltIn::WaitableSetDrop, |linker, module, name| {
            linker.func_wrap(module, name, |mut caller: Caller<'_, T>, set: u32| {
                enter(&mut caller)?.1.guest().handles.remove_set(set)
            })
        }),
        Function::untyped(BuiltIn::WaitableJoin, |linker, module, name| {
            linker.func_wrap(module, name, |mut caller: Caller<'_, T>, waitable: u32, set: u32| {
                enter(&mut caller)?.1.guest().handles.join(waitable, set)
            })
        }),
        Function::untyped(BuiltIn::WaitableSetWait, |linker, module, name| {
            linker.func_wrap_async(module, name, |mut caller: Caller<'_, T>, (set, to): (u32, u32)| {
                Box::new(async move {
                    enter(&mut caller)?;
                    let event = wait::next_event(&mut caller, set).await?;
                    tell(caller, event, to)
                })
            })
        }),
        Function::untyped(BuiltIn::WaitableSetPoll, |linker, module, name| {
            linker.func_wrap(module, name, |mut caller: Caller<'_, T>, set: u32, to: u32| {
                enter(&mut caller)?;
                let event = wait::event_now(&mut caller, set)?;
                tell(caller, event, to)
            })
        }),
    ]
}

/// Writes an event's payload (waitable and status) to `to`, and returns its code.
fn tell<T: Host>(mut caller: Caller<'_, T>, event: wait::Event, to: u32) -> wasmtime::Result<u32> {
    let (memory, _) = parts(&mut caller);
    ensure!(to.is_multiple_of(4), "pointer not aligned");
    write(memory, to, &event.waitable.to_le_bytes())?;
    write(memory, to.saturating_add(4), &event.status.to_le_bytes())?;
    Ok(event.code)
}

fn of_subtasks<T: Host>() -> [Function<T>; 2] {
    [
        Function::untyped(BuiltIn::SubtaskDrop, |linker, module, name| {
            linker.func_wrap(module, name, |mut caller: Caller<'_, T>, handle: u32| {
                let guest = enter(&mut caller)?.1.guest();
                let number = guest.handles.subtask(handle)?;
                let subtasks = &mut guest.concurrent.subtasks;
                let is_over = |subtask: &super::Subtask<T>| subtask.running.is_none() && subtask.event.is_none();
                if !subtasks.get(number).is_some_and(is_over) {
                    bail!(Trap::SubtaskDropNotResolved);
                }
                subtasks.try_remove(number);
                guest.handles.remove_waitable(handle)?;
                Ok(())
            })
        }),
        Function::untyped(BuiltIn::SubtaskCancel, |linker, module, name| {
            linker.func_wrap(module, name, |mut caller: Caller<'_, T>, handle: u32| {
                let host = enter(&mut caller)?.1;
                let guest = host.guest();
                let number = guest.handles.subtask(handle)?;
                guest.handles.ensure_in_no_set(Waitable::Subtask(number), handle)?;
                if let Some(status) = guest.subtask_status(number) {
                    return Ok(status);
                }
                let subtask = guest.concurrent.subtasks.get_mut(number);
                match subtask.and_then(|subtask| subtask.running.take().map(|_cancelled| subtask.lent)) {
                    Some(lent) => {
                        guest.handles.take_back(lent);
                        host.guest_waits();
                        Ok(Status::Cancelled as u32)
                    }
                    None => bail!(Trap::SubtaskCancelAfterTerminal),
                }
            })
        }),
    ]
}

/// The built-in functions of byte streams.
pub(crate) fn of_streams<T: Host>() -> Vec<Function<T>> {
    of_channels(byte_stream(), "u8", u8::is_payload, false)
}

/// The built-in functions of futures of one type. `name` tells them apart from those of other types.
pub(crate) fn of_futures<T: Host, V: Wit>(name: &'static str) -> Vec<Function<T>> {
    of_channels(Payload::of::<V>(Kind::Future), name, V::is_payload, V::HAS_LISTS)
}

fn of_channels<T: Host>(
    of: Payload,
    payload: &'static str,
    is: fn(&WitTypes<'_>, Option<ComponentValType>) -> bool,
    has_lists: bool,
) -> Vec<Function<T>> {
    let built_in = |which: fn(Kind) -> BuiltIn, allocates, define| {
        Function::built_in(which(of.kind), payload, is, allocates, define)
    };
    let copying = |which: fn(Kind) -> BuiltIn, end, allocates| {
        let define: Define<T> = match of.kind {
            Kind::Stream => Box::new(move |linker, module, name| {
                let call = move |mut caller: Caller<'_, T>, handle: u32, address: u32, count: u32| {
                    copy(&mut caller, of, end, handle, (address, count), false)
                };
                linker.func_wrap(module, name, call).map(drop)
            }),
            Kind::Future => Box::new(move |linker, module, name| {
                let call = move |mut caller: Caller<'_, T>, handle: u32, address: u32| {
                    copy(&mut caller, of, end, handle, (address, 1), allocates)
                };
                linker.func_wrap(module, name, call).map(drop)
            }),
        };
        built_in(which, allocates, define)
    };
    let cancelling = |which: fn(Kind) -> BuiltIn, end, allocates| {
        built_in(
            which,
            allocates,
            Box::new(move |linker: &mut Linker<T>, module: &str, name: &str| {
                let call = move |mut caller: Caller<'_, T>, handle: u32| cancel(&mut caller, of, end, handle);
                linker.func_wrap(module, name, call).map(drop)
            }),
        )
    };
    let dropping = |which: fn(Kind) -> BuiltIn, end| {
        built_in(
            which,
            false,
            Box::new(move |linker: &mut Linker<T>, module: &str, name: &str| {
                let call = move |mut caller: Caller<'_, T>, handle: u32| drop_end(&mut caller, of, end, handle);
                linker.func_wrap(module, name, call).map(drop)
            }),
        )
    };
    let new = built_in(
        BuiltIn::New,
        false,
        Box::new(move |linker: &mut Linker<T>, module: &str, name: &str| {
            linker.func_wrap(module, name, move |mut caller: Caller<'_, T>| new(&mut caller, of)).map(drop)
        }),
    );
    vec![
        new,
        copying(BuiltIn::Read, End::Reader, has_lists),
        copying(BuiltIn::Write, End::Writer, false),
        cancelling(BuiltIn::CancelRead, End::Reader, has_lists),
        cancelling(BuiltIn::CancelWrite, End::Writer, false),
        dropping(BuiltIn::DropReadable, End::Reader),
        dropping(BuiltIn::DropWritable, End::Writer),
    ]
}

/// `stream.new` and `future.new`: the handle of the readable end in the lower 32 bits, of the writable one in the
/// upper.
fn new<T: Host>(caller: &mut Caller<'_, T>, of: Payload) -> wasmtime::Result<u64> {
    let (_, host) = enter(caller)?;
    host.charge(CHANNEL_BYTES)?;
    let guest = host.guest();
    let number = guest.concurrent.insert(Channel::new(of, Owner::Guest, Owner::Guest), HostEnd::Nothing);
    let reader = guest.handles.insert_waitable(Waitable::End(End::Reader, number))?;
    let writer = guest.handles.insert_waitable(Waitable::End(End::Writer, number))?;
    Ok(u64::from(writer) << 32 | u64::from(reader))
}

/// Reads or writes: the result code, or [`BLOCKED`] if the operation completes later with an event. `waits` says that a
/// guest in a component waits for this operation in any case, as for each value of the host's that may need memory.
fn copy<T: Host>(
    caller: &mut Caller<'_, T>,
    of: Payload,
    end: End,
    handle: u32,
    (address, count): (u32, u32),
    waits: bool,
) -> wasmtime::Result<u32> {
    let (memory, host) = enter(caller)?;
    let (guest, memory_bytes) = (host.guest(), memory.len());
    let (via, number) = guest.handles.end(handle)?;
    let buffer = Buffer { address, count, via };
    if let Some(result) = guest.concurrent.channels.of(number, of)?.begin(end, buffer, memory_bytes)? {
        return Ok(result as u32);
    }
    // The guest does not wait for this operation, so no waker is needed: a later wait polls again.
    advance(host, memory, &mut Context::from_waker(Waker::noop()), number)?;
    let outcome = host.guest().concurrent.channels.of(number, of)?.begun(end, via);
    if waits && outcome.is_some() {
        host.guest_waits();
    }
    Ok(outcome.map_or(BLOCKED, |outcome| host.guest().event_code(outcome)))
}

/// Cancels an operation. The host's end is polled once more first, so that the operation may still complete.
fn cancel<T: Host>(caller: &mut Caller<'_, T>, of: Payload, end: End, handle: u32) -> wasmtime::Result<u32> {
    let (memory, host) = enter(caller)?;
    let guest = host.guest();
    let (via, number) = guest.handles.end(handle)?;
    let channel = guest.concurrent.channels.of(number, of)?;
    channel.ensure_busy(via)?;
    ensure!(via == end || channel.side(end).owner != Owner::Host, "an operation of the host is not cancelled");
    guest.handles.ensure_in_no_set(Waitable::End(end, number), handle)?;
    let mut outcome = channel.cancel(end)?;
    if outcome.is_none() && channel.side(end).pending.is_some() {
        if channel.side(end.other()).owner == Owner::Host {
            host.guest_waits();
        }
        advance(host, memory, &mut Context::from_waker(Waker::noop()), number)?;
        outcome = host.guest().concurrent.channels.of(number, of)?.deliver(end)?;
    }
    let guest = host.guest();
    guest.concurrent.channels.of(number, of)?.cancelled(end, via);
    Ok(guest.event_code(outcome.unwrap_or(CopyOutcome::CANCELLED)))
}

fn drop_end<T: Host>(caller: &mut Caller<'_, T>, of: Payload, end: End, handle: u32) -> wasmtime::Result<()> {
    let (_, host) = enter(caller)?;
    let guest = host.guest();
    let (via, number) = guest.handles.end(handle)?;
    let channel = guest.concurrent.channels.of(number, of)?;
    channel.drop_end(end, via)?;
    let other = channel.side(end.other()).owner;
    guest.handles.remove_waitable(handle)?;
    let concurrent = &mut guest.concurrent;
    match (other, concurrent.take(number)) {
        (Owner::Guest, _) => {}
        // The host attaches its end later.
        (Owner::Host, HostEnd::Nothing) if end == End::Writer && of.kind == Kind::Stream => {}
        (_, HostEnd::Sink(sink)) => {
            concurrent.remove(number);
            sink.end(host);
        }
        _ => drop(concurrent.remove(number)),
    }
    Ok(())
}
