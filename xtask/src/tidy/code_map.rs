//! Checks the code map in ARCHITECTURE.md: every path in it exists, and where it lists files of a directory, it lists
//! all of them.

use std::collections::BTreeSet;

use super::Fault;
use super::markdown::blocks;
use super::tree::Tree;

const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// Files that need no entry: their directory's line describes them.
const UNNAMED: &[&str] = &["mod.rs", "lib.rs", "tests.rs"];

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let text = tree.text(ARCHITECTURE).unwrap_or_default();
    let Some(block) = blocks(text).into_iter().find(|block| block.above == "## The code") else {
        return vec![Fault::new(ARCHITECTURE, 0, "there is no map below `## The code`")];
    };
    let mut faults = Vec::new();
    let mut named = BTreeSet::new();
    // The enclosing directories, with the indentation of their lines.
    let mut above: Vec<(usize, String)> = Vec::new();
    for (number, line) in (block.line + 1..).zip(&block.lines) {
        let indent = line.len() - line.trim_start().len();
        above.retain(|(outer, _)| *outer < indent);
        let parent = above.last().map(|(_, path)| path.clone()).unwrap_or_default();
        for name in entries(line) {
            // The map omits `src/` for the sources of a crate.
            let places = [format!("{parent}{name}"), format!("{parent}src/{name}")];
            let Some(path) = places.into_iter().find(|path| tree.has(path)) else {
                faults.push(Fault::new(
                    ARCHITECTURE,
                    number,
                    format!("the map has `{parent}{name}`, which is not there"),
                ));
                continue;
            };
            if path.ends_with('/') {
                above.push((indent, path.clone()));
            }
            named.insert(path);
        }
    }
    faults.extend(left_out(tree, &named).map(|path| {
        Fault::new(ARCHITECTURE, block.line, format!("the map has other files of its directory, and not `{path}`"))
    }));
    faults
}

/// The paths at the beginning of a line of the map.
fn entries(line: &str) -> Vec<&str> {
    let start = line.trim().split("  ").next().unwrap_or_default();
    let words: Vec<&str> = start.split_whitespace().collect();
    let is_path = |word: &&str| word.contains(['.', '/']) && !word.ends_with('.');
    words.into_iter().take_while(is_path).collect()
}

fn left_out<'a>(tree: &'a Tree, named: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
    let split = |path: &'a str| path.rsplit_once('/').unwrap_or(("", path));
    let files = named.iter().filter(|path| path.ends_with(".rs"));
    let directories: BTreeSet<&str> = files.map(|path| split(path).0).filter(|path| path.contains("src")).collect();
    tree.all("host/", ".rs").map(|(path, _)| path).filter(move |path| {
        let (directory, name) = split(path);
        directories.contains(directory) && !UNNAMED.contains(&name) && !named.contains(*path)
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    const SOURCES: [(&str, &str); 4] = [
        ("host/src/main.rs", ""),
        ("host/src/supervisor/mod.rs", ""),
        ("host/src/supervisor/watch.rs", ""),
        ("host/src/supervisor/process.rs", ""),
    ];

    fn expect_of(map: &str, faults: &[&str]) {
        let text = format!("## The code\n\n```\n{map}```\n");
        let files: Vec<_> = SOURCES.into_iter().chain([("ARCHITECTURE.md", text.as_str())]).collect();
        expect(check, &files, faults);
    }

    #[test]
    fn the_map_matches_the_files() {
        expect_of(
            "host/           the host\n  main.rs       the program\n  src/supervisor/\n    watch.rs process.rs    both\n",
            &[],
        );
        expect_of("host/src/       the host\n  main.rs       the program\n  supervisor/      processes\n", &[]);
        expect_of("host/src/\n  main.rs\n  run.rs\n", &["ARCHITECTURE.md:6: the map has `host/src/run.rs`"]);
        expect_of("host/src/\n  supervisor/\n    watch.rs\n", &["not `host/src/supervisor/process.rs`"]);
    }
}
