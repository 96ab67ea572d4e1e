//! What daylily was told to do, validated: from a file and from flags, or from flags alone.
//!
//! Flags go over the file, and the file over the defaults; what a `[[route]]` says for itself stays,
//! since it is the most specific.

mod diagnostic;
mod listen;
mod log_level;
mod overrides;
mod places;
mod read;
mod reader;
mod syntax;
mod unique;
mod workers;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use diagnostic::Diagnostics;
pub use listen::{Listen, ListenAddr};
pub use log_level::LogLevel;
pub use overrides::Overrides;
pub use workers::Workers;

pub use crate::grants::{DirGrant, Grants};
use crate::limits;
pub use crate::limits::{RouteLimits, ServerLimits};
use crate::route::{HostPattern, PathPattern};

/// Everything that was configured. Holds no invalid value.
///
/// Serializes so that a process can hand it to another of the same binary: what comes out is not
/// checked again, so it is only for what [`parse`] or [`single`] made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Where to listen: at least one place, and no two equal. `None` if nobody said.
    pub listen: Option<Vec<Listen>>,
    /// Whether clients may see what went wrong in a guest.
    pub dev: bool,
    /// How much to log.
    pub log: LogLevel,
    /// How many processes serve.
    pub workers: Workers,
    /// The control socket.
    #[serde(with = "crate::os_path::option")]
    pub control: Option<PathBuf>,
    /// Where compiled components are kept.
    #[serde(with = "crate::os_path::option")]
    pub cache_dir: Option<PathBuf>,
    /// See [`limits::CACHE_MAX`].
    pub cache_max_bytes: u64,
    /// The limits of the process.
    pub server: ServerLimits,
    /// The routes, in the order of the file: at least one, and no two with the same host and path,
    /// or the same name.
    pub routes: Vec<Route>,
}

/// Which requests go to which component, and what that component gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name in logs: as configured, or else its host (if not any) and path.
    pub name: String,
    /// The hosts it answers for.
    pub host: HostPattern,
    /// The paths it answers for.
    pub path: PathPattern,
    /// What answers.
    pub component: ComponentSource,
    /// The limits of each of its requests.
    pub limits: RouteLimits,
    /// What its guest is given.
    pub grants: Grants,
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ComponentSource {
    /// The component inside the daylily binary.
    HelloWorld,
    /// A file. Whether it exists is for whoever opens it to say.
    File(#[serde(with = "crate::os_path")] PathBuf),
}

/// Parses a configuration file.
///
/// `path` is what messages call the file; relative paths in the file are relative to its directory.
///
/// # Errors
/// Everything that is wrong with the file, at once.
pub fn parse(path: &Path, text: &str, overrides: &Overrides) -> Result<Config, Diagnostics> {
    read::read(path, text, overrides)
}

/// The configuration without a file: every request goes to `component`.
pub fn single(component: ComponentSource, overrides: &Overrides) -> Config {
    let mut settings = read::Settings::default();
    settings.override_with(overrides);
    let path = PathPattern::all();
    let route = Route {
        name: path.to_string(),
        host: HostPattern::any(),
        path,
        component,
        limits: settings.limits,
        grants: settings.grants,
    };
    let mut config = Config {
        listen: None,
        dev: false,
        log: LogLevel::default(),
        workers: Workers::default(),
        control: None,
        cache_dir: None,
        cache_max_bytes: limits::CACHE_MAX.default,
        server: ServerLimits::default(),
        routes: vec![route],
    };
    config.override_with(overrides);
    config
}
