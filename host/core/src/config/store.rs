//! Key-value stores, `[store.NAME]`, and which of them a route's guests may open: `stores`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::diagnostic::Problems;
use super::kinds::utf8;
use super::option::{Form, Kind};
use super::provide::Provider;
use super::reader::{Located, Section};
use super::store_server::{self, BACKEND_HELP, StoreServer};
use super::tables::Table;
use super::{Config, Grants, Route};
use crate::ValueError;
use crate::limits::{GIB, KIB, Limit, MIB, TIB, size, time};
use crate::similar::closest;

/// A key-value store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Its name, which is also that of its file: letters, digits, `-` and `_`.
    pub name: String,
    /// What keeps it.
    pub backend: Backend,
    /// What an acknowledged write to a file survives.
    pub durability: Durability,
    /// How long an entry is kept after it was last written; `None` for ever.
    pub ttl: Option<Duration>,
    /// Maximum length of a key.
    pub max_key_bytes: u64,
    /// Maximum length of a value.
    pub max_value_bytes: u64,
    /// Maximum size of a file.
    pub max_store_bytes: u64,
}

/// What keeps a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// A file in `state_dir`.
    #[default]
    Sqlite,
    /// A server.
    Server(Box<StoreServer>),
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// The end of every process, by whatever signal.
    #[default]
    Process,
    /// A power failure, too: each write waits for the disk.
    Power,
}

/// A store that a guest may open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreGrant {
    /// What the guest opens.
    pub label: String,
    /// The name of the store behind it.
    pub store: String,
    /// Where the file has it, until the configuration is read. None for a flag.
    #[serde(skip)]
    place: Option<Range<usize>>,
}

impl PartialEq for StoreGrant {
    /// Wherever the file has them.
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label && self.store == other.store
    }
}

impl Eq for StoreGrant {}

/// More than an application has kinds of data; each store takes a thread and some memory.
const MAX_STORES: usize = 64;

/// With `.sqlite-wal` it is shorter than the name of any file may be.
const MAX_NAME_BYTES: usize = 63;

/// Maximum length of what a guest opens.
const MAX_LABEL_BYTES: usize = 128;

pub(super) const MAX_KEY: Limit<u64> = size("max_key", KIB, 1, 64 * KIB);
/// A call of a guest copies at most 2 MiB.
pub(super) const MAX_VALUE: Limit<u64> = size("max_value", MIB, 1, MIB);
pub(super) const MAX_STORE: Limit<u64> = size("max_store", GIB, 64 * KIB, TIB);
pub(super) const TTL: Limit<Duration> =
    Limit { min: Duration::from_secs(1), max: Duration::from_hours(10 * 365 * 24), ..time("ttl", 0) };

const NAME_HELP: &str = "a name has 1 to 63 letters, digits, `-` or `_`, and begins with a letter or a digit";

impl Store {
    /// A store with all defaults.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            backend: Backend::default(),
            durability: Durability::default(),
            ttl: None,
            max_key_bytes: MAX_KEY.default,
            max_value_bytes: MAX_VALUE.default,
            max_store_bytes: MAX_STORE.default,
        }
    }

    /// The server that keeps it, if one does.
    pub fn server(&self) -> Option<&StoreServer> {
        match &self.backend {
            Backend::Sqlite => None,
            Backend::Server(server) => Some(server),
        }
    }

    /// The same, to be changed.
    pub fn server_mut(&mut self) -> Option<&mut StoreServer> {
        match &mut self.backend {
            Backend::Sqlite => None,
            Backend::Server(server) => Some(server),
        }
    }
}

/// Reads all tables below `[store]`.
pub(super) fn read(top: &mut Section<'_, '_>, provider: &mut Provider<'_>) -> Vec<Store> {
    let (mut stores, mut places): (Vec<Store>, Vec<_>) = Default::default();
    for (name, table) in top.named_tables("store") {
        let mut section = top.within(Table::Store, table);
        match check_name(name.value) {
            Ok(()) if stores.len() == MAX_STORES => {
                let error = ValueError::new(format!("there are more than {MAX_STORES} stores"));
                section
                    .problems()
                    .add(name.span, error.help("put the data of several into one, with prefixes of keys"));
                return stores;
            }
            // On a file system that ignores case, both would be one file.
            Ok(()) if stores.iter().any(|other| other.name.eq_ignore_ascii_case(name.value)) => {
                let error = ValueError::new(format!("two stores are named `{}`", name.value));
                section.problems().add(name.span, error.help("their names must differ in more than case"));
            }
            Ok(()) => {
                stores.push(read_store(name.value, &mut section, provider));
                let place = section.place_of("prefix").or_else(|| section.place_of("bucket"));
                places.push(place.unwrap_or(name.span));
            }
            Err(error) => section.problems().add(name.span, error),
        }
        section.finish();
    }
    store_server::check_places(&stores, &places, top);
    stores
}

