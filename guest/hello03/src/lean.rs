//! What a guest without the standard library needs: an allocator, for the host too, and an end for panics.

use alloc::alloc::{GlobalAlloc, Layout, realloc};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;

/// Gives memory and takes none back: the instance is gone after the request.
struct Bump {
    next: UnsafeCell<usize>,
}

/// More than a request of Hello World takes.
const HEAP_BYTES: usize = 16 << 10;

#[global_allocator]
static ALLOCATOR: Bump = Bump { next: UnsafeCell::new(0) };

static mut HEAP: [u8; HEAP_BYTES] = [0; HEAP_BYTES];

// There is one thread.
unsafe impl Sync for Bump {}

unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let next = self.next.get();
        unsafe {
            let begin = (&raw mut HEAP).cast::<u8>();
            let at = (begin.add(*next)).align_offset(layout.align()) + *next;
            if at + layout.size() > HEAP_BYTES {
                return core::ptr::null_mut();
            }
            *next = at + layout.size();
            begin.add(at)
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// Where the host puts strings and lists (Canonical ABI, `realloc`).
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_bytes: usize, align: usize, new_bytes: usize) -> *mut u8 {
    let layout = |bytes| unsafe { Layout::from_size_align_unchecked(bytes, align) };
    let new = if old_bytes == 0 {
        unsafe { alloc::alloc::alloc(layout(new_bytes)) }
    } else {
        unsafe { realloc(old, layout(old_bytes), new_bytes) }
    };
    if new.is_null() {
        core::arch::wasm32::unreachable();
    }
    new
}

#[panic_handler]
fn trap(_: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
