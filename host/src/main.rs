//! The `daylily` program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: daylily::Allocator = daylily::Allocator;

fn main() -> ExitCode {
    // mimalloc requests huge pages, which would make each of these small processes 10 MB larger. Workers inherit this
    // setting. If it fails, the processes are only larger.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    daylily::main(std::env::args_os())
}
