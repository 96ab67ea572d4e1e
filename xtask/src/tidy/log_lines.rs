//! Checks that every log line that a document names is in the source file that the document states.

use super::Fault;
use super::markdown::{in_line, rows};
use super::tree::Tree;

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const HEADING: &str = "Where log lines come from";

/// Tables of log lines in users' documents, each with the column of the lines.
const OTHERS: &[(&str, &str, usize)] =
    &[("docs/errors.md", "The supervisor's lines", 1), ("docs/operations.md", "At 3 a.m.", 0)];

/// Minimum length of a part of a line to search for: shorter ones are found everywhere.
const SHORTEST: usize = 4;

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (line, cells) in rows(tree.text(ARCHITECTURE).unwrap_or_default(), HEADING).into_iter().skip(1) {
        let [files, _, lines] = cells.as_slice() else {
            faults.push(Fault::new(ARCHITECTURE, line, "not `where | level | line`"));
            continue;
        };
        let sources: Vec<String> = in_line(files).flat_map(|file| sources(tree, file)).collect();
        if sources.is_empty() {
            faults.push(Fault::new(ARCHITECTURE, line, format!("there is no source {files}")));
        }
        for text in in_line(lines).filter(|text| *text != "guest") {
            if let Some(part) = missing(text, &sources) {
                faults.push(Fault::new(ARCHITECTURE, line, format!("{files} has no \"{part}\"")));
            }
        }
    }
    let all: Vec<String> = tree.all("host/", ".rs").map(|(_, text)| joined(text)).collect();
    for (path, heading, column) in OTHERS {
        for (line, cells) in rows(tree.text(path).unwrap_or_default(), heading).into_iter().skip(1) {
            for text in cells.get(*column).into_iter().flat_map(|cell| in_line(cell)) {
                if let Some(part) = missing(text, &all) {
                    faults.push(Fault::new(path, line, format!("no source has \"{part}\"")));
                }
            }
        }
    }
    faults
}

fn sources(tree: &Tree, file: &str) -> Vec<String> {
    let end = format!("/{file}");
    tree.all("host/", ".rs").filter(|(path, _)| path.ends_with(&end)).map(|(_, text)| joined(text)).collect()
}

/// Joins string literals that continue on the next line.
fn joined(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            // The string continues at the next line's first character.
            Some(line) => out.push_str(line.trim_start()),
            None => {
                out.push_str(line.trim_start());
                out.push('\n');
            }
        }
    }
    out
}

/// The first part of a line that no source contains. The variable parts of a line are marked in the document by `…`,
/// digits, quotation marks or parentheses.
fn missing<'a>(line: &'a str, sources: &[String]) -> Option<&'a str> {
    let parts = line.split(['…', '(', ')', '\'', '"', '=', ':', ';', ',']).flat_map(words_without_digits);
    let parts = parts.map(str::trim).filter(|part| part.len() >= SHORTEST && part.contains(' '));
    let is_in = |part: &str| part.len() >= SHORTEST && sources.iter().any(|source| source.contains(part));
    // A placeholder in the source may stand for words that the document spells out.
    let is_in_two = |part: &str| {
        part.match_indices(' ').any(|(at, _)| {
            let (start, end) = part.split_at(at);
            is_in(start) && is_in(end.trim_start())
        })
    };
    parts.into_iter().find(|part| !is_in(part) && !is_in_two(part))
}

/// Splits text into runs of words without digits.
fn words_without_digits(text: &str) -> Vec<&str> {
    let mut runs = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(|character: char| character.is_ascii_digit()) {
        let start = rest.get(..at).and_then(|before| before.rfind(' ')).unwrap_or(0);
        let end = rest.get(at..).and_then(|after| after.find(' ')).map_or(rest.len(), |length| at + length);
        runs.extend(rest.get(..start));
        rest = rest.get(end..).unwrap_or_default();
    }
    runs.push(rest);
    runs
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    const SOURCE: &str =
        "tracing::error!(\n    \"worker {worker} (pid {pid}) did not respond \\\n     for hang_timeout = {}\"\n);";

    #[track_caller]
    fn expect_of(path: &str, row: &str, faults: &[&str]) {
        let text = format!("## Where log lines come from\n| where | level | line |\n{row}\n");
        let errors = format!("## The supervisor's lines\n| level | line |\n| error | {row} |\n");
        let text = if path == super::ARCHITECTURE { text } else { errors };
        expect(check, &[("host/src/supervisor/seat.rs", SOURCE), (path, text.as_str())], faults);
    }

    #[test]
    fn a_line_is_in_its_source() {
        let row = |text: &str| format!("| `supervisor/seat.rs` | error | `{text}` |");
        let check = |text: &str, faults: &[&str]| expect_of(super::ARCHITECTURE, &row(text), faults);
        check("worker … did not respond for hang_timeout = …", &[]);
        check("worker did not respond", &[]);
        check("worker … did not answer …", &["has no \"did not answer\""]);
        expect_of(super::ARCHITECTURE, "| `seats.rs` | error | a line |", &["there is no source"]);
    }

    #[test]
    fn a_line_that_users_read_is_in_some_source() {
        expect_of("docs/errors.md", "`worker 0 (pid 1674) did not respond for hang_timeout = 10s`", &[]);
        expect_of("docs/errors.md", "`worker 0 (pid 1674) hung for 10s, and did end`", &["\"hung for\""]);
    }
}
