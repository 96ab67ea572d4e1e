//! Gets the values that come from outside of the configuration.
//!
//! This happens when all of a route's values are known, so that a value which another one overrides need not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::diagnostic::Problems;
use super::listen::Listen;
use super::value::{Provided, Source, Value};
use super::{EnvFile, Grants};
use crate::secret::Secret;
use crate::units::format_size;
use crate::{ValueError, dotenv};

/// Maximum size of a file that a value comes from, and of one that `env_file` names.
pub const MAX_VALUE_FILE_BYTES: u64 = 64 << 10;

/// The variable with the directory of the credentials that systemd passed.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The variable with the port that a platform wants its programs to listen on.
pub const PORT: &str = "PORT";

/// What is outside of a configuration. This crate does no I/O, so the program implements it.
pub trait Surroundings {
    /// A variable of the process's environment.
    fn variable(&self, name: &str) -> Option<OsString>;

    /// Reads a whole regular file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is larger than `max_bytes`.
    fn file(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>>;

    /// Whether guests are run, so that they get their values from here. Otherwise these need not exist.
    fn has_guests(&self) -> bool {
        true
    }

    /// Whether the store of this name is connected to, if a server keeps it. Otherwise its secret need not exist.
    fn needs_secret_of(&self, _store: &str) -> bool {
        true
    }

    /// Whether the values are those that are meant. Otherwise they may be empty.
    fn is_real(&self) -> bool {
        true
    }
}

/// An empty environment, and no files.
#[derive(Debug, Clone, Copy)]
pub struct NoSurroundings;

impl Surroundings for NoSurroundings {
    fn variable(&self, _: &str) -> Option<OsString> {
        None
    }

    fn file(&self, _: &Path, _: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// A value for everything, for a configuration that nothing is served with.
#[derive(Debug, Clone, Copy)]
pub struct Placeholders;

impl Surroundings for Placeholders {
    /// Also valid as a port.
    fn variable(&self, _: &str) -> Option<OsString> {
        Some("3000".into())
    }

    fn file(&self, _: &Path, _: u64) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn is_real(&self) -> bool {
        false
    }
}

type Read<T> = Result<T, Vec<ValueError>>;

/// Provides values for one configuration. Each file is read once, so all routes have the same contents of it.
pub(super) struct Provider<'a> {
    surroundings: &'a dyn Surroundings,
    /// What the values of guests are from.
    of_guests: &'a dyn Surroundings,
    values: BTreeMap<Source, Read<Secret>>,
    env_files: BTreeMap<PathBuf, Read<BTreeMap<String, Secret>>>,
    /// Where there was an error: several routes may have a value of `[defaults]`.
    reported: BTreeSet<(Option<usize>, String)>,
}

impl<'a> Provider<'a> {
    pub(super) fn new(surroundings: &'a dyn Surroundings) -> Self {
        let (values, env_files, reported) = Default::default();
        let of_guests = if surroundings.has_guests() { surroundings } else { &Placeholders };
        Self { surroundings, of_guests, values, env_files, reported }
    }

    /// Provides all values of a route. `route` is its name, if that is valid.
    pub(super) fn provide(&mut self, route: Option<&str>, grants: &mut Grants, problems: &mut Problems) {
        let route = route.map_or_else(|| "a route".to_owned(), |route| format!("route `{route}`"));
        for (key, values) in [("env", &mut grants.env), ("vars", &mut grants.vars)] {
            for (name, value) in values {
                let Value::Provided(value) = value else { continue };
                let place = value.place.take();
                match self.value(value, key == "env") {
                    Ok(text) => value.text = Some(text),
                    Err(errors) => {
                        let what = format!("{route} has no value for `{}` of `{key}`", name.escape_debug());
                        self.report(&what, place, errors, problems);
                    }
                }
            }
        }
        let Some(EnvFile { path, place }) = &mut grants.env_file else { return };
        let place = place.take();
        match self.env_file(path) {
            // `env` goes over `env_file`.
            Ok(variables) => {
                for (name, text) in variables {
                    let value = Value::provided(Source::EnvFile(path.clone()), text);
                    grants.env.entry(name).or_insert(value);
                }
            }
            Err(errors) => {
                let what = format!("{route} cannot use its `env_file`");
                self.report(&what, place, errors, problems);
            }
        }
    }

    /// Replaces `$PORT` in the addresses by the variable's value. `place` is where the file has them, if it does.
    pub(super) fn expand(
        &self,
        listen: &mut Option<Vec<Listen>>,
        place: Option<Range<usize>>,
        problems: &mut Problems,
    ) {
        let Some(places) = listen.as_mut().filter(|places| places.iter().any(Listen::needs_port)) else { return };
        let port = match self.surroundings.variable(PORT).map(OsString::into_string) {
            None => Err(ValueError::new("`listen` has `$PORT`, and there is no variable `PORT` in the environment")
                .help("set PORT, or write the port")),
            Some(Ok(port)) if is_port(&port) => Ok(port),
            Some(_) => Err(ValueError::new("`listen` has `$PORT`, and the variable `PORT` is not a port")
                .help("set PORT to a number from 0 to 65535, or write the port")),
        };
        match port {
            Ok(port) => {
                let mut expanded: Vec<Listen> = Vec::new();
                for listen in places.drain(..).map(|listen| listen.with_port(&port)) {
                    if !expanded.iter().any(|earlier| earlier.is_same_place(&listen)) {
                        expanded.push(listen);
                    }
                }
                *places = expanded;
            }
            Err(error) => problems.add_at(place, error),
        }
    }

