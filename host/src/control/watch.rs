//! `--watch`: tells when the configuration or a component was written.
//!
//! It looks at the files four times a second. Unlike the kernel's notifications this sees a directory
//! that was removed and made again (`cargo clean`), files behind links, and network file systems; and a
//! file that is still being written is told from one that is done.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daylily_core::config::{ComponentSource, Config};
use tokio::time::{Interval, MissedTickBehavior, interval};

const LOOK: Duration = Duration::from_millis(250);

/// When, how large and which file: None where there is none.
type Looks = Option<(i64, i64, u64, u64)>;

/// The files of one configuration, as they looked when they were read.
pub(super) struct Watch {
    looks: Interval,
    files: HashMap<PathBuf, Looks>,
    /// What was seen last, when that is not what was read.
    changed: Option<HashMap<PathBuf, Looks>>,
}

impl Watch {
    /// Of nothing yet. Must be called within a tokio runtime.
    pub(super) fn new() -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { looks, files: HashMap::new(), changed: None }
    }

    /// Watches the configuration's file and the components in it, from now on. Those that are watched
    /// already stay, as they looked: one of a configuration that is refused may be what is mended next.
    pub(super) fn add(&mut self, path: Option<PathBuf>, config: Option<&Config>) {
        let components =
            config.into_iter().flat_map(|config| &config.routes).filter_map(|route| match &route.component {
                ComponentSource::File(path) => Some(path.clone()),
                ComponentSource::HelloWorld => None,
            });
        for path in path.into_iter().chain(components) {
            let looks = looks(&path);
            self.files.entry(path).or_insert(looks);
        }
        self.changed = None;
    }

    /// Resolves when files have changed and have not changed since. Cancel safe.
    pub(super) async fn changed(&mut self) {
        loop {
            self.looks.tick().await;
            if self.look() {
                return;
            }
        }
    }

    /// Whether something has changed that looked the same the last time.
    fn look(&mut self) -> bool {
        let now = look(&self.files);
        if now == self.files {
            self.changed = None;
            return false;
        }
        if self.changed.as_ref() == Some(&now) {
            self.files = now;
            self.changed = None;
            return true;
        }
        self.changed = Some(now);
        false
    }
}

fn look(files: &HashMap<PathBuf, Looks>) -> HashMap<PathBuf, Looks> {
    files.keys().map(|path| (path.clone(), looks(path))).collect()
}

fn looks(path: &Path) -> Looks {
    let file = fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.size(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_told(watch: &mut Watch) -> bool {
        watch.look() || watch.look()
    }

    #[tokio::test]
    async fn tells_of_each_change_once_it_is_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("daylily.toml");
        let mut watch = Watch::new();
        watch.add(Some(path.clone()), None);
        assert!(!is_told(&mut watch), "nothing happened");
        fs::write(&path, "a").expect("a file");
        assert!(is_told(&mut watch), "it was made");
        assert!(!is_told(&mut watch), "it was told already");
        for step in ["ab", "abc", "abcd"] {
            fs::write(&path, step).expect("a file");
            assert!(!watch.look(), "it is still being written");
        }
        assert!(is_told(&mut watch), "it was written");
        fs::remove_file(&path).expect("a file");
        assert!(is_told(&mut watch), "it was removed");
    }
}
