//! What the host knows of a guest: its memory, its handles, and a result that waits for memory.

use wasmtime::component::Resource;
use wasmtime::{AsContextMut, Caller, Memory, Store, bail, ensure};

use super::concurrent::Concurrent;
use super::handles::{Handles, HostResource};
use super::lower::{List, Lowered, MAX_RESULT_BYTES};
use super::{Lifting, Lower, Lowering, Place};

/// A module calls this after each function whose result can need memory: it gives the pointer that was asked for last
/// (at first anything), and gets what to allocate next, size and alignment in the lower and the upper half, or
/// [`NOTHING_TO_ALLOCATE`].
pub(crate) const NEXT_ALLOCATION: (&str, &str) = ("daylily", "next-allocation");

/// What a result that is complete has next.
pub(crate) const NOTHING_TO_ALLOCATE: u64 = u64::MAX;

/// What the host knows of a guest whose module is linked directly.
pub(crate) struct Guest<T> {
    /// None until the instance is there. What a module calls while it is being instantiated finds no memory, as in a
    /// component.
    pub(crate) memory: Option<Memory>,
    pub(super) handles: Handles,
    /// A result that waits for memory.
    pub(super) pending: Option<Pending>,
    pub(super) concurrent: Concurrent<T>,
    /// Bytes that one call may copy from the guest.
    max_copies: usize,
}

/// A host that has such a guest.
pub(crate) trait Host: Sized + Send + 'static {
    fn guest(&mut self) -> &mut Guest<Self>;

    /// To be called before something is kept for the guest: so many bytes.
    ///
    /// # Errors
    ///
    /// When it is too much.
    fn keep(&mut self, bytes: usize) -> wasmtime::Result<()>;

    /// Called when the guest waits, before other things go on.
    fn guest_waits(&mut self) {}
}

impl<T: Host> Guest<T> {
    pub(crate) fn new(max_copies: usize) -> Self {
        Self { memory: None, handles: Handles::default(), pending: None, concurrent: Concurrent::default(), max_copies }
    }

    /// Hands a resource over.
    pub(crate) fn give<R: HostResource>(&mut self, resource: &Resource<R>) -> wasmtime::Result<u32> {
        self.handles.insert(resource)
    }

    /// What the host keeps for it here, in bytes: handles, streams, futures and calls.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.handles.kept_bytes() + self.concurrent.kept_bytes() + self.pending.as_ref().map_or(0, Pending::kept_bytes)
    }

    /// Whether it may call the host now.
    pub(super) fn ensure_may_call(&self) -> wasmtime::Result<()> {
        ensure!(self.pending.is_none(), "cannot leave component instance: it is asked to allocate memory");
        Ok(())
    }

    /// The slots of its task, or, while it is asked to allocate memory, fresh ones.
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
        value.store(&mut lowering, Place::VALUE)?;
        let (written, lists) = lowering.end();
        Ok(Lowered { value: bytes, written, lists })
    }

    /// Writes a result to `room`, its place at `to` in the guest's memory. Pointers to lists follow when there is memory
    /// for those.
    pub(super) fn write_result<V: Lower>(&mut self, value: V, room: &mut [u8], to: u32) -> wasmtime::Result<()> {
        let mut lowering = Lowering::new(&mut self.handles, room);
        value.store(&mut lowering, Place::VALUE)?;
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
    /// Whether the guest was asked for memory, for the list after those that are `placed`.
    asked: bool,
    /// How many lists have a place in the guest's memory.
    placed: usize,
}

/// The guest's memory, and the host.
pub(super) fn parts<T: Host>(store: &mut impl HasHost<T>) -> (&mut [u8], &mut T) {
    match store.host().guest().memory {
        Some(memory) => memory.data_and_store_mut(store.as_context_mut()),
        None => (Default::default(), store.host()),
    }
}

/// What a guest's memory can be reached by.
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
    room(memory, to, bytes.len())?.copy_from_slice(bytes);
    Ok(())
}

/// So many bytes of a guest's memory.
pub(super) fn room(memory: &mut [u8], to: u32, size: usize) -> wasmtime::Result<&mut [u8]> {
    let to = to as usize;
    match to.checked_add(size).and_then(|end| memory.get_mut(to..end)) {
        Some(room) => Ok(room),
        None => bail!("pointer out of bounds of memory"),
    }
}

/// [`NEXT_ALLOCATION`].
pub(crate) fn next_allocation<T: Host>(mut caller: Caller<'_, T>, pointer: u32) -> wasmtime::Result<u64> {
    Ok(match allocated(&mut caller, pointer)? {
        Some(Allocation { size, align }) => u64::from(size) | u64::from(align) << 32,
        None => NOTHING_TO_ALLOCATE,
    })
}

/// Memory that the guest is to allocate.
pub(crate) struct Allocation {
    pub(crate) size: u32,
    pub(crate) align: u32,
}

/// What is to be allocated next, after the guest has allocated what was asked for last at `pointer`.
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
        size_of::<Self>() + self.lowered.lists.iter().map(|list| list.bytes.capacity()).sum::<usize>()
    }

    /// Writes a result of `size` bytes to that address. If it has lists, it must wait for memory instead.
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

    /// Notes where that list will be.
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
