//! Asynchronous host functions: the guest starts a call, and runs on while the call is in progress.

use std::mem::MaybeUninit;
use std::task::{Context, Poll, Waker};

use wasmtime::{Caller, Engine, FuncType, Linker, ValRaw, ValType, bail, ensure};

use super::{Later, SUBTASK_BYTES, Status, Subtask, wait};
use crate::component_abi::function::{self, Function, FunctionKind, Params, initialized, lift, raw, write_result};
use crate::component_abi::guest::{Host, parts};
use crate::component_abi::handles::Waitable;
use crate::component_abi::lower::MAX_RESULT_BYTES;
use crate::component_abi::names::P3;
use crate::component_abi::{Flat, Wit};

/// Parameters that an async-lowered import takes as core values. With more, they are passed in memory.
const MAX_FLAT_PARAMS: usize = 4;

impl<T: Host> Function<T> {
    /// An asynchronous function in both of its forms: async-lowered (the call returns at once) and sync-lowered (it
    /// blocks).
    pub(crate) fn new_concurrent<P, R, F>(interface: &'static str, name: &'static str, function: F) -> [Self; 2]
    where
        P: Params,
        R: Wit,
        F: Fn(&mut T, P) -> wasmtime::Result<Later<T>> + Copy + Send + Sync + 'static,
    {
        const {
            assert!(
                P::FLAT <= function::MAX_FLAT_PARAMS && R::FLAT != 1 && R::SIZE <= MAX_RESULT_BYTES,
                "a function that there is no room for here"
            )
        };
        let begin = move |linker: &mut Linker<T>, module: &str, name: &str| {
            let call = move |mut caller: Caller<'_, T>, values: &mut [MaybeUninit<ValRaw>]| {
                let params = initialized(values, const { begin_params::<P>() + has_result::<R>() });
                let status = begin::<T, P, R>(&mut caller, params, function)?;
                if let Some(value) = values.first_mut() {
                    value.write(ValRaw::u32(status));
                }
                Ok(())
            };
            let ty = begin_type::<P, R>(linker.engine());
            #[expect(unsafe_code, reason = "generic in the function's type, which `Linker::func_wrap` is not")]
            // SAFETY: `call` reads as many values as the type has parameters, and writes its result. All of them are
            // numbers.
            unsafe {
                linker.func_new_unchecked(module, name, ty, call)?;
            }
            Ok(())
        };
        let wait = move |linker: &mut Linker<T>, module: &str, name: &str| {
            let ty = wait_type::<P, R>(linker.engine());
            linker.func_new_async(module, name, ty, move |caller, params, _| {
                let values: Vec<ValRaw> = params.iter().map(raw).collect();
                Box::new(async move { call::<T, P, R>(caller, &values, function).await })
            })?;
            Ok(())
        };
        [
            Self::from_parts(import::<P, R>(interface, name, true), R::HAS_LISTS, Box::new(begin)),
            Self::from_parts(import::<P, R>(interface, name, false), R::HAS_LISTS, Box::new(wait)),
        ]
    }
}

fn import<P: Params, R: Wit>(interface: &'static str, name: &'static str, is_async: bool) -> FunctionKind {
    FunctionKind::Import {
        interface,
        release: P3,
        name: name.into(),
        can_wait: true,
        is_async,
        is: function::is_async::<P, R>,
    }
}

const fn has_result<R: Wit>() -> usize {
    (R::FLAT > 0) as usize
}

/// Whether an async-lowered import takes the address of its parameters.
const fn is_in_memory<P: Params>() -> bool {
    P::FLAT > MAX_FLAT_PARAMS
}

/// The core values that an async-lowered import takes its parameters as.
const fn begin_params<P: Params>() -> usize {
    if is_in_memory::<P>() { 1 } else { P::FLAT }
}

