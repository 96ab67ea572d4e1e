//! The tables of a configuration file, and the errors for keys that are unknown or in the wrong table.

use super::options::rows;
use crate::ValueError;
use crate::similar::closest;

/// A table of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The top level.
    Top,
    /// `[access_log]`.
    AccessLog,
    /// `[admin]`.
    Admin,
    /// `[build]`.
    Build,
    /// `[server]`.
    Server,
    /// A `[[schedule]]`.
    Schedule,
    /// A `[store.NAME]`.
    Store,
    /// `[defaults]`, whose keys may also be in a `[[route]]`.
    Defaults,
    /// `[[route]]`.
    Route,
    /// A table in `middleware` of a `[[route]]`.
    Middleware,
}

/// The keys of the other tables, which are at the top level.
const TABLES: [&str; 8] = ["access_log", "admin", "build", "server", "store", "schedule", "defaults", "route"];

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Top => "at the top of the file",
            Self::AccessLog => "in [access_log]",
            Self::Admin => "in [admin]",
            Self::Build => "in [build]",
            Self::Schedule => "in [[schedule]]",
            Self::Server => "in [server]",
            Self::Store => "in [store.NAME]",
            Self::Defaults => "in [defaults]",
            Self::Route => "in [[route]]",
            Self::Middleware => "in middleware",
        }
    }

    /// The error for `key`, which this table does not have. `allowed` are the keys that it has.
    pub(super) fn unknown_key(self, key: &str, allowed: &[&str]) -> ValueError {
        let error = ValueError::new(format!("unknown key `{}` {}", key.escape_debug(), self.name()));
        if let Some(home) = home_of(key) {
            return error.help(format!("`{key}` belongs {home}"));
        }
        match closest(key, allowed.iter().copied()) {
            Some(allowed) => error.help(format!("did you mean `{allowed}`?")),
            None => error.help(format!("the keys allowed here are {}", allowed.join(", "))),
        }
    }
}

/// Where `key` belongs, if any table has it.
fn home_of(key: &str) -> Option<&'static str> {
    let tables: Vec<Table> = rows().into_iter().filter(|row| row.key == key).map(|row| row.table).collect();
    match tables.as_slice() {
        // A key below a [table] header is in that table, which is the usual way to misplace such a key.
        // `listen` is in both, and the one of [admin] is not misplaced elsewhere.
        [Table::Top] | [Table::Top, Table::Admin] => Some("at the top of the file, above the first [table]"),
        [Table::Defaults] => Some("in [defaults] or in a [[route]]"),
        [Table::Server, Table::Route] => Some("in [server] or in a [[route]]"),
        [Table::AccessLog] => Some("in [access_log]"),
        [Table::Admin] => Some("in [admin]"),
        [Table::Build] => Some("in [build]"),
        [Table::Schedule] => Some("in a [[schedule]]"),
        [Table::Server] => Some("in [server]"),
        [Table::Store] => Some("in a [store.NAME]"),
        [Table::Route] => Some("in a [[route]]"),
        [Table::Schedule, Table::Route] => Some("in a [[route]] or a [[schedule]]"),
        _ => TABLES.contains(&key).then_some("at the top of the file, above the first [table]"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Overrides, parse};

    fn keys(tables: &[Table]) -> Vec<&'static str> {
        rows().into_iter().filter(|row| tables.contains(&row.table)).map(|row| row.key).collect()
    }

    /// The rows of [`Table::Route`] and [`TABLES`] are not what the file is read with; the test compares them with it.
    #[test]
    fn rows_are_what_is_read() {
        fn check(table: &str, mut expected: Vec<&str>) {
            let text = format!("{table}\nzzz = 1\n");
            let errors = parse(Path::new("daylily.toml"), &text, &Overrides::default()).err();
            let errors = errors.map(|errors| errors.to_string()).unwrap_or_default();
            let line = errors.lines().find_map(|line| line.split_once("the keys allowed here are "));
            let mut actual: Vec<&str> = line.map(|(_, keys)| keys.split(", ").collect()).unwrap_or_default();
            actual.sort_unstable();
            expected.sort_unstable();
            assert_eq!(actual, expected, "{table}");
        }
        check("", [keys(&[Table::Top]), TABLES.to_vec()].concat());
        check("[admin]", keys(&[Table::Admin]));
        check("[build]", keys(&[Table::Build]));
        check("[server]", keys(&[Table::Server]));
        check("[store.x]", keys(&[Table::Store]));
        check("[[schedule]]", keys(&[Table::Schedule]));
        check("[defaults]", keys(&[Table::Defaults]));
        check("[[route]]", keys(&[Table::Defaults, Table::Route]));
    }

    /// The example contains every key.
    #[test]
    fn the_full_example_is_full() {
        let full = include_str!("../../../../tests/cases/config/full.toml");
        let starts = |line: &str, key: &str| {
            let line = line.trim_start_matches('[').trim_start_matches("defaults.");
            line.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', ']', '.']))
        };
        for key in rows().into_iter().map(|row| row.key).chain(TABLES) {
            assert!(full.lines().any(|line| starts(line, key)), "{key}");
        }
    }

    #[test]
    fn suggestions() {
        fn check(place: Table, key: &str, allowed: &[&str], expected: &str) {
            assert_eq!(place.unknown_key(key, allowed).to_string(), expected);
        }
        check(Table::Top, "lisen", &["listen"], "unknown key `lisen` at the top of the file: did you mean `listen`?");
        check(Table::Top, "routes", &TABLES, "unknown key `routes` at the top of the file: did you mean `route`?");
        check(
            Table::Defaults,
            "max-memory",
            &keys(&[Table::Defaults]),
            "unknown key `max-memory` in [defaults]: did you mean `max_memory`?",
        );
        check(
            Table::Server,
            "listen",
            &keys(&[Table::Server]),
            "unknown key `listen` in [server]: `listen` belongs at the top of the file, above the first [table]",
        );
        check(
            Table::Defaults,
            "max_concurrency",
            &keys(&[Table::Defaults]),
            "unknown key `max_concurrency` in [defaults]: `max_concurrency` belongs in [server] or in a [[route]]",
        );
        check(Table::Top, "x", &["a_b", "c"], "unknown key `x` at the top of the file: did you mean `c`?");
        check(
            Table::Top,
            "zzz",
            &["ab", "c"],
            "unknown key `zzz` at the top of the file: the keys allowed here are ab, c",
        );
        check(
            Table::Top,
            "\u{1b}[31m",
            &["abc"],
            "unknown key `\\u{1b}[31m` at the top of the file: the keys allowed here are abc",
        );
    }
}
