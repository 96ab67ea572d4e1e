//! `cargo xtask bench`: measures daylily and other servers on this machine, interleaved, so that their ratios are valid
//! even where the absolute figures are not.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod cases;
mod cpus;
mod load;
mod others;
pub(crate) mod outcome;
mod plot;
mod report;
mod servers;
mod wrk;

use cases::{CASES, Case, Guest, How};
use outcome::Outcome;
use servers::{Bench, Server};

pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [--quick] [--case NAME]... [--rounds COUNT] [--out FILE.md]

  --quick         one short round of each case: to see that it works, not to read figures
  --case NAME     only this case, and others so named; without a name that exists, they are listed
  --rounds COUNT  measurements of each server in each case (default 3, from 1 to 99); medians are shown
  --out FILE.md   write the page, and its plots to the directory FILE beside it

The large guest is built with npm, where it is there. $DAYLILY_BENCH_JS names another component for its case,
and $WASMTIME a `wasmtime` that is not on the path.
";

/// The descriptor limit: for thousands of connections on both sides. Child processes inherit it.
const DESCRIPTORS: u64 = 65_536;

/// The command line.
#[derive(Clone, Debug, PartialEq)]
struct Options {
    is_quick: bool,
    rounds: u32,
    cases: Vec<String>,
    out: Option<PathBuf>,
}

/// The settings with which a case is measured.
#[derive(Clone)]
pub(crate) struct Run<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) servers: Vec<Server>,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) quick: bool,
}

impl Run<'_> {
    /// Reports progress on stderr.
    pub(crate) fn say(&self, text: &str) {
        // Ignore errors: stderr may be closed.
        let _ = writeln!(std::io::stderr(), "  {text}");
    }
}

/// Builds, measures, prints, and writes the page if requested.
pub(crate) fn main(root: &Path, args: &[&str]) -> Result<()> {
    let options = options(args)?;
    let chosen: Vec<&Case> = CASES
        .iter()
        .filter(|case| options.cases.is_empty() || options.cases.iter().any(|name| name == case.name))
        .collect();
    wrk::ensure_there()?;
    let guests = build(root)?;
    raise_descriptor_limit();
    let bench = Bench::new(root.to_path_buf(), guests, javascript(root, &chosen))?;
    crate::say(&report::preamble(&bench, &options.how()))?;
    let mut outcomes = Vec::new();
    let mut failed = Vec::new();
    for case in chosen {
        let _ = writeln!(std::io::stderr(), "\n{} ({})", case.title, case.name);
        match measure(&bench, case, &options) {
            Ok(None) => {}
            Ok(Some(outcome)) => {
                crate::say(&report::section(&outcome))?;
                outcomes.push(outcome);
            }
            // A failed case must not discard the results of the others, which take an hour.
            Err(error) => {
                crate::say(&format!("failed: {error:#}\n"))?;
                failed.push(case.name);
            }
        }
    }
    if let Some(out) = &options.out {
        report::write(&bench, &options.how(), &outcomes, out)?;
    }
    if !failed.is_empty() {
        bail!("these cases failed and are not in the figures: {}", failed.join(", "));
    }
    Ok(())
}

impl Options {
    fn seconds(&self) -> u32 {
        if self.is_quick { 1 } else { 4 }
    }

    /// The method, for readers of the figures.
    fn how(&self) -> String {
        let rounds = match self.rounds {
            1 => "one round".into(),
            rounds => format!("medians of {rounds} interleaved rounds"),
        };
        format!("{rounds}, {} s of load in each{}", self.seconds(), if self.is_quick { " (`--quick`)" } else { "" })
    }
}

