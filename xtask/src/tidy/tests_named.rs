//! Checks that every test that a document names exists, and that every invariant names one.

use super::markdown::{in_line, prose, spans};
use super::tree::{Tree, has_word};
use super::{Fault, names};

const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// The end-to-end tests, one file for each subject.
const E2E: &str = "tests/e2e/";

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.documents() {
        for (line, span) in spans(text) {
            let Some((module, name)) = span.split_once("::") else { continue };
            // `module::NAME` is a placeholder for any test.
            let is_name = names::is_identifier(name) && name != "NAME";
            let is_test = is_name && module_of(tree, module).is_some();
            // A module of the host may have the same name as one of the tests.
            if is_test && !has_test(tree, module, name) && !has_function(tree, module, name) {
                faults.push(Fault::new(path, line, format!("there is no test `{span}`")));
            }
        }
    }
    faults.extend(invariants(tree));
    faults
}

/// Checks that each invariant ends with the tests for it.
fn invariants(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut count = 0;
    let lines = prose(tree.text(ARCHITECTURE).unwrap_or_default());
    let below = lines.into_iter().skip_while(|(_, line)| *line != "## Invariants").skip(1);
    for (number, line) in below.take_while(|(_, line)| !line.starts_with('#')) {
        let Some((figure, text)) = line.split_once(". ").filter(|(figure, _)| figure.parse::<u32>().is_ok()) else {
            continue;
        };
        count += 1;
        let mut fault = |text: String| faults.push(Fault::new(ARCHITECTURE, number, text));
        if figure != count.to_string() {
            fault(format!("invariant {figure} is number {count}"));
        }
        let Some((_, named)) = text.rsplit_once('→') else {
            fault(format!("invariant {figure} names no test: `→` and the tests that show it"));
            continue;
        };
        let mut has_any = false;
        for span in in_line(named) {
            has_any = true;
            let module = span.split_once("::").map_or(span, |(module, _)| module);
            if names::is_identifier(span) && module_of(tree, span).is_none() {
                fault(format!("there is no file of tests `{E2E}{module}.rs`"));
            } else if span.contains("::") && module_of(tree, module).is_none() {
                fault(format!("there is no test `{span}`: no file `{E2E}{module}.rs`"));
            }
        }
        if !has_any {
            fault(format!("invariant {figure} names no test"));
        }
    }
    faults
}

/// The source of a test module: a file, or `mod.rs` of a directory.
fn module_of<'a>(tree: &'a Tree, module: &str) -> Option<&'a str> {
    tree.text(&format!("{E2E}{module}.rs")).or_else(|| tree.text(&format!("{E2E}{module}/mod.rs")))
}

/// Whether the module has this test; a large module is a directory of several files.
fn has_test(tree: &Tree, module: &str, name: &str) -> bool {
    let directory = format!("{E2E}{module}/");
    let files = module_of(tree, module).into_iter().chain(tree.all(&directory, ".rs").map(|(_, text)| text));
    let (head, case) = (format!("fn {name}("), format!("\"{name}\""));
    files.into_iter().any(|text| {
        // Names of test cases in a table are string literals.
        if text.contains(&case) {
            return true;
        }
        text.match_indices(&head).any(|(at, _)| {
            let before = text.get(..at).unwrap_or_default();
            before.trim_end().rsplit('\n').take(4).any(|line| line.trim() == "#[test]")
        })
    })
}

fn has_function(tree: &Tree, module: &str, name: &str) -> bool {
    let end = format!("/{module}.rs");
    let mut sources = tree.all("host/", ".rs").filter(|(path, _)| path.ends_with(&end));
    sources.any(|(_, text)| has_word(text, name))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    const TESTS: (&str, &str) = ("tests/e2e/cuts.rs", "fn helper() {}\n\n#[test]\nfn a_cut_is_seen() {}\n");

    #[test]
    fn a_test_that_is_named_must_be_there() {
        let named = |text: &'static str| [TESTS, ("docs/a.md", text)];
        expect(check, &named("`cuts::a_cut_is_seen`, `other::thing`"), &[]);
        expect(check, &named("\n`cuts::a_cut_is_hidden`"), &["docs/a.md:2: there is no test `cuts::a_cut_is_hidden`"]);
        let large = ("tests/e2e/large/mod.rs", "mod part;");
        let part = ("tests/e2e/large/part.rs", "#[test]\nfn it_works() {}\n");
        expect(check, &[large, part, ("docs/a.md", "`large::it_works`")], &[]);
        expect(check, &[large, part, ("docs/a.md", "`large::it_fails`")], &["no test `large::it_fails`"]);
        let table = ("tests/e2e/table.rs", "case(\"a_row\", 400)");
        expect(check, &[table, ("docs/a.md", "`table::a_row`")], &[]);
        // A helper function is not a test.
        expect(check, &named("`cuts::helper`"), &["no test"]);
    }

    #[test]
    fn a_module_of_the_host_may_have_the_same_name() {
        let host = ("host/src/supervisor/cuts.rs", "fn attempt() {}");
        expect(check, &[TESTS, host, ("docs/a.md", "`cuts::attempt`")], &[]);
    }

    #[test]
    fn an_invariant_has_a_test() {
        let invariants = |text: &'static str| [TESTS, ("ARCHITECTURE.md", text)];
        expect(check, &invariants("## Invariants\n\n1. **Cut.** → `cuts`, `cuts::a_cut_is_seen`\n"), &[]);
        expect(check, &invariants("## Invariants\n1. **Cut.** `cuts.rs`\n"), &["names no test"]);
        expect(check, &invariants("## Invariants\n1. **Cut.** → all tests\n"), &["names no test"]);
        expect(check, &invariants("## Invariants\n1. **Cut.** → `cut`\n"), &["no file of tests `tests/e2e/cut.rs`"]);
        expect(check, &invariants("## Invariants\n2. **Cut.** → `cuts`\n"), &["invariant 2 is number 1"]);
    }
}
