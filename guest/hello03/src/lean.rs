//! What a guest without the standard library needs: an allocator, for the host too, and an end for panics.

use alloc::alloc::{GlobalAlloc, Layout, alloc, realloc};
use core::arch::wasm32;
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::ptr::null_mut;

const PAGE_BYTES: usize = 64 << 10;

/// Powers of two, each with its free blocks; new ones come from what the first page has left, then from new
/// pages. For one request that is as good as it gets, and it also lasts where a host keeps the instance.
struct Blocks(UnsafeCell<State>);

struct State {
    /// The first free block of each size; it begins with the address of the next.
    free: [*mut *mut u8; usize::BITS as usize],
    next: usize,
    end: usize,
}

#[global_allocator]
static BLOCKS: Blocks = Blocks(UnsafeCell::new(State { free: [null_mut(); usize::BITS as usize], next: 0, end: 0 }));

unsafe extern "C" {
    /// Where the linker's data ends and the heap may begin.
    static __heap_base: u8;
}

// There is one thread.
unsafe impl Sync for Blocks {}

fn size_class(layout: Layout) -> usize {
    let bytes = layout.size().max(layout.align()).max(size_of::<*mut u8>());
    bytes.next_power_of_two().trailing_zeros() as usize
}

unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = size_class(layout);
        let state = unsafe { &mut *self.0.get() };
        let free = state.free[class];
        if !free.is_null() {
            state.free[class] = unsafe { *free }.cast();
            return free.cast();
        }
        let bytes = 1 << class;
        if state.end == 0 {
            state.next = &raw const __heap_base as usize;
            state.end = wasm32::memory_size(0) * PAGE_BYTES;
        }
        let mut at = state.next.next_multiple_of(bytes);
        if at + bytes > state.end {
            let pages = bytes.div_ceil(PAGE_BYTES);
            let grown = wasm32::memory_grow(0, pages);
            if grown == usize::MAX {
                return null_mut();
            }
            at = grown * PAGE_BYTES;
            state.end = at + pages * PAGE_BYTES;
        }
        state.next = at + bytes;
        at as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let state = unsafe { &mut *self.0.get() };
        let first = &mut state.free[size_class(layout)];
        unsafe { *block.cast() = *first };
        *first = block.cast();
    }
}

/// Where the host puts strings and lists (Canonical ABI, `realloc`).
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_bytes: usize, align: usize, new_bytes: usize) -> *mut u8 {
    let layout = |bytes| unsafe { Layout::from_size_align_unchecked(bytes, align) };
    let new =
        unsafe { if old_bytes == 0 { alloc(layout(new_bytes)) } else { realloc(old, layout(old_bytes), new_bytes) } };
    if new.is_null() {
        wasm32::unreachable();
    }
    new
}

#[panic_handler]
fn trap(_: &PanicInfo<'_>) -> ! {
    wasm32::unreachable()
}
