//! Middleware of a route: `middleware`, components that its requests pass before what answers them.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use super::diagnostic::Problems;
use super::kinds::PathOf;
use super::place::{Place, Places};
use super::provide::Provider;
use super::read::Settings;
use super::reader::{Located, Section, wrong_type};
use super::tables::Table;
use super::{ComponentSource, Config, Grants, RouteLimits};
use crate::ValueError;

/// One component of a route's middleware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name in logs: that of its route, a slash, and the file's name without its extension; and its place in the
    /// chain, if another one has that name.
    pub name: String,
    /// A file.
    pub component: ComponentSource,
    /// The limits of its instances.
    pub limits: RouteLimits,
    /// What its instances are granted.
    pub grants: Grants,
    /// Where the file has it.
    #[serde(skip)]
    pub place: Place,
}

const KEY: &str = "middleware";

const COMPONENT: PathOf =
    PathOf { key: "component", name: "component", help: "write the path of a `.wasm` file", default: "required" };

/// Reads the middleware of a route, whose name and limits are given. Links have the grants of `[defaults]`, and not
/// those of their route.
pub(super) fn read(
    places: &Places,
    section: &mut Section<'_, '_>,
    route: &str,
    limits: &RouteLimits,
    defaults: &Grants,
    provider: &mut Provider<'_>,
) -> Vec<Link> {
    let mut links = Vec::new();
    for Located { span, value } in items(section) {
        let mut settings = Settings { limits: *limits, grants: defaults.clone() };
        let component = match value {
            TextOrTable::Text(text) => component(section, &span, text),
            TextOrTable::Table(table) => {
                let mut table = section.within(Table::Middleware, table);
                let component = table.path(&COMPONENT);
                if !table.has(COMPONENT.key) {
                    let error = ValueError::new("this middleware has no `component`");
                    table.problems().add(span.clone(), error.help("add `component = \"auth.wasm\"`"));
                }
                settings.read(&mut table);
                table.finish();
                component
            }
        };
        let Some(component) = component else { continue };
        let stem = component.file_stem().unwrap_or_default().to_string_lossy();
        let mut name = format!("{route}/{}", stem.escape_debug());
        if links.iter().any(|link: &Link| link.name == name) {
            name = format!("{name}-{}", links.len() + 1);
        }
        provider.provide(Some(&name), &mut settings.grants, section.problems());
        let Settings { limits, grants } = settings;
        links.push(Link { name, component: ComponentSource::File(component), limits, grants, place: places.at(span) });
    }
    links
}

/// An item of the array.
enum TextOrTable<'a> {
    Text(&'a str),
    Table(&'a DeTable<'a>),
}

fn items<'a>(section: &mut Section<'a, '_>) -> Vec<Located<TextOrTable<'a>>> {
    let Some(value) = section.value(KEY) else { return Vec::new() };
    let DeValue::Array(array) = value.get_ref() else {
        section.problems().add(value.span(), wrong_type(KEY, "an array", value.get_ref()));
        return Vec::new();
    };
    let mut items = Vec::new();
    for item in array.iter() {
        let value = match item.get_ref() {
            DeValue::String(text) => TextOrTable::Text(text),
            DeValue::Table(table) => TextOrTable::Table(table),
            other => {
                let error = wrong_type(KEY, "an array of strings and tables only", other);
                section.problems().add(item.span(), error);
                continue;
            }
        };
        items.push(Located { span: item.span(), value });
    }
    items
}

fn component(section: &mut Section<'_, '_>, span: &Range<usize>, text: &str) -> Option<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        let error = ValueError::new(format!("invalid component {text:?}"));
        section.problems().add(span.clone(), error.help(COMPONENT.help));
        return None;
    }
    Some(section.dir().join(text))
}

/// Reports chains that could never answer: those of more requests than `max_chain`, or than there are permits.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    for route in &config.routes {
        let guests = route.middleware.len().saturating_add(1);
        let Some(first) = route.middleware.first() else { continue };
        for (key, limit) in [("max_chain", config.server.max_chain), ("max_concurrency", config.server.max_concurrency)]
        {
            if guests > usize::try_from(limit).unwrap_or(usize::MAX) {
                let error = ValueError::new(format!(
                    "a request of this route needs {guests} guests at a time, more than {key} = {limit}"
                ));
                problems
                    .add_at(first.place.span(), error.help(format!("raise {key} in [server], or remove middleware")));
            }
        }
    }
}
