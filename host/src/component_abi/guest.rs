//! The host's state for a guest: its memory, its handles, and a result that waits for the guest to allocate memory.

use wasmtime::component::Resource;
use wasmtime::{AsContextMut, Caller, Memory, Store, bail, ensure};

use super::concurrent::Concurrent;
use super::handles::{Handles, HostResource};
use super::lower::{List, Lowered, MAX_RESULT_BYTES};
use super::{Lifting, Location, Lower, Lowering};

/// Imported by generated modules, which call it after each function whose result may need memory. The parameter is the
/// pointer that `realloc` returned for the last request (ignored in the first call). The result is the next request,
/// the size in the lower and the alignment in the upper 32 bits, or [`NOTHING_TO_ALLOCATE`].
pub(crate) const NEXT_ALLOCATION: (&str, &str) = ("daylily", "next-allocation");

/// [`NEXT_ALLOCATION`]'s result when the pending result is complete.
pub(crate) const NOTHING_TO_ALLOCATE: u64 = u64::MAX;

/// The host's state for a guest whose module is linked directly.
pub(crate) struct Guest<T> {
    /// None until the module is instantiated. A host function that is called during instantiation finds no memory, as
    /// in a component.
    pub(crate) memory: Option<Memory>,
    pub(super) handles: Handles,
    /// A result that waits for the guest to allocate memory.
    pub(super) pending: Option<Pending>,
    pub(super) concurrent: Concurrent<T>,
    /// Bytes that one call may copy from the guest's memory.
    max_copies: usize,
}

/// The data of a store with such a guest.
pub(crate) trait Host: Sized + Send + 'static {
    fn guest(&mut self) -> &mut Guest<Self>;

    /// Charges `bytes` to the guest. Must be called before the host allocates them for the guest.
    ///
    /// # Errors
    ///
    /// If the guest's budget is exceeded.
    fn charge(&mut self, bytes: usize) -> wasmtime::Result<()>;

    /// Called when the guest waits, before concurrent operations are advanced; and when an operation has completed at
    /// once for which a guest in a component waits.
    fn guest_waits(&mut self) {}
}

impl<T: Host> Guest<T> {
    pub(crate) fn new(max_copies: usize) -> Self {
        Self { memory: None, handles: Handles::default(), pending: None, concurrent: Concurrent::default(), max_copies }
    }

    /// Gives the guest an owned handle of a resource.
    pub(crate) fn give<R: HostResource>(&mut self, resource: &Resource<R>) -> wasmtime::Result<u32> {
        self.handles.insert(resource)
    }

    /// Memory that the host keeps for the guest's handles, streams, futures and calls, in bytes.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.handles.kept_bytes() + self.concurrent.kept_bytes() + self.pending.as_ref().map_or(0, Pending::kept_bytes)
    }

    /// Traps if the guest may not call the host now, because it is in `realloc`.
    pub(super) fn ensure_may_call(&self) -> wasmtime::Result<()> {
        ensure!(self.pending.is_none(), "cannot leave component instance: it is asked to allocate memory");
        Ok(())
    }

    /// The context slots of the guest's task, or those of `realloc` while that runs.
    pub(super) fn context(&mut self) -> &mut [u32; 2] {
        let concurrent = &mut self.concurrent;
        if self.pending.is_some() { &mut concurrent.context_of_realloc } else { &mut concurrent.context }
    }

    pub(super) fn lifting<'a>(&'a mut self, memory: &'a [u8]) -> Lifting<'a> {
        Lifting { memory, handles: &mut self.handles, channels: &mut self.concurrent.channels, copies: self.max_copies }
    }

    pub(super) fn lowered<V: Lower>(&mut self, value: V) -> wasmtime::Result<Lowered> {
        let mut bytes = [0; MAX_RESULT_BYTES];
        let mut lowering = Lowering::new(&mut self.handles, &mut bytes);
        value.store(&mut lowering, Location::VALUE)?;
        let (written, lists) = lowering.end();
        Ok(Lowered { value: bytes, written, lists })
    }

    /// Writes a result to `room`, which is at address `to` in the guest's memory. Pointers to lists are written later,
    /// when the lists are allocated.
    pub(super) fn write_result<V: Lower>(&mut self, value: V, room: &mut [u8], to: u32) -> wasmtime::Result<()> {
        let mut lowering = Lowering::new(&mut self.handles, room);
        value.store(&mut lowering, Location::VALUE)?;
        let (_, lists) = lowering.end();
        if !lists.is_empty() {
            self.pending = Some(Pending::new(Lowered::of_lists(lists), to, V::SIZE));
        }
        Ok(())
    }
}

/// A result whose lists the guest is allocating.
#[derive(Debug)]
pub(super) struct Pending {
    lowered: Lowered,
    to: u32,
    size: usize,
    /// Whether a request for memory has been made. The latest one is for the first list that is not `placed`.
    asked: bool,
    /// How many lists are allocated already, and have their pointer.
    placed: usize,
}

