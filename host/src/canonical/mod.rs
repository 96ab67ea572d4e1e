//! The canonical ABI: how values of WIT's types cross between a core module and the host.
//!
//! wasmtime does this for every component. Here it is done for those that [`engine::direct`](crate::engine) links
//! without wasmtime's component runtime, and so much of it as the interfaces of WASI 0.2 that such components import
//! need: 32-bit memories, UTF-8, synchronous functions, and no floats, characters or flags. Source: the Component
//! Model's `CanonicalABI.md`; names in here are the field's (lift: from the guest; lower: to it).
//!
//! Nothing in here can reach beyond a guest's memory: it is a slice, and each access is checked against its length.

mod compound;
mod function;
mod handles;
mod scalar;
#[cfg(test)]
mod tests;
mod types;

use wasmparser::component_types::ComponentValType;
use wasmtime::{ValRaw, ValType, bail};

pub(crate) use compound::{flatten_variant, load_case, payload_offset, record, variant, variant_size};
pub(crate) use function::{Function, Guest, Host, NEXT_ALLOCATION, NOTHING_TO_ALLOCATE, drop_name, is, next_allocation};
pub(crate) use handles::{Borrow, HostResource};
pub(crate) use types::WitTypes;

use handles::Handles;

/// A type of WIT, and how large its values are.
pub(crate) trait Wit: Sized + 'static {
    /// Bytes in memory.
    const SIZE: usize;
    /// Its alignment there, in bytes.
    const ALIGN: usize;
    /// Core values that one is passed as.
    const FLAT: usize;
    /// Whether lowering one can need memory that the guest allocates.
    const ALLOCATES: bool;

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

/// A core value's type. (No interface of WASI 0.2 has floats.)
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

/// Core values that are read one after the other.
pub(crate) struct FlatValues<'a>(std::slice::Iter<'a, ValRaw>);

impl<'a> FlatValues<'a> {
    fn new(values: &'a [ValRaw]) -> Self {
        Self(values.iter())
    }

    fn next(&mut self) -> wasmtime::Result<ValRaw> {
        // The function's type has as many as its parameters are flattened to.
        self.0.next().copied().ok_or_else(|| wasmtime::format_err!("a parameter is missing"))
    }

    /// An `i32`, or one that shares its place with an `i64`.
    pub(crate) fn u32(&mut self) -> wasmtime::Result<u32> {
        Ok(self.next()?.get_u32())
    }

    fn u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.next()?.get_u64())
    }

    /// The next `count`, of which not all may be read: the cases of a variant have different numbers of them.
    pub(crate) fn split(&mut self, count: usize) -> Self {
        let (these, rest) = self.0.as_slice().split_at_checked(count).unwrap_or_default();
        self.0 = rest.iter();
        Self::new(these)
    }
}

/// What a guest's values refer to.
pub(crate) struct Lifting<'a> {
    memory: &'a [u8],
    handles: &'a mut Handles,
    /// What this call may still copy, in bytes.
    copies: usize,
}

impl<'a> Lifting<'a> {
    /// The elements of a list, each of `T`.
    fn elements<T: Wit>(&mut self, pointer: u32, count: u32) -> wasmtime::Result<&'a [u8]> {
        let (start, count) = (pointer as usize, count as usize);
        let end = count.checked_mul(T::SIZE).and_then(|length| start.checked_add(length));
        let Some(bytes) = end.and_then(|end| self.memory.get(start..end)) else {
            bail!("list pointer/length out of bounds of memory");
        };
        if start % T::ALIGN != 0 {
            bail!("list pointer is not aligned");
        }
        let copied = count.checked_mul(size_of::<T>().max(1));
        let Some(left) = copied.and_then(|copied| self.copies.checked_sub(copied)) else {
            bail!("too much data is being copied between the host and the guest in one call");
        };
        self.copies = left;
        Ok(bytes)
    }
}

/// A result on its way into a guest's memory: the bytes of the value, and of all lists in it, whose pointers are not
/// known before the guest has allocated them.
pub(crate) struct Lowering<'a> {
    handles: &'a mut Handles,
    lowered: Lowered,
}

/// The largest result of a function, without the lists in it: a `datetime`, an error code and what is around it.
const MAX_RESULT_BYTES: usize = 64;

#[derive(Debug)]
struct Lowered {
    value: [u8; MAX_RESULT_BYTES],
    /// In the order in which they are allocated: each after the one that has its pointer.
    lists: Vec<List>,
}

#[derive(Debug)]
struct List {
    bytes: Vec<u8>,
    align: usize,
    pointer_at: Place,
}

/// Somewhere in the value itself, or in the list of that number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    list: Option<usize>,
    offset: usize,
}

impl Place {
    const VALUE: Self = Self { list: None, offset: 0 };

    pub(crate) fn plus(self, bytes: usize) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }
}

impl Lowered {
    fn write(&mut self, to: Place, bytes: &[u8]) {
        let part = match to.list {
            None => Some(&mut self.value[..]),
            Some(number) => self.lists.get_mut(number).map(|list| &mut list.bytes[..]),
        };
        // Room for all of it was made by its type's size.
        if let Some(room) = part.and_then(|part| part.get_mut(to.offset..to.offset + bytes.len())) {
            room.copy_from_slice(bytes);
        }
    }
}

impl<'a> Lowering<'a> {
    fn new(handles: &'a mut Handles) -> Self {
        Self { handles, lowered: Lowered { value: [0; MAX_RESULT_BYTES], lists: Vec::new() } }
    }

    pub(crate) fn write(&mut self, to: Place, bytes: &[u8]) {
        self.lowered.write(to, bytes);
    }

    /// Has the guest allocate memory for these bytes; the pointer comes to `pointer_at`.
    fn allocate(&mut self, bytes: Vec<u8>, align: usize, pointer_at: Place) -> Place {
        let lists = &mut self.lowered.lists;
        lists.push(List { bytes, align, pointer_at });
        Place { list: Some(lists.len() - 1), offset: 0 }
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
