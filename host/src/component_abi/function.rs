//! Host functions that core modules import.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::pin::Pin;

use wasmparser::component_types::{ComponentFuncType, ComponentValType};
use wasmparser::names::KebabString;
use wasmtime::component::Resource;
use wasmtime::{Caller, Engine, FuncType, Linker, Val, ValRaw, ensure};

use super::Flat::{I32, I64};
use super::concurrent::BuiltIn;
use super::guest::{Host, Pending, parts, target};
use super::lower::{Lowered, MAX_RESULT_BYTES};
use super::names::{BUILT_IN, P2, async_name, drop_name};
use super::{Flat, FlatValues, HostResource, Lift, Lifting, Lower, Wit, WitTypes, align_to, max};

/// Parameters that are passed as core values. With more, they would be passed in memory.
pub(super) const MAX_FLAT_PARAMS: usize = 16;

/// Parameters of a function.
pub(crate) trait Params: Sized + Send + 'static {
    const FLAT: usize;
    const HAS_LISTS: bool;
    /// Size and alignment where they are passed in memory, in bytes.
    const SIZE: usize;
    const ALIGN: usize;
    fn flatten(flat: &mut Vec<Flat>);
    fn are(types: &WitTypes<'_>, params: &[(KebabString, ComponentValType)]) -> bool;
    fn lift(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self>;
    /// Lifts them from `SIZE` bytes of memory.
    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self>;
}

macro_rules! params {
    ($($param:ident $ty:ident)*) => {
        impl<$($param: Lift + Send),*> Params for ($($param,)*) {
            const FLAT: usize = 0 $(+ $param::FLAT)*;
            const HAS_LISTS: bool = false $(|| $param::HAS_LISTS)*;
            const ALIGN: usize = max(&[1 $(, $param::ALIGN)*]);
            const SIZE: usize = {
                let end = 0;
                $(let end = align_to(end, $param::ALIGN) + $param::SIZE;)*
                align_to(end, <Self as Params>::ALIGN)
            };

            fn flatten(_flat: &mut Vec<Flat>) {
                $($param::flatten(_flat);)*
            }

            fn are(_types: &WitTypes<'_>, params: &[(KebabString, ComponentValType)]) -> bool {
                matches!(params, [$((_, $ty)),*] if true $(&& $param::is(_types, *$ty))*)
            }

            fn lift(_cx: &mut Lifting<'_>, _flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
                Ok(($($param::from_flat(_cx, _flat)?,)*))
            }

            fn load(_cx: &mut Lifting<'_>, _bytes: &[u8]) -> wasmtime::Result<Self> {
                let _end = 0;
                $(
                    let start = align_to(_end, $param::ALIGN);
                    let _end = start + $param::SIZE;
                    let $ty = $param::load(_cx, _bytes.get(start.._end).unwrap_or_default())?;
                )*
                Ok(($($ty,)*))
            }
        }
    };
}

params!();
params!(A a);
params!(A a B b);
params!(A a B b C c);
params!(A a B b C c D d);

/// The future that an asynchronous host function returns.
pub(crate) type BoxFuture<'a, R> = Pin<Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>>;

/// A host function that core modules can import.
pub(crate) struct Function<T> {
    what: FunctionKind,
    /// Whether [`NEXT_ALLOCATION`](super::NEXT_ALLOCATION) must be called after it.
    pub(crate) allocates: bool,
    define: Define<T>,
}

/// What a function is at the level of components: an import or a built-in.
pub(super) enum FunctionKind {
    Import {
        /// The interface, without its version.
        interface: &'static str,
        /// The release of WASI: `0.2` or `0.3`. The exact version for an interface of a draft.
        release: &'static str,
        /// Mangled as in the component model: `[method]fields.append`.
        name: Cow<'static, str>,
        /// Whether its WIT type is `async`.
        can_wait: bool,
        /// Whether this is its async-lowered form, whose call returns at once.
        is_async: bool,
        is: fn(&WitTypes<'_>, &ComponentFuncType) -> bool,
    },
    BuiltIn {
        built_in: BuiltIn,
        /// Tells apart the functions of one built-in for different payload types.
        payload: &'static str,
        is: fn(&WitTypes<'_>, Option<ComponentValType>) -> bool,
    },
}

/// Adds a function to a linker, under these names of module and function.
pub(super) type Define<T> = Box<dyn Fn(&mut Linker<T>, &str, &str) -> wasmtime::Result<()>>;

impl<T> Function<T> {
    pub(super) fn from_parts(what: FunctionKind, allocates: bool, define: Define<T>) -> Self {
        Self { what, allocates, define }
    }

    /// The same function, of this release or draft.
    pub(crate) fn of_release(mut self, of: &'static str) -> Self {
        if let FunctionKind::Import { release, .. } = &mut self.what {
            *release = of;
        }
        self
    }

    /// The module and the name under which core modules import it.
    pub(crate) fn import(&self) -> (String, String) {
        match &self.what {
            FunctionKind::Import { interface, release, name, is_async, .. } => {
                (format!("{interface}@{release}"), if *is_async { async_name(name) } else { name.to_string() })
            }
            FunctionKind::BuiltIn { built_in, payload, .. } => {
                (BUILT_IN.to_owned(), format!("{built_in:?} {payload}").trim_end().to_owned())
            }
        }
    }

    /// Whether it is an asynchronous function, or a built-in for concurrency.
    pub(crate) fn is_concurrent(&self) -> bool {
        match &self.what {
            FunctionKind::Import { can_wait, .. } => *can_wait,
            FunctionKind::BuiltIn { .. } => true,
        }
    }

    /// Whether it is an import of this type.
    pub(crate) fn is(&self, types: &WitTypes<'_>, ty: &ComponentFuncType) -> bool {
        matches!(&self.what, FunctionKind::Import { is, .. } if is(types, ty))
    }

    /// Whether it is this built-in, for that payload type.
    pub(crate) fn is_built_in(&self, types: &WitTypes<'_>, of: BuiltIn, payload: Option<ComponentValType>) -> bool {
        matches!(&self.what, FunctionKind::BuiltIn { built_in, is, .. } if *built_in == of && is(types, payload))
    }

    /// Adds the function to a linker.
    pub(crate) fn define(&self, linker: &mut Linker<T>) -> wasmtime::Result<()> {
        let (module, name) = self.import();
        (self.define)(linker, &module, &name)
    }
}

impl<T: Host> Function<T> {
    /// A synchronous function.
    pub(crate) fn new<P, R, F>(interface: &'static str, name: impl Into<Cow<'static, str>>, function: F) -> Self
    where
        P: Params,
        R: Lower,
        F: Fn(&mut T, P) -> wasmtime::Result<R> + Copy + Send + Sync + 'static,
    {
        Self::from_parts(import::<P, R>(interface, name.into()), R::HAS_LISTS, Self::define_sync(function))
    }

    /// The [`Define`] of a synchronous function.
    pub(super) fn define_sync<P, R, F>(function: F) -> Define<T>
    where
        P: Params,
        R: Lower,
        F: Fn(&mut T, P) -> wasmtime::Result<R> + Copy + Send + Sync + 'static,
    {
        Box::new(move |linker: &mut Linker<T>, module: &str, name: &str| {
            let call = move |mut caller: Caller<'_, T>, values: &mut [MaybeUninit<ValRaw>]| {
                let params = initialized(values, const { flat_params::<P, R>() });
                let (params, to) = lift::<T, P>(&mut caller, params)?;
                let result = function(caller.data_mut(), params)?;
                if let (Some(result), Some(value)) = (lower(&mut caller, result, to)?, values.first_mut()) {
                    value.write(result);
                }
                Ok(())
            };
            let ty = func_type::<P, R>(linker.engine());
            #[expect(unsafe_code, reason = "generic in the function's type, which `Linker::func_wrap` is not")]
            // SAFETY: `call` reads as many values as the type has parameters, and writes its result, if it has one. All
            // of them are numbers.
            unsafe {
                linker.func_new_unchecked(module, name, ty, call)?;
            }
            Ok(())
        })
    }

    /// A function that may block the guest.
    pub(crate) fn new_async<P, R, F>(interface: &'static str, name: impl Into<Cow<'static, str>>, function: F) -> Self
    where
        P: Params,
        R: Lower + Send,
        F: for<'a> Fn(&'a mut T, P) -> BoxFuture<'a, R> + Copy + Send + Sync + 'static,
    {
        let define = move |linker: &mut Linker<T>, module: &str, name: &str| {
            // The most common signatures, which `func_wrap_async` supports without a dynamic function type.
            macro_rules! wrap {
                ($($value:ident: $ty:ty),+) => {
                    linker.func_wrap_async(module, name, move |caller, ($($value,)+): ($($ty,)+)| {
                        Box::new(async move {
                            let values = [$(raw(&Val::from($value)),)+];
                            call_async(caller, &values, function).await.map(drop)
                        })
                    })
                };
            }
            let (params, results) = core_type::<P, R>();
            match (&*params, &*results) {
                ([I32], []) => wrap!(a: i32),
                ([I32, I32, I32], []) => wrap!(a: i32, b: i32, c: i32),
                ([I32, I64, I32], []) => wrap!(a: i32, b: i64, c: i32),
                ([I32, I32, I32, I32], []) => wrap!(a: i32, b: i32, c: i32, d: i32),
                _ => {
                    let ty = func_type::<P, R>(linker.engine());
                    let is_i64 = results == [I64];
                    linker.func_new_async(module, name, ty, move |caller, params, results| {
                        Box::new(async move {
                            let values: Vec<ValRaw> = params.iter().map(raw).collect();
                            let result = call_async(caller, &values, function).await?;
                            if let (Some(result), Some(value)) = (result, results.first_mut()) {
                                *value = if is_i64 { Val::I64(result.get_i64()) } else { Val::I32(result.get_i32()) };
                            }
                            Ok(())
                        })
                    })
                }
            }?;
            Ok(())
        };
        Self::from_parts(import::<P, R>(interface, name.into()), R::HAS_LISTS, Box::new(define))
    }
}

impl<T: Host> Function<T> {
    /// The destructor of a resource, which runs when the guest drops its owned handle.
    pub(crate) fn new_drop<R, F>(function: F) -> Self
    where
        R: HostResource,
        F: Fn(&mut T, Resource<R>) -> wasmtime::Result<()> + Copy + Send + Sync + 'static,
    {
        Self::new(R::INTERFACE, drop_name(R::NAME), move |host: &mut T, (resource,): (Resource<R>,)| {
            function(host, resource)
        })
    }

    /// The same for a destructor that may block the guest.
    pub(crate) fn new_async_drop<R, F>(function: F) -> Self
    where
        R: HostResource,
        F: for<'a> Fn(&'a mut T, Resource<R>) -> BoxFuture<'a, ()> + Copy + Send + Sync + 'static,
    {
        Self::new_async(R::INTERFACE, drop_name(R::NAME), move |host: &mut T, (resource,): (Resource<R>,)| {
            function(host, resource)
        })
    }
}