/// The guest's memory, and the host.
pub(super) fn parts<T: Host>(store: &mut impl HasHost<T>) -> (&mut [u8], &mut T) {
    match store.host().guest().memory {
        Some(memory) => memory.data_and_store_mut(store.as_context_mut()),
        None => (Default::default(), store.host()),
    }
}

/// A store, or a caller, with such a host.
pub(crate) trait HasHost<T>: AsContextMut<Data = T> {
    fn host(&mut self) -> &mut T;
}

impl<T: 'static> HasHost<T> for Caller<'_, T> {
    fn host(&mut self) -> &mut T {
        self.data_mut()
    }
}

impl<T: 'static> HasHost<T> for Store<T> {
    fn host(&mut self) -> &mut T {
        self.data_mut()
    }
}

pub(super) fn write(memory: &mut [u8], to: u32, bytes: &[u8]) -> wasmtime::Result<()> {
    target(memory, to, bytes.len())?.copy_from_slice(bytes);
    Ok(())
}

/// The `size` bytes at address `to` of a guest's memory.
pub(super) fn target(memory: &mut [u8], to: u32, size: usize) -> wasmtime::Result<&mut [u8]> {
    let to = to as usize;
    match to.checked_add(size).and_then(|end| memory.get_mut(to..end)) {
        Some(target) => Ok(target),
        None => bail!("pointer out of bounds of memory"),
    }
}

/// The host function [`NEXT_ALLOCATION`].
pub(crate) fn next_allocation<T: Host>(mut caller: Caller<'_, T>, pointer: u32) -> wasmtime::Result<u64> {
    Ok(match allocated(&mut caller, pointer)? {
        Some(Allocation { size, align }) => u64::from(size) | u64::from(align) << 32,
        None => NOTHING_TO_ALLOCATE,
    })
}

/// A request for memory, which the guest is to allocate.
pub(crate) struct Allocation {
    pub(crate) size: u32,
    pub(crate) align: u32,
}

/// The next request for memory, after the guest has allocated the previous one at `pointer`.
pub(crate) fn allocated<T: Host>(store: &mut impl HasHost<T>, pointer: u32) -> wasmtime::Result<Option<Allocation>> {
    let (memory, host) = parts(store);
    let guest = host.guest();
    let Some(pending) = &mut guest.pending else { return Ok(None) };
    if pending.asked {
        pending.place(pointer, memory.len())?;
    }
    pending.asked = true;
    guest.concurrent.context_of_realloc = [0; 2];
    if let Some(list) = pending.next() {
        return Ok(Some(Allocation { size: u32::try_from(list.bytes.len())?, align: u32::try_from(list.align)? }));
    }
    let pending = guest.pending.take();
    pending.map_or(Ok(()), |pending| pending.write(memory))?;
    Ok(None)
}

impl Pending {
    fn new(lowered: Lowered, to: u32, size: usize) -> Self {
        Self { lowered, to, size, asked: false, placed: 0 }
    }

    pub(super) fn kept_bytes(&self) -> usize {
        let lists = &self.lowered.lists;
        let bytes = lists.iter().map(|list| list.bytes.capacity()).sum::<usize>();
        size_of::<Self>() + lists.capacity() * size_of::<List>() + bytes
    }

    /// Writes a result of `size` bytes to address `to`. A result with lists is returned instead, to wait for memory.
    pub(super) fn unless_written(
        lowered: Lowered,
        to: u32,
        size: usize,
        memory: &mut [u8],
    ) -> wasmtime::Result<Option<Self>> {
        if !lowered.lists.is_empty() {
            return Ok(Some(Self::new(lowered, to, size)));
        }
        lowered.write_to(memory, to, size)?;
        Ok(None)
    }

    /// The list that is to be allocated next.
    fn next(&self) -> Option<&List> {
        self.lowered.lists.get(self.placed)
    }

    /// Records the address of that list.
    fn place(&mut self, pointer: u32, memory_bytes: usize) -> wasmtime::Result<()> {
        let Some(list) = self.lowered.lists.get_mut(self.placed) else { return Ok(()) };
        let (start, pointer_at) = (pointer as usize, list.pointer_at);
        if !start.is_multiple_of(list.align) {
            bail!("realloc return: result not aligned");
        }
        if start.checked_add(list.bytes.len()).is_none_or(|end| end > memory_bytes) {
            bail!("realloc return: beyond end of memory");
        }
        list.pointer = pointer;
        self.lowered.write(pointer_at, &pointer.to_le_bytes());
        self.placed += 1;
        Ok(())
    }

    fn write(self, memory: &mut [u8]) -> wasmtime::Result<()> {
        for list in &self.lowered.lists {
            write(memory, list.pointer, &list.bytes)?;
        }
        self.lowered.write_to(memory, self.to, self.size)
    }
}
