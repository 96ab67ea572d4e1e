//! Reads the text of a file into a [`Config`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::de::DeTable;

use super::diagnostic::{Diagnostics, Problems};
use super::reader::{Located, Section};
use super::syntax;
use super::tables::Table;
use super::unique::SeenKeys;
use super::{ComponentSource, Config, DirGrant, Grants, Listen, Overrides, Route, RouteLimits, ServerLimits};
use crate::allow_http::AllowHttp;
use crate::route::{HostPattern, PathPattern};
use crate::{ValueError, grants, limits};

/// The settings that `[defaults]` and `[[route]]` have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) limits: RouteLimits,
    pub(super) grants: Grants,
}

pub(super) fn read(path: &Path, text: &str, overrides: &Overrides) -> Result<Config, Diagnostics> {
    let mut syntax = Problems::default();
    let readable = syntax::without_bare_keys(text, &mut syntax);
    let (tree, errors) = DeTable::parse_recoverable(&readable);
    for error in &errors {
        syntax::report(error, text, &mut syntax);
    }
    let dir = path.parent().unwrap_or(Path::new(""));
    let file = File { text, dir, is_toml: syntax.is_empty() };
    let mut problems = Problems::default();
    let mut config = read_config(&file, tree.get_ref(), overrides, &mut problems);
    let problems = problems.without_consequences(&syntax, text).and(syntax);
    if !problems.is_empty() {
        return Err(Diagnostics::new(path, text, problems));
    }
    config.override_with(overrides);
    Ok(config)
}

struct File<'a> {
    text: &'a str,
    /// The directory that relative paths are relative to.
    dir: &'a Path,
    /// Whether the whole text is valid TOML. If not, missing keys and duplicates cannot be reported.
    is_toml: bool,
}

/// The result may only be used if `problems` is empty.
fn read_config(file: &File<'_>, tree: &DeTable<'_>, overrides: &Overrides, problems: &mut Problems) -> Config {
    let mut top = Section::new(Table::Top, tree, problems);
    let listen = read_listen(&mut top);
    let dev = top.boolean("dev").unwrap_or_default();
    let log = top.parsed("log").map(|log| log.value).unwrap_or_default();
    let workers = top.workers("workers").unwrap_or_default();
    let control = read_path(file, &mut top, "control", &CONTROL);
    let cache_dir = read_path(file, &mut top, "cache_dir", &CACHE_DIR);
    let cache_max_bytes = top.limit_if_any(&limits::CACHE_MAX).unwrap_or(limits::CACHE_MAX.default);

    let mut server = ServerLimits::default();
    if let Some(mut section) = top.section("server", Table::Server) {
        server.read(&mut section);
        section.finish();
    }
    let mut defaults = Settings::default();
    if let Some(mut section) = top.section("defaults", Table::Defaults) {
        read_settings(file, &mut section, &mut defaults);
        section.finish();
    }
    defaults.override_with(overrides);

    let routes = read_routes(file, &mut top, &defaults);
    top.finish();
    Config { listen, dev, log, workers, control, cache_dir, cache_max_bytes, server, routes }
}

fn read_listen(top: &mut Section<'_, '_>) -> Option<Vec<Listen>> {
    let mut places: Vec<Located<Listen>> = Vec::new();
    for place in top.one_or_list("listen")? {
        match places.iter().find(|earlier| earlier.value == place.value) {
            Some(first) => {
                let error = ValueError::new(format!("`listen` has \"{}\" twice", place.value));
                let first = first.span.clone();
                top.problems().add_related(place.span, error.help("remove one of the two"), first, "the first one");
            }
            None => places.push(place),
        }
    }
    Some(places.into_iter().map(|place| place.value).collect())
}

fn read_settings(file: &File<'_>, section: &mut Section<'_, '_>, settings: &mut Settings) {
    settings.limits.read(section);
    let to = &mut settings.grants;
    to.env.extend(section.pairs("env", grants::check_env));
    to.vars.extend(section.pairs("vars", grants::check_var));
    if let Some(dirs) = section.list("dirs") {
        to.dirs = read_dirs(file, dirs, section.problems());
    }
    if let Some(origins) = section.list("allow_http") {
        to.allow_http = AllowHttp::new(origins.into_iter().map(|origin| origin.value).collect());
    }
}

fn read_dirs(file: &File<'_>, listed: Vec<Located<DirGrant>>, problems: &mut Problems) -> Vec<DirGrant> {
    let mut dirs: Vec<DirGrant> = Vec::new();
    for Located { span, value: dir } in listed {
        if dirs.iter().any(|earlier| earlier.guest == dir.guest) {
            problems.add(span, ValueError::new(format!("two directories have the guest path {:?}", dir.guest)));
        }
        dirs.push(DirGrant { host: file.dir.join(dir.host), ..dir });
    }
    dirs
}

fn read_routes(file: &File<'_>, top: &mut Section<'_, '_>, defaults: &Settings) -> Vec<Route> {
    let tables = top.tables("route");
    if tables.is_none() && file.is_toml {
        let end = file.text.trim_end().len();
        let error = ValueError::new("there are no routes");
        top.problems().add(end..end, error.help("add a `[[route]]` with a `component`"));
    }
    let mut seen = SeenKeys::new(file.text);
    let mut routes = Vec::new();
    for table in tables.unwrap_or_default() {
        let mut section = Section::new(Table::Route, table.value, top.problems());
        let route = read_route(file, &mut section, &table.span, defaults, &mut seen);
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
) -> Option<Route> {
    let name = read_name(section);
    let host = read_pattern(section, "host", HostPattern::any);
    let path = read_pattern(section, "path", PathPattern::all);
    let component = read_component(file, section, header);
    let mut settings = defaults.clone();
    settings.limits.max_concurrency = section.limit_if_any(&limits::MAX_CONCURRENCY);
    read_settings(file, section, &mut settings);

    let (host, path) = (host?, path?);
    let (name, name_span) = match name {
        Some(name) => (name.value.to_owned(), name.span),
        None => (format!("{host}{path}"), header.clone()),
    };
    if file.is_toml {
        seen.check_pattern(&host, &path, header, section.problems());
        seen.check_name(&name, &name_span, header, section.problems());
    }
    Some(Route { name, host, path, component: component?, limits: settings.limits, grants: settings.grants })
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

fn read_component(file: &File<'_>, section: &mut Section<'_, '_>, header: &Range<usize>) -> Option<ComponentSource> {
    if !section.has("component") && file.is_toml {
        let error = ValueError::new("this route has no `component`");
        section.problems().add(header.clone(), error.help("add one, such as `component = \"app.wasm\"`"));
    }
    read_path(file, section, "component", &COMPONENT).map(ComponentSource::File)
}

/// Names a kind of path, with the help for it in errors.
struct PathOf {
    name: &'static str,
    help: &'static str,
}

const COMPONENT: PathOf = PathOf { name: "component", help: "write the path of a `.wasm` file" };
const CONTROL: PathOf = PathOf { name: "control socket", help: "write the path that the socket is to have" };
const CACHE_DIR: PathOf = PathOf { name: "cache directory", help: "write the path of a directory" };

fn read_path(file: &File<'_>, section: &mut Section<'_, '_>, key: &'static str, of: &PathOf) -> Option<PathBuf> {
    let path = section.text(key)?;
    if path.value.is_empty() || path.value.contains('\0') {
        let error = ValueError::new(format!("invalid {} {:?}", of.name, path.value));
        let help = if path.value.is_empty() { of.help } else { "a path must not contain a NUL character" };
        section.problems().add(path.span, error.help(help));
        return None;
    }
    Some(file.dir.join(path.value))
}
