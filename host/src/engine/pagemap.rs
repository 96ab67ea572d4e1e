//! Corrects the question that wasmtime asks Linux when it resets a slot.
//!
//! With `pagemap_scan`, wasmtime resets only the pages that a guest has written: it asks for them with
//! `ioctl(PAGEMAP_SCAN)`. Up to and including 48.0.8 it asks for pages that are written *and present*, and so
//! misses those that are swapped out, or being moved by the kernel, at that moment. They come back later with
//! what the last request left in them (bytecodealliance/wasmtime#14357). So `ioctl` of this program is the one
//! below: it asks for written pages that are present *or swapped*, which is how the kernel reports both, and
//! passes everything else on as it is. A slot of which nobody asks in this way is reset as a whole.

use std::ffi::{c_int, c_ulong, c_void};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// `PAGEMAP_SCAN`: `_IOWR('f', 16, struct pm_scan_arg)` of `linux/fs.h`.
const PAGEMAP_SCAN: u32 = 0xC060_6610;

/// The categories of pages: `PAGE_IS_…` of `linux/fs.h`.
const WRITTEN: u64 = 1 << 1;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    category_inverted: u64,
    /// A page is reported that is in all of these …
    category_mask: u64,
    /// … and in one of these, unless there are none.
    category_anyof_mask: u64,
    return_mask: u64,
}

/// A scan has passed through [`ioctl`], as all of them do then.
static IS_CORRECTED: AtomicBool = AtomicBool::new(false);

/// Whether wasmtime's scans are corrected. Known once a pool has been made: wasmtime tries a scan then.
pub(super) fn is_corrected() -> bool {
    IS_CORRECTED.load(Relaxed)
}

/// Written and present becomes written and either present or swapped.
fn correct(scan: &mut Scan) {
    if scan.category_mask & (WRITTEN | PRESENT) == WRITTEN | PRESENT && scan.category_anyof_mask == 0 {
        scan.category_mask &= !PRESENT;
        scan.category_anyof_mask = PRESENT | SWAPPED;
    }
}

/// Takes the place of the C library's `ioctl` in this program.
///
/// # Safety
///
/// As for the kernel's: `argument` is what `request` takes.
#[expect(unsafe_code, reason = "wasmtime has no other place where its scans could be corrected")]
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(descriptor: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // The C libraries differ in the type of `request`; the kernel takes 32 bits of it.
    #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
    if request as u32 == PAGEMAP_SCAN && !argument.is_null() {
        // SAFETY: this request takes a `pm_scan_arg`, which the caller has for itself during the call.
        correct(unsafe { &mut *argument.cast::<Scan>() });
        IS_CORRECTED.store(true, Relaxed);
    }
    // SAFETY: what the caller vouches for; the C library's own does the same.
    #[expect(clippy::cast_possible_truncation, reason = "the kernel gives an `int`")]
    unsafe {
        libc::syscall(libc::SYS_ioctl, descriptor, request, argument) as c_int
    }
}

#[cfg(test)]
mod tests {
    use super::super::artefact::Needs;
    use super::super::config::{Engines, Flavour, PoolKind, Reset};
    use super::*;

    /// Or pools would be made without scans, and ordinary guests cost twice as much.
    #[test]
    fn wasmtime_scans_through_here() {
        let kind = PoolKind { flavour: Flavour::V2, reset: Reset::Written };
        let needs =
            Needs { memories: 1, memory_bytes: 1 << 20, tables: 1, table_elements: 1, core_instances: 1, stacks: 1 };
        Engines::new(&[(kind, needs)], 1).expect("a pool");
        assert!(is_corrected());
    }

    #[test]
    fn asks_for_swapped_pages_too() {
        for (mask, anyof, expected) in [
            (WRITTEN | PRESENT, 0, (WRITTEN, PRESENT | SWAPPED)),
            // What is not wasmtime's question stays as it is.
            (WRITTEN, 0, (WRITTEN, 0)),
            (WRITTEN | PRESENT, SWAPPED, (WRITTEN | PRESENT, SWAPPED)),
        ] {
            let mut scan = Scan { category_mask: mask, category_anyof_mask: anyof, ..Scan::default() };
            correct(&mut scan);
            assert_eq!((scan.category_mask, scan.category_anyof_mask), expected, "{mask:b} {anyof:b}");
        }
        assert_eq!(size_of::<Scan>(), (PAGEMAP_SCAN >> 16 & 0x3FFF) as usize, "the size that the request names");
    }
}
