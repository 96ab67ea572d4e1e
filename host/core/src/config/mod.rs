//! The configuration, validated: from a file and flags, or from flags alone.
//!
//! Flags override the file's general settings, and the file overrides the defaults. Keys in a `[[route]]` are not
//! overridden, because they are the most specific.

mod diagnostic;
mod listen;
mod log_level;
mod overrides;
mod read;
mod reader;
mod syntax;
mod tables;
mod unique;
mod workers;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use diagnostic::Diagnostics;
pub use listen::{Listen, ListenAddr};
pub use log_level::{LogFilter, LogLevel};
pub use overrides::Overrides;
pub use workers::Workers;

pub use crate::grants::{DirGrant, Grants};
use crate::limits;
pub use crate::limits::{RouteLimits, ServerLimits};
use crate::route::{HostPattern, PathPattern};

/// A valid configuration.
///
/// It is serialized to be sent to another process of the same binary. Deserializing does not validate again, so only
/// serialize what [`parse`] or [`single`] returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Where to listen: at least one entry, without duplicates. `None` if it was not configured.
    pub listen: Option<Vec<Listen>>,
    /// Whether clients may see error details of guests.
    pub dev: bool,
    /// Which lines are logged.
    pub log: LogFilter,
    /// The number of worker processes.
    pub workers: Workers,
    /// The path of the control socket.
    #[serde(with = "crate::os_path::option")]
    pub control: Option<PathBuf>,
    /// The directory of compiled components.
    #[serde(with = "crate::os_path::option")]
    pub cache_dir: Option<PathBuf>,
    /// See [`limits::CACHE_MAX`].
    pub cache_max_bytes: u64,
    /// The limits of the server.
    pub server: ServerLimits,
    /// The routes, in the order of the file: at least one, and no two with the same host and path,
    /// or the same name.
    pub routes: Vec<Route>,
}

/// Which requests go to which component, with the component's limits and grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name in logs: as configured, or else its host (unless it is any) and path.
    pub name: String,
    /// The hosts that it matches.
    pub host: HostPattern,
    /// The paths that it matches.
    pub path: PathPattern,
    /// The component that handles its requests.
    pub component: ComponentSource,
    /// The limits of each request.
    pub limits: RouteLimits,
    /// What its guest is granted.
    pub grants: Grants,
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ComponentSource {
    /// The component that is built into the daylily binary.
    HelloWorld,
    /// A file. Its existence is not checked here, but when it is opened.
    File(#[serde(with = "crate::os_path")] PathBuf),
}

/// Parses a configuration file.
///
/// `path` is the file's name in messages; relative paths in the file are relative to its directory.
///
/// # Errors All errors in the file, at once.
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
        log: LogFilter::default(),
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
