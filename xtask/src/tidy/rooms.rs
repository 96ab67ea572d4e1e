//! Checks that the rooms of host/src, its directories and root files, import only rooms below them. Circles are
//! possible only inside a room, then.

use super::Fault;
use super::tree::{Tree, has_word};

const SOURCES: &str = "host/src/";

/// From top to bottom: the way of a request and of a command, down to what all others use. The list in ARCHITECTURE.md,
/// and above it what reaches into the library from outside.
const ROOMS: &[&str] = &[
    "bench",
    "fuzzing",
    "run",
    "supervisor",
    "observer",
    "worker",
    "http",
    "stdout",
    "failure",
    "cli",
    "call",
    "artifact",
    "net",
    "wasi",
    "storage",
    "engine",
    "component_link",
    "component_abi",
    "message",
    "observe",
    "ipc",
    "sys",
];

/// Files that only tests, benchmarks and fuzz targets use: they may use every room.
const OF_TESTS: &[&str] = &["fuzzing.rs", "testing.rs", "residue.rs", "tests.rs"];

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.all(SOURCES, ".rs") {
        let inside = path.strip_prefix(SOURCES).unwrap_or_default();
        let room = inside.split(['/', '.']).next().unwrap_or_default();
        let is_of_tests = OF_TESTS.iter().any(|name| inside.ends_with(name)) || inside.contains("/tests");
        if ["lib", "main"].contains(&room) || is_of_tests {
            continue;
        }
        let Some(level) = level(room) else {
            faults.push(Fault::new(path, 0, format!("`{room}` has no place in the list of rooms")));
            continue;
        };
        for (number, line) in production(text) {
            let used = ROOMS.iter().take(level).find(|used| has_word(line, &format!("crate::{used}")));
            if let Some(used) = used {
                faults.push(Fault::new(path, number, format!("`{room}` imports `{used}`, which is above it")));
            }
        }
    }
    faults
}

fn level(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// The numbered lines of code, without comments and without the module of tests, which is at the end of a file.
fn production(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = text.lines().take_while(|line| !line.starts_with("mod tests {"));
    (1..).zip(code).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[cfg(test)]
mod tests {
    use super::super::expect;
    use super::check;

    #[test]
    fn rooms_import_downwards() {
        let expect_of = |path: &str, text: &str, faults: &[&str]| expect(check, &[(path, text)], faults);
        expect_of("host/src/http/request.rs", "use crate::wasi::http::Head;\nuse crate::http::body::Body;\n", &[]);
        expect_of("host/src/wasi/state.rs", "\nuse crate::http::body;\n", &["state.rs:2: `wasi` imports `http`"]);
        expect_of("host/src/sys/lock.rs", "fn f() -> crate::engine::Pool {}\n", &["`sys` imports `engine`"]);
        expect_of("host/src/sys/lock.rs", "/// See [`crate::engine`].\n", &[]);
        expect_of("host/src/sys/lock.rs", "#[cfg(test)]\nmod tests {\n    use crate::engine;\n}\n", &[]);
        expect_of("host/src/call/testing.rs", "use crate::http::body;\n", &[]);
        expect_of("host/src/cellar/mod.rs", "", &["`cellar` has no place in the list of rooms"]);
        expect_of("host/src/failure.rs", "use crate::run::main;\n", &["`failure` imports `run`"]);
    }
}
