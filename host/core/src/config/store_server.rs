//! The server that keeps a store: `backend` as a URL, and the keys of a `[store.NAME]` that only such a store has.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::Value;
use super::provide::Provider;
use super::reader::{Located, Section};
use super::store::{Backend, Store};
use super::value::{Provided, Source};
use crate::secret::Secret;
use crate::{ValueError, authority};

/// A server that keeps stores, and what of it is this store's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreServer {
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether its connections are encrypted, and its certificate is checked.
    pub is_tls: bool,
    /// A name or an address, an IPv6 address without its brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Whether daylily starts only if the server can be reached.
    pub is_required: bool,
    /// Who daylily is to the server.
    pub user: Option<String>,
    /// Whether the secret is a token, and not a password.
    pub is_token: bool,
    /// In no message to a worker: only the storage process connects to the server.
    #[serde(skip)]
    pub secret: Option<StoreSecret>,
}

/// What a server speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Redis, or what speaks its protocol.
    Redis {
        /// The number of the database.
        database: u16,
        /// What the store's keys begin with there.
        prefix: String,
    },
    /// NATS with JetStream.
    Nats {
        /// The key-value bucket.
        bucket: String,
    },
}

/// A password or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSecret {
    /// The password itself.
    pub secret: Secret,
    /// The file that it is from.
    pub(super) file: Option<PathBuf>,
}

impl StoreSecret {
    /// A secret that was received from another process.
    pub fn received(secret: Secret) -> Self {
        Self { secret, file: None }
    }

    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

/// Keys that only some stores have.
const OF_FILES: [&str; 2] = ["durability", "max_store"];
const OF_SERVERS: [&str; 3] = ["required", "user", "password"];
const OF_REDIS: [&str; 1] = ["prefix"];
const OF_NATS: [&str; 2] = ["bucket", "token"];

/// Maximum length of a prefix.
const MAX_PREFIX_BYTES: usize = 128;

const REDIS_PORT: u16 = 6379;
const NATS_PORT: u16 = 4222;

const URL_HELP: &str = "write \"redis://HOST:PORT/DATABASE\" or \"nats://HOST:PORT\", and for TLS `rediss` or `tls` \
                        instead of the first word";

impl fmt::Display for StoreServer {
    /// The URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.protocol, self.is_tls) {
            (Protocol::Redis { .. }, false) => "redis",
            (Protocol::Redis { .. }, true) => "rediss",
            (Protocol::Nats { .. }, false) => "nats",
            (Protocol::Nats { .. }, true) => "tls",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port)?,
            false => write!(f, "{scheme}://{}:{}", self.host, self.port)?,
        }
        match &self.protocol {
            Protocol::Redis { database, .. } => write!(f, "/{database}"),
            Protocol::Nats { .. } => Ok(()),
        }
    }
}

impl FromStr for StoreServer {
    type Err = ValueError;

    /// Parses a URL.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        // A text that may have a password is not repeated in the error.
        if text.contains('@') {
            let error = ValueError::new("the URL of the backend has a user or a password");
            return Err(error.help(
                "write the password as `password = { file = \"…\" }`, { env = \"NAME\" } or { credential = \"NAME\" }, \
                 the user as `user`, and a token of NATS as `token`",
            ));
        }
        if text.contains(['?', '#']) {
            return Err(ValueError::new("invalid URL of the backend: it has parameters").help(URL_HELP));
        }
        let refused = |why: &str| ValueError::new(format!("invalid URL {text:?}: {why}")).help(URL_HELP);
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refused("it has no scheme"))?;
        let (is_redis, is_tls) = match scheme {
            "redis" => (true, false),
            "rediss" => (true, true),
            "nats" => (false, false),
            "tls" => (false, true),
            _ => return Err(ValueError::new(format!("unknown backend {text:?}")).help(BACKEND_HELP)),
        };
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let place = authority::parse(place).map_err(|error| refused(&error.to_string()))?;
        let protocol = if is_redis {
            let digits = if path.is_empty() { "0" } else { path };
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            let database = digits.parse().ok().filter(|_| is_number);
            let database = database.ok_or_else(|| refused("a database is a number from 0 to 65535"))?;
            Protocol::Redis { database, prefix: String::new() }
        } else if path.is_empty() {
            Protocol::Nats { bucket: String::new() }
        } else {
            return Err(refused("it has a path; the bucket has a key of its own, `bucket`"));
        };
        let default_port = if is_redis { REDIS_PORT } else { NATS_PORT };
        Ok(Self {
            protocol,
            is_tls,
            host: place.host.trim_matches(['[', ']']).to_ascii_lowercase(),
            port: place.port.unwrap_or(default_port),
            is_required: false,
            user: None,
            is_token: false,
            secret: None,
        })
    }
}

