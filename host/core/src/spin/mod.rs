//! From the manifest of a Spin application (`spin.toml`, version 2) to a configuration.
//!
//! Source: the manifest reference and the description of the HTTP trigger of Spin 3.

mod component;
mod text;

use toml::de::{DeTable, DeValue};

use self::component::{Command, Component};
use self::text::{list, quoted};
use crate::ValueError;

/// A configuration, and what the manifest says and it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The text of a `daylily.toml` for the directory of the manifest.
    pub config: String,
    /// What has no counterpart, and what is to be done about it: one sentence each.
    pub notes: Vec<String>,
}

/// What a manifest may have at most, so that a configuration can have it, too.
const MAX_TRIGGERS: usize = 10_000;

/// Converts a manifest. Its paths stay as they are: relative to its directory.
///
/// # Errors
///
/// When it is not valid TOML, is no manifest of version 2, or has no HTTP trigger.
pub fn convert(manifest: &str) -> Result<Converted, ValueError> {
    let (tree, errors) = DeTable::parse_recoverable(manifest);
    if let Some(error) = errors.first() {
        return Err(ValueError::new(format!("it is not valid TOML: {}", error.message())));
    }
    let tree = tree.get_ref();
    check_version(tree)?;
    let mut made = Made::default();
    let name =
        table(tree, "application").and_then(|application| string(application, "name")).unwrap_or("an application");
    let triggers = table(tree, "trigger");
    for kind in triggers.into_iter().flat_map(DeTable::keys).filter(|kind| kind.get_ref() != "http") {
        made.note(format!("`trigger.{}`: daylily answers HTTP requests only", kind.get_ref()));
    }
    let http = triggers.and_then(|triggers| triggers.get("http")?.get_ref().as_array());
    for trigger in http.into_iter().flat_map(|http| http.iter()).take(MAX_TRIGGERS) {
        if let DeValue::Table(trigger) = trigger.get_ref() {
            made.trigger(tree, trigger);
        }
    }
    if made.routes.is_empty() {
        return Err(ValueError::new("it has no HTTP trigger with a route").help("daylily needs a [[trigger.http]]"));
    }
    Ok(made.finish(name))
}

fn check_version(tree: &DeTable<'_>) -> Result<(), ValueError> {
    let version = tree.get("spin_manifest_version").map(|version| match version.get_ref() {
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::String(text) => text.to_string(),
        _ => String::new(),
    });
    match version.as_deref() {
        Some("2") => Ok(()),
        Some(other) => Err(ValueError::new(format!("it is a manifest of version {other:?}"))
            .help("`spin doctor` makes one of version 2 of it")),
        None => Err(ValueError::new("it has no `spin_manifest_version`").help("name the spin.toml of an application")),
    }
}

/// What has been made of a manifest so far.
#[derive(Default)]
struct Made {
    routes: String,
    stores: Vec<String>,
    commands: Vec<Command>,
    notes: Vec<String>,
}

impl Made {
    /// Adds a note, once.
    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn trigger(&mut self, tree: &DeTable<'_>, trigger: &DeTable<'_>) {
        let component = match trigger.get("component").map(toml::Spanned::get_ref) {
            Some(DeValue::String(id)) => {
                let found = table(tree, "component").and_then(|components| table(components, id));
                found.map(|found| (id.to_string(), found))
            }
            Some(DeValue::Table(found)) => Some((string(trigger, "id").unwrap_or("component").to_owned(), found)),
            _ => None,
        };
        let Some((id, found)) = component else {
            let named = string(trigger, "component").unwrap_or_default();
            return self.note(format!("a trigger names the component `{named}`, which is not there"));
        };
        let route = match trigger.get("route").map(toml::Spanned::get_ref) {
            Some(DeValue::String(route)) => route.to_string(),
            _ => {
                return self.note(format!(
                    "component `{id}` has a private route: only other components could reach it, and daylily has no \
                     requests between components"
                ));
            }
        };
        if table(trigger, "executor").and_then(|executor| string(executor, "type")) == Some("wagi") {
            self.note(format!("component `{id}` is a program for Wagi: rebuild it with a handler of wasi:http"));
        }
        let component = Component::read(tree, &id, found, &mut self.notes);
        let mut paths = self.paths(&route);
        if component.is_static {
            // Files are below a path; an exact route to them would be for a directory.
            paths.retain(|path| path.ends_with("/*"));
        }
        if paths.is_empty() {
            self.note(format!(
                "the route `{route}` to static files: add a file `{route}` to another route, or end it in `/*`"
            ));
        }
        for store in component.stores {
            if !self.stores.contains(&store) {
                self.stores.push(store);
            }
        }
        for path in paths {
            self.routes += &format!("\n[[route]]\npath = {}\n{}", quoted(&path), component.keys);
        }
        if let Some(command) = component.command
            && !self.commands.contains(&command)
        {
            self.commands.push(command);
        }
    }

    /// The paths of a route. A wildcard at the end also stands for nothing.
    fn paths(&mut self, route: &str) -> Vec<String> {
        if let Some((before, _)) = route.split_once("/:") {
            self.note(format!(
                "the route `{route}` has a segment with a name: its path is `{before}/*`, and the component finds the \
                 segment in the path of the request"
            ));
            return vec![format!("{before}/*")];
        }
        match route.strip_suffix("/...") {
            Some("") => vec!["/*".to_owned()],
            Some(before) => vec![before.to_owned(), format!("{before}/*")],
            None => vec![route.to_owned()],
        }
    }

    fn finish(self, name: &str) -> Converted {
        let mut config = format!("# Made from the spin.toml of {} by `daylily import`.\n", quoted(name));
        if !self.commands.is_empty() {
            let lines = self.commands.iter().map(Command::line).collect::<Vec<_>>();
            let watch: Vec<String> = self.commands.iter().flat_map(|command| command.watch.clone()).collect();
            config += &format!("\n[build]\ncommand = {}\n", quoted(&lines.join(" && ")));
            if !watch.is_empty() {
                config += &format!("watch = {}\n", list(&watch));
            }
        }
        let stores: String = self.stores.iter().map(|store| format!("\n[store.{store}]\n")).collect();
        Converted { config: config + &stores + &self.routes, notes: self.notes }
    }
}

fn table<'a>(of: &'a DeTable<'a>, key: &str) -> Option<&'a DeTable<'a>> {
    match of.get(key)?.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

fn string<'a>(of: &'a DeTable<'a>, key: &str) -> Option<&'a str> {
    of.get(key)?.get_ref().as_str()
}

/// The strings of an array.
fn strings<'a>(of: &'a DeTable<'a>, key: &str) -> Vec<&'a str> {
    let array = of.get(key).and_then(|value| value.get_ref().as_array());
    array.into_iter().flat_map(|array| array.iter().filter_map(|item| item.get_ref().as_str())).collect()
}

#[cfg(test)]
mod tests;