/// An import whose WIT type is not `async`.
fn import<P: Params, R: Wit>(interface: &'static str, name: Cow<'static, str>) -> FunctionKind {
    FunctionKind::Import { interface, release: P2, name, can_wait: false, is_async: false, is: is::<P, R> }
}

/// Whether a function's WIT type is not `async`, and has these parameter and result types.
pub(crate) fn is<P: Params, R: Wit>(types: &WitTypes<'_>, ty: &ComponentFuncType) -> bool {
    !ty.async_ && P::are(types, &ty.params) && R::is_payload(types, ty.result)
}

/// The same for one whose WIT type is `async`.
pub(crate) fn is_async<P: Params, R: Wit>(types: &WitTypes<'_>, ty: &ComponentFuncType) -> bool {
    ty.async_ && P::are(types, &ty.params) && R::is_payload(types, ty.result)
}

/// A result of more than one core value is written to the address in the last parameter.
const fn is_in_memory<R: Wit>() -> bool {
    R::FLAT > 1
}

const fn flat_params<P: Params, R: Wit>() -> usize {
    assert!(P::FLAT <= MAX_FLAT_PARAMS && R::SIZE <= MAX_RESULT_BYTES, "a function that there is no room for here");
    P::FLAT + is_in_memory::<R>() as usize
}

