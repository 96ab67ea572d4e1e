//! `--watch`: detects when the configuration, a component or a file with values was written.
//!
//! The files are polled four times a second. Unlike the kernel's notifications (inotify), this works for a directory
//! that was removed and created again (`cargo clean`), for files behind symbolic links and on network file systems; and
//! it waits until a file is no longer being written.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daylily_core::config::Config;
use daylily_core::log_target;
use tokio::time::{Interval, MissedTickBehavior, interval};

const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Time of modification (seconds and nanoseconds), size and inode; None where there is no file.
pub(super) type FileStamp = Option<(i64, i64, u64, u64)>;

/// The files of one configuration, as they were when they were read.
pub(crate) struct Watch {
    interval: Interval,
    files: HashMap<PathBuf, FileStamp>,
    /// The files at the latest check, when they differ from what was read.
    changed: Option<HashMap<PathBuf, FileStamp>>,
}

impl Watch {
    /// Watches no files yet. Must be called within a tokio runtime.
    pub(crate) fn new() -> Self {
        let mut interval = interval(CHECK_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval, files: HashMap::new(), changed: None }
    }

    /// Watches the configuration's file, the components in it and the files that its values are from (`others`) from
    /// now on. Files that are watched already stay, with the state in which they were read: after a configuration that
    /// failed, one of them may be fixed next.
    pub(crate) fn add(&mut self, path: Option<PathBuf>, config: Option<&Config>, others: Vec<PathBuf>) {
        let components = config.into_iter().flat_map(Config::component_files).map(Path::to_owned);
        for path in path.into_iter().chain(components).chain(others) {
            let stamp = stamp(&path);
            self.files.entry(path).or_insert(stamp);
        }
        self.changed = None;
    }

    /// The files are about to be read as they are now.
    pub(crate) fn begin_reading(&mut self) {
        self.files = stamps(&self.files);
        self.changed = None;
    }

    /// Files that a build writes are taken as they are now, without being read.
    pub(crate) fn take_as_read(&mut self, config: &Config) {
        for path in config.component_files() {
            if let Some(known) = self.files.get_mut(path) {
                *known = stamp(path);
            }
        }
        self.changed = None;
    }

    /// Resolves when files have changed, and have not changed again by the next check. Cancel safe.
    ///
    /// During a build, only `config` counts: the build may be writing the others.
    pub(crate) async fn changed(&mut self, building: Option<&Path>) {
        loop {
            self.interval.tick().await;
            let counts = building.is_none_or(|config| self.files.get(config).is_none_or(|read| stamp(config) != *read));
            if counts && self.check() {
                return;
            }
        }
    }

    /// Whether files differ from what was read, and are the same as at the previous check.
    fn check(&mut self) -> bool {
        let now = stamps(&self.files);
        tracing::trace!(target: log_target::SUPERVISOR, "looked at {} watched files", now.len());
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

fn stamps(files: &HashMap<PathBuf, FileStamp>) -> HashMap<PathBuf, FileStamp> {
    files.keys().map(|path| (path.clone(), stamp(path))).collect()
}

pub(super) fn stamp(path: &Path) -> FileStamp {
    let file = fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.size(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_changed(watch: &mut Watch) -> bool {
        watch.check() || watch.check()
    }

    #[tokio::test]
    async fn reports_each_change_once_when_it_is_complete() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("daylily.toml");
        let mut watch = Watch::new();
        watch.add(Some(path.clone()), None, Vec::new());
        assert!(!has_changed(&mut watch), "reported without a change");
        fs::write(&path, "a").expect("a file");
        assert!(has_changed(&mut watch), "a new file was not reported");
        assert!(!has_changed(&mut watch), "reported twice");
        for step in ["ab", "abc", "abcd"] {
            fs::write(&path, step).expect("a file");
            assert!(!watch.check(), "reported while it was being written");
        }
        assert!(has_changed(&mut watch), "a written file was not reported");
        fs::remove_file(&path).expect("a file");
        assert!(has_changed(&mut watch), "a removed file was not reported");
    }
}
