//! Reads the text of a file into a [`Config`].

use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use toml::de::DeTable;

use super::build;
use super::callees;
use super::diagnostic::{Diagnostics, Problems};
use super::kinds::PathOf;
use super::masked::without_secrets;
use super::middleware;
use super::options::MAX_CONCURRENCY;
use super::place::Places;
use super::provide::{Provider, Surroundings};
use super::reader::{Located, Section};
use super::schedule;
use super::static_files;
use super::store;
use super::syntax;
use super::tables::Table;
use super::unique::SeenKeys;
use super::{ComponentSource, Config, Grants, Overrides, Route, RouteLimits};
use crate::ValueError;
use crate::route::{HostPattern, PathPattern};

/// The settings that `[defaults]` and `[[route]]` have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) limits: RouteLimits,
    pub(super) grants: Grants,
}

impl Settings {
    pub(super) fn read(&mut self, section: &mut Section<'_, '_>) {
        self.limits.read(section);
        self.grants.read(section);
    }

    pub(super) fn override_with(&mut self, overrides: &Overrides) {
        self.limits.override_with(&overrides.limits);
        self.grants.override_with(&overrides.grants);
    }
}

pub(super) fn read(
    surroundings: &dyn Surroundings,
    path: &Path,
    text: &str,
    overrides: &Overrides,
) -> Result<Config, Diagnostics> {
    let mut syntax = Problems::default();
    let readable = syntax::without_bare_keys(text, &mut syntax);
    let (tree, errors) = DeTable::parse_recoverable(&readable);
    for error in &errors {
        syntax::report(error, text, &mut syntax);
    }
    let dir = path.parent().unwrap_or(Path::new(""));
    // An error shows its line, maybe in a log.
    let shown = without_secrets(text, tree.get_ref());
    let places = Places::of(path, &shown);
    let file = File { text, dir, places, is_toml: syntax.is_empty() };
    let mut problems = Problems::default();
    let mut provider = Provider::new(surroundings);
    let config = read_config(&file, tree.get_ref(), overrides, &mut provider, &mut problems);
    let problems = problems.without_consequences(&syntax, text).and(syntax);
    if !problems.is_empty() {
        return Err(Diagnostics::new(path, &shown, problems));
    }
    Ok(config)
}

struct File<'a> {
    text: &'a str,
    /// The directory that relative paths are relative to.
    dir: &'a Path,
    places: Places,
    /// Whether the whole text is valid TOML. If not, missing keys and duplicates cannot be reported.
    is_toml: bool,
}

/// The result may only be used if `problems` is empty.
fn read_config(
    file: &File<'_>,
    tree: &DeTable<'_>,
    overrides: &Overrides,
    provider: &mut Provider<'_>,
    problems: &mut Problems,
) -> Config {
    let mut top = Section::new(Table::Top, tree, file.dir, problems);
    let mut config = Config::default();
    config.read(&mut top);
    if let Some(mut section) = top.section("access_log", Table::AccessLog) {
        config.access_log.read(&mut section);
        section.finish();
    }
    let mut admin = None;
    if let Some(mut section) = top.section("admin", Table::Admin) {
        config.admin.read(&mut section);
        // An invalid token file has an error already, and is not a missing one.
        let is_read = !section.has("token_file") || config.admin.token_file.is_some();
        admin = section.place_of("listen").filter(|_| is_read && overrides.admin.listen.is_none());
        section.finish();
    }
    let build = top.place_of("build").unwrap_or_default();
    if let Some(mut section) = top.section("build", Table::Build) {
        config.build = build::read(&mut section, build);
        section.finish();
    }
    if let Some(mut section) = top.section("server", Table::Server) {
        config.server.read(&mut section);
        section.finish();
    }
    config.stores = store::read(&mut top, provider);
    let mut defaults = Settings::default();
    if let Some(mut section) = top.section("defaults", Table::Defaults) {
        defaults.read(&mut section);
        section.finish();
    }
    defaults.override_with(overrides);
    config.routes = read_routes(file, &mut top, &defaults, provider);
    config.declare_stores(overrides.grants.stores.as_ref());
    config.check_stores(&defaults.grants, top.problems());
    callees::check(&config, &defaults.grants, top.problems());
    schedule::read(&mut top, &mut config);
    let listen = top.place_of("listen").filter(|_| overrides.general.listen.is_none());
    top.finish();
    config.override_with(&overrides.general);
    provider.expand(&mut config.listen, listen, problems);
    config.access_log.override_with(&overrides.access_log);
    config.admin.override_with(&overrides.admin);
    config.server.override_with(&overrides.server);
    middleware::check(&config, problems);
    if let (Some(place), Err(error)) = (admin, config.check_admin()) {
        problems.add(place, error);
    }
    config
}

