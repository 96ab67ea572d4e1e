//! `cargo xtask count`: the cost of a request in figures that do not depend on the clock, compared with those in
//! `bench/counts.toml`. Callgrind counts instructions and allocations, strace system calls. Each figure is the
//! difference between a short and a long run on one connection, so that the start is not included.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

mod figures;
mod worker;

use figures::Figures;

/// Numbers of requests in the short and the long run.
const FEW: u32 = 200;
const MANY: u32 = 1_200;

/// A figure that rises by more than this factor fails.
const TOLERANCE: f64 = 1.05;

const HEAD: &str = "\
# Per request, in the thread of a worker that serves, with one connection: `cargo xtask count` compares with
# these and fails on a rise of more than 5 %, `cargo xtask count --accept` writes them. They depend on the
# compiler, the C library and the processor's features as valgrind has them, not on the clock.
";

/// One request: its guest, path and body.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    name: &'static str,
    title: &'static str,
    package: &'static str,
    path: &'static str,
    /// The size of the body of a POST; 0 for a GET.
    body_bytes: u64,
}

const CASES: &[Case] = &[
    Case { name: "hello02", title: "Hello World, wasi:http 0.2", package: "hello", path: "/", body_bytes: 0 },
    Case { name: "hello03", title: "Hello World, wasi:http 0.3", package: "hello03", path: "/", body_bytes: 0 },
    Case { name: "echo1k", title: "Echo of 1 KiB", package: "echo", path: "/echo", body_bytes: 1024 },
];

/// Counts, and compares the figures or, with `accepts`, writes them.
pub(crate) fn main(root: &Path, accepts: bool) -> Result<()> {
    worker::ensure_tools()?;
    let packages: Vec<&str> = CASES.iter().map(|case| case.package).collect();
    let guests = guest_builder::build(&packages).context("failed to build the guests")?;
    crate::cargo_build(root, &["--release"], &["daylily"])?;
    let bench = worker::Workshop::new(root, guests)?;
    let mut counted = BTreeMap::new();
    for case in CASES {
        let figures = bench.count(*case).with_context(|| format!("case {}", case.name))?;
        crate::say(&format!("{}: {figures}\n", case.title))?;
        counted.insert(case.name.to_owned(), figures);
    }
    if accepts {
        let path = path(root);
        fs::write(&path, figures::write(HEAD, &counted))
            .with_context(|| format!("failed to write {}", path.display()))?;
        return crate::say(&format!("wrote {}\n", path.display()));
    }
    let (lines, rises) = compare(&accepted(root)?, &counted)?;
    crate::say(&lines)?;
    if !rises.is_empty() {
        let rises = rises.join(", ");
        bail!("risen by more than 5 %: {rises}; find out why, or `cargo xtask count --accept` them with the reason");
    }
    Ok(())
}

fn path(root: &Path) -> PathBuf {
    root.join("bench/counts.toml")
}

fn accepted(root: &Path) -> Result<BTreeMap<String, Figures>> {
    let path = path(root);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("failed to read {}; `cargo xtask count --accept` writes it", path.display()))?;
    figures::read(&text).with_context(|| format!("failed to read {}", path.display()))
}

/// A line for each figure, and the figures that have risen too far.
fn compare(accepted: &BTreeMap<String, Figures>, counted: &BTreeMap<String, Figures>) -> Result<(String, Vec<String>)> {
    let mut lines = String::new();
    let mut rises = Vec::new();
    for (name, now) in counted {
        let Some(before) = accepted.get(name) else {
            bail!("there are no accepted figures of {name}; `cargo xtask count --accept` writes them");
        };
        for ((what, now), (_, before)) in now.each().into_iter().zip(before.each()) {
            let change = (now / before - 1.0) * 100.0;
            lines.push_str(&format!("{name} {what}: {now:.1}, accepted are {before:.1} ({change:+.1} %)\n"));
            if now > before * TOLERANCE {
                rises.push(format!("{name} {what} {change:+.1} %"));
            }
        }
    }
    Ok((lines, rises))
}

/// The accepted figures as a section of the benchmarks page; empty where there are none.
pub(crate) fn section(root: &Path) -> Result<String> {
    if !path(root).exists() {
        return Ok(String::new());
    }
    let accepted = accepted(root)?;
    let mut out = String::from(
        "\n## Counts\n\nThese figures do not depend on the clock: instructions (callgrind), system calls (strace) and \
         allocations of one request, in the thread that serves, from [bench/counts.toml](../bench/counts.toml). \
         `cargo xtask count` compares the current code with them.\n\n\
         | request | instructions | system calls | allocations |\n|---|--:|--:|--:|\n",
    );
    for case in CASES {
        if let Some(Figures { instructions, system_calls, allocations }) = accepted.get(case.name) {
            out.push_str(&format!("| {} | {instructions:.0} | {system_calls:.1} | {allocations:.1} |\n", case.title));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{Figures, compare};
    use std::collections::BTreeMap;

    #[test]
    fn a_rise_above_the_tolerance_fails() {
        let figures = |instructions| {
            let figures = Figures { instructions, system_calls: 5.0, allocations: 70.0 };
            BTreeMap::from([("hello".to_owned(), figures)])
        };
        let before = figures(100_000.0);
        let rises = |now| compare(&before, &figures(now)).unwrap().1;
        assert_eq!([rises(104_900.0), rises(50_000.0)], [Vec::<String>::new(), Vec::new()]);
        assert_eq!(rises(105_100.0), ["hello instructions +5.1 %"]);
        assert!(compare(&BTreeMap::new(), &before).is_err());
    }
}
