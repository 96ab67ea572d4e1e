//! Room for the instances of small components: their linear memories, and the stacks that they run on.
//!
//! Larger ones have wasmtime's pooling allocator. For a small one its bookkeeping, which is made for many threads and
//! for memories of which only a part is reset, costs more than zeroing the memory. Here a slot is taken off a list: of
//! those with as much memory as the component starts with, the one that was put back last, which is still in the CPU's
//! caches. When the instance is gone, its memory is zeroed and the slot put back. (Tables are on the heap.) What is left
//! on a stack stays there: no guest can read what it did not write there itself.

use std::mem;
use std::ops::Range;
use std::ptr::{self, null_mut};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType, StackCreator, StackMemory};

use crate::lock::lock;

/// Address space of a linear memory. With so much, 32-bit memories need no bounds checks, …
pub(super) const MEMORY_RESERVATION_BYTES: usize = 4 << 30;

/// … since what could go further beyond it than this, where nothing can be accessed, is checked.
pub(super) const MEMORY_GUARD_BYTES: usize = 32 << 20;

/// What stays resident of a memory between two uses of its slot. What guests grow beyond is given back.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;

/// The size of a stack, on which host functions run as well.
pub(super) const STACK_BYTES: usize = 2 << 20;

/// Address space, divided into slots of one size, each with a part before and after it that is never accessible.
struct Slots {
    /// What is reserved; it begins with such a part.
    reserved: Reserved,
    guard_bytes: usize,
    slot_bytes: usize,
    count: usize,
    free: Mutex<Free>,
}

/// There is no slot left.
#[derive(Debug, thiserror::Error)]
#[error("all {count} slots are in use")]
pub(super) struct SlotsInUse {
    count: usize,
}

struct Free {
    /// Those that were used before, the one that was put back last at the end.
    used: Vec<Slot>,
    /// The number of the first that never was.
    unused: usize,
}

/// A range of addresses that is nobody else's, of which nothing is accessible at first.
struct Reserved {
    start: *mut u8,
    bytes: usize,
}

/// A part of the address space that its owner alone uses.
struct Slot {
    start: *mut u8,
    /// So many bytes from the start can be read and written. All others are zero, whenever they become accessible.
    accessible: usize,
}

#[expect(unsafe_code, reason = "mappings are not bound to a thread")]
// SAFETY: of a range that is reserved, only slots are used; each of those has one owner.
unsafe impl Send for Reserved {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Sync for Reserved {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Send for Slot {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: a shared reference gives no more than the slot's place and size.
unsafe impl Sync for Slot {}

impl Reserved {
    const FLAGS: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);

    #[expect(unsafe_code, reason = "reserves address space")]
    fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, where the kernel finds room for it.
        let start = unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::empty(), Self::FLAGS) }?;
        Ok(Self { start: start.cast(), bytes })
    }
}

