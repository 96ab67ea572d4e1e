//! The options that are no field of a struct of [`super::options`]: those of `[build]`, of `[store.NAME]` and of
//! `[[schedule]]`, and those that only a `[[route]]` has.

use super::option::{Kind, Row};
use super::options::MAX_CONCURRENCY;
use super::schedule::RETRIES;
use super::store::{MAX_KEY, MAX_STORE, MAX_VALUE, TTL};
use super::tables::Table;

/// The options that only a `[[route]]` has, which [`super::read`] reads: key, default, meaning.
const OF_ROUTES: [(&str, &str, &str); 9] = [
    ("component", "required without `files`", "The path of a component. Routes with the same path share its code."),
    (
        "middleware",
        "`[]`",
        "[Components](chains.md#middleware) that requests pass, in this order, before `files` and `component`: paths, or \
         tables with `component` and the keys of `[defaults]`.",
    ),
    (
        "files",
        "none",
        "The path of a directory with [static files](static-files.md). With a `component`, that gets the requests for \
         what is not a file.",
    ),
    (
        "fallback",
        "none",
        "The path below `files` of the file that answers [navigations](static-files.md#fallback) to what is not a file.",
    ),
    (
        "cache_control",
        "none",
        "The value of `cache-control` for all files, or a table of [patterns and values](static-files.md#caching).",
    ),
    ("name", "host and path as written", "The route's name in the log. Names must be unique."),
    ("host", "any host", "A host, or `*.` and a domain."),
    ("path", "`\"/*\"`", "A path, or a path that ends in `/*`."),
    (
        "max_concurrency",
        "three quarters of `[server]`'s, rounded up; for a single route all of it",
        "Requests of this route in progress, in each worker. Further requests wait in the worker's queue, \
         and take no permits from other routes.",
    ),
];

/// The options of `[build]`, which [`super::build`] reads: key, default, meaning.
const OF_BUILD: [(&str, &str, &str); 3] = [
    (
        "command",
        "required",
        "The command line that builds the components. `sh -c` runs it in the directory of the configuration file.",
    ),
    (
        "dev_command",
        "that of `command`",
        "The command line that `daylily dev` runs instead, for builds that are quicker and optimise less.",
    ),
    (
        "watch",
        "`[\"src\"]`",
        "The files and directories whose changes start a [build](development.md#what-is-watched) under `daylily dev`: at \
         most 64.",
    ),
];

/// The options of a `[store.NAME]`, which [`super::store`] reads: key, default, meaning.
const OF_STORES: [(&str, &str, &str); 12] = [
    (
        "backend",
        "`\"sqlite\"`",
        "What keeps the data: `\"sqlite\"`, a file in `state_dir`; or a server: of [Redis](state.md#redis), \
         `\"redis://HOST:PORT/DATABASE\"`, or [NATS](state.md#nats), `\"nats://HOST:PORT\"`; with TLS, `rediss://` or \
         `tls://`.",
    ),
    (
        "durability",
        "`\"process\"`",
        "SQLite only: what a write survives once it is acknowledged: `\"process\"`, the end of every process of the \
         server; or `\"power\"`, a power failure, too: each write then waits for the disk.",
    ),
    ("ttl", "none", "How long an entry is kept after it was last written."),
    ("max_key", "`\"1KiB\"`", "The length of a key. Longer ones are errors."),
    ("max_value", "`\"1MiB\"`", "The length of a value. Longer ones are errors."),
    ("max_store", "`\"1GiB\"`", "SQLite only: the size of the store's file. Writes that need more fail."),
    (
        "prefix",
        "the store's name and `:`",
        "Redis only: what the store's keys begin with there, so that other stores and programs have others. At most 128 \
         bytes; of two stores of one server, neither prefix may begin with the other one.",
    ),
    (
        "bucket",
        "the store's name",
        "NATS only: the key-value bucket, which is made if there is none; letters, digits, `-` and `_`.",
    ),
    (
        "required",
        "`false`",
        "Servers only: whether a start or a reload fails if the server cannot be reached. Otherwise it is a warning.",
    ),
    ("user", "none", "Servers only: the user of `password`."),
    (
        "password",
        "none",
        "Servers only: the password, in the forms of [values of `env`](#values-from-outside): written, or \
         `{ file = \"/run/secrets/redis\" }`, `{ env = \"NAME\" }` or `{ credential = \"NAME\" }`.",
    ),
    ("token", "none", "NATS only: a token instead of `user` and `password`, in the same forms."),
];

/// The options of a `[[schedule]]`, which [`super::schedule`] reads: key, default, meaning.
const OF_SCHEDULES: [(&str, &str, &str); 10] = [
    ("name", "the path", "The schedule's name in logs, metrics and its store. Names must be unique."),
    (
        "cron",
        "required",
        "When it is due: minute, hour, day of month, month and day of week, or six fields of which the first one is the \
         second. See [cron lines](schedules.md#cron-lines).",
    ),
    (
        "time_zone",
        "`\"UTC\"`",
        "The time zone of these times, such as `\"Europe/Berlin\"`: a name of the IANA database, which is built in.",
    ),
    ("route", "required", "The name or the path of the route that gets the request. It must have a `component`."),
    ("path", "required", "The path of the request, which the route must match, and its query."),
    ("method", "`\"GET\"`", "`GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`. The request has no body."),
    (
        "lease",
        "a store of its own in `state_dir`",
        "The name of the [store](state.md) in which runs are claimed: all servers that share it run each tick once.",
    ),
    ("retries", "`0`", "How often a run that was lost with its process is begun again."),
    (
        "overlap",
        "`\"skip\"`",
        "What happens when it is due and the run before has not ended: `\"skip\"`, or `\"allow\"` for up to 16 runs at a \
         time.",
    ),
    (
        "catch_up",
        "`\"none\"`",
        "What happens to runs that were due when no server ran: `\"none\"`, or `\"last\"`: the last one begins as soon as \
         a server runs.",
    ),
];

pub(super) fn rows() -> Vec<Row> {
    let row = |table, (key, default, meaning): (&'static str, &str, &'static str)| Row {
        table,
        key,
        default: default.to_owned(),
        range: range(key),
        meaning,
        flag: None,
    };
    let of_build = OF_BUILD.map(|option| row(Table::Build, option));
    let of_stores = OF_STORES.map(|option| row(Table::Store, option));
    let of_schedules = OF_SCHEDULES.map(|option| row(Table::Schedule, option));
    of_build
        .into_iter()
        .chain(of_stores)
        .chain(of_schedules)
        .chain(OF_ROUTES.map(|option| row(Table::Route, option)))
        .collect()
}

/// The range of the option with this key, in words.
fn range(key: &str) -> String {
    match key {
        _ if key == MAX_CONCURRENCY.key => MAX_CONCURRENCY.range_text(),
        _ if key == RETRIES.key => RETRIES.range_text(),
        _ if key == TTL.key => TTL.range_text(),
        _ => {
            let sizes = [MAX_KEY, MAX_VALUE, MAX_STORE];
            sizes.iter().find(|limit| limit.key == key).map(Kind::range_text).unwrap_or_default()
        }
    }
}
