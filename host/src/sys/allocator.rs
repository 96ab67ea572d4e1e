//! The allocator of the program.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// The alignment of C's `malloc` on the targets that wasmtime supports, for blocks of at least this size.
const NATURAL_ALIGN: usize = 16;

/// mimalloc. Its functions for aligned memory are called only for alignments that the ordinary ones do not guarantee:
/// they take some twenty instructions more, and a request makes about a hundred allocations.
pub struct Allocator;

/// The same condition as the standard library's for the C library's allocator.
fn is_natural(align: usize, size: usize) -> bool {
    align <= NATURAL_ALIGN && align <= size
}

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: mimalloc keeps the contract of C's allocation functions, also when a block of one function is passed to
// another; each size and alignment is passed on, or is met by every block of that size.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe {
            if is_natural(layout.align(), layout.size()) {
                mi_malloc(layout.size()).cast()
            } else {
                mi_malloc_aligned(layout.size(), layout.align()).cast()
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe {
            if is_natural(layout.align(), layout.size()) {
                mi_zalloc(layout.size()).cast()
            } else {
                mi_zalloc_aligned(layout.size(), layout.align()).cast()
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        unsafe {
            if is_natural(layout.align(), new_size) {
                mi_realloc(block.cast(), new_size).cast()
            } else {
                mi_realloc_aligned(block.cast(), new_size, layout.align()).cast()
            }
        }
    }
}
