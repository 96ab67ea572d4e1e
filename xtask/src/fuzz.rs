//! `cargo xtask fuzz`: the targets in `fuzz/`, run by libFuzzer.
//!
//! The crates of this workspace are instrumented (`fuzz/instrument.sh`); all others are built as for the tests. The
//! library with the targets and the runner that loads it are built separately: see `fuzz/runner/Cargo.toml`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::say;

pub(crate) const USAGE: &str = "\
usage: cargo xtask fuzz TARGET|all [--seconds N] [--seed N]
       cargo xtask fuzz TARGET FILE...
       cargo xtask fuzz TARGET --keep

  TARGET|all    run one target, or each in turn, for 60 seconds or as long as --seconds says
  FILE...       run a target on these inputs alone, such as one that was found
  --keep        add to fuzz/corpus what of the inputs in target/fuzz reaches anything new
  --seed N      begin with this number: 1 as .ci/run does, or else another one each time

  What is found is in target/fuzz/TARGET-found.

targets:
";

/// The targets, as in `fuzz/src/targets/mod.rs`.
const TARGETS: &[(&str, &str)] = &[
    ("components", "damaged components, looked at, without their shim, and linked directly"),
    ("config", "configuration files"),
    ("control", "messages between processes, and entries of the cache"),
    ("forms02", "programs of a 0.2 guest, linked directly and as a component"),
    ("forms03", "the same of a 0.3 guest"),
    ("http", "connections of a worker, against another reader of the same bytes"),
    ("routes", "the table of routes, against a search"),
    ("values", "authorities, origins, sizes, durations and patterns, against other readers"),
];

/// An input that takes longer than this, or needs more memory, is a finding.
const TIMEOUT_SECONDS: u32 = 20;
const MAX_MEMORY_MB: u32 = 4_096;

/// Maximum length of an input; of the targets whose inputs are programs, what these can read.
const MAX_INPUT_BYTES: u32 = 4_096;
const MAX_PROGRAM_BYTES: u32 = 385;

pub(crate) fn main(root: &Path, args: &[&str]) -> Result<()> {
    let (target, args) = match args {
        [] | ["help" | "--help" | "-h"] => return usage(),
        [target, args @ ..] => (*target, args),
    };
    let targets: Vec<&str> =
        TARGETS.iter().map(|(name, _)| *name).filter(|name| ["all", name].contains(&target)).collect();
    ensure!(!targets.is_empty(), "there is no fuzz target `{target}`; `cargo xtask fuzz` lists them");
    let run = match (args, target) {
        (["--keep"], _) => Run::Keep,
        ([file, ..], name) if !file.starts_with("--") && name != "all" => {
            Run::Inputs(args.iter().map(std::path::absolute).collect::<Result<_, _>>()?)
        }
        _ => Run::search(args)?,
    };
    let fuzzer = Fuzzer::build(root)?;
    let mut failed = Vec::new();
    for target in targets {
        if !fuzzer.run(target, &run)? {
            failed.push(target);
        }
    }
    ensure!(failed.is_empty(), "found something: {}; see above, and target/fuzz", failed.join(", "));
    Ok(())
}

fn usage() -> Result<()> {
    let rows: Vec<_> = TARGETS.iter().map(|(name, what)| format!("  {name:<12}{what}\n")).collect();
    say(&format!("{USAGE}{}", rows.concat()))
}

enum Run {
    Search { seconds: u32, seed: Option<u32> },
    Inputs(Vec<PathBuf>),
    Keep,
}

impl Run {
    fn search(mut args: &[&str]) -> Result<Self> {
        let (mut seconds, mut seed) = (60, None);
        while let [flag, value, rest @ ..] = args {
            let number = value.parse().with_context(|| format!("{flag} takes a number, not `{value}`"))?;
            match *flag {
                "--seconds" => seconds = number,
                "--seed" => seed = Some(number),
                _ => bail!("unknown flag {flag}\n\n{USAGE}"),
            }
            args = rest;
        }
        ensure!(args.is_empty(), "{} takes a value\n\n{USAGE}", args.join(" "));
        Ok(Self::Search { seconds, seed })
    }
}

