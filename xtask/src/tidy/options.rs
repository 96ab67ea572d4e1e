//! Checks that docs/configuration.md has the options of `host/core/src/config/options.rs`, and writes them; and that a
//! test sets each of them.

use std::path::Path;

use anyhow::{Context, Result};
use daylily_core::config::{Flag, Row, Table, options};

use super::Fault;
use super::tree::{Tree, has_word};

const OPTIONS: &str = "host/core/src/config/options.rs";
const CONFIGURATION: &str = "docs/configuration.md";

/// The configuration with every key, which the document shows.
const EXAMPLE: &str = "tests/cases/config/full.toml";

/// Where the generated parts of the document are, and what they are.
fn parts(tree: &Tree) -> Vec<Part> {
    let rows = options::rows();
    let table = |heading, table| Part {
        start: format!("\n{heading}\n"),
        head: "| key | default | range | meaning |\n|---|---|---|---|\n",
        end: "\n\n",
        lines: rows.iter().filter(|row| row.table == table).map(option).collect(),
    };
    let mut parts = vec![
        table("### Top level", Table::Top),
        table("### `[access_log]`", Table::AccessLog),
        table("### `[admin]`", Table::Admin),
        table("### `[build]`", Table::Build),
        table("### `[server]`", Table::Server),
        table("### `[store.NAME]`", Table::Store),
        table("### `[[schedule]]`", Table::Schedule),
        table("### `[defaults]`", Table::Defaults),
        table("### `[[route]]`", Table::Route),
        Part {
            start: "\n## Flags and environment variables\n".to_owned(),
            head: "| flag | environment variable | overrides | in |\n|---|---|---|---|\n",
            end: "\n\n",
            lines: flags(&rows),
        },
    ];
    parts.extend(tree.text(EXAMPLE).map(|example| Part {
        start: "\n## A complete example\n".to_owned(),
        head: "```toml\n",
        end: "\n```\n",
        lines: example.to_owned(),
    }));
    parts
}

/// A generated part of the document.
struct Part {
    /// The heading that it is below.
    start: String,
    /// What is directly before it.
    head: &'static str,
    /// What follows its last line, with the end of that line.
    end: &'static str,
    lines: String,
}

impl Part {
    /// The document before, in and after this part.
    fn split<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let heading = text.find(&self.start)? + self.start.len();
        let start = heading + text.get(heading..)?.find(self.head)? + self.head.len();
        // A part without lines ends where it starts.
        let end = start - 1 + text.get(start - 1..)?.find(self.end)? + 1;
        Some((text.get(..start)?, text.get(start..end)?, text.get(end..)?))
    }
}

fn option(row: &Row) -> String {
    let Row { key, default, range, meaning, .. } = row;
    format!("| `{key}` | {default} | {range} | {meaning} |\n")
}

fn flags(rows: &[Row]) -> String {
    let mut flags: Vec<(&Row, &Flag)> = rows.iter().filter_map(|row| Some((row, row.flag.as_ref()?))).collect();
    flags.sort_by_key(|(_, flag)| flag.rank);
    let line = |(row, flag): (&Row, &Flag)| {
        let variable = flag.variable.map(|variable| format!("`{variable}`")).unwrap_or_default();
        let table = match row.table {
            Table::Top => "top level",
            Table::AccessLog => "`[access_log]`",
            Table::Admin => "`[admin]`",
            Table::Build => "`[build]`",
            Table::Server => "`[server]`",
            Table::Schedule => "`[[schedule]]`",
            Table::Store => "`[store.NAME]`",
            Table::Defaults => "`[defaults]`",
            Table::Route => "`[[route]]`",
            Table::Middleware => "`middleware`",
        };
        format!("| `{}` | {variable} | `{}` | {table} |\n", flag.usage, row.key)
    };
    flags.into_iter().map(line).collect()
}

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let Some(text) = tree.text(CONFIGURATION) else { return Vec::new() };
    documented(text, &parts(tree)).into_iter().chain(tested(tree, &options::rows())).collect()
}

