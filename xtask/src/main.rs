//! What a contributor needs beside cargo. `cargo xtask` alone prints the list.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

mod wit;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  guests [PACKAGE...]  build the guests (all of them, or those named) to components
  wit                  write wit/*/deps anew from the crates the host is built with
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["guests", packages @ ..] => guests(packages),
        ["wit"] => regenerate_wit(),
        [] | ["help" | "--help" | "-h"] => say(USAGE),
        _ => {
            let _ = write!(std::io::stderr(), "unknown command: {}\n\n{USAGE}", args.join(" "));
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn guests(packages: &[&str]) -> Result<()> {
    let dir = guest_builder::build(packages).context("failed to build the guests")?;
    say(&format!("components are in {}\n", dir.display()))
}

fn regenerate_wit() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("failed to find the workspace")?;
    let written = wit::run(root)?;
    say(&format!("wrote {written} files to wit/*/deps\n"))
}

fn say(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("failed to write to stdout")
}
