//! libFuzzer's main program. Loads the fuzz targets from a library and calls one of them. `cargo xtask fuzz` sets both
//! environment variables.
#![no_main]

use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// The path of the library.
const LIBRARY: &str = "DAYLILY_FUZZ_LIBRARY";
/// The name of the target.
const TARGET: &str = "DAYLILY_FUZZ_TARGET";
/// The library's entry point. Returns 0 for an unknown target.
const ENTRY: &CStr = c"daylily_fuzz";

type Entry = unsafe extern "C" fn(target: *const c_char, data: *const u8, len: usize) -> c_int;

struct Target {
    entry: Entry,
    name: CString,
}

static CHOSEN: LazyLock<Target> = LazyLock::new(|| {
    let variable = |name| {
        let value = std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; start `cargo xtask fuzz`"));
        CString::new(value).expect("a variable without a zero")
    };
    let library = variable(LIBRARY);
    // SAFETY: the path and the name are C strings, and the function of this name in `daylily-fuzz` has this type.
    let entry = unsafe {
        let library = libc::dlopen(library.as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null(), "no library can be loaded: {:?}", CStr::from_ptr(libc::dlerror()));
        let entry = libc::dlsym(library, ENTRY.as_ptr());
        assert!(!entry.is_null(), "the library has no fuzz targets");
        std::mem::transmute::<*mut libc::c_void, Entry>(entry)
    };
    Target { entry, name: variable(TARGET) }
});

fuzz_target!(init: { LazyLock::force(&CHOSEN); }, |data: &[u8]| {
    // SAFETY: both pointers are valid during the call.
    let known = unsafe { (CHOSEN.entry)(CHOSEN.name.as_ptr(), data.as_ptr(), data.len()) };
    assert!(known != 0, "there is no fuzz target {:?}", CHOSEN.name);
});