/// What a backend can be.
pub(super) const BACKEND_HELP: &str = "write \"sqlite\", which is the default: a file in `state_dir`; or the URL of a \
                                       server, as in \"redis://127.0.0.1:6379/0\" or \"nats://127.0.0.1:4222\"";

/// Reads the keys that depend on the backend, if that is known. One that the backend does not have is an error: it would
/// do nothing.
pub(super) fn read(section: &mut Section<'_, '_>, store: &mut Store, is_known: bool, provider: &mut Provider<'_>) {
    let Backend::Server(server) = &mut store.backend else {
        let help = "a store in a file does not have it; `backend` names no server";
        for keys in [&OF_SERVERS[..], &OF_REDIS, &OF_NATS] {
            refuse(section, keys, is_known, help);
        }
        return;
    };
    let help = "it is about the file of a store with `backend = \"sqlite\"`; configure this in the server";
    refuse(section, &OF_FILES, true, help);
    match &mut server.protocol {
        Protocol::Redis { prefix, .. } => {
            refuse(section, &OF_NATS, true, "a store on Redis does not have it");
            *prefix = format!("{}:", store.name);
            if let Some(written) = section.text("prefix") {
                *prefix = read_prefix(section, written);
            }
        }
        Protocol::Nats { bucket } => {
            refuse(section, &OF_REDIS, true, "a store on NATS has a `bucket` of its own");
            store.name.clone_into(bucket);
            if let Some(written) = section.text("bucket") {
                *bucket = read_bucket(section, written);
            }
        }
    }
    server.is_required = section.boolean("required").unwrap_or_default();
    read_login(section, server, &store.name, provider);
}

fn read_login(section: &mut Section<'_, '_>, server: &mut StoreServer, store: &str, provider: &mut Provider<'_>) {
    server.user = section.text("user").map(|user| user.value.to_owned());
    server.secret = read_secret(section, "password", store, provider);
    if matches!(server.protocol, Protocol::Nats { .. }) && section.has("token") {
        server.is_token = true;
        server.secret = read_secret(section, "token", store, provider);
        if let Some(place) = section.place_of("password").or_else(|| section.place_of("user")) {
            let error = ValueError::new("the store has both a `token` and a `user` or `password`");
            section.problems().add(place, error.help("the server knows daylily by one of them: remove the other"));
        }
    } else if let Some(place) = section.place_of("user").filter(|_| !section.has("password")) {
        let error = ValueError::new("the store has a `user` without a `password`");
        section.problems().add(place, error.help("add `password`, or remove `user`"));
    }
}

