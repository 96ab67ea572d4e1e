//! The files of the repository, as listed by git.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Text files by path from the root. Other files are present with empty contents.
pub(super) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("failed to run git, which lists the files")?;
        ensure!(output.status.success(), "git could not list the files: {}", String::from_utf8_lossy(&output.stderr));
        let listed = String::from_utf8(output.stdout).context("a path is not UTF-8")?;
        let paths = listed.split('\0').filter(|path| !path.is_empty());
        let read = |path: &str| std::fs::read(root.join(path)).ok().map(|bytes| (path.to_owned(), text(bytes)));
        // A file that git lists and that does not exist has been removed in the working tree.
        let files: BTreeMap<String, String> = paths.filter_map(read).collect();
        ensure!(files.contains_key("ARCHITECTURE.md"), "git lists no ARCHITECTURE.md in {}", root.display());
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect() }
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or directory has this path from the root.
    pub(super) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        path.is_empty() || self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&below))
    }

    /// Whether the path of a file or directory equals `path` or ends in it.
    pub(super) fn has_somewhere(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let (inside, below, top) = (format!("/{path}"), format!("/{path}/"), format!("{path}/"));
        self.files
            .keys()
            .any(|file| file == path || file.ends_with(&inside) || file.contains(&below) || file.starts_with(&top))
    }

    /// The files whose paths begin with `start` and end with `end`.
    pub(super) fn all<'a>(&'a self, start: &'a str, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let files = self.files.iter().filter(move |(path, _)| path.starts_with(start) && path.ends_with(end));
        files.map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Documents for users and contributors, except the change log and the decision records, which describe past
    /// states.
    pub(super) fn documents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all("", ".md").filter(|(path, _)| *path != "CHANGELOG.md" && !path.starts_with("docs/adr/"))
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

/// Whether `text` contains `word` as a whole word. An escape `\n` before it, as in a string literal, is no part of it.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at + word.len()..).unwrap_or_default());
        let begins = before.ends_with("\\n") || !before.ends_with(is_part);
        begins && !after.starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::{Tree, has_word};

    #[test]
    fn paths_are_found_whole() {
        let tree = Tree::of(&[("host/src/supervisor/seat.rs", "")]);
        let found = |path: &str| (tree.has(path), tree.has_somewhere(path));
        assert_eq!(found("host/src/"), (true, true));
        assert_eq!(found("supervisor/seat.rs"), (false, true));
        assert_eq!(found("seat.rs"), (false, true));
        assert_eq!([found("eat.rs"), found("trol/seat.rs"), found("host/sr")], [(false, false); 3]);
    }

    #[test]
    fn words_are_found_whole() {
        assert!(has_word("a = 'max_queue = 1\\nqueue_timeout'", "queue_timeout"));
        assert!(!has_word("max_queue_length max_queues amax_queue", "max_queue"));
    }
}