fn documented(text: &str, parts: &[Part]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for part in parts {
        let Some((before, shown, _)) = part.split(text) else {
            let (heading, head) = (part.start.trim(), part.head.lines().next().unwrap_or_default());
            faults.push(Fault::new(CONFIGURATION, 0, format!("there is no {head:?} below {heading:?}")));
            continue;
        };
        if part.lines != shown {
            let at = (0..).find(|&at| part.lines.lines().nth(at) != shown.lines().nth(at)).unwrap_or_default();
            let line = part.lines.lines().nth(at).unwrap_or("no line");
            let text = format!("the options have {line} here; `cargo xtask tidy --bless` writes it");
            faults.push(Fault::new(CONFIGURATION, before.lines().count() + 1 + at, text));
        }
    }
    faults
}

/// Checks that an end-to-end test sets each option, by its key or by its flag.
fn tested(tree: &Tree, rows: &[Row]) -> Vec<Fault> {
    let is_tested = |row: &&Row| {
        let flag = row.flag.as_ref().and_then(|flag| flag.usage.split(' ').next());
        let names = |text: &str| has_word(text, row.key) || flag.is_some_and(|flag| has_word(text, flag));
        tree.all("tests/e2e/", ".rs").any(|(_, text)| names(text))
    };
    let missing = rows.iter().filter(|row| !is_tested(row));
    missing.map(|row| Fault::new(OPTIONS, 0, format!("no test in tests/e2e sets `{}`", row.key))).collect()
}

/// Writes the generated parts.
pub(super) fn write(root: &Path, tree: &Tree) -> Result<()> {
    let Some(text) = tree.text(CONFIGURATION) else { return Ok(()) };
    let mut written = text.to_owned();
    for part in parts(tree) {
        if let Some((before, _, after)) = part.split(&written) {
            written = format!("{before}{}{after}", part.lines);
        }
    }
    if written == text {
        return Ok(());
    }
    std::fs::write(root.join(CONFIGURATION), written).with_context(|| format!("failed to write {CONFIGURATION}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Row {
        options::rows().into_iter().find(|row| row.key == "max_queue").expect("a row")
    }

    #[test]
    fn rows_have_all_that_an_option_is() {
        let row = Row { meaning: "Requests that wait.", ..queue() };
        assert_eq!(option(&row), "| `max_queue` | `1024` | 0 to 1,000,000 | Requests that wait. |\n");
        assert_eq!(flags(&[row]), "| `--max-queue COUNT` | `DAYLILY_MAX_QUEUE` | `max_queue` | `[server]` |\n");
    }

    #[test]
    fn options_are_documented() {
        #[track_caller]
        fn check(text: &str, faults: &[&str]) {
            let lines = "| a |\n| b |\n".to_owned();
            let parts = [Part { start: "\n## Keys\n".to_owned(), head: "| key |\n|---|\n", end: "\n\n", lines }];
            let found: Vec<String> = documented(text, &parts).iter().map(ToString::to_string).collect();
            assert!(found.len() == faults.len(), "{found:?}");
            assert!(found.iter().zip(faults).all(|(found, part)| found.contains(part)), "{found:?}");
        }
        let text = "# Title\n\n## Keys\n\n| key |\n|---|\n| a |\n| b |\n\nText.\n";
        check(text, &[]);
        check(&text.replace("| b |", "| c |"), &["configuration.md:8: the options have | b | here"]);
        check(&text.replace("| b |\n", ""), &["configuration.md:8: the options have | b | here"]);
        check(&text.replace("| a |\n| b |\n", ""), &["configuration.md:7: the options have | a | here"]);
        check(&text.replace("| b |", "| b |\n| c |"), &["configuration.md:9: the options have no line here"]);
        check(&text.replace("Keys", "Words"), &["no \"| key |\" below \"## Keys\""]);
    }

    #[test]
    fn options_are_tested() {
        #[track_caller]
        fn check(test: &str, faults: usize) {
            let tree = Tree::of(&[("tests/e2e/limits.rs", test)]);
            assert_eq!(tested(&tree, &[queue()]).len(), faults);
        }
        check("max_queue = 1", 0);
        check("[\"--max-queue\", \"1\"]", 0);
        check("max_queues = 1", 1);
    }
}
