//! What the host knows of a guest: its memory, its handles, and a result that waits for memory.

use wasmtime::component::Resource;
use wasmtime::{Caller, Memory, bail};

use super::handles::{Handles, HostResource};
use super::lower::{List, Lowered};

/// A module calls this after each function whose result can need memory: it gives the pointer that was asked for last
/// (at first anything), and gets what to allocate next, size and alignment in the lower and the upper half, or
/// [`NOTHING_TO_ALLOCATE`].
pub(crate) const NEXT_ALLOCATION: (&str, &str) = ("daylily", "next-allocation");

/// What a result that is complete has next.
pub(crate) const NOTHING_TO_ALLOCATE: u64 = u64::MAX;

/// What the host knows of a guest whose module is linked directly.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    /// None until the instance is there. What a module calls while it is being instantiated finds no memory, as in a
    /// component.
    pub(crate) memory: Option<Memory>,
    pub(super) handles: Handles,
    /// A result that waits for memory.
    pub(super) pending: Option<Pending>,
    /// Bytes that one call may copy from the guest.
    pub(super) max_copies: usize,
}

/// A host that has such a guest.
pub(crate) trait Host: Send + 'static {
    fn guest(&mut self) -> &mut Guest;
}

impl Guest {
    pub(crate) fn new(max_copies: usize) -> Self {
        Self { max_copies, ..Self::default() }
    }

    /// Hands a resource over.
    pub(crate) fn give<T: HostResource>(&mut self, resource: &Resource<T>) -> wasmtime::Result<u32> {
        self.handles.insert(resource)
    }
}

/// A result whose lists the guest is allocating.
#[derive(Debug)]
pub(super) struct Pending {
    lowered: Lowered,
    to: u32,
    size: usize,
    /// Whether the guest was asked for memory, the next time for the list after those that are in `pointers`.
    asked: bool,
    /// Where the lists are in the guest's memory, as far as that is known.
    pointers: Vec<u32>,
}

/// The guest's memory, and what is known of it.
pub(super) fn guest<'a, T: Host>(caller: &'a mut Caller<'_, T>) -> (&'a mut [u8], &'a mut Guest) {
    match caller.data_mut().guest().memory {
        Some(memory) => {
            let (memory, host) = memory.data_and_store_mut(caller);
            (memory, host.guest())
        }
        None => (Default::default(), caller.data_mut().guest()),
    }
}

pub(super) fn write(memory: &mut [u8], to: u32, bytes: &[u8]) -> wasmtime::Result<()> {
    let to = to as usize;
    match to.checked_add(bytes.len()).and_then(|end| memory.get_mut(to..end)) {
        Some(room) => room.copy_from_slice(bytes),
        None => bail!("pointer out of bounds of memory"),
    }
    Ok(())
}

/// [`NEXT_ALLOCATION`].
pub(crate) fn next_allocation<T: Host>(mut caller: Caller<'_, T>, pointer: u32) -> wasmtime::Result<u64> {
    let (memory, guest) = guest(&mut caller);
    let Some(pending) = &mut guest.pending else { return Ok(NOTHING_TO_ALLOCATE) };
    if pending.asked {
        pending.place(pointer, memory.len())?;
    }
    pending.asked = true;
    if let Some(list) = pending.next() {
        return Ok(u64::from(u32::try_from(list.bytes.len())?) | (list.align as u64) << 32);
    }
    let pending = guest.pending.take();
    pending.map_or(Ok(()), |pending| pending.write(memory))?;
    Ok(NOTHING_TO_ALLOCATE)
}

impl Pending {
    /// A result of `size` bytes, which goes to that address.
    pub(super) fn new(lowered: Lowered, to: u32, size: usize) -> Self {
        Self { lowered, to, size, asked: false, pointers: Vec::new() }
    }

    /// The list that is to be allocated next.
    fn next(&self) -> Option<&List> {
        self.lowered.lists.get(self.pointers.len())
    }

    /// Notes where that list will be.
    fn place(&mut self, pointer: u32, memory_bytes: usize) -> wasmtime::Result<()> {
        let Some(list) = self.next() else { return Ok(()) };
        let (start, pointer_at) = (pointer as usize, list.pointer_at);
        if !start.is_multiple_of(list.align) {
            bail!("realloc return: result not aligned");
        }
        if start.checked_add(list.bytes.len()).is_none_or(|end| end > memory_bytes) {
            bail!("realloc return: beyond end of memory");
        }
        self.lowered.write(pointer_at, &pointer.to_le_bytes());
        self.pointers.push(pointer);
        Ok(())
    }

    fn write(self, memory: &mut [u8]) -> wasmtime::Result<()> {
        for (list, pointer) in self.lowered.lists.iter().zip(self.pointers) {
            write(memory, pointer, &list.bytes)?;
        }
        write(memory, self.to, self.lowered.value.get(..self.size).unwrap_or_default())
    }
}