fn options(args: &[&str]) -> Result<Options> {
    let mut options = Options { is_quick: false, rounds: 0, cases: Vec::new(), out: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value\n\n{USAGE}"));
        match *arg {
            "--quick" => options.is_quick = true,
            "--out" => options.out = Some(PathBuf::from(value()?)),
            "--rounds" => match value()?.parse() {
                Ok(rounds @ 1..=99) => options.rounds = rounds,
                _ => bail!("--rounds takes a number from 1 to 99"),
            },
            "--case" => {
                let name = *value()?;
                if !CASES.iter().any(|case| case.name == name) {
                    let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
                    bail!("there is no case `{name}`; there are {}", names.join(", "));
                }
                options.cases.push(name.to_owned());
            }
            _ => bail!("unknown argument: {arg}\n\n{USAGE}"),
        }
    }
    if options.rounds == 0 {
        options.rounds = if options.is_quick { 1 } else { 3 };
    }
    Ok(options)
}

/// Builds what is measured in the release profile, and returns the directory of the guests.
fn build(root: &Path) -> Result<PathBuf> {
    let guests = guest_builder::build(cases::PACKAGES).context("failed to build the guests")?;
    crate::cargo_build(root, &["--release"], &["daylily", "daylily-bench"])?;
    Ok(guests)
}

/// The large guest, if a case needs it.
fn javascript(root: &Path, chosen: &[&Case]) -> Option<Result<PathBuf>> {
    let needs = |case: &&Case| matches!(case.how, How::Load { guest: Guest::JavaScript, .. });
    chosen.iter().any(needs).then(|| crate::javascript::component(root))
}

pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let reachable = limit.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < reachable) {
        // Ignore errors: cases with many connections then report that they failed.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(reachable), maximum: limit.maximum });
    }
}

fn measure(bench: &Bench, case: &Case, options: &Options) -> Result<Option<Outcome>> {
    let servers: Vec<Server> = case.servers.iter().copied().filter(|server| server.is_there(bench)).collect();
    let run = Run { bench, servers, rounds: options.rounds, seconds: options.seconds(), quick: options.is_quick };
    let outcome = match case.how {
        How::Load { guest, path, script } => load::load(&run, guest, path, script),
        How::Connections { counts } => load::connections(&run, counts),
        How::Beside { guest, path, what } => load::beside(&run, guest, path, what),
        How::Echo { bytes, times } => others::echo(&run, bytes, times),
        How::Idle { connections } => others::idle(&run, connections),
        How::Routes { counts } => others::routes(&run, counts),
        How::Start { warm, cold } => others::start(&run, warm, cold),
    }?;
    Ok(outcome.map(|outcome| Outcome { title: case.title.into(), ..outcome }))
}

/// The results of `sample` for each of `keys`. Each round samples each key once, so that other load on the machine
/// affects all of them.
pub(crate) fn interleave<K: Copy, S>(
    run: &Run<'_>,
    keys: &[K],
    mut sample: impl FnMut(K) -> Result<S>,
) -> Result<Vec<(K, Vec<S>)>> {
    let mut samples: Vec<(K, Vec<S>)> = keys.iter().map(|key| (*key, Vec::new())).collect();
    for _ in 0..run.rounds {
        for (key, samples) in &mut samples {
            samples.push(sample(*key)?);
        }
    }
    Ok(samples)
}

/// The standard output of a command, for the description of the machine; empty when it cannot be run.
fn word_of(program: &str, args: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(dir).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{CASES, Options, options};

    #[test]
    fn arguments_are_read() {
        let want = Options { is_quick: true, rounds: 5, cases: vec!["start".into()], out: Some("a.md".into()) };
        let args = ["--quick", "--case", "start", "--rounds", "5", "--out", "a.md"];
        assert_eq!(options(&args).unwrap(), want);
        assert_eq!([options(&[]).unwrap().rounds, options(&["--quick"]).unwrap().rounds], [3, 1]);
        for wrong in [&["--case", "no"][..], &["--case"], &["--rounds", "0"], &["--fast"]] {
            assert!(options(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn cases_have_names_of_their_own() {
        let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
    }
}
