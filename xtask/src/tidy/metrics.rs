//! Checks that docs/metrics.md has the families of `host/src/observer/metrics/families.rs`, and writes them.

use super::generated::Table;

pub(super) const TABLE: Table = Table {
    source: "host/src/observer/metrics/families.rs",
    document: "docs/metrics.md",
    head: "| name | type | labels | meaning |\n|---|---|---|---|\n",
    rows,
};

/// The families as rows of the document, from `Row { name: "…", …, kind: Kind::…, labels: &["…"], help: "…", … }`.
fn rows(source: &str) -> String {
    let table = source.split_once("FAMILIES: &[Row] = &[").map_or("", |(_, table)| table);
    let rows = table.split("Row {").skip(1).filter_map(|row| {
        let name = quoted(row.split_once("name: ")?.1)?;
        let kind = row.split_once("kind: Kind::")?.1.split_once(',')?.0;
        let labels = row.split_once("labels: &[")?.1.split_once(']')?.0;
        let labels: Vec<_> = labels.split('"').skip(1).step_by(2).map(|label| format!("`{label}`")).collect();
        let help = quoted(row.split_once("help: ")?.1)?;
        let suffix = if kind == "Counter" { "_total" } else { "" };
        Some(format!("| `{name}{suffix}` | {} | {} | {help} |\n", kind.to_lowercase(), labels.join(", ")))
    });
    rows.collect()
}

/// The text of a string literal, which may be continued on further lines.
fn quoted(source: &str) -> Option<String> {
    let text = source.strip_prefix('"')?.split_once('"')?.0;
    let mut lines = text.split("\\\n");
    let first = lines.next()?.to_owned();
    Some(lines.fold(first, |text, line| text + line.trim_start()))
}

#[cfg(test)]
mod tests {
    use crate::tidy::tree::Tree;
    use crate::tidy::{Fault, expect};

    fn check(tree: &Tree) -> Vec<Fault> {
        super::TABLE.check(tree)
    }

    const SOURCE: &str = "struct Row {}\nconst FAMILIES: &[Row] = &[\n    Row {\n        name: \"a_seconds\",\n        kind: \
        Kind::Counter,\n        labels: &[\"route\", \"class\"],\n        help: \"All of \\\n            them.\",\n    },\n    \
        Row { name: \"b\", kind: Kind::Gauge, labels: &[], help: \"One.\" },\n];\n";
    const ROWS: &str = "| `a_seconds_total` | counter | `route`, `class` | All of them. |\n| `b` | gauge |  | One. |\n";

    #[track_caller]
    fn expect_of(source: &str, rows: &str, faults: &[&str]) {
        let text = format!("# Metrics\n\n| name | type | labels | meaning |\n|---|---|---|---|\n{rows}\nMore.\n");
        let files = [("host/src/observer/metrics/families.rs", source), ("docs/metrics.md", text.as_str())];
        expect(check, &files, faults);
    }

    #[test]
    fn metrics_are_documented() {
        expect_of(SOURCE, ROWS, &[]);
        expect_of(SOURCE, "", &["metrics.md:5: host/src/observer/metrics/families.rs has | `a_seconds_total`"]);
        expect_of(
            SOURCE,
            &ROWS.replace("One.", "Two."),
            &["metrics.md:6: host/src/observer/metrics/families.rs has | `b`"],
        );
        expect_of("", ROWS, &["families.rs: tidy cannot read its rows"]);
    }
}
