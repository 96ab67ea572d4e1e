//! A component of a manifest, as the keys of a route.

use toml::de::{DeTable, DeValue};

use super::text::{list, pairs, quoted};
use super::{string, strings, table};
use crate::allow_http::Origin;
use crate::config::StoreGrant;

/// A component of a manifest.
pub(super) struct Component {
    /// The keys of a route, one on each line.
    pub(super) keys: String,
    /// The stores that it may open.
    pub(super) stores: Vec<String>,
    pub(super) command: Option<Command>,
    /// It serves static files.
    pub(super) is_static: bool,
}

/// How a component is built.
#[derive(PartialEq, Eq)]
pub(super) struct Command {
    command: String,
    workdir: Option<String>,
    /// What it is built from, relative to the manifest.
    pub(super) watch: Vec<String>,
}

impl Command {
    /// For a shell.
    pub(super) fn line(&self) -> String {
        match &self.workdir {
            Some(workdir) => format!("(cd '{}' && {})", workdir.replace('\'', r"'\''"), self.command),
            None => self.command.clone(),
        }
    }
}

/// Names of the component that serves static files for Spin applications.
const FILE_SERVERS: [&str; 2] = ["spin-fileserver", "spin_static_fs"];

/// Keys that need nothing in a configuration.
const WITHOUT_MEANING: [&str; 4] = ["build", "description", "targets", "tool"];

struct Reader<'a> {
    id: &'a str,
    tree: &'a DeTable<'a>,
    table: &'a DeTable<'a>,
    notes: &'a mut Vec<String>,
}

impl Component {
    pub(super) fn read<'a>(
        tree: &'a DeTable<'a>,
        id: &'a str,
        table: &'a DeTable<'a>,
        notes: &'a mut Vec<String>,
    ) -> Self {
        let mut reader = Reader { id, tree, table, notes };
        let is_static = reader.is_file_server();
        let mut keys = String::new();
        if is_static {
            keys += &reader.static_files();
        } else {
            keys += &format!("component = {}\n", quoted(&reader.source()));
            keys += &reader.environment();
            keys += &reader.variables();
            keys += &reader.outgoing();
            keys += &reader.directories();
        }
        let stores = if is_static { Vec::new() } else { reader.stores() };
        if !stores.is_empty() {
            keys += &format!("stores = {}\n", list(&stores));
        }
        reader.note_others();
        Self { keys, stores, command: reader.command(), is_static }
    }
}

