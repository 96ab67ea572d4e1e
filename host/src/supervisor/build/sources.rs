//! Detects when something below a set of files and directories was written.
//!
//! The files are polled, for the reasons that [`crate::supervisor::watch`] has, in a thread. A look at many files is
//! made less often.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use daylily_core::log_target;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::supervisor::watch::{FileStamp, stamp};

/// Time between the end of a look and the next one, if looks are quick.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A look takes at most one part in this many of the time.
const MAX_SHARE: u32 = 20;

/// Files that are watched.
const MAX_FILES: usize = 20_000;

/// Directories that are looked into.
const MAX_DIRECTORIES: usize = 20_000;

/// Directories below directories.
const MAX_DEPTH: usize = 32;

/// Largest file whose content is compared. Of larger ones, a new time of modification counts as a change.
const MAX_COMPARED_BYTES: u64 = 16 << 20;

/// Bytes that are read at the start, so that a file that is written again with the same content is known.
const MAX_FIRST_BYTES: u64 = 64 << 20;

/// Directories of tools, with what is built or installed; those whose names begin with a dot are left out, too.
const LEFT_OUT: [&str; 4] = ["__pycache__", "node_modules", "target", "venv"];

/// What is watched, and the state in which it was seen last.
pub(crate) struct Sources {
    what: Watched,
    /// A look in progress, in a thread. It is kept when [`Sources::changed`] is dropped.
    look: Option<JoinHandle<Look>>,
    /// None during a look.
    state: Option<State>,
    next: Instant,
}

/// Why files are watched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Components are built from them: `watch` of [build].
    Build,
    /// They are served: `files` of routes.
    Serve,
}

/// The files and directories that are watched. Paths are absolute.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Watched {
    purpose: Purpose,
    roots: Vec<PathBuf>,
    /// Files and directories that daylily and builds write, wherever they are.
    left_out: BTreeSet<PathBuf>,
}

/// The files that were seen.
struct State {
    /// As they were when they were reported, or at the start.
    seen: Files,
    /// At the latest look.
    latest: Files,
    contents: BTreeMap<PathBuf, blake3::Hash>,
}

struct Look {
    state: State,
    changed: Option<PathBuf>,
    took: Duration,
}

type Files = BTreeMap<PathBuf, FileStamp>;

impl Watched {
    /// None if nothing is to be watched.
    pub(crate) fn new(purpose: Purpose, roots: Vec<PathBuf>, left_out: impl Iterator<Item = PathBuf>) -> Option<Self> {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let roots: Vec<PathBuf> = roots.into_iter().map(absolute).collect();
        (!roots.is_empty()).then(|| Self { purpose, roots, left_out: left_out.map(absolute).collect() })
    }

    /// Of directories that are served, a missing one is an error at the start, if the build does not make it.
    fn missing(&self) -> impl Iterator<Item = &PathBuf> {
        self.roots.iter().filter(|root| self.purpose == Purpose::Build && !root.exists())
    }

    fn files(&self) -> Files {
        let mut walk = Walk { left_out: &self.left_out, files: Files::new(), directories: 0 };
        for root in &self.roots {
            walk.add(root, MAX_DEPTH);
        }
        walk.files
    }
}

impl Sources {
    /// Watches files, and what is below directories, from now on; a path where there is nothing yet is watched, too.
    /// Must be called within a tokio runtime.
    pub(crate) fn new(what: Watched) -> Self {
        for missing in what.missing() {
            tracing::warn!(
                target: log_target::BUILD,
                "`{}` does not exist: name what is built from in `watch` of [build]",
                shown(missing)
            );
        }
        let mut sources = Self { what, look: None, state: None, next: Instant::now() };
        sources.take_as_seen();
        sources
    }

    pub(crate) fn what(&self) -> &Watched {
        &self.what
    }

    /// The watched paths, for people.
    pub(crate) fn names(&self) -> Vec<String> {
        self.what.roots.iter().map(|root| shown(root)).collect()
    }

