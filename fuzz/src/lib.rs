//! The fuzz targets, in one library that libFuzzer (`runner`) loads. `cargo xtask fuzz` builds both.
//!
//! A target accepts any bytes. It panics when it finds a bug, which ends the process.

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

/// In the message of a fault of wasmtime that it has noticed itself, and which ends one call (`HOST_PANIC` in
/// host/src/engine/meter.rs). Seen with 48.0.8, in components of 0.3 only: "expected WriteState::GuestReady", "support
/// host write cancellation". Without debug assertions, most of them are traps.
const OF_WASMTIME: &str = "BUG: ";

/// Runs the target of this name on `data`. Returns 0 if there is no such target.
///
/// # Safety
///
/// `target` must be a C string, and `data` must point to `len` readable bytes.
#[expect(unsafe_code, reason = "what C++ loads and calls")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn daylily_fuzz(target: *const c_char, data: *const u8, len: usize) -> c_int {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.to_string().contains(OF_WASMTIME) {
                return;
            }
            report(panic);
            // Makes libFuzzer write the input to a file.
            std::process::abort();
        }));
    });
    // SAFETY: the caller's contract.
    let (target, data) = unsafe { (CStr::from_ptr(target), std::slice::from_raw_parts(data, len)) };
    match targets::ALL.iter().find(|(name, _)| name.as_bytes() == target.to_bytes()) {
        Some((_, run)) => {
            run(data);
            1
        }
        None => 0,
    }
}
