//! The fuzz targets, in one library that libFuzzer (`runner`) loads: `cargo xtask fuzz` builds both.
//!
//! A target takes any bytes, and panics when it finds something wrong, which ends the process.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    reason = "a target finds something by panicking"
)]

mod guests;
mod reference;
mod targets;

use std::ffi::{CStr, c_char, c_int};
use std::sync::Once;

/// Runs the target of this name on some bytes. 0 when there is none.
///
/// # Safety
///
/// `target` is a C string, and there are `len` bytes at `data`.
#[expect(unsafe_code, reason = "what C++ loads and calls")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn daylily_fuzz(target: *const c_char, data: *const u8, len: usize) -> c_int {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            report(panic);
            // libFuzzer writes the input to a file then.
            std::process::abort();
        }));
    });
    // SAFETY: as the caller promises.
    let (target, data) = unsafe { (CStr::from_ptr(target), std::slice::from_raw_parts(data, len)) };
    match targets::ALL.iter().find(|(name, _)| name.as_bytes() == target.to_bytes()) {
        Some((_, run)) => {
            run(data);
            1
        }
        None => 0,
    }
}
