//! Slots for the instances of small components: their linear memories and their stacks.
//!
//! Larger components use wasmtime's pooling allocator. For small ones its bookkeeping, which supports many threads and
//! partial resets of memories, costs more than zeroing the memory. Here a slot is taken from a free list: among those
//! with the component's initial memory size, the one that was returned last, which is still in the CPU's caches. When
//! the instance is dropped, its memory is zeroed and the slot is returned. (Tables are on the heap.) Stacks are not
//! cleared: a guest cannot read anything on a stack that it has not written itself.

use std::mem;
use std::ops::Range;
use std::ptr::{self, null_mut};
use std::sync::{Arc, Mutex, MutexGuard};

use daylily_core::log_target;
use rustix::io;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType, StackCreator, StackMemory};

use crate::sys::lock::lock;

/// Reserved address space of a linear memory. With this much, accesses to 32-bit memories need no bounds checks.
pub(crate) const MEMORY_RESERVATION_BYTES: usize = 4 << 30;

/// Inaccessible address space after a linear memory. Only accesses with a larger static offset need bounds checks.
pub(crate) const MEMORY_GUARD_BYTES: usize = 32 << 20;

/// Bytes of a memory that stay resident between two uses of its slot. Memory beyond is returned to the system.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;

/// The size of a stack. Host functions run on it, too.
pub(crate) const STACK_BYTES: usize = 2 << 20;

/// Address space that is divided into slots of one size, with inaccessible guard regions between them.
struct Slots {
    /// The whole reservation; it starts with a guard region.
    reserved: Reserved,
    guard_bytes: usize,
    slot_bytes: usize,
    count: usize,
    free: Mutex<Free>,
}

/// No slot is free.
#[derive(Debug, thiserror::Error)]
#[error("all {count} slots are in use")]
pub(crate) struct SlotsInUse {
    count: usize,
}

struct Free {
    /// Free slots that have been used before, with the one that was returned last at the end.
    used: Vec<Slot>,
    /// The number of the first slot that has never been used.
    unused: usize,
}

/// A reserved range of addresses, which is initially inaccessible.
struct Reserved {
    start: *mut u8,
    bytes: usize,
}

/// A part of the reserved address space. Its owner has exclusive access to it.
struct Slot {
    start: *mut u8,
    /// The number of bytes, from the start, that can be read and written. All others are zero when they become
    /// accessible.
    accessible: usize,
}

#[expect(unsafe_code, reason = "mappings are not bound to a thread")]
// SAFETY: a reserved range is only accessed through its slots, each of which has one owner.
unsafe impl Send for Reserved {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Sync for Reserved {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Send for Slot {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: a shared reference gives access to nothing but the slot's address and size.
unsafe impl Sync for Slot {}

impl Reserved {
    const FLAGS: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);

    #[expect(unsafe_code, reason = "reserves address space")]
    fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::empty(), Self::FLAGS) }?;
        Ok(Self { start: start.cast(), bytes })
    }
}