impl<'a> Reader<'a> {
    fn note(&mut self, note: &str) {
        let note = format!("component `{}`: {note}", self.id);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The path or the address of the component.
    fn origin(&self) -> (Option<&'a str>, Option<&'a str>) {
        let source = table(self.table, "source");
        (string(self.table, "source"), source.and_then(|source| string(source, "url").or(string(source, "package"))))
    }

    fn is_file_server(&self) -> bool {
        let (path, address) = self.origin();
        path.or(address).is_some_and(|origin| FILE_SERVERS.iter().any(|name| origin.contains(name)))
    }

    fn source(&mut self) -> String {
        let (path, address) = self.origin();
        if let Some(path) = path {
            return path.to_owned();
        }
        let file = format!("{}.wasm", self.id);
        match address {
            Some(address) => self.note(&format!("download {address} to `{file}`: daylily loads files only")),
            None => self.note(&format!("its source is not a file: put the component into `{file}`")),
        }
        file
    }

    fn environment(&self) -> String {
        let Some(environment) = table(self.table, "environment") else { return String::new() };
        let variables = environment
            .iter()
            .filter_map(|(name, value)| Some((name.get_ref().to_string(), quoted(value.get_ref().as_str()?))));
        let variables: Vec<_> = variables.collect();
        if variables.is_empty() { String::new() } else { format!("env = {}\n", pairs(&variables)) }
    }

    /// The variables of a component are values of `wasi:config`.
    fn variables(&mut self) -> String {
        let Some(variables) = table(self.table, "variables") else { return String::new() };
        let mut values = Vec::new();
        for (name, value) in variables.iter() {
            let Some(text) = value.get_ref().as_str() else { continue };
            match self.value(text) {
                Some(value) => values.push((name.get_ref().to_string(), value)),
                None => self.note(&format!(
                    "the variable `{}` is made of others, which have no value in the manifest: write it in `vars`",
                    name.get_ref()
                )),
            }
        }
        if values.is_empty() {
            return String::new();
        }
        self.note(
            "its variables are in `vars`, which it reads through wasi:config/store; the interface of Spin's SDK, \
             fermyon:spin/variables, is not there",
        );
        format!("vars = {}\n", pairs(&values))
    }

    /// The value of a text with references to variables, as it is written in TOML.
    fn value(&self, text: &str) -> Option<String> {
        if let Some(name) = reference(text)
            && let Some(variable) = self.variable(name)
            && (string(variable, "default").is_none() || is_true(variable, "secret"))
        {
            // The name that Spin's own provider of variables reads.
            return Some(format!("{{ env = {} }}", quoted(&format!("SPIN_VARIABLE_{}", name.to_ascii_uppercase()))));
        }
        self.expanded(text).map(|text| quoted(&text))
    }

    /// A text with the defaults of the variables that it refers to; None if one has none.
    fn expanded(&self, text: &str) -> Option<String> {
        let mut pieces = text.split("{{");
        let mut expanded = pieces.next()?.to_owned();
        for piece in pieces {
            let (name, rest) = piece.split_once("}}")?;
            expanded += string(self.variable(name.trim())?, "default")?;
            expanded += rest;
        }
        Some(expanded)
    }

    fn variable(&self, name: &str) -> Option<&'a DeTable<'a>> {
        table(table(self.tree, "variables")?, name)
    }

    fn outgoing(&mut self) -> String {
        let mut origins: Vec<String> = Vec::new();
        for allowed in strings(self.table, "allowed_outbound_hosts") {
            let Some(expanded) = self.expanded(allowed) else {
                self.note(&format!(
                    "the allowed host `{allowed}` has a variable without a value: add it to `allow_http`"
                ));
                continue;
            };
            let origin = expanded.trim_end_matches('/');
            let found: Vec<String> = match origin.strip_prefix("*://") {
                Some(host) => ["http", "https"].map(|scheme| format!("{scheme}://{host}")).into(),
                None => vec![origin.to_owned()],
            };
            if found.iter().all(|origin| origin.parse::<Origin>().is_ok()) {
                origins.extend(found);
            } else {
                self.note(&format!(
                    "the allowed host `{expanded}`: `allow_http` takes http and https, and hosts by name or below a domain"
                ));
            }
        }
        if origins.is_empty() { String::new() } else { format!("allow_http = {}\n", list(&origins)) }
    }

    /// The files of a component, as pairs of a path here and one in the component.
    fn files(&mut self) -> Vec<(String, String)> {
        let array = self.table.get("files").and_then(|files| files.get_ref().as_array());
        let mut files = Vec::new();
        for item in array.into_iter().flat_map(|array| array.iter()) {
            match item.get_ref() {
                DeValue::String(pattern) => {
                    let dir = before_wildcard(pattern);
                    if dir == "." {
                        self.note(&format!("the files `{pattern}` are in the directory of the manifest: move them to one of their own, and add it to `dirs`"));
                    } else {
                        files.push((dir.clone(), format!("/{}", dir.trim_start_matches("./"))));
                    }
                }
                DeValue::Table(pair) => {
                    if let (Some(source), Some(destination)) = (string(pair, "source"), string(pair, "destination")) {
                        files.push((source.to_owned(), format!("/{}", destination.trim_start_matches('/'))));
                    }
                }
                _ => {}
            }
        }
        files
    }

    fn directories(&mut self) -> String {
        let dirs: Vec<String> = self.files().into_iter().map(|(here, there)| format!("{here}::{there}:ro")).collect();
        if dirs.is_empty() { String::new() } else { format!("dirs = {}\n", list(&dirs)) }
    }

    /// daylily serves static files itself.
    fn static_files(&mut self) -> String {
        let files = self.files();
        let dir = match files.as_slice() {
            [(dir, _)] => dir.clone(),
            _ => {
                self.note("it serves static files: name their directory in `files`");
                "public".to_owned()
            }
        };
        let mut keys = format!("files = {}\n", quoted(&dir));
        let environment = table(self.table, "environment");
        if let Some(fallback) = environment.and_then(|environment| string(environment, "FALLBACK_PATH")) {
            keys += &format!("fallback = {}\n", quoted(fallback.trim_start_matches('/')));
        }
        self.note("daylily serves its files itself, below the path of the route that ends in `/*`");
        keys
    }

    /// The names of its key-value stores, which are those of Spin's labels.
    fn stores(&mut self) -> Vec<String> {
        let mut stores = Vec::new();
        for label in strings(self.table, "key_value_stores") {
            match label.parse::<StoreGrant>() {
                Ok(grant) if grant.store == label => stores.push(grant.store),
                _ => self.note(&format!(
                    "the key-value store {label:?}: give it a name of letters and digits, and add it to `stores` as \
                     \"{label}=NAME\""
                )),
            }
        }
        if !stores.is_empty() {
            self.note("its key-value stores are new and empty: the data of Spin's are not copied");
        }
        stores
    }

    fn note_others(&mut self) {
        const KNOWN: [&str; 6] =
            ["source", "environment", "variables", "allowed_outbound_hosts", "files", "key_value_stores"];
        let others: Vec<String> = self.table.keys().map(|key| key.get_ref().to_string()).collect();
        for key in
            others.iter().filter(|key| !KNOWN.contains(&key.as_str()) && !WITHOUT_MEANING.contains(&key.as_str()))
        {
            let has_items = self.table.get(key.as_str()).and_then(|value| value.get_ref().as_array());
            if has_items.is_none_or(|items| !items.is_empty()) {
                self.note(&format!("`{key}` has no counterpart"));
            }
        }
    }

    fn command(&mut self) -> Option<Command> {
        let build = table(self.table, "build")?;
        let command = match build.get("command")?.get_ref() {
            DeValue::String(command) => command.to_string(),
            _ => strings(build, "command").join(" && "),
        };
        let workdir = string(build, "workdir").map(str::to_owned);
        let mut watch: Vec<String> = Vec::new();
        for pattern in strings(build, "watch") {
            let path = before_wildcard(pattern);
            let path = match &workdir {
                Some(workdir) if path == "." => workdir.clone(),
                Some(workdir) => format!("{}/{path}", workdir.trim_end_matches('/')),
                None => path,
            };
            if !watch.contains(&path) {
                watch.push(path);
            }
        }
        (!command.is_empty()).then_some(Command { command, workdir, watch })
    }
}

/// The variable that a text is nothing but a reference to.
fn reference(text: &str) -> Option<&str> {
    let name = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    (!name.contains(['{', '}'])).then_some(name)
}

fn is_true(table: &DeTable<'_>, key: &str) -> bool {
    table.get(key).is_some_and(|value| matches!(value.get_ref(), DeValue::Boolean(true)))
}

/// The directory before the first wildcard of a pattern; the whole pattern without one.
fn before_wildcard(pattern: &str) -> String {
    let Some(at) = pattern.find(['*', '?', '[', '{']) else { return pattern.to_owned() };
    match pattern.get(..at).and_then(|before| before.rsplit_once('/')) {
        Some((dir, _)) if !dir.is_empty() => dir.to_owned(),
        _ => ".".to_owned(),
    }
}
