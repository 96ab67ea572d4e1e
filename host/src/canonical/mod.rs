//! The canonical ABI: how values of WIT's types cross between a core module and the host.
//!
//! wasmtime does this for every component. Here it is done for those that [`engine::direct`](crate::engine) links
//! without wasmtime's component runtime, and so much of it as the interfaces of WASI that such components import need:
//! 32-bit memories, UTF-8, and no floats, characters or flags; what is asynchronous is in [`concurrent`]. Source: the
//! Component Model's `CanonicalABI.md`; names in here are the field's (lift: from the guest; lower: to it).
//!
//! Nothing in here can reach beyond a guest's memory: it is a slice, and each access is checked against its length.

/// In the `impl` of [`Wit`] for a type that crosses in the form of another: all but which type it is.
macro_rules! in_the_form_of {
    ($other:ty) => {
        const SIZE: usize = <$other as $crate::canonical::Wit>::SIZE;
        const ALIGN: usize = <$other as $crate::canonical::Wit>::ALIGN;
        const FLAT: usize = <$other as $crate::canonical::Wit>::FLAT;
        const HAS_LISTS: bool = <$other as $crate::canonical::Wit>::HAS_LISTS;

        fn flatten(flat: &mut Vec<$crate::canonical::Flat>) {
            <$other as $crate::canonical::Wit>::flatten(flat);
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
mod scalar;
#[cfg(test)]
mod tests;
mod types;

use wasmparser::component_types::ComponentValType;
use wasmtime::ValType;

pub(crate) use compound::{enumeration, flatten_variant, load_case, payload_offset, record, variant, variant_size};
pub(crate) use concurrent::{
    BuiltIn, ByteSink, ByteSource, Event, FutureReader, Kind, Later, StreamReader, Transfer, ensure_returned, finish,
    later, next_event, of_futures, of_streams, of_tasks, pipe, task_return, when_ready, yield_now,
};
pub(crate) use function::{Function, async_name, drop_name, is, is_async, release};
pub(crate) use guest::{Allocation, Guest, Host, NEXT_ALLOCATION, NOTHING_TO_ALLOCATE, allocated, next_allocation};
pub(crate) use handles::{Borrow, HostResource, MAX_HANDLES};
pub(crate) use in_the_form_of;
pub(crate) use lift::{FlatValues, Lifting};
pub(crate) use lower::{Lowering, Place};
pub(crate) use types::WitTypes;

/// A type of WIT, and how large its values are.
pub(crate) trait Wit: Sized + 'static {
    /// Bytes in memory.
    const SIZE: usize;
    /// Its alignment there, in bytes.
    const ALIGN: usize;
    /// Core values that one is passed as.
    const FLAT: usize;
    /// Whether there can be lists or strings in one: they are in the guest's memory, which the guest allocates for those
    /// that it gets.
    const HAS_LISTS: bool;

    /// Adds the types of those core values.
    fn flatten(flat: &mut Vec<Flat>);

    /// Whether this is the type that a component means.
    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool;

    /// The same for what is in a `result`, which may be nothing.
    fn is_payload(types: &WitTypes<'_>, ty: Option<ComponentValType>) -> bool {
        ty.is_some_and(|ty| Self::is(types, ty))
    }
}

/// Values that guests give.
pub(crate) trait Lift: Wit {
    /// From the core values it was passed as.
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self>;

    /// From [`Wit::SIZE`] bytes of memory.
    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self>;

    /// A list of them.
    fn load_list(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Vec<Self>> {
        bytes.chunks_exact(Self::SIZE).map(|bytes| Self::load(cx, bytes)).collect()
    }
}

/// Values that guests get.
pub(crate) trait Lower: Wit {
    /// To [`Wit::SIZE`] bytes at `to`.
    fn store(self, cx: &mut Lowering<'_>, to: Place) -> wasmtime::Result<()>;

    /// A list of them: its bytes, at a new place.
    fn store_list(list: Vec<Self>, cx: &mut Lowering<'_>, pointer_at: Place) -> wasmtime::Result<()> {
        let start = cx.allocate(vec![0; list.len() * Self::SIZE], Self::ALIGN, pointer_at);
        for (index, value) in list.into_iter().enumerate() {
            value.store(cx, start.plus(index * Self::SIZE))?;
        }
        Ok(())
    }
}

/// A core value's type. (No interface that is provided has floats.)
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

    /// What can hold values of both: where the cases of a variant share one.
    fn join(self, other: Self) -> Self {
        if self == other { self } else { Self::I64 }
    }
}

/// Where something of that alignment begins at the earliest.
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
