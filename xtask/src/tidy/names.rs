//! Checks that every path, type and function that a document for contributors names exists.

use super::Fault;
use super::markdown::spans;
use super::tree::{Tree, has_word};

/// Documents in which names of types and functions are the project's. Users' documents name other things, too.
const FOR_CONTRIBUTORS: &[&str] = &["ARCHITECTURE.md", "CONTRIBUTING.md", "RELEASING.md"];

const ARCHITECTURE: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.documents() {
        for (line, span) in spans(text) {
            if is_own_path(tree, path, span) && !is_there(tree, path, span) {
                faults.push(Fault::new(path, line, format!("there is no `{span}`")));
            }
            if FOR_CONTRIBUTORS.contains(&path) && !is_known(tree, path, span) {
                faults.push(Fault::new(path, line, format!("no source has `{span}`")));
            }
        }
    }
    faults
}

/// Whether `span` can only be a path in the repository.
fn is_own_path(tree: &Tree, document: &str, span: &str) -> bool {
    let is_path = span.chars().all(|character| character.is_ascii_alphanumeric() || "._-/".contains(character));
    if !is_path || span.starts_with(['/', '.', '-']) && !span.starts_with(".ci/") || span.contains("..") {
        return false;
    }
    let Some((first, rest)) = span.split_once('/') else {
        return span.ends_with(".rs");
    };
    let is_below = tree.has(&format!("{first}/")) && first != "target";
    span.ends_with(".rs") || (is_below && !rest.is_empty()) || document == ARCHITECTURE
}

fn is_there(tree: &Tree, document: &str, span: &str) -> bool {
    let beside = document.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
    // Documents call the crate daylily-core by its directory, `core`.
    let in_core = span.strip_prefix("core/").map(|rest| format!("host/core/src/{rest}"));
    tree.has(&format!("{beside}{span}")) || in_core.is_some_and(|path| tree.has(&path)) || tree.has_somewhere(span)
}

/// Whether all words of a name such as `Type::Variant`, `module::function` or `TypeName` are in one source file.
fn is_known(tree: &Tree, document: &str, span: &str) -> bool {
    let span = span.strip_suffix("()").unwrap_or(span);
    let words: Vec<&str> = span.split("::").collect();
    let is_type = document == ARCHITECTURE && is_camel_case(span);
    if !is_type && (words.len() < 2 || !words.iter().all(|word| is_identifier(word))) {
        return true;
    }
    tree.all("", ".rs").any(|(path, text)| {
        // A module has the name of its file.
        let stem = path.trim_end_matches("/mod.rs").trim_end_matches(".rs").rsplit('/').next().unwrap_or_default();
        words.iter().all(|word| *word == stem || *word == "tests" || has_word(text, word))
    })
}

fn is_camel_case(word: &str) -> bool {
    let mut characters = word.chars();
    characters.next().is_some_and(|first| first.is_ascii_uppercase())
        && characters.clone().any(|character| character.is_ascii_lowercase())
        && characters.all(|character| character.is_ascii_alphanumeric())
}

pub(super) fn is_identifier(word: &str) -> bool {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && word.chars().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    const SOURCES: [(&str, &str); 3] = [
        ("host/src/ipc/command.rs", "enum WorkerCommand { End, Cover }"),
        ("host/core/src/limits.rs", ""),
        ("tests/e2e/cuts.rs", "fn seen() {}"),
    ];

    fn expect_in(document: &str, text: &str, faults: &[&str]) {
        let files: Vec<_> = SOURCES.into_iter().chain([(document, text)]).collect();
        expect(check, &files, faults);
    }

    #[test]
    fn a_path_must_be_there() {
        expect_in("ARCHITECTURE.md", "`ipc/command.rs`, `core/limits.rs`, `host/core`, `/proc/self/exe`", &[]);
        expect_in("ARCHITECTURE.md", "`supervisor/orders.rs`", &["there is no `supervisor/orders.rs`"]);
        expect_in(
            "ARCHITECTURE.md",
            "\n`component_link/direct`",
            &["ARCHITECTURE.md:2: there is no `component_link/direct`"],
        );
        expect_in("docs/a.md", "`text/plain`, `target/release/daylily`, `tests/e2e`", &[]);
        expect_in("docs/a.md", "`tests/unit`, `gone.rs`", &["`tests/unit`", "`gone.rs`"]);
    }

    #[test]
    fn a_name_must_be_in_a_source() {
        expect_in(
            "ARCHITECTURE.md",
            "`WorkerCommand::End`, `command::WorkerCommand`, `WorkerCommand`, `cuts::seen`, `wasi:http`",
            &[],
        );
        expect_in("ARCHITECTURE.md", "`WorkerCommand::Drain`", &["no source has `WorkerCommand::Drain`"]);
        expect_in("ARCHITECTURE.md", "`Command`", &["no source has `Command`"]);
        expect_in("docs/a.md", "`ErrorCode::Other`", &[]);
    }
}
