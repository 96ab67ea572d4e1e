//! Detects when something below a set of files and directories was written.
//!
//! The files are polled, for the reasons that [`crate::supervisor::watch`] has. A check of many files is made less often.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use daylily_core::log_target;
use tokio::time::sleep_until;

use crate::supervisor::watch::{FileStamp, stamp};

/// Time between the end of a check and the next one, if checks are quick.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A check takes at most one part in this many of the time.
const MAX_SHARE: u32 = 20;

/// Files that are watched.
const MAX_FILES: usize = 20_000;

/// Directories below directories.
const MAX_DEPTH: usize = 32;

/// Largest file whose content is compared. Of larger ones, a new time of modification counts as a change.
const MAX_COMPARED_BYTES: u64 = 16 << 20;

/// Directories of tools, with what is built or installed; those whose names begin with a dot are left out, too.
const LEFT_OUT: [&str; 4] = ["__pycache__", "node_modules", "target", "venv"];

/// What is watched, and the state in which it was seen last.
pub(crate) struct Sources {
    roots: Vec<PathBuf>,
    seen: Files,
    /// At the latest check, when it differs from what was seen.
    changed: Option<Files>,
    next: Instant,
    /// Contents of files that were written, to know a file that was written again with the same content.
    contents: BTreeMap<PathBuf, blake3::Hash>,
}

type Files = BTreeMap<PathBuf, FileStamp>;

impl Sources {
    /// Watches files, and what is below directories; a path where there is nothing yet is watched, too. Blocks while it
    /// looks at the files.
    pub(crate) fn new(roots: Vec<PathBuf>) -> Self {
        let seen = files(&roots);
        if seen.len() >= MAX_FILES {
            tracing::warn!(
                target: log_target::BUILD,
                "only {MAX_FILES} files are watched: name the directories with sources in `watch` of [build]"
            );
        }
        Self { roots, seen, changed: None, next: Instant::now() + CHECK_INTERVAL, contents: BTreeMap::new() }
    }

    pub(crate) fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Resolves when a file was written, and nothing was written until the next check. Returns its path. Cancel safe.
    pub(crate) async fn changed(&mut self) -> PathBuf {
        loop {
            sleep_until(self.next.into()).await;
            let (roots, began) = (self.roots.clone(), Instant::now());
            let looked = tokio::task::spawn_blocking(move || files(&roots)).await;
            self.next = Instant::now() + CHECK_INTERVAL.max(began.elapsed() * MAX_SHARE);
            if let Ok(now) = looked
                && let Some(path) = self.check(now)
            {
                return path;
            }
        }
    }

    /// A file whose content differs from what was seen, if all files are the same as at the previous check.
    fn check(&mut self, now: Files) -> Option<PathBuf> {
        if now == self.seen {
            self.changed = None;
            return None;
        }
        if self.changed.as_ref() != Some(&now) {
            self.changed = Some(now);
            return None;
        }
        self.changed = None;
        let seen = std::mem::replace(&mut self.seen, now);
        let removed = seen.keys().find(|path| !self.seen.contains_key(*path)).cloned();
        let written: Vec<PathBuf> = self
            .seen
            .iter()
            .filter(|(path, stamp)| seen.get(*path) != Some(*stamp))
            .map(|(path, _)| path.clone())
            .collect();
        // All of them, so that each has its present content.
        let differing = written.into_iter().filter(|path| self.has_other_content(path)).last();
        removed.or(differing)
    }

    /// Whether a file differs from how it was when it was last written. Remembers how it is now.
    fn has_other_content(&mut self, path: &Path) -> bool {
        match content(path) {
            Some(now) => self.contents.insert(path.to_owned(), now) != Some(now),
            None => {
                self.contents.remove(path);
                true
            }
        }
    }
}

fn content(path: &Path) -> Option<blake3::Hash> {
    let file = fs::File::open(path).ok().filter(|file| file.metadata().is_ok_and(|file| file.is_file()))?;
    let mut hasher = blake3::Hasher::new();
    let length = std::io::copy(&mut file.take(MAX_COMPARED_BYTES + 1), &mut hasher).ok()?;
    (length <= MAX_COMPARED_BYTES).then(|| hasher.finalize())
}

fn files(roots: &[PathBuf]) -> Files {
    let mut files = Files::new();
    for root in roots {
        add(root, root.is_dir(), MAX_DEPTH, &mut files);
    }
    files
}

/// Adds a file, or what is below a directory. Links to directories are not followed, since they may lead back.
fn add(path: &Path, is_dir: bool, depth: usize, files: &mut Files) {
    if files.len() >= MAX_FILES {
        return;
    }
    if !is_dir {
        let stamp = stamp(path);
        // What does not exist yet may become a directory.
        if stamp.is_some() {
            files.insert(path.to_owned(), stamp);
        }
        return;
    }
    let (Ok(entries), true) = (fs::read_dir(path), depth > 0) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !LEFT_OUT.contains(&name.as_ref()) {
            add(&entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir()), depth - 1, files);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// What is reported once everything is at rest.
    fn reported(sources: &mut Sources) -> Option<String> {
        let look = |sources: &mut Sources| sources.check(files(&sources.roots.clone()));
        let path = look(sources).or_else(|| look(sources))?;
        assert_eq!(look(sources), None, "reported twice");
        Some(path.file_name()?.to_string_lossy().into_owned())
    }

    #[test]
    fn what_was_written_is_reported_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| {
            fs::create_dir_all(at(name).parent().expect("a directory")).expect("a directory");
            fs::write(at(name), text).expect("a file");
        };
        write("src/a.js", "1");
        let mut sources = Sources::new(vec![at("src"), at("one.py"), at("later")]);
        assert_eq!(reported(&mut sources), None);
        for (name, text, expected) in [
            ("src/a.js", "two", Some("a.js")),
            // As formatters and code generators do.
            ("src/a.js", "two", None),
            ("src/deep/er/b.js", "1", Some("b.js")),
            ("one.py", "1", Some("one.py")),
            ("two.py", "1", None),
            ("later/c.js", "1", Some("c.js")),
            ("src/node_modules/d/e.js", "1", None),
            ("src/.git/index", "1", None),
        ] {
            write(name, text);
            assert_eq!(reported(&mut sources).as_deref(), expected, "{name}");
        }
        symlink(dir.path(), at("src/up")).expect("a link");
        assert_eq!(reported(&mut sources).as_deref(), Some("up"));
        write("two.py", "2");
        assert_eq!(reported(&mut sources), None, "a link was followed");
        fs::remove_file(at("src/a.js")).expect("a file");
        assert_eq!(reported(&mut sources).as_deref(), Some("a.js"));
        fs::remove_dir_all(at("src")).expect("a directory");
        assert!(reported(&mut sources).is_some(), "a removed directory");
    }

    #[test]
    fn what_is_being_written_is_not_reported_yet() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        let mut sources = Sources::new(vec![dir.path().to_owned()]);
        for text in ["1", "12", "123"] {
            fs::write(&path, text).expect("a file");
            assert_eq!(sources.check(files(&sources.roots.clone())), None);
        }
        assert_eq!(sources.check(files(&sources.roots.clone())), Some(path));
    }
}
