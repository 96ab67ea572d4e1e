//! Checks that files have at most 400 lines and functions at most 70, and that clippy is configured for that.

use super::Fault;
use super::tree::Tree;

const FILE_LINES: usize = 400;

/// Maximum lines of code between the braces, without comments and empty lines, as clippy counts.
const FUNCTION_LINES: usize = 70;

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.all("", ".rs") {
        let count = text.lines().count();
        if count > FILE_LINES {
            faults.push(Fault::new(path, 0, format!("{count} lines, more than {FILE_LINES}")));
        }
        for (line, count) in functions(text).into_iter().filter(|(_, count)| *count > FUNCTION_LINES) {
            faults.push(Fault::new(path, line, format!("a function of {count} lines, more than {FUNCTION_LINES}")));
        }
    }
    let setting = format!("too-many-lines-threshold = {FUNCTION_LINES}");
    if tree.text("clippy.toml").is_some_and(|text| !text.lines().any(|line| line == setting)) {
        faults.push(Fault::new("clippy.toml", 0, format!("there is no `{setting}`")));
    }
    faults
}

/// The first line of each function and its number of lines. In formatted code, the closing brace has the indentation of
/// the function.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.get(..line.len() - line.trim_start().len()).unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != "fn").collect();
        let is_function = line.split_whitespace().any(|word| word == "fn")
            && words
                .iter()
                .all(|word| word.starts_with("pub") || ["const", "async", "unsafe", "extern", "\"C\""].contains(word));
        if !is_function {
            continue;
        }
        let below = lines.get(at..).unwrap_or_default();
        let Some(open) = below.iter().position(|line| line.ends_with('{') || line.ends_with([';', '}'])) else {
            continue;
        };
        let close = format!("{indent}}}");
        let body = below.get(open + 1..).unwrap_or_default();
        if below.get(open).is_some_and(|line| line.ends_with('{')) {
            let inside = body.iter().take_while(|line| **line != close).map(|line| line.trim());
            let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//");
            found.push((at + 1, inside.filter(is_code).count()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{check, functions};
    use crate::tidy::expect;

    #[test]
    fn long_files_and_functions_are_found() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    x();\n".repeat(lines));
        let source = |text: &str, faults: &[&str]| expect(check, &[("a.rs", text)], faults);
        source(&function(70), &[]);
        source(&function(71), &["a.rs:1: a function of 71 lines"]);
        source(&"\n".repeat(400), &[]);
        source(&"\n".repeat(401), &["a.rs: 401 lines"]);
        expect(check, &[("clippy.toml", "too-many-lines-threshold = 90\n")], &["threshold = 70"]);
    }

    #[test]
    fn lines_are_counted_as_clippy_does() {
        let text = "impl A {\n    pub(crate) async fn f(\n        a: u8,\n    ) -> u8 {\n        // why\n\n        g();\n    }\n\
                    \n    fn h(&self);\n}\n";
        assert_eq!(functions(text), [(2, 1)]);
    }
}