    /// Forgets all earlier changes: from now on, later ones are reported.
    pub(crate) fn take_as_seen(&mut self) {
        let what = self.what.clone();
        self.look = Some(tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            Look { state: State::new(what.files(), what.purpose), changed: None, took: began.elapsed() }
        }));
    }

    /// Resolves when a file was written, and was the same at two looks after that. Returns its path. Cancel safe.
    pub(crate) async fn changed(&mut self) -> PathBuf {
        loop {
            if let Some(look) = &mut self.look {
                let outcome = look.await;
                self.look = None;
                // A look that panicked starts again, and takes the present files as seen.
                let Ok(Look { state, changed, took }) = outcome else { continue };
                self.state = Some(state);
                let files = self.state.as_ref().map_or(0, |state| state.latest.len());
                tracing::trace!(target: log_target::BUILD, "looked at {files} files below {}", self.names().join(", "));
                self.next = Instant::now() + LOOK_INTERVAL.max(took * MAX_SHARE);
                if let Some(path) = changed {
                    return path;
                }
            }
            sleep_until(self.next.into()).await;
            match self.state.take() {
                Some(state) => {
                    let what = self.what.clone();
                    self.look = Some(tokio::task::spawn_blocking(move || state.look(&what)));
                }
                None => self.take_as_seen(),
            }
        }
    }
}

impl State {
    fn new(seen: Files, purpose: Purpose) -> Self {
        if seen.len() >= MAX_FILES {
            let advice = match purpose {
                Purpose::Build => "name the directories with sources in `watch` of [build]",
                Purpose::Serve => "pages do not reload when others in the directories of `files` change",
            };
            tracing::warn!(target: log_target::BUILD, "only {MAX_FILES} files are watched: {advice}");
        }
        let mut left = MAX_FIRST_BYTES;
        let mut contents = BTreeMap::new();
        for (path, stamp) in &seen {
            let bytes = stamp.map_or(0, |(_, _, bytes, _)| bytes);
            if bytes <= left.min(MAX_COMPARED_BYTES)
                && let Some(content) = content(path)
            {
                left -= bytes;
                contents.insert(path.clone(), content);
            }
        }
        Self { latest: seen.clone(), seen, contents }
    }

    fn look(mut self, what: &Watched) -> Look {
        let began = Instant::now();
        let changed = self.check(what.files());
        Look { state: self, changed, took: began.elapsed() }
    }

    /// A file that differs from what was seen, and is the same as at the previous look.
    fn check(&mut self, now: Files) -> Option<PathBuf> {
        let latest = std::mem::replace(&mut self.latest, now);
        let mut changed = None;
        let paths: BTreeSet<&PathBuf> = self.latest.keys().chain(self.seen.keys()).collect();
        let paths: Vec<PathBuf> = paths
            .into_iter()
            .filter(|path| {
                let now = self.latest.get(*path);
                now != self.seen.get(*path) && now == latest.get(*path)
            })
            .cloned()
            .collect();
        for path in paths {
            let is_other = match self.latest.get(&path) {
                Some(stamp) => {
                    self.seen.insert(path.clone(), *stamp);
                    self.has_other_content(&path)
                }
                None => {
                    self.seen.remove(&path);
                    self.contents.remove(&path);
                    true
                }
            };
            if is_other {
                changed = Some(path);
            }
        }
        changed
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

/// Relative to the working directory, if it is below it.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(here) {
        Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
        Ok(below) => below.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}

fn content(path: &Path) -> Option<blake3::Hash> {
    let file = fs::File::open(path).ok()?;
    let mut hasher = blake3::Hasher::new();
    let length = std::io::copy(&mut file.take(MAX_COMPARED_BYTES + 1), &mut hasher).ok()?;
    (length <= MAX_COMPARED_BYTES).then(|| hasher.finalize())
}

/// A walk over the watched files.
struct Walk<'a> {
    left_out: &'a BTreeSet<PathBuf>,
    files: Files,
    directories: usize,
}

