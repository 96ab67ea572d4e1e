//! A guest's table of handles.
//!
//! The canonical ABI counts the borrows of a handle, so that a resource is not dropped while it is borrowed. Here only
//! the calls that are in progress while the guest runs on are counted: no function borrows one resource and takes
//! ownership of another of the same type, and none borrows two.

use std::any::TypeId;

use wasmparser::component_types::{ComponentDefinedType, ComponentValType};
use wasmtime::component::Resource;
use wasmtime::{Trap, bail, ensure};

use super::concurrent::End;
use super::{FlatValues, Lift, Lifting, Location, Lower, Lowering, Wit, WitTypes};

/// A resource type that the host implements and a WIT interface defines.
pub(crate) trait HostResource: 'static {
    /// The interface, without its version.
    const INTERFACE: &'static str;
    const NAME: &'static str;
}

/// Handles that an ordinary request has open at a time.
const EXPECTED_HANDLES: usize = 8;

/// Maximum of open handles of one instance. The resource behind a handle takes memory of the host's.
pub(crate) const MAX_HANDLES: usize = 10_000;

/// The handle table of one instance. Handles start at 1, as in the canonical ABI.
#[derive(Debug, Default)]
pub(super) struct Handles {
    entries: Vec<Entry>,
    /// The handle that was freed last, or 0: the head of the free list.
    free: u32,
    /// The handle that was borrowed last, or 0.
    borrowed: u32,
}

#[derive(Debug)]
enum Entry {
    Owned {
        of: TypeId,
        rep: u32,
        /// Calls in progress that have borrowed it.
        lent: u32,
    },
    Set,
    /// With the waitable set that it has joined, or 0.
    Waitable(Waitable, u32),
    /// The next entry of the free list, or 0.
    Free(u32),
}

/// A source of events, with its number among the subtasks or the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waitable {
    Subtask(usize),
    End(End, usize),
}

impl Waitable {
    /// The order in which the events of a set are delivered.
    pub(super) fn rank(self) -> (usize, usize) {
        match self {
            Self::Subtask(number) => (0, number),
            Self::End(End::Writer, number) => (1, 2 * number),
            Self::End(End::Reader, number) => (1, 2 * number + 1),
        }
    }
}