/// The core types of the parameters and of the results.
fn core_type<P: Params, R: Wit>() -> (Vec<Flat>, Vec<Flat>) {
    let (mut params, mut results) = (Vec::new(), Vec::new());
    P::flatten(&mut params);
    if is_in_memory::<R>() {
        params.push(I32);
    } else {
        R::flatten(&mut results);
    }
    (params, results)
}

fn func_type<P: Params, R: Wit>(engine: &Engine) -> FuncType {
    let (params, results) = core_type::<P, R>();
    FuncType::new(engine, params.into_iter().map(Flat::value_type), results.into_iter().map(Flat::value_type))
}

pub(super) fn raw(value: &Val) -> ValRaw {
    match value {
        Val::I64(value) => ValRaw::i64(*value),
        other => ValRaw::i32(other.i32().unwrap_or_default()),
    }
}

async fn call_async<T, P, R, F>(
    mut caller: Caller<'_, T>,
    values: &[ValRaw],
    function: F,
) -> wasmtime::Result<Option<ValRaw>>
where
    T: Host,
    P: Params,
    R: Lower + Send,
    F: for<'a> Fn(&'a mut T, P) -> BoxFuture<'a, R> + Copy + Send + Sync + 'static,
{
    let values = values.get(..const { flat_params::<P, R>() }).unwrap_or_default();
    let (params, to) = lift::<T, P>(&mut caller, values)?;
    let result = function(caller.data_mut(), params).await?;
    lower(&mut caller, result, to)
}

