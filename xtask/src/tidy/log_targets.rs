//! Checks that every log line has a target from the list of targets, and that documents describe each target.

use super::Fault;
use super::markdown::{in_line, rows};
use super::tree::{Tree, has_word};

/// The source with the list of targets.
const TARGETS: &str = "host/core/src/log_target.rs";

/// Tables of all targets, with their headings.
const TABLES: &[(&str, &str)] = &[("ARCHITECTURE.md", "Log targets"), ("docs/errors.md", "Log targets")];

const MACROS: &[&str] = &["error", "warn", "info", "debug", "trace", "event", "enabled", "span"];

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults: Vec<Fault> = tree.all("host/src/", ".rs").flat_map(|(path, text)| calls(path, text)).collect();
    let targets = targets(tree.text(TARGETS).unwrap_or_default());
    for (line, constant, name) in &targets {
        let used = format!("log_target::{constant}");
        // A parent is for filters only: it matches the lines of the targets below it.
        let is_parent = targets.iter().any(|(_, _, other)| other.starts_with(&format!("{name}::")));
        if !is_parent && !tree.all("host/src/", ".rs").any(|(_, text)| has_word(text, &used)) {
            faults.push(Fault::new(TARGETS, *line, format!("no log line has the target `{name}`")));
        }
        for (document, heading) in TABLES {
            let Some(text) = tree.text(document) else { continue };
            if !rows(text, heading).iter().any(|(_, cells)| first(cells) == Some(name)) {
                faults.push(Fault::new(document, 0, format!("the target `{name}` has no row under \"{heading}\"")));
            }
        }
    }
    for (document, heading) in TABLES {
        for (line, cells) in rows(tree.text(document).unwrap_or_default(), heading) {
            if let Some(name) = first(&cells).filter(|name| targets.iter().all(|(_, _, other)| other != name)) {
                faults.push(Fault::new(document, line, format!("there is no log target `{name}`")));
            }
        }
    }
    faults
}

fn first<'a>(cells: &[&'a str]) -> Option<&'a str> {
    in_line(cells.first()?).next()
}

/// The calls of tracing's macros without a constant target. Without one, tracing takes the module path, which is no
/// interface: it changes when a file moves.
fn calls(path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, _) in text.match_indices("tracing::") {
        let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        let rest = text.get(at + "tracing::".len()..).unwrap_or_default();
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        if !MACROS.contains(&name) {
            continue;
        }
        let arguments = rest.strip_prefix("!(").map(str::trim_start);
        if !arguments.is_some_and(|arguments| arguments.starts_with("target: log_target::")) {
            faults.push(Fault::new(path, line, format!("`tracing::{name}!` without `target: log_target::…`")));
        }
    }
    // An imported macro would be called by a name that the loop above does not search for.
    for (line, import) in (1..).zip(text.lines()).filter(|(_, line)| line.trim_start().starts_with("use tracing::")) {
        if let Some(name) = MACROS.iter().find(|name| has_word(import, name)) {
            faults.push(Fault::new(path, line, format!("write `tracing::{name}!` instead of importing it")));
        }
    }
    faults
}

/// The constants: the line number, the constant's name and the target.
fn targets(text: &str) -> Vec<(usize, &str, &str)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let constant = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": &str = \""));
        if let Some((constant, value)) = constant {
            found.push((number, constant, value.trim_end_matches("\";")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    const LIST: (&str, &str) = (
        super::TARGETS,
        "pub const ALL: &str = \"a\";\npub const LOG: &str = \"a::log\";\npub const MORE: [&str; 1] = [LOG];\n",
    );
    const USE: (&str, &str) = ("host/src/use.rs", "tracing::warn!(target: log_target::LOG, \"lines dropped\");");

    #[test]
    fn each_call_has_a_target() {
        let check = |text: &str, faults: &[&str]| expect(check, &[LIST, USE, ("host/src/a.rs", text)], faults);
        check("tracing::warn!(\n    target: log_target::LOG,\n    \"a\"\n);", &[]);
        check("tracing::Level::INFO; tracing_subscriber::fmt();", &[]);
        check("\ntracing::debug!(\"a\");", &["a.rs:2: `tracing::debug!` without"]);
        check("tracing::info!(target: \"a::log\", \"a\");", &["`tracing::info!` without"]);
        check("tracing::info!(%target, \"a\");", &["`tracing::info!` without"]);
        check("use tracing::{Level, debug};", &["write `tracing::debug!` instead"]);
    }

    #[test]
    fn each_target_is_used_and_documented() {
        let unused = ("host/src/use.rs", "");
        expect(check, &[LIST, unused], &["log_target.rs:2: no log line has the target `a::log`"]);
        let check = |rows: &str, faults: &[&str]| {
            let text = format!("### Log targets\n| target | lines |\n|---|---|\n{rows}");
            expect(check, &[LIST, USE, ("docs/errors.md", &text)], faults);
        };
        check("| `a` | |\n| `a::log` | |\n", &[]);
        check("| `a` | |\n", &["the target `a::log` has no row"]);
        check("| `a` | |\n| `a::log` | |\n| `b` | |\n", &["errors.md:6: there is no log target `b`"]);
    }
}