fn read_store(name: &str, section: &mut Section<'_, '_>, provider: &mut Provider<'_>) -> Store {
    let mut store = Store::named(name);
    let backend = section.parsed("backend");
    let is_known = backend.is_some() || !section.has("backend");
    store.backend = backend.map(|backend| backend.value).unwrap_or_default();
    if let Some(durability) = section.parsed("durability") {
        store.durability = durability.value;
    }
    store.ttl = section.limit(&TTL).filter(|ttl| !ttl.is_zero());
    for (limit, value) in [
        (&MAX_KEY, &mut store.max_key_bytes),
        (&MAX_VALUE, &mut store.max_value_bytes),
        (&MAX_STORE, &mut store.max_store_bytes),
    ] {
        *value = section.limit(limit).unwrap_or(*value);
    }
    store_server::read(section, &mut store, is_known, provider);
    store
}

fn check_name(name: &str) -> Result<(), ValueError> {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let begins = name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if begins && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_known) {
        return Ok(());
    }
    Err(ValueError::new(format!("invalid name of a store {name:?}")).help(NAME_HELP))
}

impl FromStr for Backend {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "sqlite" => Ok(Self::Sqlite),
            // What may have a password is not repeated.
            url if url.contains("://") || url.contains('@') => url.parse().map(Box::new).map(Self::Server),
            _ => Err(ValueError::new(format!("unknown backend {text:?}")).help(BACKEND_HELP)),
        }
    }
}

impl FromStr for Durability {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "process" => Ok(Self::Process),
            "power" => Ok(Self::Power),
            _ => Err(ValueError::new(format!("unknown durability {text:?}")).help(
                "write \"process\" (a write survives the end of every process) or \"power\" (a power failure, too)",
            )),
        }
    }
}

impl FromStr for StoreGrant {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (label, store) = text.split_once('=').unwrap_or((text, text));
        check_name(store)?;
        if label.is_empty() || label.len() > MAX_LABEL_BYTES || label.chars().any(char::is_control) {
            let help = format!("what a guest opens has 1 to {MAX_LABEL_BYTES} bytes without control characters");
            return Err(ValueError::new(format!("invalid name {label:?} for the store `{store}`")).help(help));
        }
        Ok(Self { label: label.to_owned(), store: store.to_owned(), place: None })
    }
}

/// The key of the stores that guests may open. In the file, the same label twice is an error; of flags, the last one
/// is used.
pub(super) struct Stores(pub(super) &'static str);

impl Kind<Vec<StoreGrant>> for Stores {
    fn key(&self) -> &'static str {
        self.0
    }

    fn default_text(&self) -> String {
        "`[]`".to_owned()
    }

    fn form(&self) -> Form {
        Form::Repeated
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut Vec<StoreGrant>) {
        let Some(listed) = section.list::<StoreGrant>(self.0) else { return };
        value.clear();
        for Located { span, value: grant } in listed {
            if value.iter().any(|earlier| earlier.label == grant.label) {
                let error = ValueError::new(format!("two stores are opened as {:?}", grant.label));
                let help = "remove one of the two, or write \"LABEL=STORE\" with another label";
                section.problems().add(span, error.help(help));
                continue;
            }
            value.push(StoreGrant { place: Some(span), ..grant });
        }
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<Vec<StoreGrant>>) -> Result<(), ValueError> {
        let grant: StoreGrant = utf8(text)?.parse()?;
        let grants = given.get_or_insert_default();
        grants.retain(|earlier| earlier.label != grant.label);
        grants.push(grant);
        Ok(())
    }
}

impl Config {
    /// Declares the stores that flags grant and no table of the file declares.
    pub(super) fn declare_stores(&mut self, granted_by_flags: Option<&Vec<StoreGrant>>) {
        for grant in granted_by_flags.into_iter().flatten() {
            if !self.stores.iter().any(|store| store.name == grant.store) {
                self.stores.push(Store::named(&grant.store));
            }
        }
    }

    /// Reports grants of stores that do not exist, each once: those of `[defaults]` are in many routes.
    pub(super) fn check_stores(&self, defaults: &Grants, problems: &mut Problems) {
        let mut seen = BTreeSet::new();
        let names = || self.stores.iter().map(|store| store.name.as_str());
        for grants in self.routes.iter().flat_map(Route::grants).chain([defaults]) {
            for grant in grants.stores.iter().filter(|grant| names().all(|name| name != grant.store)) {
                let place = grant.place.clone().unwrap_or_default();
                if !seen.insert((place.start, place.end)) {
                    continue;
                }
                let error = ValueError::new(format!("there is no store `{}`", grant.store));
                let help = match closest(&grant.store, names()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("add a table `[store.{}]`", grant.store),
                };
                problems.add(place, error.help(help));
            }
        }
    }

    /// Whether any store is a file in `state_dir`.
    pub fn has_files(&self) -> bool {
        self.stores.iter().any(|store| store.server().is_none())
    }

    /// The store of this name.
    pub fn store(&self, name: &str) -> Option<&Store> {
        self.stores.iter().find(|store| store.name == name)
    }
}
