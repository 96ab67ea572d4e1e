//! Corrects wasmtime's `PAGEMAP_SCAN` requests to Linux when it resets a slot, and extends their results.
//!
//! With `pagemap_scan`, wasmtime resets only the pages that a guest has written, which it gets from
//! `ioctl(PAGEMAP_SCAN)`. Up to and including 48.0.8 it requests pages that are written *and present*, and so misses
//! those that are swapped out, or being migrated by the kernel, at that moment. They return later with the contents
//! that the previous request has left in them (bytecodealliance/wasmtime#14357). So this program overrides `ioctl` with
//! the function below: it requests written pages that are present *or swapped*, which is how the kernel reports both,
//! and passes everything else on unchanged. Where scans do not go through this function, slots are reset as a whole.
//!
//! wasmtime's buffer has room for 32 regions of pages. Memory beyond them is returned to the system, and causes page
//! faults in the next instance. For a JavaScript engine, which writes to scattered pages of its 9 MiB, that is half of
//! the cost of a request. So if the buffer is full, the scan is continued, and regions that are close to each other are
//! merged, including the pages between them: resetting those has no effect, as they are unchanged.

use std::ffi::{c_int, c_ulong, c_void};
use std::slice;
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
    /// A page is reported if it is in all of these categories …
    category_mask: u64,
    /// … and in one of these, unless there are none.
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// Regions that are scanned beyond a full buffer. Memory beyond them is returned to the system.
const FURTHER_REGIONS: usize = 256;

/// Whether a scan has gone through [`ioctl`]. If one has, all of them do.
static IS_CORRECTED: AtomicBool = AtomicBool::new(false);

/// Whether wasmtime's scans are corrected. Known once a pool has been created, since wasmtime tries a scan then.
pub(crate) fn is_corrected() -> bool {
    IS_CORRECTED.load(Relaxed)
}

/// Changes written and present to written and either present or swapped. Returns whether this was a request of
/// wasmtime's.
fn correct(scan: &mut Scan) -> bool {
    let is_wasmtimes = scan.category_mask & (WRITTEN | PRESENT) == WRITTEN | PRESENT && scan.category_anyof_mask == 0;
    if is_wasmtimes {
        scan.category_mask &= !PRESENT;
        scan.category_anyof_mask = PRESENT | SWAPPED;
    }
    is_wasmtimes
}

/// Continues a scan that has filled its buffer with `found` regions, and merges regions so that as many as possible fit
/// into the buffer and the scan's page limit. Returns their number, or None if that is no improvement.
///
/// # Safety
///
/// `scan` and its regions must be as the kernel has left them.
#[expect(unsafe_code, reason = "the kernel is given places to write to, as numbers")]
unsafe fn go_on(descriptor: c_int, scan: &mut Scan, found: usize) -> Option<usize> {
    // SAFETY: the caller guarantees that these regions are valid, and has exclusive access to them.
    let room = unsafe { slice::from_raw_parts_mut(scan.regions as *mut Region, found) };
    let most_bytes = scan.max_pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)?;
    let mut further = [Region::default(); FURTHER_REGIONS];
    let mut rest = Scan {
        start: scan.walk_end,
        regions: further.as_mut_ptr() as u64,
        regions_len: FURTHER_REGIONS as u64,
        ..*scan
    };
    // SAFETY: `rest` and `further` live longer than the call.
    let count = unsafe { kernel(descriptor, PAGEMAP_SCAN.into(), (&raw mut rest).cast()) };
    let all = [room, further.get(..usize::try_from(count).ok()?)?].concat();
    let mut taken = all.len();
    while taken > found {
        let mut regions = all.get(..taken)?.to_vec();
        join(&mut regions, found);
        if regions.iter().map(|region| region.end - region.start).sum::<u64>() <= most_bytes {
            room.get_mut(..regions.len())?.copy_from_slice(&regions);
            scan.walk_end = all.get(taken).map_or(rest.walk_end, |next| next.start);
            return Some(regions.len());
        }
        taken -= (taken - found).div_ceil(4);
    }
    None
}

/// Merges neighbours in `regions`, which are sorted, the smallest gaps first, until `most` regions, and at least one,
/// are left.
fn join(regions: &mut Vec<Region>, most: usize) {
    let gap = |one: &Region, next: &Region| next.start - one.end;
    let mut gaps: Vec<u64> = regions.array_windows().map(|[one, next]| gap(one, next)).collect();
    let Some(at) = gaps.len().checked_sub(most.max(1)) else { return };
    let widest = *gaps.select_nth_unstable(at).1;
    let mut as_wide = at + 1 - gaps.iter().filter(|gap| **gap < widest).count();
    regions.dedup_by(|next, one| {
        let gap = gap(one, next);
        let is_closed = gap < widest || gap == widest && as_wide > 0;
        if is_closed {
            as_wide -= usize::from(gap == widest);
            one.end = next.end;
        }
        is_closed
    });
}

/// The kernel's `ioctl`.
///
/// # Safety
///
/// `argument` must be valid for `request`.
#[expect(unsafe_code, reason = "as the C library's")]
unsafe fn kernel(descriptor: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: the caller guarantees it; the C library makes the same system call.
    #[expect(clippy::cast_possible_truncation, reason = "the kernel gives an `int`")]
    unsafe {
        libc::syscall(libc::SYS_ioctl, descriptor, request, argument) as c_int
    }
}

