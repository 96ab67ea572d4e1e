//! `cargo xtask prometheus`: a real Prometheus scrapes a real daylily, while that reloads, is upgraded and loses
//! workers. What Prometheus has must then agree with what the clients saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

mod api;
mod checks;
mod events;
mod expressions;
mod load;
mod random;
mod server;

use api::{Mode, Prometheus};
use events::Events;
use load::{KINDS, Seen};
use server::Server;

pub(crate) const USAGE: &str = "\
usage: cargo xtask prometheus [--seconds COUNT]

  --seconds COUNT  how long daylily is under load (default 60, from 20 to 3600), once for each of two modes: OpenMetrics
                   with classic histograms, and Protocol Buffers with native histograms

Needs `prometheus` and `promtool` on the path, or in the directory DAYLILY_PROMETHEUS_DIR (Debian, Ubuntu: the package
prometheus, which `apt-get download prometheus` and `dpkg -x` unpack without installing a service).

Ends with 1 when a scrape fails, a request has no response although no worker was killed, a counter decreases, the
numbers of requests by outcome or the durations are not those that the clients saw, an expression of the dashboard or of
the rules has no result, or random paths, hosts and methods make more series.
";

const DIR: &str = "DAYLILY_PROMETHEUS_DIR";

/// How long it may take until Prometheus has the last requests.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

/// Prometheus' programs.
pub(crate) struct Tools {
    prometheus: PathBuf,
    promtool: PathBuf,
}

/// Runs daylily under Prometheus in each mode.
pub(crate) fn main(root: &Path, args: &[&str]) -> Result<()> {
    let seconds = options(args)?;
    let tool = |name| crate::process::needed(name, DIR, "prometheus");
    let tools = Tools { prometheus: tool("prometheus")?, promtool: tool("promtool")? };
    let guests = guest_builder::build(server::PACKAGES).context("failed to build the guests")?;
    crate::cargo_build(root, &["--release"], &["daylily"])?;
    let mut faults = Vec::new();
    for mode in Mode::ALL {
        crate::say(&format!("{mode}:\n"))?;
        let found = run(root, &tools, &guests, (mode, seconds)).with_context(|| format!("in the mode {mode}"))?;
        faults.extend(found.into_iter().map(|fault| format!("{mode}: {fault}")));
    }
    match faults.as_slice() {
        [] => crate::say("Prometheus has what the clients saw\n"),
        faults => bail!("{} faults:\n  {}", faults.len(), faults.join("\n  ")),
    }
}

/// Everything in one mode; returns what is wrong.
fn run(root: &Path, tools: &Tools, guests: &Path, (mode, seconds): (Mode, u64)) -> Result<Vec<String>> {
    let mut server = Server::start(root, guests)?;
    let prometheus = Prometheus::start(root, &tools.prometheus, mode, server.admin)?;
    let begun = Instant::now();
    let mut faults = Vec::new();

    // Without killed workers, each request is counted exactly.
    let (calm, rough) = Events::within(Duration::from_secs(seconds));
    let seen = under_load(&mut server, &calm)?;
    checks::report(&seen, &calm)?;
    faults.extend(seen.surprises.iter().cloned());
    faults.extend(seen.unanswered.iter().map(|request| format!("a request had no response: {request}")));
    faults.extend(settle(|| checks::exact(&prometheus, &seen.counts))?);
    let (now, so_far) = (unix_time()?, begun.elapsed().as_secs() + 1);
    faults.extend(checks::quantiles(&prometheus, mode, &seen.durations, (now, so_far))?);

    let before = seen;
    let mut seen = under_load(&mut server, &rough)?;
    checks::report(&seen, &rough)?;
    faults.extend(seen.surprises.iter().cloned());
    seen.add(before);
    let tolerance = (rough.kills() * KINDS.iter().map(|kind| kind.clients).sum::<usize>()) as u64;
    faults.extend(settle(|| checks::near(&prometheus, &seen, tolerance))?);
    // A dashboard shows what happens now: without requests, its ratios and quantiles have no value.
    let load = load::Load::start(server.port, server.origin())?;
    let found = settle(|| checks::expressions(&prometheus, root, mode));
    load.end()?;
    faults.extend(found?);

    faults.extend(random::more_series(&server)?);
    faults.extend(checks::page(&server, &tools.promtool)?);
    // One more scrape, with all of it.
    thread::sleep(Duration::from_secs(2));
    faults.extend(checks::whole_run(&prometheus, mode, begun.elapsed().as_secs())?);
    Ok(faults)
}

/// Runs the load and the events beside it.
fn under_load(server: &mut Server, events: &Events) -> Result<Seen> {
    let load = load::Load::start(server.port, server.origin())?;
    let done = events.run(server);
    let seen = load.end();
    done?;
    seen
}

/// Repeats a check until it finds nothing, or for [`SETTLES_WITHIN`]: Prometheus scrapes once a second.
fn settle(mut check: impl FnMut() -> Result<Vec<String>>) -> Result<Vec<String>> {
    let deadline = Instant::now() + SETTLES_WITHIN;
    loop {
        let faults = check()?;
        if faults.is_empty() || Instant::now() > deadline {
            return Ok(faults);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn unix_time() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs_f64())
}

/// Numbers of requests by outcome.
type Counts = BTreeMap<String, u64>;

fn options(args: &[&str]) -> Result<u64> {
    match args {
        [] => Ok(60),
        ["--seconds", count] => match count.parse() {
            Ok(seconds @ 20..=3600) => Ok(seconds),
            _ => bail!("--seconds takes a number from 20 to 3600"),
        },
        _ => bail!("unknown arguments: {}\n\n{USAGE}", args.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::options;

    #[test]
    fn arguments_are_read() {
        assert_eq!([options(&[]).unwrap(), options(&["--seconds", "300"]).unwrap()], [60, 300]);
        for wrong in [&["--seconds"][..], &["--seconds", "19"], &["x"], &["--seconds", "x"]] {
            assert!(options(wrong).is_err(), "{wrong:?}");
        }
    }
}