/// Reports keys that do nothing, unless it is unknown which backend is meant.
fn refuse(section: &mut Section<'_, '_>, keys: &[&'static str], is_known: bool, help: &str) {
    for key in keys {
        let Some(place) = section.value(key).map(Spanned::span).filter(|_| is_known) else { continue };
        section.problems().add(place, ValueError::new(format!("`{key}` has no effect on this store")).help(help));
    }
}

fn read_bucket(section: &mut Section<'_, '_>, bucket: Located<&str>) -> String {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if bucket.value.is_empty() || bucket.value.len() > MAX_PREFIX_BYTES || !bucket.value.bytes().all(is_known) {
        let error = ValueError::new(format!("invalid bucket {:?}", bucket.value));
        let help = format!("a bucket has 1 to {MAX_PREFIX_BYTES} letters, digits, `-` or `_`");
        section.problems().add(bucket.span, error.help(help));
    }
    bucket.value.to_owned()
}

fn read_prefix(section: &mut Section<'_, '_>, prefix: Located<&str>) -> String {
    if prefix.value.len() > MAX_PREFIX_BYTES || prefix.value.chars().any(char::is_control) {
        let error = ValueError::new(format!("invalid prefix {:?}", prefix.value));
        let help = format!("a prefix has at most {MAX_PREFIX_BYTES} bytes, and no control characters");
        section.problems().add(prefix.span, error.help(help));
    }
    prefix.value.to_owned()
}

fn read_secret(
    section: &mut Section<'_, '_>,
    key: &'static str,
    store: &str,
    provider: &mut Provider<'_>,
) -> Option<StoreSecret> {
    let written = section.value(key)?;
    if !provider.needs_secret_of(store) {
        return None;
    }
    let span = written.span();
    let what = format!("store `{store}` has no `{key}`");
    let value = Value::read(key, written, section.dir()).map_err(|error| section.problems().add(span.clone(), error));
    match value.ok()? {
        Value::Written(text) if text.is_empty() => {
            section.problems().add(span, ValueError::new(format!("{what}: it is empty")));
            None
        }
        Value::Written(text) => Some(StoreSecret { secret: Secret::new(text), file: None }),
        Value::Provided(Provided { source, .. }) => {
            let secret = provider.secret(&what, &source, span, section.problems())?;
            Some(StoreSecret { secret, file: if let Source::File(path) = source { Some(path) } else { None } })
        }
    }
}

/// Reports stores of one server that would have entries in common. `places` are those of their prefixes, buckets or
/// names.
pub(super) fn check_places(stores: &[Store], places: &[Range<usize>], section: &mut Section<'_, '_>) {
    let servers: Vec<_> =
        stores.iter().zip(places).filter_map(|(store, place)| Some((store, store.server()?, place))).collect();
    for (index, (_, server, place)) in servers.iter().enumerate() {
        let overlaps = |other: &StoreServer| (&other.host, other.port) == (&server.host, server.port);
        let mut earlier = servers.iter().take(index).filter(|(_, other, _)| overlaps(other));
        let found = earlier.find_map(|(first, other, first_place)| {
            let (what, help) = overlap(&first.name, &other.protocol, &server.protocol)?;
            Some((ValueError::new(what).help(help), first_place))
        });
        if let Some((error, first_place)) = found {
            section.problems().add_related((*place).clone(), error, (*first_place).clone(), "the first one");
        }
    }
}

/// What two stores of one server have in common, and what to do.
fn overlap(first: &str, one: &Protocol, other: &Protocol) -> Option<(String, &'static str)> {
    match (one, other) {
        (Protocol::Redis { database: one, prefix }, Protocol::Redis { database: other, prefix: second }) => {
            let help = "neither prefix may begin with the other one: write another `prefix`";
            if one != other || !(prefix.starts_with(second.as_str()) || second.starts_with(prefix.as_str())) {
                None
            } else if prefix == second {
                Some((format!("the store `{first}` has the same server and prefix"), help))
            } else {
                Some((format!("the prefixes {second:?} and {prefix:?} begin alike on one server"), help))
            }
        }
        (Protocol::Nats { bucket: one }, Protocol::Nats { bucket: other }) if one == other => {
            Some((format!("the store `{first}` has the same server and bucket"), "write another `bucket`"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            match (text.parse::<StoreServer>(), expected) {
                (Ok(server), Ok(expected)) => assert_eq!(server.to_string(), expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
        check("redis://127.0.0.1:6379/0", Ok("redis://127.0.0.1:6379/0"));
        check("redis://127.0.0.1", Ok("redis://127.0.0.1:6379/0"));
        check("rediss://Cache.example/15", Ok("rediss://cache.example:6379/15"));
        check("redis://[::1]:7000/", Ok("redis://[::1]:7000/0"));
        check("nats://127.0.0.1", Ok("nats://127.0.0.1:4222"));
        check("tls://[::1]:4000/", Ok("tls://[::1]:4000"));
        check("nats://h/bucket", Err("the bucket has a key of its own"));
        check("redis://", Err("the host is empty"));
        check("redis://h:99999", Err("the port is invalid"));
        check("redis://h/x", Err("a database is a number"));
        check("redis://h/+1", Err("a database is a number"));
        check("redis://h/65536", Err("a database is a number"));
        check("redis://h/0?protocol=3", Err("it has parameters"));
        check("redis://:hunter22@h/0", Err("write the password as `password"));
        check("http://h/0", Err("unknown backend"));
        for text in ["redis://:hunter22@h/0", "redis:hunter22@h", "redis://h/0?password=hunter22", "hunter22@h"] {
            let error = text.parse::<Backend>().expect_err("a password");
            assert!(!error.to_string().contains("hunter22"), "{error}");
        }
    }
}
