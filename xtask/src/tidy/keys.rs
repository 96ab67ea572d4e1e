//! Checks keys, environment variables and flags: those that the documents name exist, and all that exist are
//! documented.

use std::collections::BTreeSet;

use super::Fault;
use super::limits;
use super::markdown::{blocks, in_line, rows, spans};
use super::tree::{Tree, has_word};

const CONFIGURATION: &str = "docs/configuration.md";

/// The source with the keys that the parser accepts, except those of limits ([`limits::keys`]).
const PLACES: &str = "host/core/src/config/tables.rs";

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
        faults.extend(examples(tree, path, text));
    }
    faults.extend(documented(tree));
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
    is_file || kinds.iter().any(|kind| tree.all("", kind).any(|(_, text)| has_word(text, name)))
}

/// Checks the keys of configuration files in examples. Those of Cargo.toml are recognised by their tables.
fn examples(tree: &Tree, path: &str, text: &str) -> Vec<Fault> {
    let Some(known) = keys(tree) else { return Vec::new() };
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
            if super::names::is_identifier(key) && !known.contains(key) {
                faults.push(Fault::new(path, line, format!("there is no key `{key}`")));
            }
        }
    }
    faults
}

/// The quoted words in the parser's lists of keys, and the keys of limits.
fn keys(tree: &Tree) -> Option<BTreeSet<String>> {
    let lists = tree.text(PLACES)?.split("#[cfg(test)]").next().unwrap_or_default();
    let inside = lists.split("&[").skip(1).filter_map(|list| list.split_once("];").map(|(list, _)| list));
    let listed = inside.flat_map(|list| list.split('"').skip(1).step_by(2)).map(str::to_owned);
    Some(listed.chain(limits::keys(tree)).collect())
}

/// Checks that each key has a row in a table.
fn documented(tree: &Tree) -> Vec<Fault> {
    let (Some(keys), Some(text)) = (keys(tree), tree.text(CONFIGURATION)) else { return Vec::new() };
    let named: BTreeSet<&str> =
        rows(text, "").into_iter().filter_map(|(_, cells)| in_line(cells.first()?).next()).collect();
    let sections = ["server", "defaults", "route"];
    let missing = keys.iter().map(String::as_str).filter(|key| !named.contains(key) && !sections.contains(key));
    missing.map(|key| Fault::new(CONFIGURATION, 0, format!("the key `{key}` has no row"))).collect()
}

/// Checks that the table of flags has the flags of the help, each with its variable, and no others.
fn flags(tree: &Tree) -> Vec<Fault> {
    let (Some(help), Some(text)) = (tree.text(HELP), tree.text(CONFIGURATION)) else { return Vec::new() };
    let help: String = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut faults = Vec::new();
    let mut documented = BTreeSet::new();
    for (line, cells) in rows(text, "Flags and environment variables") {
        let mut spans = cells.iter().take(2).flat_map(|cell| in_line(cell));
        let flag = spans.next().and_then(|span| span.split_whitespace().next()).unwrap_or_default();
        for word in [flag, spans.next().unwrap_or_default()] {
            if word.starts_with("--") || word.starts_with("DAYLILY_") {
                documented.insert(word);
                if !has_word(&help, word) {
                    faults.push(Fault::new(CONFIGURATION, line, format!("`daylily serve --help` has no `{word}`")));
                }
            }
        }
    }
    let words = help.split([' ', '=', '[', ']', ',', ':']);
    let said: BTreeSet<&str> = words.filter(|word| word.starts_with("--") || word.starts_with("DAYLILY_")).collect();
    for word in said {
        if !documented.contains(word) && !["--help", "--config", "---"].contains(&word) {
            faults.push(Fault::new(CONFIGURATION, 0, format!("`{word}` of `daylily serve --help` has no row")));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    const KEYS: (&str, &str) = (super::PLACES, "const TOP: &[&str] = &[\"max_queue\", \"server\"];");
    const HELP: (&str, &str) =
        (super::HELP, "  --max-queue <COUNT>  Requests that wait [env: DAYLILY_MAX_QUEUE=]\n --help ");
    const ROW: &str = "| `max_queue` | |\n";
    const FLAGS: &str = "## Flags and environment variables\n| `--max-queue COUNT` | `DAYLILY_MAX_QUEUE` |\n";

    #[track_caller]
    fn expect_of(text: &str, faults: &[&str]) {
        expect(check, &[KEYS, HELP, (super::CONFIGURATION, text), ("host/src/a.rs", "DAYLILY_MAX_QUEUE")], faults);
    }

    #[test]
    fn keys_are_documented_and_there() {
        let all = format!("{ROW}{FLAGS}");
        expect_of(&all, &[]);
        expect_of(FLAGS, &["the key `max_queue` has no row"]);
        expect_of(&format!("`max_queues`, `DAYLILY_QUEUE`\n{all}"), &["`max_queues`", "`DAYLILY_QUEUE`"]);
        expect_of(&format!("{all}\n```toml\nmax_queue = 1\nmax_line = 2\n```\n"), &["there is no key `max_line`"]);
        expect_of(&format!("{all}\n```toml\n[defaults.env]\nSTAGE = 'x'\n```\n"), &[]);
        expect_of(&format!("{all}\n```toml\n[lib]\nother = 'x'\n```\n"), &[]);
    }

    #[test]
    fn flags_are_documented_and_there() {
        let no_variable = format!("{ROW}{}", FLAGS.replace("`DAYLILY_MAX_QUEUE`", ""));
        expect_of(&no_variable, &["`DAYLILY_MAX_QUEUE` of `daylily serve --help` has no row"]);
        let more = format!("{ROW}{FLAGS}| `--max-line COUNT` | |\n");
        expect_of(&more, &["has no `--max-line`"]);
    }
}