impl Drop for Reserved {
    #[expect(unsafe_code, reason = "gives a mapping back")]
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new`. Whoever has a slot of it keeps it, so there is none.
        let unmapped = unsafe { munmap(self.start.cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "a range that was mapped can be unmapped");
    }
}

impl Slots {
    /// # Errors
    ///
    /// When there is not so much address space.
    fn new(count: u32, slot_bytes: usize, guard_bytes: usize) -> wasmtime::Result<Self> {
        let count = count as usize;
        let bytes = (slot_bytes + guard_bytes).checked_mul(count).and_then(|bytes| bytes.checked_add(guard_bytes));
        let reserved = bytes.ok_or(io::Errno::NOMEM).and_then(Reserved::new).map_err(|error| {
            wasmtime::format_err!("no address space for {count} times {} MiB: {error}", slot_bytes >> 20)
        })?;
        let free = Mutex::new(Free { used: Vec::new(), unused: 0 });
        Ok(Self { reserved, guard_bytes, slot_bytes, count, free })
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        lock(&self.free)
    }

    /// A slot of which exactly `accessible` bytes are so; of those that were used, one where nothing has to be
    /// changed for that, if there is one.
    ///
    /// # Errors
    ///
    /// When all are in use, or the system does not make it accessible.
    fn take(&self, accessible: usize) -> wasmtime::Result<Slot> {
        let mut slot = self.next(accessible).ok_or(SlotsInUse { count: self.count })?;
        match slot.make_accessible(accessible) {
            Ok(()) => Ok(slot),
            Err(error) => {
                self.put_back(slot);
                Err(wasmtime::format_err!("failed to make {accessible} bytes accessible: {error}"))
            }
        }
    }

    fn next(&self, accessible: usize) -> Option<Slot> {
        let mut free = self.free();
        if let Some(fitting) = free.used.iter().rposition(|slot| slot.accessible == accessible) {
            return Some(free.used.remove(fitting));
        }
        if free.unused < self.count {
            let before = self.guard_bytes + free.unused * (self.slot_bytes + self.guard_bytes);
            free.unused += 1;
            return Some(Slot { start: self.reserved.start.wrapping_add(before), accessible: 0 });
        }
        free.used.pop()
    }

    fn put_back(&self, slot: Slot) {
        self.free().used.push(slot);
    }
}

impl Slot {
    /// In the place of one that was taken away.
    const NONE: Self = Self { start: null_mut(), accessible: 0 };

    /// # Errors
    ///
    /// When more is to be accessible, and the system refuses; nothing has changed then.
    fn make_accessible(&mut self, bytes: usize) -> io::Result<()> {
        let (less, more) = (bytes.min(self.accessible), bytes.max(self.accessible));
        if less < more {
            let grows = bytes == more;
            let flags = if grows { MprotectFlags::READ | MprotectFlags::WRITE } else { MprotectFlags::empty() };
            if let Err(error) = self.protect(less..more, flags) {
                // It may have been done for a part of it (mprotect(2)).
                self.map_nothing(less..more);
                if grows {
                    return Err(error);
                }
            }
        }
        self.accessible = bytes;
        Ok(())
    }

    #[expect(unsafe_code, reason = "there is no safe form of it")]
    fn protect(&self, range: Range<usize>, flags: MprotectFlags) -> io::Result<()> {
        // SAFETY: a part of this slot, which only its owner uses.
        unsafe { mprotect(self.start.wrapping_add(range.start).cast(), range.len(), flags) }
    }

    /// Gives back what is in `range`, and makes it inaccessible. Ends the process when that cannot be done: guests rely
    /// on what is accessible, and nobody knows that then.
    #[expect(unsafe_code, reason = "there is no safe form of it")]
    fn map_nothing(&self, range: Range<usize>) {
        let (start, flags) = (self.start.wrapping_add(range.start).cast(), Reserved::FLAGS | MapFlags::FIXED);
        // SAFETY: a part of this slot, of which its owner uses nothing that is in it.
        if let Err(error) = unsafe { mmap_anonymous(start, range.len(), ProtFlags::empty(), flags) } {
            tracing::error!(%error, "failed to reset the memory of an instance; this process aborts");
            std::process::abort();
        }
    }

    /// Zeroes all that is accessible, and leaves `accessible` bytes of it so.
    #[expect(unsafe_code, reason = "writes to where a guest did")]
    fn reset(&mut self, accessible: usize) {
        if self.accessible > KEEP_RESIDENT_BYTES {
            self.map_nothing(KEEP_RESIDENT_BYTES..self.accessible);
            self.accessible = KEEP_RESIDENT_BYTES;
        }
        // SAFETY: it is accessible, and this slot's.
        unsafe { ptr::write_bytes(self.start, 0, self.accessible) };
        // To less than it is, which does not fail.
        let _ = self.make_accessible(accessible.min(self.accessible));
    }
}

/// What is accessible of a memory of so many bytes, in pages of the system; None where that is more than is reserved.
fn accessible_of(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(rustix::param::page_size()).filter(|bytes| *bytes <= MEMORY_RESERVATION_BYTES)
}

/// Makes linear memories.
pub(super) struct Memories(Arc<Slots>);

/// A linear memory, zero at first.
struct Memory {
    slots: Arc<Slots>,
    slot: Slot,
    initially_accessible: usize,
    bytes: usize,
}

impl Memories {
    /// # Errors
    ///
    /// When there is no address space for so many.
    pub(super) fn new(count: u32) -> wasmtime::Result<Self> {
        Ok(Self(Arc::new(Slots::new(count, MEMORY_RESERVATION_BYTES, MEMORY_GUARD_BYTES)?)))
    }
}

#[expect(unsafe_code, reason = "wasmtime trusts what is said of a memory")]
// SAFETY: memories are slots, of which each has one owner, with as much behind what is accessible as was asked for.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved_bytes: Option<usize>,
        guard_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if ty.is_shared() || guard_bytes > MEMORY_GUARD_BYTES || reserved_bytes > Some(MEMORY_RESERVATION_BYTES) {
            return Err("such a linear memory is not supported".to_owned());
        }
        let accessible = accessible_of(minimum).ok_or("it is larger than what is reserved for it")?;
        let slot = self.0.take(accessible).map_err(|error| error.to_string())?;
        let slots = Arc::clone(&self.0);
        Ok(Box::new(Memory { slots, slot, initially_accessible: accessible, bytes: minimum }))
    }
}

#[expect(unsafe_code, reason = "wasmtime trusts what is said of a memory")]
// SAFETY: exactly `byte_size` bytes, rounded up to pages, are accessible, and none behind them for as far as the
// creator was told; they do not move.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.bytes
    }

    fn byte_capacity(&self) -> usize {
        MEMORY_RESERVATION_BYTES
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        let accessible = accessible_of(bytes).ok_or_else(|| wasmtime::format_err!("more than is reserved for it"))?;
        self.slot.make_accessible(accessible)?;
        self.bytes = bytes;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.slot.start
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut slot = mem::replace(&mut self.slot, Slot::NONE);
        slot.reset(self.initially_accessible);
        self.slots.put_back(slot);
    }
}

/// Makes the stacks that guests run on.
pub(super) struct Stacks(Arc<Slots>);

struct Stack {
    slots: Arc<Slots>,
    slot: Slot,
}

impl Stacks {
    /// # Errors
    ///
    /// When there is no address space for so many.
    pub(super) fn new(count: u32) -> wasmtime::Result<Self> {
        Ok(Self(Arc::new(Slots::new(count, STACK_BYTES, rustix::param::page_size())?)))
    }
}

#[expect(unsafe_code, reason = "wasmtime trusts what is said of a stack")]
// SAFETY: stacks are slots, of which each has one owner, with a page before them that is not accessible.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        wasmtime::ensure!(size <= STACK_BYTES && !zeroed, "such a stack is not supported");
        let slot = self.0.take(STACK_BYTES)?;
        Ok(Box::new(Stack { slots: Arc::clone(&self.0), slot }))
    }
}

#[expect(unsafe_code, reason = "wasmtime trusts what is said of a stack")]
// SAFETY: all of the slot is accessible, and what is before it never is.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.slot.start.wrapping_add(STACK_BYTES)
    }

    fn range(&self) -> Range<usize> {
        self.slot.start.addr()..self.top().addr()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        self.slot.start.wrapping_sub(self.slots.guard_bytes)..self.slot.start
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.slots.put_back(mem::replace(&mut self.slot, Slot::NONE));
    }
}

#[cfg(test)]
mod tests;
