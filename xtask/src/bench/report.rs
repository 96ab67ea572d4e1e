//! The page with the results of a run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::outcome::Outcome;
use super::plot::{Group, svg};
use super::servers::Bench;
use super::word_of;
use crate::count;

/// A page that is written by hand, in the directory of the plots.
const PROFILE: &str =
    "\nWhere the time of a request is spent, and what was tried: [profile.md](benchmarks/profile.md).\n";

/// The machine and the method of the measurements.
pub(super) fn preamble(bench: &Bench, how: &str) -> String {
    let root = &bench.root;
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let changed = !word_of("git", &["status", "--porcelain", "--untracked-files=no"], root).is_empty();
    let mut versions = vec![word_of("wrk", &["--version"], root).split(" [").next().unwrap_or_default().to_owned()];
    if let Some(node) = &bench.node {
        versions.push(format!("Node {}", word_of(&node.to_string_lossy(), &["--version"], root)));
    }
    if let Some(wasmtime) = &bench.wasmtime {
        let version = word_of(&wasmtime.to_string_lossy(), &["--version"], root);
        versions.push(version.split(" (").next().unwrap_or_default().to_owned());
    }
    versions.push(word_of("rustc", &["--version"], root).split(" (").next().unwrap_or_default().to_owned());
    let commit = word_of("git", &["rev-parse", "--short=12", "HEAD"], root);
    let mut out = format!(
        "- machine: {model}, {} cores, {} GiB, {}\n- date: {}\n- commit: {commit}{}\n- versions: {}\n- method: {how}\n",
        bench.cores,
        kib.unwrap_or(0).div_ceil(1 << 20),
        word_of("uname", &["-srm"], root),
        word_of("date", &["-u", "+%Y-%m-%d"], root),
        if changed { ", with changes that are not committed" } else { "" },
        versions.join(", "),
    );
    for note in &bench.notes {
        out.push_str(&format!("- {note}\n"));
    }
    out
}

/// A case's section, as it is printed and as it is written to the page.
pub(super) fn section(outcome: &Outcome) -> String {
    format!("\n## {}\n\n{}\n\n{}", outcome.title, outcome.text, outcome.markdown())
}

/// Writes the page to `out`, and the plots to a directory next to it.
pub(super) fn write(bench: &Bench, how: &str, outcomes: &[Outcome], out: &Path) -> Result<()> {
    let plots = out.with_extension("");
    let name = plots.file_name().context("--out needs a file name")?.to_string_lossy().into_owned();
    fs::create_dir_all(&plots).with_context(|| format!("failed to create {}", plots.display()))?;
    let mut page = format!("# Benchmarks\n\n{}\n{}", intro(bench), preamble(bench, how));
    let cpu = groups(outcomes, |outcome| &outcome.cpu_us);
    let p99 = groups(outcomes, |outcome| &outcome.p99_us);
    for (file, title, groups) in [
        ("cpu.svg", "CPU µs per request (less is better)", cpu),
        ("p99.svg", "99th percentile of latency, µs (less is better)", p99),
    ] {
        if groups.is_empty() {
            continue;
        }
        let path = plots.join(file);
        fs::write(&path, svg(title, &groups)).with_context(|| format!("failed to write {}", path.display()))?;
        page.push_str(&format!("\n![{title}]({name}/{file})\n"));
    }
    for outcome in outcomes {
        page.push_str(&section(outcome));
    }
    page.push_str(&count::section(&bench.root)?);
    page.push_str(PROFILE);
    fs::write(out, page).with_context(|| format!("failed to write {}", out.display()))?;
    crate::say(&format!("\nwrote {}\n", out.display()))
}

fn groups(outcomes: &[Outcome], of: impl Fn(&Outcome) -> &Vec<(String, f64)>) -> Vec<Group> {
    let with = outcomes.iter().filter(|outcome| !of(outcome).is_empty());
    with.map(|outcome| Group { title: outcome.title.clone(), bars: of(outcome).clone() }).collect()
}

fn intro(bench: &Bench) -> String {
    let shared = if bench.cores > 1 {
        "The load generator and the server share the machine and its cores, \
         so the requests per second depend on the CPU time of both"
    } else {
        "The load generator and the server share one core, so the requests per second depend on the CPU time of both"
    };
    format!(
        "This page compares daylily with other servers on one machine. `cargo xtask bench --out docs/benchmarks.md` \
         measures and writes all of it. The figures are from one run on one machine. {shared}. \
         Compare ratios rather than absolute figures. The figure that is disturbed least is the CPU time per request: \
         user and system time of all of a server's processes during the load, divided by the number of responses. \
         Memory is PSS (proportional set size), summed over the processes, after the load. \
         The column *to the first* is the ratio to the first row of the table.\n\n\
         \"hyper alone\" runs no guest. It is the lower bound: the HTTP library that daylily uses, \
         with the same settings and a constant response. daylily creates a new instance for every request. \
         Each server is started for each measurement, warmed up for a second, and then stopped.\n"
    )
}
