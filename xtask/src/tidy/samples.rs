//! Checks that samples of output in the documents are what the program prints.
//!
//! A block of output has a comment above it: `<!-- sample: NAME -->`, with the name of the scenario that produces it
//! ([`super::scenarios`]), or `<!-- not run: REASON -->`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Fault;
use super::markdown::{Block, blocks};
use super::normal::normal;
use super::scenarios::{self, Scenario};
use super::tree::Tree;
use super::workshop::Workshop;

const BLESS: &str = "`cargo xtask tidy --bless` writes it";

/// Checks that every block without a language, which is output, has such a comment.
pub(super) fn marked(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in documents(tree) {
        for block in blocks(text) {
            let fault = match name(&block) {
                Some(name) if scenarios::find(name).is_some() => continue,
                Some(name) => format!("there is no scenario `{name}`"),
                None if !block.language.is_empty() || is_excused(&block) => continue,
                None => "a block of output without `<!-- sample: NAME -->` above it; other text is ```text".into(),
            };
            faults.push(Fault::new(path, block.line, fault));
        }
    }
    faults.extend(program(tree));
    faults
}

/// Runs the samples. Those that differ are reported as faults or, with `blesses`, rewritten.
pub(super) fn compare(root: &Path, tree: &Tree, blesses: bool) -> Result<Vec<Fault>> {
    let workshop = Workshop::new(root)?;
    let mut faults = Vec::new();
    for (path, text) in documents(tree) {
        let mut written = text.to_owned();
        for block in blocks(text) {
            // An unknown name is reported by [`marked`].
            let Some(scenario) = name(&block).and_then(scenarios::find) else { continue };
            let shown = block.lines.join("\n");
            let (actual, masks_numbers) = (run(&workshop, scenario, path, &block)?, scenario.masks_numbers);
            if normal(&shown, masks_numbers) == normal(&actual, masks_numbers) {
                continue;
            }
            if blesses {
                written = written.replacen(&format!("\n{shown}\n```"), &format!("\n{}\n```", actual.trim_end()), 1);
            } else {
                faults.push(difference(path, &block, &actual, masks_numbers));
            }
        }
        if written != text {
            fs::write(root.join(path), written).with_context(|| format!("failed to write {path}"))?;
        }
    }
    Ok(faults)
}

fn run(workshop: &Workshop, scenario: &Scenario, path: &str, block: &Block<'_>) -> Result<String> {
    let place = || format!("{path}:{}: the sample `{}` could not be made", block.line, scenario.name);
    workshop.run(scenario, &block.lines).with_context(place)
}

/// The documents with samples of output.
fn documents(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.documents().filter(|(path, _)| *path == "README.md" || path.starts_with("docs/"))
}

fn name<'a>(block: &Block<'a>) -> Option<&'a str> {
    block.above.strip_prefix("<!-- sample: ")?.strip_suffix(" -->")
}

fn is_excused(block: &Block<'_>) -> bool {
    block.above.strip_prefix("<!-- not run: ").is_some_and(|reason| reason.len() > " -->".len())
}

fn difference(path: &str, block: &Block<'_>, actual: &str, masks_numbers: bool) -> Fault {
    let shown: Vec<&str> = block.lines.clone();
    let printed: Vec<&str> = actual.lines().collect();
    let is_same = |at: usize| {
        let of = |lines: &[&str]| lines.get(at).map(|line| normal(line, masks_numbers));
        of(&shown) == of(&printed)
    };
    let at = (0..shown.len().max(printed.len())).find(|at| !is_same(*at)).unwrap_or_default();
    let line = |lines: &[&str]| lines.get(at).map_or_else(|| "nothing".to_owned(), |line| format!("`{line}`"));
    let text = format!("shown is {}, printed is {}; {BLESS}", line(&shown), line(&printed));
    Fault::new(path, block.line + 1 + at, text)
}

/// Checks that the program in the README is the one that the samples are made with.
fn program(tree: &Tree) -> Option<Fault> {
    const GREET: &str = "guest/greet/src/lib.rs";
    let source = tree.text(GREET)?;
    let program: Vec<&str> = source.lines().skip_while(|line| line.starts_with("//") || line.is_empty()).collect();
    let readme = blocks(tree.text("README.md")?);
    let is_shown = readme.iter().any(|block| block.language == "rust" && block.lines == program);
    (!is_shown).then(|| Fault::new("README.md", 0, format!("its program is not that of {GREET}")))
}

#[cfg(test)]
mod tests {
    use super::{blocks, difference, marked};
    use crate::tidy::expect;

    #[test]
    fn output_says_where_it_comes_from() {
        let doc = |text: &'static str| [("docs/a.md", text)];
        expect(marked, &doc("<!-- sample: hello -->\n```\nx\n```\n```sh\nls\n```\n"), &[]);
        expect(marked, &doc("<!-- not run: a reason -->\n\n```\nx\n```\n"), &[]);
        expect(marked, &doc("<!-- not run: -->\n```\nx\n```\n"), &["without `<!-- sample"]);
        expect(marked, &doc("```\nx\n```\n"), &["docs/a.md:1: a block of output without"]);
        expect(marked, &doc("<!-- sample: other -->\n```\nx\n```\n"), &["no scenario `other`"]);
    }

    #[test]
    fn a_difference_is_reported_with_its_line() {
        let text = "```\na 2026-11-23T08:15:26Z\nb\n```\n";
        let block = &blocks(text)[0];
        let fault = difference("docs/a.md", block, "a 2027-01-01T00:00:00Z\nc\n", false);
        assert!(fault.to_string().starts_with("docs/a.md:3: shown is `b`, printed is `c`"), "{fault}");
    }

    #[test]
    fn the_program_shown_is_the_one_that_is_run() {
        let source = ("guest/greet/src/lib.rs", "//! Greets.\n\nfn main() {}\n");
        expect(marked, &[source, ("README.md", "```rust\nfn main() {}\n```\n")], &[]);
        expect(marked, &[source, ("README.md", "```rust\nfn other() {}\n```\n")], &["its program is not that of"]);
    }
}