/// The core function type of the async-lowered form: the parameters, then the address of the result, if there is one.
fn begin_type<P: Params, R: Wit>(engine: &Engine) -> FuncType {
    let mut params = Vec::new();
    if is_in_memory::<P>() {
        params.push(Flat::I32);
    } else {
        P::flatten(&mut params);
    }
    func_type::<R>(engine, params, Some(ValType::I32))
}

/// That of the sync-lowered form.
fn wait_type<P: Params, R: Wit>(engine: &Engine) -> FuncType {
    let mut params = Vec::new();
    P::flatten(&mut params);
    func_type::<R>(engine, params, None)
}

fn func_type<R: Wit>(engine: &Engine, mut params: Vec<Flat>, result: Option<ValType>) -> FuncType {
    params.extend((R::FLAT > 0).then_some(Flat::I32));
    FuncType::new(engine, params.into_iter().map(Flat::value_type), result)
}

/// Lifts the parameters of an async-lowered call. Also returns the address for the result.
fn lift_params<T: Host, P: Params>(caller: &mut Caller<'_, T>, values: &[ValRaw]) -> wasmtime::Result<(P, u32)> {
    if !is_in_memory::<P>() {
        return lift(caller, values);
    }
    let at = values.first().map_or(0, ValRaw::get_u32);
    let (memory, host) = parts(caller);
    let guest = host.guest();
    guest.ensure_may_call()?;
    ensure!((at as usize).is_multiple_of(P::ALIGN), "pointer not aligned");
    let bytes = (at as usize).checked_add(P::SIZE).and_then(|end| memory.get(at as usize..end));
    let Some(bytes) = bytes else { bail!("pointer out of bounds of memory") };
    let params = P::load(&mut guest.lifting(memory), bytes)?;
    Ok((params, values.get(1).map_or(0, ValRaw::get_u32)))
}

/// Starts an async-lowered call. Returns its status, and the handle of its subtask if it has not returned yet.
fn begin<T: Host, P: Params, R: Wit>(
    caller: &mut Caller<'_, T>,
    values: &[ValRaw],
    function: impl Fn(&mut T, P) -> wasmtime::Result<Later<T>>,
) -> wasmtime::Result<u32> {
    caller.data_mut().guest().handles.begin_call();
    let (params, to) = lift_params::<T, P>(caller, values)?;
    ensure!((to as usize).is_multiple_of(R::ALIGN), "pointer not aligned");
    let is_within = R::FLAT == 0 || (to as usize).saturating_add(R::SIZE) <= parts(caller).0.len();
    ensure!(is_within, "pointer out of bounds of memory");
    let mut running = function(caller.data_mut(), params)?;
    // The guest does not wait for this call, so no waker is needed: a later wait polls again.
    if let Poll::Ready(value) = running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        let lowered = value.lower(caller.data_mut())?;
        write_result::<T, R>(caller, lowered, to)?;
        return Ok(Status::Returned as u32);
    }
    caller.data_mut().charge(SUBTASK_BYTES)?;
    let guest = caller.data_mut().guest();
    let lent = guest.handles.lend();
    let subtask = Subtask { running: Some(running), to, size: R::SIZE, lent, event: None };
    let number = guest.concurrent.subtasks.insert(subtask);
    let handle = guest.handles.insert_waitable(Waitable::Subtask(number))?;
    Ok(handle << 4 | Status::Started as u32)
}

/// A sync-lowered call, until its result is written.
async fn call<T: Host, P: Params, R: Wit>(
    mut caller: Caller<'_, T>,
    values: &[ValRaw],
    function: impl Fn(&mut T, P) -> wasmtime::Result<Later<T>>,
) -> wasmtime::Result<()> {
    let (params, to) = lift::<T, P>(&mut caller, values)?;
    let mut running = function(caller.data_mut(), params)?;
    let value = wait::meanwhile(&mut caller, |cx| running.as_mut().poll(cx)).await?;
    let lowered = value.lower(caller.data_mut())?;
    write_result::<T, R>(&mut caller, lowered, to)
}