/// The built targets, and the runner.
struct Fuzzer<'r> {
    root: &'r Path,
    library: PathBuf,
    runner: PathBuf,
    /// The directory of new inputs that raise coverage, and of findings.
    work: PathBuf,
}

impl<'r> Fuzzer<'r> {
    fn build(root: &'r Path) -> Result<Self> {
        let target = root.join("target");
        let cargo = |args: &[&str]| {
            let mut cargo = crate::cargo_build_command(root);
            cargo.args(args);
            cargo
        };
        let mut library = cargo(&["--package", "daylily-fuzz"]);
        // Optimised as other crates are in this profile, whose code it shares; with overflow checks.
        library.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1").env("RUSTC_WORKSPACE_WRAPPER", root.join("fuzz/instrument.sh"));
        let of_runner = target.join("fuzz-runner");
        let mut runner = cargo(&["--manifest-path", "fuzz/runner/Cargo.toml", "--target-dir"]);
        runner.arg(&of_runner);
        for (what, mut cargo) in [("the fuzz targets", library), ("their runner", runner)] {
            let status = cargo.status().context("failed to run cargo")?;
            ensure!(status.success(), "cargo could not build {what} ({status}); its messages are above");
        }
        Ok(Self {
            root,
            library: target.join("debug/libdaylily_fuzz.so"),
            runner: of_runner.join("debug/daylily-fuzz-runner"),
            work: target.join("fuzz"),
        })
    }

    /// Whether the run ended without a finding.
    fn run(&self, target: &str, run: &Run) -> Result<bool> {
        let (work, found) = (self.work.join(target), self.work.join(format!("{target}-found")));
        let kept = self.root.join("fuzz/corpus").join(target);
        for dir in [&work, &found, &kept] {
            std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
        }
        let mut command = Command::new(&self.runner);
        command
            .env("DAYLILY_FUZZ_LIBRARY", &self.library)
            .env("DAYLILY_FUZZ_TARGET", target)
            // Room for mimalloc's thread-local storage, in a library that is loaded at run time.
            .env("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=16384")
            .arg(format!("-artifact_prefix={}/", found.display()))
            .arg(format!("-timeout={TIMEOUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={MAX_MEMORY_MB}"));
        let max_bytes = if target.starts_with("forms") { MAX_PROGRAM_BYTES } else { MAX_INPUT_BYTES };
        match run {
            Run::Search { seconds, seed } => {
                command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={max_bytes}"));
                command.arg(format!("-seed={}", seed.unwrap_or(0)));
                // libFuzzer writes new inputs to the first directory.
                command.arg(&work).arg(&kept);
            }
            Run::Inputs(files) => drop(command.args(files)),
            Run::Keep => drop(command.arg("-merge=1").arg(format!("-max_len={max_bytes}")).arg(&kept).arg(&work)),
        }
        let mut child = command.stderr(Stdio::piped()).spawn().context("failed to run libFuzzer")?;
        let stderr = child.stderr.take().context("libFuzzer has no stderr")?;
        for line in BufReader::new(stderr).split(b'\n') {
            let line = String::from_utf8_lossy(&line.context("failed to read what libFuzzer says")?).into_owned();
            // Leave out the lines about each new input and the suggested dictionary: there are too many.
            let is_noise = ["\tNEW ", "\tREDUCE", "\tRELOAD", "# Uses:", "######", "WARNING: Failed to find function"];
            if !is_noise.iter().any(|noise| line.contains(noise)) {
                let _ = writeln!(std::io::stderr(), "{target}: {line}");
            }
        }
        let status = child.wait().context("failed to wait for libFuzzer")?;
        Ok(status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn all_targets_are_listed() {
        let there = include_str!("../../fuzz/src/targets/mod.rs");
        let there: Vec<_> =
            there.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next()).collect();
        assert_eq!(there, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
}
