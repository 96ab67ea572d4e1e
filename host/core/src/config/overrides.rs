use std::path::PathBuf;
use std::time::Duration;

use super::read::Settings;
use super::{Config, DirGrant, Listen, LogFilter, Workers};
use crate::allow_http::{AllowHttp, Origin};

/// Settings from the command line or from environment variables; by default, none.
///
/// Values are used without validation: parse them with [`crate::limits`], [`crate::grants`] and the types' own
/// `FromStr`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Replaces `listen`, if not empty. Duplicates are dropped.
    pub listen: Vec<Listen>,
    /// Replaces `dev`.
    pub dev: Option<bool>,
    /// Replaces `log`.
    pub log: Option<LogFilter>,
    /// Replaces `workers`.
    pub workers: Option<Workers>,
    /// Replaces `control`.
    pub control: Option<PathBuf>,
    /// Replaces `cache_dir`.
    pub cache_dir: Option<PathBuf>,
    /// Replaces the server's `max_concurrency`.
    pub max_concurrency: Option<u32>,
    /// Replaces the server's `max_queue`.
    pub max_queue: Option<u32>,
    /// Replaces the default `max_memory`, in bytes.
    pub max_memory_bytes: Option<u64>,
    /// Replaces the default `cpu_time`.
    pub cpu_time: Option<Duration>,
    /// Replaces the default `wall_time`.
    pub wall_time: Option<Duration>,
    /// Replaces the default `max_body`, in bytes.
    pub max_body_bytes: Option<u64>,
    /// Overrides the default `env`, name by name; the last value of a name is used.
    pub env: Vec<(String, String)>,
    /// Overrides the default `vars`, key by key; the last value of a key is used.
    pub vars: Vec<(String, String)>,
    /// Replaces the default `dirs`, if not empty; the last one of a guest path is used.
    pub dirs: Vec<DirGrant>,
    /// Replaces the default `allow_http`, if not empty.
    pub allow_http: Vec<Origin>,
}

impl Config {
    pub(super) fn override_with(&mut self, overrides: &Overrides) {
        if !overrides.listen.is_empty() {
            let mut listen: Vec<Listen> = Vec::new();
            for place in &overrides.listen {
                if !listen.contains(place) {
                    listen.push(place.clone());
                }
            }
            self.listen = Some(listen);
        }
        replace(&mut self.dev, overrides.dev.as_ref());
        replace(&mut self.log, overrides.log.as_ref());
        replace(&mut self.workers, overrides.workers.as_ref());
        self.control = overrides.control.clone().or(self.control.take());
        self.cache_dir = overrides.cache_dir.clone().or(self.cache_dir.take());
        replace(&mut self.server.max_concurrency, overrides.max_concurrency.as_ref());
        replace(&mut self.server.max_queue, overrides.max_queue.as_ref());
    }
}

impl Settings {
    pub(super) fn override_with(&mut self, overrides: &Overrides) {
        replace(&mut self.limits.max_memory_bytes, overrides.max_memory_bytes.as_ref());
        replace(&mut self.limits.cpu_time, overrides.cpu_time.as_ref());
        replace(&mut self.limits.wall_time, overrides.wall_time.as_ref());
        replace(&mut self.limits.max_body_bytes, overrides.max_body_bytes.as_ref());
        self.grants.env.extend(overrides.env.iter().cloned());
        self.grants.vars.extend(overrides.vars.iter().cloned());
        if !overrides.dirs.is_empty() {
            self.grants.dirs.clear();
            for dir in &overrides.dirs {
                self.grants.dirs.retain(|earlier| earlier.guest != dir.guest);
                self.grants.dirs.push(dir.clone());
            }
        }
        if !overrides.allow_http.is_empty() {
            self.grants.allow_http = AllowHttp::new(overrides.allow_http.clone());
        }
    }
}

fn replace<T: Clone>(value: &mut T, other: Option<&T>) {
    if let Some(other) = other {
        value.clone_from(other);
    }
}
