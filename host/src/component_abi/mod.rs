//! The canonical ABI: how values of WIT types are passed between a core module and the host.
//!
//! wasmtime implements the ABI for all components. This module implements it for those that
//! [`engine::direct`](crate::engine) links without wasmtime's component runtime, as far as the WASI interfaces that
//! such components import need it: 32-bit memories and UTF-8; no floats, chars or flags. Concurrency is in
//! [`concurrent`]. The source is the Component Model's `CanonicalABI.md`, whose terms are used (lift: from the guest;
//! lower: to the guest).
//!
//! This code cannot access anything beyond a guest's memory, which is a slice whose bounds are checked at each access.

/// For the `impl` of [`Wit`] for a type with the layout of another: everything except `is`.
macro_rules! in_the_form_of {
    ($other:ty) => {
        const SIZE: usize = <$other as $crate::component_abi::Wit>::SIZE;
        const ALIGN: usize = <$other as $crate::component_abi::Wit>::ALIGN;
        const FLAT: usize = <$other as $crate::component_abi::Wit>::FLAT;
        const HAS_LISTS: bool = <$other as $crate::component_abi::Wit>::HAS_LISTS;

        fn flatten(flat: &mut Vec<$crate::component_abi::Flat>) {
            <$other as $crate::component_abi::Wit>::flatten(flat);
        }
    };
}

mod compound;
mod concurrent;
mod function;
mod guest;
mod handles;
mod lift;
mod lower;
mod names;
mod scalar;
#[cfg(test)]
mod tests;
mod types;

use wasmparser::component_types::ComponentValType;
use wasmtime::ValType;

pub(crate) use compound::{enumeration, flatten_variant, load_case, payload_offset, record, variant, variant_size};
pub(crate) use concurrent::{
    BuiltIn, ByteSink, ByteSource, Event, FutureReader, Kind, Later, StreamReader, Transfer, ensure_returned, finish,
    later, next_event, of_futures, of_streams, of_tasks, pipe, take_values, task_return, when_ready, yield_now,
};
pub(crate) use function::{Function, is, is_async};
pub(crate) use guest::{Allocation, Guest, Host, NEXT_ALLOCATION, NOTHING_TO_ALLOCATE, allocated, next_allocation};
pub(crate) use handles::{Borrow, HostResource, MAX_HANDLES};
pub(crate) use in_the_form_of;
pub(crate) use lift::{FlatValues, Lifting};
pub(crate) use lower::{Location, Lowering};
pub(crate) use names::{async_name, drop_name, release};
pub(crate) use types::WitTypes;

/// A WIT type: the layout of its values.
pub(crate) trait Wit: Sized + 'static {
    /// Size in memory, in bytes.
    const SIZE: usize;
    /// Alignment in memory, in bytes.
    const ALIGN: usize;
    /// The number of core values that it flattens to.
    const FLAT: usize;
    /// Whether a value can contain lists or strings. These are in the guest's memory; the guest allocates those that it
    /// receives.
    const HAS_LISTS: bool;

    /// Appends the core types that it flattens to.
    fn flatten(flat: &mut Vec<Flat>);

    /// Whether `ty` of a component is this type.
    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool;

    /// The same for an optional type, as in a `result`.
    fn is_payload(types: &WitTypes<'_>, ty: Option<ComponentValType>) -> bool {
        ty.is_some_and(|ty| Self::is(types, ty))
    }
}

/// Values that guests pass to the host.
pub(crate) trait Lift: Wit {
    /// Lifts a value from core values.
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self>;

    /// Lifts a value from [`Wit::SIZE`] bytes of memory.
    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self>;

    /// Lifts the elements of a list.
    fn load_list(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Vec<Self>> {
        bytes.chunks_exact(Self::SIZE).map(|bytes| Self::load(cx, bytes)).collect()
    }
}

/// Values that the host passes to guests.
pub(crate) trait Lower: Wit {
    /// Lowers a value to [`Wit::SIZE`] bytes at `to`.
    fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()>;

    /// Lowers a list to a new allocation.
    fn store_list(list: Vec<Self>, cx: &mut Lowering<'_>, pointer_at: Location) -> wasmtime::Result<()> {
        let start = cx.allocate(vec![0; list.len() * Self::SIZE], Self::ALIGN, pointer_at);
        for (index, value) in list.into_iter().enumerate() {
            value.store(cx, start.plus(index * Self::SIZE))?;
        }
        Ok(())
    }
}

/// The type of a core value. (No provided interface has floats.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flat {
    I32,
    I64,
}

impl Flat {
    fn value_type(self) -> ValType {
        match self {
            Self::I32 => ValType::I32,
            Self::I64 => ValType::I64,
        }
    }

    /// A type that can hold values of both, for the cases of a variant, which share core values.
    fn join(self, other: Self) -> Self {
        if self == other { self } else { Self::I64 }
    }
}

/// The first offset, from `offset` on, that is aligned to `align`.
const fn align_to(offset: usize, align: usize) -> usize {
    offset.next_multiple_of(align)
}

pub(crate) const fn max(values: &[usize]) -> usize {
    let (mut most, mut rest) = (0, values);
    while let [first, others @ ..] = rest {
        if *first > most {
            most = *first;
        }
        rest = others;
    }
    most
}
