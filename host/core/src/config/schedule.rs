//! Requests that are sent to a route at certain times: `[[schedule]]`.

use std::collections::HashMap;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::diagnostic::Problems;
use super::reader::{Located, Section};
use super::store::{Durability, Store};
use super::tables::Table;
use super::{Config, Route};
use crate::ValueError;
use crate::limits::{Limit, count};
use crate::schedule::{CatchUp, Cron, MAX_LEDGER_BYTES, Overlap, Ticks, Zone};
use crate::similar::closest;

/// A request that is sent to a route at certain times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name in logs, metrics and its store: as configured, or else its path.
    pub name: String,
    /// Its times.
    pub cron: Cron,
    /// Whose local times they are.
    pub time_zone: Zone,
    /// The name of the route.
    pub route: String,
    /// The method of its requests.
    pub method: String,
    /// The path and query of its requests.
    pub path: String,
    /// The name of the store that has its ledger.
    pub store: String,
    /// How often a run that was lost is begun again.
    pub retries: u32,
    /// What is done about a tick while the run before it has not ended.
    pub overlap: Overlap,
    /// What is done about ticks that were missed.
    pub catch_up: CatchUp,
}

/// The store of the schedules that have no `lease`. Stores of a configuration cannot have such a name.
pub const SCHEDULES_STORE: &str = "_schedules";

/// More than an application has recurring tasks; each is a task in each worker.
const MAX_SCHEDULES: usize = 256;

/// A record of a request has room for it.
const MAX_NAME_BYTES: usize = 64;

const MAX_PATH_BYTES: usize = 1024;

/// What the keys of ledgers begin with.
const KEY_PREFIX: &str = "schedule:";

pub(super) const RETRIES: Limit<u32> = count("retries", 0, 0, 10);

impl Schedule {
    /// Its ticks.
    pub fn ticks(&self) -> Ticks {
        Ticks::new(&self.cron, &self.time_zone)
    }

    /// The key of its ledger in its store.
    pub fn key(&self) -> String {
        format!("{KEY_PREFIX}{}", self.name)
    }
}

/// Reads all `[[schedule]]`. The routes and stores of `config` have been read.
pub(super) fn read(top: &mut Section<'_, '_>, config: &mut Config) {
    let mut names: HashMap<String, Range<usize>> = HashMap::new();
    for (number, table) in top.tables("schedule").unwrap_or_default().into_iter().enumerate() {
        if number == MAX_SCHEDULES {
            top.problems().add(table.span, ValueError::new(format!("there are more than {MAX_SCHEDULES} schedules")));
            break;
        }
        let mut section = top.within(Table::Schedule, table.value);
        let schedule = read_one(&mut section, &table.span, config, &mut names);
        section.finish();
        config.schedules.extend(schedule);
    }
    if config.schedules.iter().any(|schedule| schedule.store == SCHEDULES_STORE) {
        // After a power failure, too, no tick begins twice.
        config.stores.push(Store { durability: Durability::Power, ..Store::named(SCHEDULES_STORE) });
    }
}

fn read_one(
    section: &mut Section<'_, '_>,
    header: &Range<usize>,
    config: &Config,
    names: &mut HashMap<String, Range<usize>>,
) -> Option<Schedule> {
    for (key, example) in [("cron", "\"*/5 * * * *\""), ("route", "\"/api/*\""), ("path", "\"/api/clean\"")] {
        if !section.has(key) {
            let error = ValueError::new(format!("this schedule has no `{key}`"));
            section.problems().add(header.clone(), error.help(format!("add `{key} = {example}`")));
        }
    }
    let name = section.text("name");
    let cron = section.parsed::<Cron>("cron");
    let time_zone = section.parsed::<Zone>("time_zone").map(|zone| zone.value);
    let route = section.text("route");
    let method = section.parsed::<Method>("method").map(|method| method.value);
    let path = section.parsed::<RequestPath>("path");
    let lease = section.text("lease");
    let retries = section.limit(&RETRIES).unwrap_or(RETRIES.default);
    let overlap = section.parsed::<Overlap>("overlap").map(|word| word.value);
    let catch_up = section.parsed::<CatchUp>("catch_up").map(|word| word.value);

    let route = route.and_then(|named| find_route(&named, &config.routes, section.problems()));
    let (name, name_span) = match (&name, &path) {
        (Some(name), _) => (name.value.to_owned(), name.span.clone()),
        (None, Some(path)) => (path.value.path().to_owned(), header.clone()),
        (None, None) => return None,
    };
    check_name(&name, &name_span, names, section.problems());
    let store = match lease {
        Some(lease) => {
            check_lease(&lease, &name, config, section.problems());
            lease.value.to_owned()
        }
        None => SCHEDULES_STORE.to_owned(),
    };
    let (route, path) = (route?, path?);
    check_path(&path, route, section.problems());
    Some(Schedule {
        name,
        cron: cron?.value,
        time_zone: time_zone.unwrap_or_default(),
        route: route.name.clone(),
        method: method.map_or_else(|| "GET".to_owned(), |method| method.0),
        path: path.value.0,
        store,
        retries,
        overlap: overlap.unwrap_or_default(),
        catch_up: catch_up.unwrap_or_default(),
    })
}

