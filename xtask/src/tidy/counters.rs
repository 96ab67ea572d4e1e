//! Checks that docs/operations.md has the counters of `host/src/observe/counters.rs`, and writes them.

use super::generated::Table;

pub(super) const TABLE: Table = Table {
    source: "host/src/observe/counters.rs",
    document: "docs/operations.md",
    head: "| field of `totals` | meaning |\n|---|---|\n",
    rows,
};

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
    use crate::tidy::tree::Tree;
    use crate::tidy::{Fault, expect};

    fn check(tree: &Tree) -> Vec<Fault> {
        super::TABLE.check(tree)
    }

    const SOURCE: &str = "macro_rules! counters {}\n\ncounters! {\n    // Of a worker.\n    worker {\n        opened => \
        connections, \"all; ever\";\n        closed;\n        ended => going (f),\n            \"now\",\n            \
        Line: \"{going} now\";\n    }\n}\n";
    const ROWS: &str = "| `connections` | all; ever |\n| `going` | now |\n";

    #[track_caller]
    fn expect_of(source: &str, rows: &str, faults: &[&str]) {
        let text = format!("# Status\n\n{}{rows}\nText\n", super::TABLE.head);
        expect(check, &[(super::TABLE.source, source), (super::TABLE.document, &text)], faults);
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
        expect(check, &[(super::TABLE.source, SOURCE), (super::TABLE.document, "")], &["there is no table"]);
    }
}
