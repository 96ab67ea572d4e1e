//! Checks that docs/operations.md has the counters of `host/src/observe/counters.rs`, and writes them.

use std::path::Path;

use anyhow::{Context, Result};

use super::Fault;
use super::tree::Tree;

const COUNTERS: &str = "host/src/observe/counters.rs";
const OPERATIONS: &str = "docs/operations.md";

/// The head of the generated table, which ends before the next empty line.
const HEAD: &str = "| field of `totals` | meaning |\n|---|---|\n";

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let (Some(source), Some(text)) = (tree.text(COUNTERS), tree.text(OPERATIONS)) else { return Vec::new() };
    let Some((before, shown, _)) = split(text) else {
        return vec![Fault::new(OPERATIONS, 0, format!("there is no table of {COUNTERS}"))];
    };
    let rows = rows(source);
    if rows.is_empty() {
        return vec![Fault::new(COUNTERS, 0, "tidy cannot read its rows")];
    }
    if rows == shown {
        return Vec::new();
    }
    let at = (0..).find(|&at| rows.lines().nth(at) != shown.lines().nth(at)).unwrap_or_default();
    let row = rows.lines().nth(at).unwrap_or("no row");
    let text = format!("{COUNTERS} has {row} here; `cargo xtask tidy --bless` writes it");
    vec![Fault::new(OPERATIONS, before.lines().count() + 1 + at, text)]
}

/// Writes the table.
pub(super) fn write(root: &Path, tree: &Tree) -> Result<()> {
    let (Some(source), Some(text)) = (tree.text(COUNTERS), tree.text(OPERATIONS)) else { return Ok(()) };
    let Some((before, shown, after)) = split(text) else { return Ok(()) };
    let rows = rows(source);
    if rows.is_empty() || rows == shown {
        return Ok(());
    }
    std::fs::write(root.join(OPERATIONS), format!("{before}{rows}{after}"))
        .with_context(|| format!("failed to write {OPERATIONS}"))
}

/// The document before, in and after the table's rows.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find(HEAD)? + HEAD.len();
    let (before, rest) = text.split_at_checked(start)?;
    let (shown, after) = rest.split_at_checked(rest.find("\n\n").map_or(rest.len(), |end| end + 1))?;
    Some((before, shown, after))
}

/// The rows of the source that have a field and a meaning, `… => field …, "meaning" …;`, as rows of the document.
fn rows(source: &str) -> String {
    let table = source.split_once("\ncounters! {").and_then(|(_, rest)| rest.split_once("\n}\n"));
    let table = table.map_or("", |(table, _)| table);
    let lines = table.lines().filter(|line| !line.trim_start().starts_with("//"));
    let table: String = lines.map(|line| line.to_owned() + "\n").collect();
    let row = |row: &str| {
        let (_, row) = row.split_once(" => ")?;
        let (field, row) = row.split_once([' ', ','])?;
        let meaning = row.split('"').nth(1)?;
        Some(format!("| `{field}` | {meaning} |\n"))
    };
    table.split(";\n").filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    const SOURCE: &str = "macro_rules! counters {}\n\ncounters! {\n    // Of a worker.\n    worker {\n        opened => \
        connections, \"all; ever\";\n        closed;\n        ended => going (f),\n            \"now\",\n            \
        Line: \"{going} now\";\n    }\n}\n";
    const ROWS: &str = "| `connections` | all; ever |\n| `going` | now |\n";

    #[track_caller]
    fn expect_of(source: &str, rows: &str, faults: &[&str]) {
        let text = format!("# Status\n\n{}{rows}\nText\n", super::HEAD);
        expect(check, &[(super::COUNTERS, source), (super::OPERATIONS, &text)], faults);
    }

    #[test]
    fn counters_are_documented() {
        expect_of(SOURCE, ROWS, &[]);
        expect_of(
            SOURCE,
            &ROWS.replace("now", "then"),
            &["operations.md:6: host/src/observe/counters.rs has | `going`"],
        );
        expect_of(
            SOURCE,
            &format!("{ROWS}| `other` | x |\n"),
            &["operations.md:7: host/src/observe/counters.rs has no row"],
        );
        expect_of("", ROWS, &["cannot read"]);
        expect(check, &[(super::COUNTERS, SOURCE), (super::OPERATIONS, "")], &["there is no table"]);
    }
}
