//! `table.md` has one row for each MUST and MUST NOT of the RFCs that daylily could break. Rows name the tests that
//! show what daylily does. Tests that only compare requests and responses are in `cases.rs` and run here.

mod cases;

use std::collections::BTreeSet;
use std::path::Path;

use self::cases::{Case, End, cases};
use crate::harness::{Request, Setup, Shared, each};

const TABLE: &str = include_str!("table.md");
const LOOPS: &str = include_str!("../../../docs/reading.md");

/// The start of a row's third column if the requirement does not apply to daylily.
const DOES_NOT_APPLY: &str = "does not apply: ";

/// The sections of the RFCs that the table covers. Each has at least one row, even if that says that no requirement
/// applies.
const SECTIONS: [&str; 53] = [
    "RFC 9112 §2.1",
    "RFC 9112 §2.2",
    "RFC 9112 §2.3",
    "RFC 9112 §3",
    "RFC 9112 §3.2",
    "RFC 9112 §3.2.1",
    "RFC 9112 §3.2.2",
    "RFC 9112 §3.2.3",
    "RFC 9112 §3.2.4",
    "RFC 9112 §4",
    "RFC 9112 §5.1",
    "RFC 9112 §5.2",
    "RFC 9112 §6.1",
    "RFC 9112 §6.2",
    "RFC 9112 §6.3",
    "RFC 9112 §7.1",
    "RFC 9112 §7.1.1",
    "RFC 9112 §7.1.2",
    "RFC 9112 §7.4",
    "RFC 9112 §8",
    "RFC 9112 §9.2",
    "RFC 9112 §9.3",
    "RFC 9112 §9.3.1",
    "RFC 9112 §9.3.2",
    "RFC 9112 §9.5",
    "RFC 9112 §9.6",
    "RFC 9110 §5.1",
    "RFC 9110 §5.3",
    "RFC 9110 §5.4",
    "RFC 9110 §5.5",
    "RFC 9110 §5.6.1",
    "RFC 9110 §5.6.3",
    "RFC 9110 §5.6.4",
    "RFC 9110 §5.6.7",
    "RFC 9110 §6.2",
    "RFC 9110 §6.5.1",
    "RFC 9110 §6.6.1",
    "RFC 9110 §7.2",
    "RFC 9110 §7.6",
    "RFC 9110 §7.6.1",
    "RFC 9110 §7.6.2",
    "RFC 9110 §7.6.3",
    "RFC 9110 §7.8",
    "RFC 9110 §8.6",
    "RFC 9110 §9.3",
    "RFC 9110 §10.1.1",
    "RFC 9110 §15.2",
    "RFC 9110 §15.3.5",
    "RFC 9110 §15.3.6",
    "RFC 9110 §15.4.5",
    "RFC 9110 §15.5.14",
    "RFC 9110 §15.5.15",
    "RFC 6585 §5",
];

static SERVER: Shared = Shared::new(|| {
    Setup::new()
        .route("hello.test", "hello", "")
        .route("echo.test", "echo", "")
        .route("status.test", "status", "")
        .route("small.test", "echo", "max_body = 4")
});

#[derive(Debug)]
struct Row {
    clause: &'static str,
    who: &'static str,
    what: &'static str,
    /// The names in backticks in the last column.
    shown_by: Vec<&'static str>,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| line.starts_with("| RFC "));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let &[clause, who, _requirement, what, shown_by] = cells.as_slice() else {
                panic!("not five cells: {line}");
            };
            // The odd parts are those in backticks.
            let shown_by = shown_by.split('`').skip(1).step_by(2).collect();
            Row { clause, who, what, shown_by }
        })
        .collect()
}

#[test]
fn every_row_is_shown_by_tests_that_exist() {
    let names: BTreeSet<&str> = cases().iter().map(|case| case.name).collect();
    each(&rows(), |row| {
        assert!(["server", "client", "both"].contains(&row.who), "who must do it: {row:?}");
        let applies = !row.what.starts_with(DOES_NOT_APPLY);
        assert_eq!(applies, !row.shown_by.is_empty(), "a test, or a reason why none is needed: {row:?}");
        for name in &row.shown_by {
            assert!(exists(name, &names), "there is no test {name}");
        }
    });
}

