//! The configuration, validated: from a file and flags, or from flags alone.
//!
//! Flags override the file's general settings, and the file overrides the defaults. Keys in a `[[route]]` are not
//! overridden, because they are the most specific.

mod access_log;
mod admin;
mod build;
mod callees;
mod diagnostic;
mod kinds;
mod listen;
mod log_kinds;
mod log_level;
mod log_to;
mod masked;
mod middleware;
mod missing_imports;
mod option;
pub mod options;
mod other_options;
mod own_log;
mod place;
mod provide;
mod read;
mod reader;
mod schedule;
mod static_files;
mod store;
mod store_server;
mod syntax;
mod tables;
mod unique;
mod unix_listen;
mod value;
mod workers;

use std::path::{Path, PathBuf};

use diagnostic::Problems;
use provide::Provider;
use serde::{Deserialize, Serialize};

pub use access_log::{AccessLogField, AccessLogFormat, Always, LoggedHeader, MAX_HEADERS, Sample};
pub use admin::AdminListen;
pub use build::Build;
pub use diagnostic::Diagnostics;
pub use listen::{Listen, ListenAddr};
pub use log_level::{LogFilter, LogLevel};
pub use log_to::LogTo;
pub use middleware::Link;
pub use missing_imports::MissingImports;
pub use option::{Flag, Form, Overrides, Row};
pub use options::{AccessLog, Admin, Config, Grants, RouteLimits, ServerLimits};
pub use own_log::LogFormat;
pub use place::Place;
pub use provide::{MAX_VALUE_FILE_BYTES, NoSurroundings, PORT, Placeholders, Surroundings};
pub use schedule::{SCHEDULES_STORE, Schedule};
pub use static_files::{CacheRule, FilePattern, StaticFiles};
pub use store::{Backend, Durability, Store, StoreGrant};
pub use store_server::{Protocol, StoreSecret, StoreServer};
pub use tables::Table;
pub use unix_listen::UnixListen;
pub use value::{EnvFile, Provided, Source, Value};
pub use workers::Workers;

pub use crate::grants::DirGrant;
use crate::route::{HostPattern, PathPattern};

/// Which requests go to which component or to files, with the component's limits and grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name in logs: as configured, or else its host (unless it is any) and path.
    pub name: String,
    /// The hosts that it matches.
    pub host: HostPattern,
    /// The paths that it matches.
    pub path: PathPattern,
    /// The components that its requests pass first, in this order.
    pub middleware: Vec<Link>,
    /// The component that handles its requests. Without `files`, there is one.
    pub component: Option<ComponentSource>,
    /// Where the file names it.
    #[serde(skip)]
    pub component_place: Place,
    /// The files that are served where there are any, before the component.
    pub files: Option<StaticFiles>,
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

impl Route {
    /// All components that its requests pass, in their order.
    pub fn components(&self) -> impl Iterator<Item = &ComponentSource> {
        self.middleware.iter().map(|link| &link.component).chain(&self.component)
    }

    /// The grants of all of them.
    pub fn grants(&self) -> impl Iterator<Item = &Grants> {
        self.middleware.iter().map(|link| &link.grants).chain([&self.grants])
    }
}

impl Config {
    /// The files of the components, those of middleware before that of their route.
    pub fn component_files(&self) -> impl Iterator<Item = &Path> {
        self.routes.iter().flat_map(Route::components).filter_map(|component| match component {
            ComponentSource::File(path) => Some(path.as_path()),
            ComponentSource::HelloWorld => None,
        })
    }

    /// The files besides components that it was made from: those of `env_file`, those of `env` and `vars`, and those of
    /// stores.
    pub fn value_files(&self) -> impl Iterator<Item = &Path> {
        let of_routes = self.routes.iter().flat_map(Route::grants).flat_map(|grants| {
            let values = grants.env.values().chain(grants.vars.values()).filter_map(Value::file);
            values.chain(grants.env_file.as_ref().map(EnvFile::path))
        });
        let of_stores = self.stores.iter().filter_map(|store| store.server()?.secret.as_ref()?.file());
        of_routes.chain(of_stores)
    }
}

/// Parses a configuration file that needs nothing from outside.
///
/// # Errors
/// As [`parse_in`].
pub fn parse(path: &Path, text: &str, overrides: &Overrides) -> Result<Config, Diagnostics> {
    parse_in(&NoSurroundings, path, text, overrides)
}

/// Parses a configuration file, and gets the values from outside that it names.
///
/// `path` is the file's name in messages; relative paths in the file are relative to its directory.
///
/// # Errors
/// All errors in the file, and all values that are missing, at once.
pub fn parse_in(
    surroundings: &dyn Surroundings,
    path: &Path,
    text: &str,
    overrides: &Overrides,
) -> Result<Config, Diagnostics> {
    read::read(surroundings, path, text, overrides)
}

/// The configuration without a file: every request goes to `component`.
///
/// # Errors
/// All values from outside that are missing.
pub fn single(
    surroundings: &dyn Surroundings,
    component: ComponentSource,
    overrides: &Overrides,
) -> Result<Config, Diagnostics> {
    let mut problems = Problems::default();
    let mut provider = Provider::new(surroundings);
    let mut settings = read::Settings::default();
    settings.override_with(overrides);
    let path = PathPattern::all();
    provider.provide(Some(&path.to_string()), &mut settings.grants, &mut problems);
    let route = Route {
        name: path.to_string(),
        host: HostPattern::any(),
        path,
        middleware: Vec::new(),
        component: Some(component),
        component_place: Place::default(),
        files: None,
        limits: settings.limits,
        grants: settings.grants,
    };
    let mut config = Config { routes: vec![route], ..Config::default() };
    config.declare_stores(overrides.grants.stores.as_ref());
    config.override_with(&overrides.general);
    config.access_log.override_with(&overrides.access_log);
    config.admin.override_with(&overrides.admin);
    config.server.override_with(&overrides.server);
    callees::check(&config, &Grants::default(), &mut problems);
    provider.expand(&mut config.listen, None, &mut problems);
    if problems.is_empty() { Ok(config) } else { Err(Diagnostics::new(Path::new(""), "", problems)) }
}