/// Overrides the C library's `ioctl` in this program.
///
/// # Safety
///
/// As for the kernel's `ioctl`: `argument` must be valid for `request`.
#[expect(unsafe_code, reason = "wasmtime has no other place where its scans could be corrected")]
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(descriptor: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // C libraries differ in the type of `request`; the kernel uses 32 bits of it.
    #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
    let is_scan = request as u32 == PAGEMAP_SCAN && !argument.is_null();
    if !is_scan {
        // SAFETY: the caller guarantees it.
        return unsafe { kernel(descriptor, request, argument) };
    }
    IS_CORRECTED.store(true, Relaxed);
    // SAFETY: the argument of this request is a `pm_scan_arg`, to which the caller has exclusive access during the
    // call.
    let scan = unsafe { &mut *argument.cast::<Scan>() };
    let is_wasmtimes = correct(scan);
    // SAFETY: the caller guarantees it.
    let found = unsafe { kernel(descriptor, request, (&raw mut *scan).cast()) };
    match usize::try_from(found) {
        Ok(count) if is_wasmtimes && count as u64 == scan.regions_len && scan.walk_end < scan.end => {
            // SAFETY: the kernel has just written the regions.
            let joined = unsafe { go_on(descriptor, scan, count) };
            joined.and_then(|count| c_int::try_from(count).ok()).unwrap_or(found)
        }
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    use super::*;
    use crate::engine::pool::Needs;
    use crate::engine::pool::{Engines, PoolKind, Reset, StackDetail, WasiVersion};

    /// Otherwise pools would be created without scans, and ordinary guests would cost twice as much.
    #[test]
    fn wasmtime_scans_through_here() {
        let kind = PoolKind { wasi_version: WasiVersion::P2, reset: Reset::Written };
        let needs =
            Needs { memories: 1, memory_bytes: 1 << 20, tables: 1, table_elements: 1, core_instances: 1, stacks: 1 };
        Engines::new(&[(kind, needs)], 1, StackDetail::Names).expect("a pool");
        assert!(is_corrected());
    }

    /// Includes the kernel's part.
    #[test]
    #[expect(unsafe_code, reason = "mappings and scans have no safe form")]
    fn all_that_was_written_is_reported_in_the_room_there_is() {
        const PAGES: usize = 32_768;
        const MOST: u64 = 512;
        let page = rustix::param::page_size();
        // `count` pages are written, one in every `every`. Expected: the last page that is reported, and where the scan
        // ends.
        for (every, count, last, end) in [
            (3, 20, 57, PAGES),
            (3, 32, 93, PAGES),
            (3, 33, 96, PAGES),
            (3, 170, 507, PAGES),
            (40, 40, 1560, PAGES),
            // Only some of the further regions fit into the page limit.
            (3, 400, 525, 528),
            (20, 200, 1040, 1060),
            // None of the further regions fits.
            (600, 40, 18_600, 19_200),
        ] {
            // SAFETY: a new mapping.
            let base = unsafe {
                let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
                mmap_anonymous(std::ptr::null_mut(), PAGES * page, protection, flags).expect("memory")
            };
            for at in 0..count {
                // SAFETY: within that mapping.
                unsafe { base.cast::<u8>().add(at * every * page).write_volatile(1) };
            }
            let mut regions = [Region::default(); 32];
            let mut scan = Scan {
                size: size_of::<Scan>() as u64,
                start: base as u64,
                end: base as u64 + (PAGES * page) as u64,
                regions: regions.as_mut_ptr() as u64,
                regions_len: 32,
                max_pages: MOST,
                category_mask: WRITTEN | PRESENT,
                ..Scan::default()
            };
            let pagemap = std::fs::File::open("/proc/self/pagemap").expect("Linux");
            // SAFETY: `scan`, its regions and the scanned memory live longer than the call.
            let found = unsafe { ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN.into(), (&raw mut scan).cast()) };
            // SAFETY: no references to the memory are left.
            unsafe { munmap(base, PAGES * page).expect("that memory") };
            let reported: Vec<u64> = regions[..usize::try_from(found).expect("a scan")]
                .iter()
                .flat_map(|region| (region.start..region.end).step_by(page))
                .map(|address| (address - base as u64) / page as u64)
                .collect();
            assert!(reported.len() as u64 <= MOST && reported.is_sorted(), "{every} {count}: {reported:?}");
            let walked = (scan.walk_end - base as u64) / page as u64;
            assert_eq!((reported.last(), walked), (Some(&last), end as u64), "{every} {count}");
            for page in (0..count).map(|at| (at * every) as u64).filter(|page| *page < walked) {
                assert!(reported.contains(&page), "{every} {count}: {page}");
            }
        }
    }

    #[test]
    fn the_nearest_regions_are_joined() {
        let pages = |list: &[(u64, u64)]| -> Vec<Region> {
            list.iter().map(|(start, end)| Region { start: *start, end: *end, categories: 0 }).collect()
        };
        let cases: [(usize, &[(u64, u64)]); 5] = [
            (5, &[(0, 1), (4, 5), (6, 9), (20, 21)]),
            (4, &[(0, 1), (4, 5), (6, 9), (20, 21)]),
            (3, &[(0, 1), (4, 9), (20, 21)]),
            (2, &[(0, 9), (20, 21)]),
            (0, &[(0, 21)]),
        ];
        for (most, expected) in cases {
            let mut regions = pages(&[(0, 1), (4, 5), (6, 9), (20, 21)]);
            join(&mut regions, most);
            assert_eq!(regions, pages(expected), "{most}");
        }
        let mut none = Vec::new();
        join(&mut none, 2);
        assert_eq!(none, []);
    }

    #[test]
    fn asks_for_swapped_pages_too() {
        for (mask, anyof, expected) in [
            (WRITTEN | PRESENT, 0, (WRITTEN, PRESENT | SWAPPED)),
            // Requests of other forms are left unchanged.
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