fn read_routes(
    file: &File<'_>,
    top: &mut Section<'_, '_>,
    defaults: &Settings,
    provider: &mut Provider<'_>,
) -> Vec<Route> {
    let tables = top.tables("route");
    if tables.is_none() && file.is_toml {
        let end = file.text.trim_end().len();
        let error = ValueError::new("there are no routes");
        top.problems().add(end..end, error.help("add a `[[route]]` with a `component` or `files`"));
    }
    let mut seen = SeenKeys::new(file.text);
    let mut routes = Vec::new();
    for table in tables.unwrap_or_default() {
        let mut section = Section::new(Table::Route, table.value, file.dir, top.problems());
        let route = read_route(file, &mut section, &table.span, defaults, &mut seen, provider);
        section.finish();
        routes.extend(route);
    }
    routes
}

fn read_route(
    file: &File<'_>,
    section: &mut Section<'_, '_>,
    header: &Range<usize>,
    defaults: &Settings,
    seen: &mut SeenKeys<'_>,
    provider: &mut Provider<'_>,
) -> Option<Route> {
    let name = read_name(section);
    let host = read_pattern(section, "host", HostPattern::any);
    let path = read_pattern(section, "path", PathPattern::all);
    let component = section.path(&COMPONENT).map(ComponentSource::File);
    let component_place = section.place_of(COMPONENT.key).map(|span| file.places.at(span)).unwrap_or_default();
    let files = static_files::read(section, path.as_ref(), section.has(COMPONENT.key));
    if !section.has("component") && !section.has("files") && file.is_toml {
        let error = ValueError::new("this route has no `component` and no `files`");
        let help = "add `component = \"app.wasm\"`, or `files = \"public\"` for static files";
        section.problems().add(header.clone(), error.help(help));
    }
    let mut settings = defaults.clone();
    settings.limits.max_concurrency = section.limit(&MAX_CONCURRENCY);
    settings.read(section);
    let patterns = host.zip(path);
    let (name, name_span) = match name {
        Some(name) => (Some(name.value.to_owned()), name.span),
        None => (patterns.as_ref().map(|(host, path)| format!("{host}{path}")), header.clone()),
    };
    provider.provide(name.as_deref(), &mut settings.grants, section.problems());
    let links = name.as_deref().unwrap_or_default();
    let middleware = middleware::read(&file.places, section, links, &settings.limits, &defaults.grants, provider);

    let ((host, path), name) = patterns.zip(name)?;
    if file.is_toml {
        seen.check_pattern(&host, &path, header, section.problems());
        seen.check_name(&name, &name_span, header, section.problems());
    }
    if component.is_none() && files.is_none() {
        return None;
    }
    let Settings { limits, grants } = settings;
    Some(Route { name, host, path, middleware, component, component_place, files, limits, grants })
}

/// A pattern; `None` if it is present and invalid.
fn read_pattern<T>(section: &mut Section<'_, '_>, key: &'static str, default: fn() -> T) -> Option<T>
where
    T: FromStr<Err = ValueError>,
{
    let parsed = section.parsed(key).map(|pattern| pattern.value);
    if section.has(key) { parsed } else { Some(default()) }
}

fn read_name<'a>(section: &mut Section<'a, '_>) -> Option<Located<&'a str>> {
    let name = section.text("name")?;
    if name.value.is_empty() || name.value.chars().any(char::is_control) {
        let error = ValueError::new(format!("invalid route name {:?}", name.value));
        section.problems().add(name.span, error.help("a name must not be empty or contain control characters"));
        return None;
    }
    Some(name)
}

const COMPONENT: PathOf = PathOf {
    key: "component",
    name: "component",
    help: "write the path of a `.wasm` file",
    default: "required without `files`",
};
