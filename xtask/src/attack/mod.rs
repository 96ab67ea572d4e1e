//! `cargo xtask attack`: how each known attack affects other clients, and whether it leaves memory in use or workers
//! dead. It is a benchmark: it measures for minutes, and needs an otherwise idle machine.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

mod cases;
mod clients;
mod config;
mod origin;

use crate::bench::outcome::Outcome;
use crate::healthy::{self, Seen};
use crate::server::Server;
use cases::{Attack, CASES};

pub(crate) const USAGE: &str = "\
usage: cargo xtask attack [--seconds COUNT] [NAME]...

  --seconds COUNT  how long each run of an attack takes (default 60, from 1 to 3600); there are two
  NAME             only these attacks; without a name that exists, they are listed

Ends with 1 when a bar is missed: beside the attack, the 99th percentile of a healthy client is at most 50 ms or three
times what it is alone; ten seconds after the second run, memory is at most a tenth above that after the first; no
worker dies.
";

/// The attackers' nice value; the server has the default.
const LOWEST_PRIORITY: i32 = 19;

/// Time after a run before memory is measured.
const REST: Duration = Duration::from_secs(10);

/// How long the healthy client is measured without an attack.
const ALONE: Duration = Duration::from_secs(10);

/// The limits. The 99th percentile fails above both [`QUICK`] and [`TIMES_ALONE`] times its value without an attack.
/// Memory after the second run fails above [`MEMORY_RISE`] times that after the first.
const QUICK: Duration = Duration::from_millis(50);
const TIMES_ALONE: u32 = 3;
const MEMORY_RISE: f64 = 1.10;

#[derive(Debug, PartialEq)]
struct Options {
    seconds: u64,
    names: Vec<String>,
}

/// The result of one attack.
#[derive(Clone, Debug)]
struct Measured {
    alone: Seen,
    /// The healthy client during the first and the second run.
    beside: [Seen; 2],
    /// Memory in KiB after the first and the second run.
    memory: [u64; 2],
    /// Workers that died or hung.
    deaths: u64,
    /// How many of them may be replaced on purpose.
    may_replace: u64,
}

/// Builds the server, runs the attacks and prints a table.
pub(crate) fn main(root: &Path, args: &[&str]) -> Result<()> {
    let options = options(args)?;
    let guests = guest_builder::build(cases::PACKAGES).context("failed to build the guests")?;
    crate::cargo_build(root, &["--release"], &["daylily"])?;
    crate::bench::raise_descriptor_limit();
    let mut table = Outcome {
        head: [
            "attack",
            "p50 alone",
            "p99 alone",
            "p50 beside",
            "p99 beside",
            "unanswered",
            "MiB 1",
            "MiB 2",
            "deaths",
            "",
        ]
        .map(String::from)
        .to_vec(),
        ..Outcome::default()
    };
    let mut missed = Vec::new();
    for attack in CASES.iter().filter(|case| options.names.is_empty() || options.names.iter().any(|n| n == case.name)) {
        crate::say(&format!("{}: {}\n", attack.name, attack.what))?;
        let server = Server::start(root, "attack", |port, dir| config::configure(port, dir, &guests))?;
        let measured = measure(server, attack, options.seconds).with_context(|| attack.name)?;
        let faults = measured.faults();
        table.rows.push(measured.row(attack.name, &faults));
        if !faults.is_empty() {
            missed.push(attack.name);
        }
    }
    crate::say(&format!("\n{}", table.markdown()))?;
    if !missed.is_empty() {
        bail!("a bar is missed in {}", missed.join(", "));
    }
    Ok(())
}

fn measure(server: Server, attack: &Attack, seconds: u64) -> Result<Measured> {
    let time = Duration::from_secs(seconds);
    // Warm up: memory that the first requests allocate must not count for the attack.
    healthy::measure(server.port, ALONE.min(time))?;
    let alone = healthy::measure(server.port, ALONE.min(time))?;
    let mut beside = [Seen::default(); 2];
    let mut memory = [0; 2];
    for (seen, kib) in beside.iter_mut().zip(&mut memory) {
        *seen = while_attacked(attack, &server, time)?;
        thread::sleep(REST);
        *kib = server.memory_kib();
    }
    let deaths = server.deaths()?;
    let may_replace = if attack.may_replace_workers { 2 * (1 + 2 * seconds / 10) } else { 0 };
    Ok(Measured { alone, beside, memory, deaths, may_replace })
}

