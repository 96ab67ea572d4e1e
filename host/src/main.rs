//! The `daylily` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    daylily::main(std::env::args_os())
}