    fn report(&mut self, what: &str, place: Option<Range<usize>>, errors: Vec<ValueError>, problems: &mut Problems) {
        for error in errors {
            if self.reported.insert((place.as_ref().map(|place| place.start), error.to_string())) {
                problems.add_at(place.clone(), error.of(what));
            }
        }
    }

    /// As [`Surroundings::needs_secret_of`].
    pub(super) fn needs_secret_of(&self, store: &str) -> bool {
        self.surroundings.needs_secret_of(store)
    }

    /// A secret of the server's own; None if there was an error. `what` begins the error.
    pub(super) fn secret(
        &mut self,
        what: &str,
        source: &Source,
        place: Range<usize>,
        problems: &mut Problems,
    ) -> Option<Secret> {
        match read(self.surroundings, source) {
            Ok(secret) if secret.expose().is_empty() && self.surroundings.is_real() => {
                let error = ValueError::new(format!("{source} is empty"));
                self.report(what, Some(place), vec![error], problems);
                None
            }
            Ok(secret) => Some(secret),
            Err(error) => {
                self.report(what, Some(place), vec![error], problems);
                None
            }
        }
    }

    fn value(&mut self, value: &Provided, is_env: bool) -> Read<Secret> {
        if !self.values.contains_key(&value.source) {
            let read = read(self.of_guests, &value.source).map_err(|error| vec![error]);
            self.values.insert(value.source.clone(), read);
        }
        let text = self.values.get(&value.source).cloned().unwrap_or_else(|| Err(Vec::new()))?;
        if is_env && text.expose().contains('\0') {
            let error = ValueError::new(format!("{} has a NUL character", value.source));
            return Err(vec![error.help("a variable of the environment cannot have one; grant it with `vars`")]);
        }
        Ok(text)
    }

    fn env_file(&mut self, path: &Path) -> Read<BTreeMap<String, Secret>> {
        if let Some(read) = self.env_files.get(path) {
            return read.clone();
        }
        let source = Source::EnvFile(path.to_owned());
        let help = "create the file, or correct the path";
        let read = text(self.of_guests, &source, path, help).map_err(|error| vec![error]).and_then(|text| {
            let variables = dotenv::parse(&text).map_err(|errors| {
                let located =
                    |(line, error): dotenv::LineError| error.of(&format!("`{}`, line {line}", path.display()));
                errors.into_iter().map(located).collect::<Vec<_>>()
            })?;
            Ok(variables.into_iter().map(|(name, text)| (name, Secret::new(text))).collect())
        });
        self.env_files.insert(path.to_owned(), read.clone());
        read
    }
}

fn read(surroundings: &dyn Surroundings, source: &Source) -> Result<Secret, ValueError> {
    match source {
        Source::Variable(name) => {
            let Some(value) = surroundings.variable(name) else {
                let error = format!("there is no variable `{}` in the environment of daylily", name.escape_debug());
                return Err(
                    ValueError::new(error).help(format!("set {name} where daylily is started, or write a value"))
                );
            };
            let value = value.into_string().map_err(|_| {
                ValueError::new(format!("{source} is not valid UTF-8"))
                    .help("put it into a file in base64, for example")
            });
            value.map(Secret::new)
        }
        Source::File(path) | Source::EnvFile(path) => {
            file(surroundings, source, path, "create the file, or correct the path")
        }
        Source::Credential(name) => {
            let Some(dir) = surroundings.variable(CREDENTIALS_DIRECTORY) else {
                let error = format!("systemd passed no credentials, so there is no `{name}`");
                let help = format!(
                    "write LoadCredential={name}:PATH into the unit, which makes systemd set {CREDENTIALS_DIRECTORY}"
                );
                return Err(ValueError::new(error).help(help));
            };
            let help = format!("write LoadCredential={name}:PATH into the unit, or correct the name");
            file(surroundings, source, &Path::new(&dir).join(name), &help)
        }
    }
}

/// The text of a file, without the line end at its end.
fn file(surroundings: &dyn Surroundings, what: &Source, path: &Path, help: &str) -> Result<Secret, ValueError> {
    let mut text = text(surroundings, what, path, help)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Secret::new(text))
}

fn text(surroundings: &dyn Surroundings, what: &Source, path: &Path, help: &str) -> Result<String, ValueError> {
    let bytes = surroundings.file(path, MAX_VALUE_FILE_BYTES).map_err(|error| {
        let error = ValueError::new(format!("{what} cannot be read: {error}"));
        error.help(format!("{help}; it is a regular file of at most {}", format_size(MAX_VALUE_FILE_BYTES)))
    })?;
    String::from_utf8(bytes)
        .map_err(|_| ValueError::new(format!("{what} is not valid UTF-8")).help("encode it, for example in base64"))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}