fn while_attacked(attack: &Attack, server: &Server, time: Duration) -> Result<Seen> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            // On Linux, the nice value is the thread's, and is inherited by threads that it starts.
            rustix::process::nice(LOWEST_PRIORITY).context("failed to lower the attackers' priority")?;
            attack.run(server, &over)
        });
        let seen = healthy::measure(server.port, time);
        over.store(true, Ordering::SeqCst);
        let attempts = attacker.join().map_err(|_| anyhow::anyhow!("an attacker panicked"))??;
        anyhow::ensure!(attempts > 0, "the attack did nothing");
        seen
    })
}

impl Measured {
    /// The limits that are exceeded.
    fn faults(&self) -> Vec<&'static str> {
        let bar = QUICK.max(self.alone.p99 * TIMES_ALONE);
        let [first, second] = self.memory.map(|kib| kib as f64);
        let mut faults = Vec::new();
        if self.beside.iter().any(|seen| seen.p99 > bar) {
            faults.push("p99");
        }
        if second > first * MEMORY_RISE {
            faults.push("memory");
        }
        if self.deaths > self.may_replace {
            faults.push("deaths");
        }
        faults
    }

    fn row(&self, name: &str, faults: &[&str]) -> Vec<String> {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let both = |of: fn(&Seen) -> Duration| self.beside.iter().map(of).max().unwrap_or_default();
        let failed: u64 = self.beside.iter().map(|seen| seen.failed).sum();
        let [first, second] = self.memory.map(|kib| format!("{:.1}", kib as f64 / 1024.0));
        let verdict = if faults.is_empty() { "ok".into() } else { format!("missed: {}", faults.join(", ")) };
        let deaths = self.deaths.to_string();
        let alone = [ms(self.alone.p50), ms(self.alone.p99)];
        let beside = [ms(both(|seen| seen.p50)), ms(both(|seen| seen.p99)), failed.to_string()];
        let rest = [first, second, deaths, verdict];
        std::iter::once(name.to_owned()).chain(alone).chain(beside).chain(rest).collect()
    }
}

fn options(args: &[&str]) -> Result<Options> {
    let mut options = Options { seconds: 60, names: Vec::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--seconds" => match args.next().map(|count| count.parse()) {
                Some(Ok(seconds @ 1..=3600)) => options.seconds = seconds,
                _ => bail!("--seconds takes a number from 1 to 3600"),
            },
            name if CASES.iter().any(|case| case.name == name) => options.names.push(name.to_owned()),
            name => {
                let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
                bail!("there is no attack `{name}`; there are {}\n\n{USAGE}", names.join(", "));
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::{Measured, Options, Seen, options};
    use std::time::Duration;

    #[test]
    fn arguments_are_read() {
        let want = Options { seconds: 5, names: vec!["fifo-opens".into()] };
        assert_eq!(options(&["--seconds", "5", "fifo-opens"]).unwrap(), want);
        assert_eq!(options(&[]).unwrap().seconds, 60);
        for wrong in [&["no-attack"][..], &["--seconds"], &["--seconds", "0"]] {
            assert!(options(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn each_bar_can_be_missed() {
        let seen = |ms| Seen { p99: Duration::from_millis(ms), ..Seen::default() };
        let good =
            Measured { alone: seen(1), beside: [seen(49), seen(50)], memory: [1000, 1100], deaths: 0, may_replace: 0 };
        let faults = |measured: Measured| measured.faults().join(" ");
        assert_eq!(faults(good.clone()), "");
        assert_eq!(faults(Measured { beside: [seen(51), seen(1)], ..good.clone() }), "p99");
        assert_eq!(faults(Measured { beside: [seen(1), seen(51)], ..good.clone() }), "p99");
        assert_eq!(faults(Measured { alone: seen(20), beside: [seen(60); 2], ..good.clone() }), "");
        assert_eq!(faults(Measured { memory: [1000, 1101], ..good.clone() }), "memory");
        assert_eq!(faults(Measured { deaths: 1, ..good.clone() }), "deaths");
        assert_eq!(faults(Measured { deaths: 1, may_replace: 1, ..good }), "");
    }
}