/// The route of this name, or else the one with this path.
fn find_route<'a>(named: &Located<&str>, routes: &'a [Route], problems: &mut Problems) -> Option<&'a Route> {
    let by_path = || routes.iter().filter(|route| route.path.to_string() == named.value);
    let error = match routes.iter().find(|route| route.name == named.value) {
        Some(route) => return Some(route),
        None => match (by_path().next(), by_path().nth(1)) {
            (Some(route), None) => return Some(route),
            (Some(one), Some(other)) => {
                let error = ValueError::new(format!("two routes have the path {:?}", named.value));
                error.help(format!("write the name of one of them, such as {:?} or {:?}", one.name, other.name))
            }
            (None, _) => {
                let error = ValueError::new(format!("there is no route {:?}", named.value));
                let names = routes.iter().map(|route| route.name.as_str());
                match closest(named.value, names) {
                    Some(name) => error.help(format!("did you mean {name:?}?")),
                    None => error.help("write the name of a [[route]], which is its path if it has no other one"),
                }
            }
        },
    };
    problems.add(named.span.clone(), error);
    None
}

fn check_path(path: &Located<RequestPath>, route: &Route, problems: &mut Problems) {
    if route.component.is_none() {
        let error = ValueError::new(format!("the route {:?} has no component", route.name));
        problems.add(path.span.clone(), error.help("a schedule sends its requests to a component, not to files"));
    } else if !route.path.matches(path.value.path()) {
        let error = ValueError::new(format!("the route {:?} does not match {:?}", route.name, path.value.path()));
        problems.add(path.span.clone(), error.help(format!("write a path that {:?} matches", route.path.to_string())));
    }
}

fn check_name(name: &str, span: &Range<usize>, names: &mut HashMap<String, Range<usize>>, problems: &mut Problems) {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        let error = ValueError::new(format!("invalid name of a schedule {name:?}"));
        let help = format!("add a `name` of 1 to {MAX_NAME_BYTES} characters of ASCII");
        problems.add(span.clone(), error.help(help));
    } else if let Some(first) = names.get(name) {
        let error = ValueError::new(format!("two schedules have the name {name:?}"));
        let help = "without `name`, the path is the name: give one of them another `name`";
        problems.add_related(span.clone(), error.help(help), first.clone(), "the first one");
    } else {
        names.insert(name.to_owned(), span.clone());
    }
}

/// A store that forgets claims, or has no room for them, would let ticks begin twice or never.
fn check_lease(lease: &Located<&str>, name: &str, config: &Config, problems: &mut Problems) {
    let key = (KEY_PREFIX.len() + name.len()) as u64;
    let error = match config.stores.iter().find(|store| store.name == lease.value) {
        None => {
            let error = ValueError::new(format!("there is no store `{}`", lease.value.escape_debug()));
            match closest(lease.value, config.stores.iter().map(|store| store.name.as_str())) {
                Some(name) => error.help(format!("did you mean `{name}`?")),
                None => error.help(format!("add a table [store.{}]", lease.value.escape_debug())),
            }
        }
        Some(store) if store.ttl.is_some() => {
            let error = ValueError::new(format!("the store `{}` has a `ttl`", store.name));
            error.help("a schedule needs a store that forgets nothing: name another one, or remove its `ttl`")
        }
        Some(store) if store.max_key_bytes < key || store.max_value_bytes < MAX_LEDGER_BYTES as u64 => {
            let error = ValueError::new(format!("the store `{}` has no room for a schedule", store.name));
            error.help(format!("it needs a `max_key` of {key} bytes and a `max_value` of {MAX_LEDGER_BYTES}"))
        }
        Some(_) => return,
    };
    problems.add(lease.span.clone(), error);
}

/// The method of a request.
struct Method(String);

impl FromStr for Method {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        if METHODS.contains(&text) {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new(format!("invalid method {text:?}")).help(format!("write one of {}", METHODS.join(", "))))
    }
}

/// The path of a request, with its query.
struct RequestPath(String);

impl RequestPath {
    /// Without the query.
    fn path(&self) -> &str {
        self.0.split('?').next().unwrap_or_default()
    }
}

impl FromStr for RequestPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |help: &str| Err(ValueError::new(format!("invalid path {text:?}")).help(help));
        if !text.starts_with('/') {
            return refused("a path starts with `/`");
        }
        if text.len() > MAX_PATH_BYTES {
            return refused("a path has at most 1024 bytes");
        }
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte);
        if !text.bytes().all(is_allowed) {
            return refused("percent-encode everything but letters, digits and the marks that URLs have");
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Overlap {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "skip" => Ok(Self::Skip),
            "allow" => Ok(Self::Allow),
            _ => Err(ValueError::new(format!("invalid overlap {text:?}"))
                .help("write \"skip\" (no run begins before the last one has ended) or \"allow\"")),
        }
    }
}

impl FromStr for CatchUp {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "none" => Ok(Self::None),
            "last" => Ok(Self::Last),
            _ => Err(ValueError::new(format!("invalid catch_up {text:?}"))
                .help("write \"none\" (what was missed is not run) or \"last\" (the last missed run begins once)")),
        }
    }
}
