//! Checks keys, environment variables and flags: those that the documents name exist, and all flags are documented.

use daylily_core::config::options;

use super::Fault;
use super::markdown::{blocks, spans};
use super::tree::{Tree, has_word};

const CONFIGURATION: &str = "docs/configuration.md";

/// The program's help on its flags.
const HELP: &str = "tests/cases/cli/help-serve.txt";

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.documents() {
        for (line, span) in spans(text) {
            let is_of_hyper = text.lines().nth(line - 1).is_some_and(|line| line.contains("hyper"));
            if is_snake_case(span) && !is_of_hyper && !has_source(tree, span) {
                faults.push(Fault::new(path, line, format!("no source has `{span}`")));
            }
        }
        faults.extend(examples(path, text));
    }
    faults.extend(flags(tree));
    faults
}

/// Requires two words or more, so that it is a name of the program's and not a word of the language.
fn is_snake_case(span: &str) -> bool {
    let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    let is_made_of = |is: &dyn Fn(char) -> bool| {
        span.split('_').count() > 1 && span.split('_').all(|word| !word.is_empty() && word.chars().all(is))
    };
    is_made_of(&is_lower) || (span.starts_with("DAYLILY_") && is_made_of(&is_upper))
}

fn has_source(tree: &Tree, name: &str) -> bool {
    let is_file = tree.has_somewhere(&format!("{name}.rs"));
    let kinds = [".rs", ".toml", ".c", ".service", ".wit", ".ci/run"];
    // A counter's series have a suffix that its family's name has not.
    let name = name.strip_suffix("_total").filter(|name| name.starts_with("daylily_")).unwrap_or(name);
    is_file || kinds.iter().any(|kind| tree.all("", kind).any(|(_, text)| has_word(text, name)))
}

/// Checks the keys of configuration files in examples. Those of Cargo.toml are recognised by their tables.
fn examples(path: &str, text: &str) -> Vec<Fault> {
    let known: Vec<&str> = options::rows().into_iter().map(|row| row.key).collect();
    let mut faults = Vec::new();
    for block in blocks(text).into_iter().filter(|block| block.language == "toml") {
        let is_of_cargo = ["[package]", "[dependencies]", "[lib]"];
        if block.lines.iter().any(|line| is_of_cargo.contains(line)) {
            continue;
        }
        let mut is_free = false;
        for (line, text) in (block.line + 1..).zip(&block.lines) {
            // The keys in these tables are chosen by the user.
            is_free = if text.starts_with('[') { text.contains(".env]") || text.contains(".vars]") } else { is_free };
            let Some((key, _)) = text.split_once(" = ").filter(|_| !is_free) else { continue };
            if super::names::is_identifier(key) && !known.contains(&key) {
                faults.push(Fault::new(path, line, format!("there is no key `{key}`")));
            }
        }
    }
    faults
}

/// Checks that the document names each flag and variable of the help.
fn flags(tree: &Tree) -> Vec<Fault> {
    let (Some(help), Some(text)) = (tree.text(HELP), tree.text(CONFIGURATION)) else { return Vec::new() };
    let words = help.split(|c: char| c.is_whitespace() || "=[],:".contains(c));
    let names = words.filter(|word| word.starts_with("--") || word.starts_with("DAYLILY_"));
    let missing = names.filter(|name| !["--help", "---"].contains(name) && !has_word(text, name));
    let fault = |name| Fault::new(CONFIGURATION, 0, format!("`{name}` of `daylily serve --help` is not named"));
    missing.map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    const HELP: (&str, &str) =
        (super::HELP, "  --max-queue <COUNT>  Requests that wait [env: DAYLILY_MAX_QUEUE=]\n --help ");
    const NAMED: &str = "`--max-queue COUNT`, `DAYLILY_MAX_QUEUE`, `max_queue`\n";

    #[track_caller]
    fn expect_of(text: &str, faults: &[&str]) {
        let source = ("host/src/a.rs", "DAYLILY_MAX_QUEUE max_queue");
        expect(check, &[HELP, (super::CONFIGURATION, text), source], faults);
    }

    #[test]
    fn names_are_those_of_the_program() {
        expect_of(NAMED, &[]);
        expect_of(&format!("`max_queues`, `DAYLILY_QUEUE`\n{NAMED}"), &["`max_queues`", "`DAYLILY_QUEUE`"]);
        expect_of(&format!("{NAMED}\n```toml\nmax_queue = 1\nmax_line = 2\n```\n"), &["there is no key `max_line`"]);
        expect_of(&format!("{NAMED}\n```toml\n[defaults.env]\nSTAGE = 'x'\n```\n"), &[]);
        expect_of(&format!("{NAMED}\n```toml\n[lib]\nother = 'x'\n```\n"), &[]);
    }

    #[test]
    fn flags_are_documented() {
        expect_of(&NAMED.replace("`DAYLILY_MAX_QUEUE`", ""), &["`DAYLILY_MAX_QUEUE` of `daylily serve --help`"]);
        expect_of(&NAMED.replace("--max-queue", ""), &["`--max-queue` of `daylily serve --help`"]);
    }
}
