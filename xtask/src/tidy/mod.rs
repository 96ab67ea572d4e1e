//! `cargo xtask tidy`: checks that the documents match the sources, and that the sources follow CONTRIBUTING.md.
//!
//! Each rule is a function from the files of the repository to a list of faults, so that its tests can plant a fault.
//! Samples of output are compared with what the program prints ([`samples`]).

use std::path::Path;

use anyhow::{Result, bail};

mod code_map;
mod codes;
mod counters;
mod dependencies;
mod generated;
mod keys;
mod links;
mod log_lines;
mod log_targets;
mod markdown;
mod metrics;
mod names;
mod normal;
mod options;
mod rooms;
mod samples;
mod scenarios;
mod size;
mod tests_named;
mod tree;
mod workshop;

use tree::Tree;

pub(crate) const USAGE: &str = "\
usage: cargo xtask tidy [--bless]

  --bless   rewrite the samples of output in the documents, as the program prints them now, and the
            tables of counters, metrics and options
";

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    path: String,
    /// The line number, from 1; 0 means the whole file.
    line: usize,
    text: String,
}

impl Fault {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, line, text } = self;
        if *line == 0 { write!(f, "{path}: {text}") } else { write!(f, "{path}:{line}: {text}") }
    }
}

type Rule = fn(&Tree) -> Vec<Fault>;

const RULES: &[Rule] = &[
    tests_named::check,
    names::check,
    links::check,
    code_map::check,
    keys::check,
    options::check,
    generated::check,
    codes::check,
    log_lines::check,
    log_targets::check,
    size::check,
    dependencies::check,
    rooms::check,
    samples::marked,
];

/// Checks all rules. With `blesses`, samples and tables that differ are rewritten instead of reported.
pub(crate) fn main(root: &Path, blesses: bool) -> Result<()> {
    if blesses {
        let tree = Tree::read(root)?;
        generated::write(root, &tree)?;
        options::write(root, &tree)?;
    }
    let tree = Tree::read(root)?;
    let mut faults: Vec<Fault> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    faults.sort();
    say(&faults)?;
    // The samples take longer, so the other faults are reported first.
    let differing = samples::compare(root, &tree, blesses)?;
    say(&differing)?;
    match faults.len() + differing.len() {
        0 => crate::say("tidy: nothing to mend\n"),
        1 => bail!("one thing to mend"),
        count => bail!("{count} things to mend"),
    }
}

fn say(faults: &[Fault]) -> Result<()> {
    faults.iter().try_for_each(|fault| crate::say(&format!("{fault}\n")))
}

/// Asserts that `rule` finds in `files` one fault for each text in `faults`, which it contains, and no others.
#[cfg(test)]
#[track_caller]
fn expect(rule: Rule, files: &[(&str, &str)], faults: &[&str]) {
    let found: Vec<String> = rule(&Tree::of(files)).iter().map(ToString::to_string).collect();
    let is_as_expected =
        found.len() == faults.len() && found.iter().zip(faults).all(|(found, part)| found.contains(part));
    assert!(is_as_expected, "want {faults:?}, found {found:#?}");
}