fn exists(name: &str, cases: &BTreeSet<&str>) -> bool {
    name.strip_prefix("rfc::").map_or_else(|| is_test(name), |case| cases.contains(case))
}

/// Whether `name` is `module::test` of these tests, or `path/of/a/file.rs: test` of unit tests.
fn is_test(name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (file, test) = match name.split_once(": ") {
        Some((path, test)) => (root.join(path), test),
        None => {
            let Some((module, test)) = name.split_once("::") else { return false };
            (root.join(format!("tests/e2e/{module}.rs")), test)
        }
    };
    let source = std::fs::read_to_string(file).unwrap_or_default();
    let mut items = source.split("#[test]").skip(1).chain(source.split("#[tokio::test").skip(1));
    // Other attributes may be in between, but no other function.
    items.any(|item| item.split("fn ").nth(1).is_some_and(|named| named.starts_with(&format!("{test}("))))
}

#[test]
fn every_case_is_in_the_table_and_every_section_has_a_row() {
    let rows = rows();
    let named: BTreeSet<&str> =
        rows.iter().flat_map(|row| &row.shown_by).filter_map(|name| name.strip_prefix("rfc::")).collect();
    let missing: Vec<&str> = cases().iter().map(|case| case.name).filter(|name| !named.contains(name)).collect();
    assert!(missing.is_empty(), "cases that no row of the table names: {missing:?}");
    let clauses: BTreeSet<&str> = rows.iter().map(|row| row.clause).collect();
    let without: Vec<&&str> = SECTIONS.iter().filter(|section| !clauses.contains(*section)).collect();
    assert!(without.is_empty(), "sections without a row: {without:?}");
    let unknown: Vec<&&str> = clauses.iter().filter(|clause| !SECTIONS.contains(clause)).collect();
    assert!(unknown.is_empty(), "sections that are not in the list: {unknown:?}");
}

/// `docs/reading.md` lists what a peer may send endlessly, and the bound of each loop that reads it.
#[test]
fn every_loop_of_reading_has_a_bound() {
    let names: BTreeSet<&str> = cases().iter().map(|case| case.name).collect();
    let lines = LOOPS.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = lines.filter(|line| !line.starts_with("| loop |")).collect();
    assert!(rows.len() > 10, "{rows:?}");
    each(&rows, |row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 5 && cells.iter().all(|cell| !cell.is_empty()), "not five cells with text: {row}");
        assert!(cells[2].contains('`') || cells[2].contains(|c: char| c.is_ascii_digit()), "no bound: {row}");
        for name in cells[4].split('`').skip(1).step_by(2) {
            assert!(exists(name, &names), "there is no test {name}");
        }
    });
}

#[test]
fn requests_are_answered_as_the_table_says() {
    let _keep = SERVER.get();
    each(&cases(), check);
}

/// Sends the bytes of a case at once, and fails unless exactly its responses are received.
fn check(case: &Case) {
    let mut connection = SERVER.get().connect();
    connection.try_send(&case.bytes);
    for answer in case.answers {
        let (method, answer) = answer.strip_prefix("HEAD ").map_or(("GET", *answer), |answer| ("HEAD", answer));
        let (status, body) = answer.split_once(' ').map_or((answer, None), |(status, body)| (status, Some(body)));
        let response = connection.response(method);
        assert_eq!(response.status.to_string(), status, "{}: {response:?}", case.name);
        assert_eq!(response.ending, crate::harness::Ending::Complete, "{}", case.name);
        assert!(body.is_none_or(|body| response.text() == body), "{}: {response:?}", case.name);
    }
    match case.end {
        End::Closed => drop(connection.expect_closed()),
        // If a byte had been lost, or one too many been read, this request would fail.
        End::Open => drop(connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n")),
    }
}
