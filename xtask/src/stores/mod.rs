//! `cargo xtask stores`: what an operation on a key-value store costs, and what other requests notice of a store that has
//! stopped. It is a benchmark: it measures for minutes, and needs an otherwise idle machine.

use std::path::Path;

use anyhow::{Context, Result, bail};

mod cost;
mod outages;
mod setup;

use setup::Setup;

pub(crate) const USAGE: &str = "\
usage: cargo xtask stores [cost|outages]...

  cost     CPU time of `get` and `set`, beside a program without guests that does the same
  outages  requests that need no store, while one does nothing for 10 s: SQLite's file is locked by another process, and
           the servers are stopped

Needs `redis-server` and `nats-server`, on the path or as DAYLILY_REDIS_SERVER and DAYLILY_NATS_SERVER.

Ends with 1 when a bar is missed: an operation costs at most 1.3 times what it costs in the other program, and 15 µs;
during an outage, the 99th percentile of requests without a store is at most 1.2 times what it is before, no request takes
longer than store_timeout and a second, and no worker dies.
";

/// A part, which returns what is above its bars.
type Part = fn(&Setup) -> Result<Vec<String>>;

const PARTS: [(&str, Part); 2] = [("cost", cost::run), ("outages", outages::run)];

/// Measures the named parts, or all of them.
pub(crate) fn main(root: &Path, names: &[&str]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|(part, _)| part != *name)) {
        bail!("there is no part `{unknown}`\n\n{USAGE}");
    }
    let guests = guest_builder::build(&["hello", "store"]).context("failed to build the guests")?;
    crate::cargo_build(root, &["--release"], &["daylily", "daylily-bench"])?;
    let setup = Setup::start(root, &guests)?;
    let mut missed = Vec::new();
    for (name, run) in PARTS.iter().filter(|(part, _)| names.is_empty() || names.contains(part)) {
        missed.extend(run(&setup).with_context(|| (*name).to_owned())?);
    }
    if !missed.is_empty() {
        bail!("a bar is missed in {}", missed.join(", "));
    }
    Ok(())
}