impl Walk<'_> {
    /// Adds a regular file, or those below a directory. Below it, links to directories are not followed, since they may
    /// lead back; links to files are.
    fn add(&mut self, path: &Path, depth: usize) {
        if self.files.len() >= MAX_FILES || self.left_out.contains(path) {
            return;
        }
        let Ok(metadata) = fs::metadata(path) else { return };
        if metadata.is_file() {
            self.files.insert(path.to_owned(), stamp(path));
        }
        if !metadata.is_dir() || depth == 0 || self.directories >= MAX_DIRECTORIES {
            return;
        }
        self.directories += 1;
        for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let is_left_out = name.starts_with('.') || LEFT_OUT.contains(&name.as_ref());
            let leads_to_directory = is_link && entry.path().is_dir();
            if !is_left_out && !leads_to_directory {
                self.add(&entry.path(), depth - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn watched(roots: &[PathBuf], left_out: &[PathBuf]) -> Watched {
        Watched::new(Purpose::Build, roots.to_vec(), left_out.iter().cloned()).expect("something")
    }

    /// What is reported once everything is at rest.
    fn reported(what: &Watched, state: &mut State) -> Option<String> {
        let found = state.check(what.files()).or_else(|| state.check(what.files()));
        assert_eq!(state.check(what.files()), None, "reported twice");
        Some(found?.file_name()?.to_string_lossy().into_owned())
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
        let what = watched(&[at("src"), at("one.py"), at("later")], &[at("src/app.wasm"), at("src/out")]);
        let mut state = State::new(what.files(), what.purpose);
        assert_eq!(reported(&what, &mut state), None);
        for (name, text, expected) in [
            // As formatters and code generators do.
            ("src/a.js", "1", None),
            ("src/a.js", "two", Some("a.js")),
            ("src/a.js", "two", None),
            ("src/deep/er/b.js", "1", Some("b.js")),
            ("one.py", "1", Some("one.py")),
            ("two.py", "1", None),
            ("later/c.js", "1", Some("c.js")),
            ("src/node_modules/d/e.js", "1", None),
            ("src/.git/index", "1", None),
            ("src/app.wasm", "1", None),
            ("src/out/app.js", "1", None),
        ] {
            write(name, text);
            assert_eq!(reported(&what, &mut state).as_deref(), expected, "{name}");
        }
        symlink(dir.path(), at("src/up")).expect("a link");
        write("two.py", "2");
        assert_eq!(reported(&what, &mut state), None, "a link was followed");
        fs::remove_file(at("src/a.js")).expect("a file");
        assert_eq!(reported(&what, &mut state).as_deref(), Some("a.js"));
        write("src/a.js", "two");
        assert_eq!(reported(&what, &mut state).as_deref(), Some("a.js"), "it came back as it was");
        fs::remove_dir_all(at("src")).expect("a directory");
        assert!(reported(&what, &mut state).is_some(), "a removed directory");
    }

    #[test]
    fn what_is_being_written_is_not_reported_yet_and_hides_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (growing, other) = (dir.path().join("a"), dir.path().join("b"));
        let what = watched(&[dir.path().to_owned()], &[]);
        let mut state = State::new(what.files(), what.purpose);
        for text in ["1", "12", "123"] {
            fs::write(&growing, text).expect("a file");
            assert_eq!(state.check(what.files()), None);
        }
        fs::write(&other, "1").expect("a file");
        fs::write(&growing, "1234").expect("a file");
        assert_eq!(state.check(what.files()), None);
        fs::write(&growing, "12345").expect("a file");
        assert_eq!(state.check(what.files()), Some(other));
        assert_eq!(state.check(what.files()), Some(growing));
    }

    /// Opening a FIFO waits for a writer.
    #[test]
    fn special_files_are_not_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let what = watched(&[dir.path().to_owned()], &[]);
        let mut state = State::new(what.files(), what.purpose);
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).expect("a FIFO");
        assert_eq!(reported(&what, &mut state), None);
    }
}