impl Drop for Reserved {
    #[expect(unsafe_code, reason = "gives a mapping back")]
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new`. The owner of a slot keeps the range alive, so no slot is in use.
        let unmapped = unsafe { munmap(self.start.cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "a range that was mapped can be unmapped");
    }
}

impl Slots {
    /// # Errors
    ///
    /// If there is not enough address space.
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

    /// Takes a slot and makes exactly `accessible` bytes of it accessible. Prefers a used slot that needs no change for
    /// that.
    ///
    /// # Errors
    ///
    /// If all slots are in use, or the system cannot make the memory accessible.
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
    /// A placeholder for a slot that was moved out.
    const NONE: Self = Self { start: null_mut(), accessible: 0 };

    /// # Errors
    ///
    /// If the accessible part is to grow, and the system denies it; then nothing has changed.
    fn make_accessible(&mut self, bytes: usize) -> io::Result<()> {
        let (less, more) = (bytes.min(self.accessible), bytes.max(self.accessible));
        if less < more {
            let grows = bytes == more;
            let flags = if grows { MprotectFlags::READ | MprotectFlags::WRITE } else { MprotectFlags::empty() };
            if let Err(error) = self.protect(less..more, flags) {
                // A part of the range may have been changed (mprotect(2)).
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
        // SAFETY: a part of this slot, to which its owner has exclusive access.
        unsafe { mprotect(self.start.wrapping_add(range.start).cast(), range.len(), flags) }
    }

    /// Gives the memory in `range` back to the system, and makes it inaccessible. Aborts the process if that fails:
    /// guests depend on which bytes are accessible, and that would be unknown.
    #[expect(unsafe_code, reason = "there is no safe form of it")]
    fn map_nothing(&self, range: Range<usize>) {
        let (start, flags) = (self.start.wrapping_add(range.start).cast(), Reserved::FLAGS | MapFlags::FIXED);
        // SAFETY: a part of this slot, whose contents its owner does not use any more.
        if let Err(error) = unsafe { mmap_anonymous(start, range.len(), ProtFlags::empty(), flags) } {
            tracing::error!(
                target: log_target::WORKER,
                %error, "failed to reset the memory of an instance; this process aborts"
            );
            std::process::abort();
        }
    }

    /// Zeroes the accessible part, and leaves at most `accessible` bytes of it accessible.
    #[expect(unsafe_code, reason = "writes to where a guest did")]
    fn reset(&mut self, accessible: usize) {
        if self.accessible > KEEP_RESIDENT_BYTES {
            self.map_nothing(KEEP_RESIDENT_BYTES..self.accessible);
            self.accessible = KEEP_RESIDENT_BYTES;
        }
        // SAFETY: it is accessible, and belongs to this slot.
        unsafe { ptr::write_bytes(self.start, 0, self.accessible) };
        // This does not grow the accessible part, so it does not fail.
        let _ = self.make_accessible(accessible.min(self.accessible));
    }
}

/// A memory's size, rounded up to whole pages of the system. None if it exceeds the reservation.
fn accessible_of(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(rustix::param::page_size()).filter(|bytes| *bytes <= MEMORY_RESERVATION_BYTES)
}

/// Creates linear memories.
pub(crate) struct Memories(Arc<Slots>);

/// A linear memory, which is initially zero.
struct Memory {
    slots: Arc<Slots>,
    slot: Slot,
    initially_accessible: usize,
    bytes: usize,
}

impl Memories {
    /// # Errors
    ///
    /// If there is not enough address space.
    pub(crate) fn new(count: u32) -> wasmtime::Result<Self> {
        Ok(Self(Arc::new(Slots::new(count, MEMORY_RESERVATION_BYTES, MEMORY_GUARD_BYTES)?)))
    }
}

#[expect(unsafe_code, reason = "wasmtime trusts what is said of a memory")]
// SAFETY: memories are slots with one owner each, followed by as much inaccessible address space as was requested.
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
// SAFETY: exactly `byte_size` bytes, rounded up to whole pages, are accessible, and none after them within the
// reservation and guard sizes that the creator was called with. Memories do not move.
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

/// Creates the stacks that guests run on.
pub(crate) struct Stacks(Arc<Slots>);

struct Stack {
    slots: Arc<Slots>,
    slot: Slot,
}

impl Stacks {
    /// # Errors
    ///
    /// If there is not enough address space.
    pub(crate) fn new(count: u32) -> wasmtime::Result<Self> {
        Ok(Self(Arc::new(Slots::new(count, STACK_BYTES, rustix::param::page_size())?)))
    }
}

#[expect(unsafe_code, reason = "wasmtime trusts what is said of a stack")]
// SAFETY: stacks are slots with one owner each, and with an inaccessible page before them.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        wasmtime::ensure!(size <= STACK_BYTES && !zeroed, "such a stack is not supported");
        let slot = self.0.take(STACK_BYTES)?;
        Ok(Box::new(Stack { slots: Arc::clone(&self.0), slot }))
    }
}

#[expect(unsafe_code, reason = "wasmtime trusts what is said of a stack")]
// SAFETY: the whole slot is accessible, and the page before it never is.
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
