//! Commands for contributors, in addition to cargo's. `cargo xtask` without arguments lists them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

mod attack;
mod bench;
mod browser;
mod count;
mod fuzz;
mod healthy;
mod http;
mod javascript;
mod languages;
mod process;
mod prometheus;
mod server;
mod static_files;
mod stores;
mod templates;
mod tidy;
mod wit;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  guests [PACKAGE...]  build the guests (all of them, or those named) to components
  wit                  rewrite wit/*/deps from the crates the host is built with
  bench [--help]       measure daylily beside other servers
  count [--accept]     count instructions, system calls and allocations per request
  attack [--help]      measure what other clients notice of attacks
  prometheus [--help]  compare what a real Prometheus reads with what clients saw
  static-files [--help]  compare static files with nginx's
  stores [--help]      measure what operations on stores cost, and what others notice of outages
  languages            check exceptions and edits of guests in JavaScript and Python
  templates [NAME...]  make, build, serve and test a project from each template of `daylily new`
  tidy [--bless]       check documents and sources against each other
  fuzz [TARGET]        run a fuzz target; without one, list them
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["guests", packages @ ..] => guests(packages),
        ["wit"] => regenerate_wit(),
        ["bench", "--help" | "-h"] => say(bench::USAGE),
        ["bench", args @ ..] => root().and_then(|root| bench::main(root, args)),
        ["count"] => root().and_then(|root| count::main(root, false)),
        ["count", "--accept"] => root().and_then(|root| count::main(root, true)),
        ["attack", "--help" | "-h"] => say(attack::USAGE),
        ["attack", args @ ..] => root().and_then(|root| attack::main(root, args)),
        ["prometheus", "--help" | "-h"] => say(prometheus::USAGE),
        ["prometheus", args @ ..] => root().and_then(|root| prometheus::main(root, args)),
        ["static-files", "--help" | "-h"] => say(static_files::USAGE),
        ["static-files", args @ ..] => root().and_then(|root| static_files::main(root, args)),
        ["stores", "--help" | "-h"] => say(stores::USAGE),
        ["stores", parts @ ..] => root().and_then(|root| stores::main(root, parts)),
        ["languages"] => root().and_then(languages::main),
        ["templates", names @ ..] => root().and_then(|root| templates::main(root, names)),
        ["tidy"] => root().and_then(|root| tidy::main(root, false)),
        ["tidy", "--bless"] => root().and_then(|root| tidy::main(root, true)),
        ["tidy", ..] => say(tidy::USAGE),
        ["fuzz", args @ ..] => root().and_then(|root| fuzz::main(root, args)),
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
    let written = wit::run(root()?)?;
    say(&format!("wrote {written} files to wit/*/deps\n"))
}

/// The root directory of the workspace.
fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("failed to find the workspace")
}

/// Builds `packages`; `flags` may contain `--release`. All packages that a command needs are built by one call, because
/// separate calls would build their shared dependencies with different features.
fn cargo_build(root: &Path, flags: &[&str], packages: &[&str]) -> Result<()> {
    let mut cargo = cargo_build_command(root);
    cargo.args(flags);
    for package in packages {
        cargo.args(["--package", package]);
    }
    let status = cargo.status().context("failed to run cargo")?;
    ensure!(status.success(), "cargo could not build {} ({status}); its messages are above", packages.join(" and "));
    Ok(())
}

/// `cargo build` in the root of the workspace.
fn cargo_build_command(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked"]).current_dir(root);
    // Remove the variables that cargo has set for xtask: build scripts that depend on them would run again each time.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn say(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("failed to write to stdout")
}