impl Handles {
    pub(super) fn insert<T: 'static>(&mut self, resource: &Resource<T>) -> wasmtime::Result<u32> {
        self.insert_entry(Entry::Owned { of: TypeId::of::<T>(), rep: resource.rep(), lent: 0 })
    }

    pub(super) fn insert_set(&mut self) -> wasmtime::Result<u32> {
        self.insert_entry(Entry::Set)
    }

    pub(super) fn insert_waitable(&mut self, waitable: Waitable) -> wasmtime::Result<u32> {
        self.insert_entry(Entry::Waitable(waitable, 0))
    }

    fn insert_entry(&mut self, new: Entry) -> wasmtime::Result<u32> {
        if let Some(entry) = self.entry(self.free)
            && let Entry::Free(next) = *entry
        {
            *entry = new;
            return Ok(std::mem::replace(&mut self.free, next));
        }
        if self.entries.is_empty() {
            self.entries.reserve(EXPECTED_HANDLES);
        }
        ensure!(self.entries.len() < MAX_HANDLES, "more than {MAX_HANDLES} handles");
        self.entries.push(new);
        Ok(u32::try_from(self.entries.len())?)
    }

    /// Memory of the table, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    fn free(&mut self, handle: u32) {
        let next = self.free;
        if let Some(entry) = self.entry(handle) {
            *entry = Entry::Free(next);
            self.free = handle;
        }
    }

    /// The waitable, and the set that it has joined.
    fn waitable(&mut self, handle: u32) -> wasmtime::Result<(Waitable, &mut u32)> {
        match self.entry(handle) {
            Some(Entry::Waitable(waitable, set)) => Ok((*waitable, set)),
            Some(_) => bail!("handle index {handle} is not a waitable"),
            None => bail!("unknown handle index {handle}"),
        }
    }

    pub(super) fn subtask(&mut self, handle: u32) -> wasmtime::Result<usize> {
        match self.waitable(handle)? {
            (Waitable::Subtask(number), _) => Ok(number),
            _ => bail!("handle index {handle} is not a subtask"),
        }
    }

    /// The end of a channel, and the channel's number.
    pub(super) fn end(&mut self, handle: u32) -> wasmtime::Result<(End, usize)> {
        match self.waitable(handle)? {
            (Waitable::End(end, number), _) => Ok((end, number)),
            (Waitable::Subtask(_), _) => bail!("handle index {handle} is not a stream or future"),
        }
    }

    pub(super) fn remove_waitable(&mut self, handle: u32) -> wasmtime::Result<()> {
        self.waitable(handle)?;
        self.free(handle);
        Ok(())
    }

    pub(super) fn ensure_set(&mut self, handle: u32) -> wasmtime::Result<()> {
        ensure!(matches!(self.entry(handle), Some(Entry::Set)), "handle index {handle} is not a waitable set");
        Ok(())
    }

    /// Adds a waitable to a set. Set 0 removes it from its set.
    pub(super) fn join(&mut self, waitable: u32, set: u32) -> wasmtime::Result<()> {
        self.waitable(waitable)?;
        if set != 0 {
            self.ensure_set(set)?;
        }
        *self.waitable(waitable)?.1 = set;
        Ok(())
    }

    pub(super) fn remove_set(&mut self, handle: u32) -> wasmtime::Result<()> {
        self.ensure_set(handle)?;
        ensure!(self.joined(handle).next().is_none(), "a waitable set is dropped that has members");
        self.free(handle);
        Ok(())
    }

    /// Traps if the waitable has joined a set. `handle` is usually the waitable's own: then the table is not searched.
    pub(super) fn ensure_in_no_set(&mut self, of: Waitable, handle: u32) -> wasmtime::Result<()> {
        let joined = match self.waitable(handle)? {
            (waitable, set) if waitable == of => *set != 0,
            _ => (self.entries.iter())
                .any(|entry| matches!(entry, Entry::Waitable(waitable, set) if *waitable == of && *set != 0)),
        };
        if joined {
            bail!(Trap::WaitableSyncAndAsync);
        }
        Ok(())
    }

    /// The members of a set, in ascending order of their handles.
    pub(super) fn joined(&self, set: u32) -> impl Iterator<Item = (u32, Waitable)> {
        (1..).zip(&self.entries).filter_map(move |(handle, entry)| match entry {
            Entry::Waitable(waitable, joined) if *joined == set => Some((handle, *waitable)),
            _ => None,
        })
    }

    fn entry(&mut self, handle: u32) -> Option<&mut Entry> {
        self.entries.get_mut((handle as usize).checked_sub(1)?)
    }

    fn rep<T: HostResource>(&mut self, handle: u32) -> wasmtime::Result<u32> {
        match self.entry(handle) {
            Some(Entry::Owned { of, rep, .. }) if *of == TypeId::of::<T>() => Ok(*rep),
            Some(Entry::Owned { .. }) => bail!("handle index {handle} is not of a {}", T::NAME),
            _ => bail!("unknown handle index {handle}"),
        }
    }

    fn borrow<T: HostResource>(&mut self, handle: u32) -> wasmtime::Result<Resource<T>> {
        let rep = self.rep::<T>(handle)?;
        self.borrowed = handle;
        Ok(Resource::new_borrow(rep))
    }

    fn remove<T: HostResource>(&mut self, handle: u32) -> wasmtime::Result<Resource<T>> {
        let rep = self.rep::<T>(handle)?;
        if let Some(Entry::Owned { lent: 1.., .. }) = self.entry(handle) {
            bail!("cannot remove owned resource while borrowed");
        }
        self.free(handle);
        Ok(Resource::new_own(rep))
    }

    /// Forgets what the last call has borrowed.
    pub(super) fn begin_call(&mut self) {
        self.borrowed = 0;
    }

    /// Counts the call that goes on as one that has borrowed a handle, if it has. Returns the handle, or 0.
    pub(super) fn lend(&mut self) -> u32 {
        let handle = std::mem::take(&mut self.borrowed);
        if let Some(Entry::Owned { lent, .. }) = self.entry(handle) {
            *lent += 1;
        }
        handle
    }

    /// That call has ended.
    pub(super) fn take_back(&mut self, handle: u32) {
        if let Some(Entry::Owned { lent, .. }) = self.entry(handle) {
            *lent = lent.saturating_sub(1);
        }
    }
}

/// A borrowed handle.
pub(crate) struct Borrow<T: 'static>(pub(crate) Resource<T>);

impl<T: HostResource> Wit for Borrow<T> {
    in_the_form_of!(u32);

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        matches!(types.defined(ty), Some(ComponentDefinedType::Borrow(id)) if types.is_resource::<T>(*id))
    }
}

impl<T: HostResource> Lift for Borrow<T> {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        cx.handles.borrow(flat.u32()?).map(Self)
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        let handle = u32::load(cx, bytes)?;
        cx.handles.borrow(handle).map(Self)
    }
}

/// An owned handle, whose ownership is transferred.
impl<T: HostResource> Wit for Resource<T> {
    in_the_form_of!(u32);

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        matches!(types.defined(ty), Some(ComponentDefinedType::Own(id)) if types.is_resource::<T>(*id))
    }
}

impl<T: HostResource> Lift for Resource<T> {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        cx.handles.remove(flat.u32()?)
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        let handle = u32::load(cx, bytes)?;
        cx.handles.remove(handle)
    }
}

impl<T: HostResource> Lower for Resource<T> {
    fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
        let handle = cx.handles.insert(&self)?;
        handle.store(cx, to)
    }
}