/// The first `count` values, which are the parameters.
pub(super) fn initialized(values: &[MaybeUninit<ValRaw>], count: usize) -> &[ValRaw] {
    let params = values.get(..count).unwrap_or_default();
    #[expect(unsafe_code, reason = "`assume_init_ref` of a slice is")]
    // SAFETY: wasmtime has written as many values as the function has parameters.
    unsafe {
        params.assume_init_ref()
    }
}

/// Lifts the parameters. Also returns the address for the result, which is 0 if the result is returned as a core value.
pub(super) fn lift<T: Host, P: Params>(caller: &mut Caller<'_, T>, values: &[ValRaw]) -> wasmtime::Result<(P, u32)> {
    let (memory, guest) = if P::HAS_LISTS {
        let (memory, host) = parts(caller);
        (memory, host.guest())
    } else {
        (Default::default(), caller.data_mut().guest())
    };
    guest.ensure_may_call()?;
    let mut flat = FlatValues::new(values);
    let params = P::lift(&mut guest.lifting(memory), &mut flat)?;
    // The address is the last core value, after the parameters.
    Ok((params, values.get(P::FLAT).map_or(0, ValRaw::get_u32)))
}

/// Lowers a result: returns it as a core value, writes it to memory, or keeps it pending until its lists are allocated.
fn lower<T: Host, R: Lower>(caller: &mut Caller<'_, T>, result: R, to: u32) -> wasmtime::Result<Option<ValRaw>> {
    if is_in_memory::<R>() {
        ensure!((to as usize).is_multiple_of(R::ALIGN), "pointer not aligned");
        let (memory, host) = parts(caller);
        host.guest().write_result(result, target(memory, to, R::SIZE)?, to)?;
        return Ok(None);
    }
    let lowered = caller.data_mut().guest().lowered(result)?;
    // A result that is not in memory is at most one core value.
    let value = lowered.value.first_chunk().copied().map_or(0, u64::from_le_bytes);
    Ok((R::FLAT == 1).then_some(ValRaw::u64(value)))
}

/// Writes a result to memory, or keeps it pending until its lists are allocated.
pub(super) fn write_result<T: Host, R: Wit>(
    caller: &mut Caller<'_, T>,
    lowered: Lowered,
    to: u32,
) -> wasmtime::Result<()> {
    ensure!((to as usize).is_multiple_of(R::ALIGN), "pointer not aligned");
    let (memory, host) = parts(caller);
    host.guest().pending = Pending::unless_written(lowered, to, R::SIZE, memory)?;
    Ok(())
}
