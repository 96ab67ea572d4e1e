//! Checks that every limit of `core/limits.rs` is in docs/configuration.md with its default and range, and in a test.

use std::time::Duration;

use daylily_core::units::{parse_duration, parse_size};

use super::Fault;
use super::markdown::{in_line, rows};
use super::tree::{Tree, has_word};

const LIMITS: &str = "host/core/src/limits.rs";
const CONFIGURATION: &str = "docs/configuration.md";

/// A limit as tables and sources state it, in bytes, milliseconds or as a count.
#[derive(Clone, Debug, PartialEq)]
struct Limit {
    key: String,
    kind: Kind,
    default: u64,
    min: u64,
    max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Size,
    Count,
    Time,
}

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let (Some(source), Some(text)) = (tree.text(LIMITS), tree.text(CONFIGURATION)) else { return Vec::new() };
    let mut faults = Vec::new();
    for (line, declared) in declarations(source) {
        match read(&declared, source) {
            Some(limit) => faults.extend(documented(text, &limit).into_iter().chain(tested(tree, &limit))),
            None => faults.push(Fault::new(LIMITS, line, format!("tidy cannot read this limit: {declared}"))),
        }
    }
    faults
}

/// The keys of all limits.
pub(super) fn keys(tree: &Tree) -> impl Iterator<Item = String> {
    let source = tree.text(LIMITS).unwrap_or_default();
    declarations(source).into_iter().filter_map(|(_, declared)| Some(read(&declared, source)?.key))
}

/// Checks that a row of a table has the default, and the range or a maximum in words.
fn documented(text: &str, limit: &Limit) -> Vec<Fault> {
    let Limit { key, kind, .. } = limit;
    let all = rows(text, "");
    let is_its = |cells: &[&str]| cells.first().is_some_and(|cell| *cell == format!("`{key}`")) && cells.len() > 2;
    let Some((line, cells)) = all.iter().find(|(_, cells)| is_its(cells)) else {
        return vec![Fault::new(CONFIGURATION, 0, format!("the limit `{key}` has no row"))];
    };
    let mut faults = Vec::new();
    let default = cells.get(1).and_then(|cell| in_line(cell).next()).and_then(|value| kind.parse(value));
    if default != Some(limit.default) {
        faults.push(Fault::new(CONFIGURATION, *line, format!("`{key}` has another default than {LIMITS}")));
    }
    let is_right = match cells.as_slice() {
        [_, _, range, _, ..] => kind.range(range) == Some((limit.min, limit.max)),
        [_, _, meaning] => meaning.split([' ', ',', ';', '.']).any(|word| kind.parse(word) == Some(limit.max)),
        _ => false,
    };
    if !is_right {
        faults.push(Fault::new(CONFIGURATION, *line, format!("`{key}` has another range than {LIMITS}")));
    }
    faults
}

/// Checks that an end-to-end test sets it, or a test of core checks both of its ends.
fn tested(tree: &Tree, limit: &Limit) -> Option<Fault> {
    let mut tests = tree.all("tests/e2e/", ".rs");
    let is_tested = tests.any(|(_, text)| has_word(text, &limit.key));
    (!is_tested).then(|| Fault::new(LIMITS, 0, format!("no test in tests/e2e sets `{}`", limit.key)))
}

/// The text of each `pub const NAME: Limit<T> = …;`, with its line number.
fn declarations(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = (1..).zip(source.lines());
    while let Some((number, line)) = lines.next() {
        if !(line.starts_with("pub const ") && line.contains(": Limit<")) {
            continue;
        }
        let mut text = line.to_owned();
        while !text.ends_with(';') {
            let Some((_, more)) = lines.next() else { break };
            text.push(' ');
            text.push_str(more.trim());
        }
        found.push((number, text));
    }
    found
}

fn read(declared: &str, source: &str) -> Option<Limit> {
    let (head, value) = declared.trim_end_matches(';').split_once(" =")?;
    let kind = match head.split_once("Limit<")?.1 {
        "u64>" => Kind::Size,
        "u32>" => Kind::Count,
        "Duration>" => Kind::Time,
        _ => return None,
    };
    let (call, fields) = match value.trim_start().strip_prefix("Limit {") {
        // A struct literal with `..function(…)` for the other fields.
        Some(fields) => fields.trim_end_matches('}').rsplit_once("..").map(|(fields, call)| (call.trim(), fields))?,
        None => (value, ""),
    };
    let (function, arguments) = call.trim().strip_suffix(')')?.split_once('(')?;
    let (key, numbers) = arguments.split_once(", ").filter(|_| ["size", "count", "time"].contains(&function))?;
    let numbers: Vec<u64> = numbers.split(", ").map(|number| evaluate(number, source)).collect::<Option<_>>()?;
    let key = key.trim_matches('"').to_owned();
    let mut limit = match (kind, numbers.as_slice()) {
        (Kind::Time, &[seconds]) => {
            let max = evaluate("LONGEST", source)?;
            Limit { key, kind, default: seconds * 1000, min: 1, max }
        }
        (_, &[default, min, max]) => Limit { key, kind, default, min, max },
        _ => return None,
    };
    for field in fields.split(", ").filter(|field| !field.trim_end_matches(',').trim().is_empty()) {
        let (name, value) = field.trim().trim_end_matches(',').split_once(": ")?;
        let value = evaluate(value, source)?;
        match name {
            "default" => limit.default = value,
            "min" => limit.min = value,
            "max" => limit.max = value,
            _ => return None,
        }
    }
    Some(limit)
}

/// Evaluates a product of numbers and constants of the file; times in milliseconds.
fn evaluate(text: &str, source: &str) -> Option<u64> {
    let text = text.trim();
    if let Some((function, argument)) = text.strip_prefix("Duration::").and_then(|call| call.split_once('(')) {
        let number = evaluate(argument.strip_suffix(')')?, source)?;
        return match function {
            "from_millis" => Some(number),
            "from_secs" => Some(number * 1000),
            _ => None,
        };
    }
    if let Some((left, right)) = text.split_once(" << ") {
        return Some(evaluate(left, source)? << evaluate(right, source)?);
    }
    if let Some((left, right)) = text.split_once(" * ") {
        return Some(evaluate(left, source)? * evaluate(right, source)?);
    }
    text.replace('_', "").parse().ok().or_else(|| {
        let start = format!("const {text}: ");
        let (_, value) = source.lines().find_map(|line| line.strip_prefix(&start))?.split_once(" = ")?;
        evaluate(value.strip_suffix(';')?, source)
    })
}

impl Kind {
    fn parse(self, text: &str) -> Option<u64> {
        let text = text.trim_matches('"').replace([',', '_'], "");
        match self {
            Self::Size => parse_size(&text).ok(),
            Self::Count => text.parse().ok(),
            Self::Time => parse_duration(&text).ok().and_then(millis),
        }
    }

    /// Parses a range such as `1 to 1,000`; `time` is the range of all times.
    fn range(self, text: &str) -> Option<(u64, u64)> {
        if text == "time" {
            return Some((1, 720 * 3600 * 1000));
        }
        let (min, max) = text.split_once(" to ")?;
        Some((self.parse(min)?, self.parse(max)?))
    }
}

fn millis(time: Duration) -> Option<u64> {
    u64::try_from(time.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    const SOURCE: &str = "const KIB: u64 = 1 << 10;\nconst LONGEST: Duration = Duration::from_secs(720 * 3600);\n\
        pub const HEAD: Limit<u64> = size(\"max_head\", 64 * KIB, 8 * KIB, 16_384 * KIB);\n\
        pub const HANG: Limit<Duration> =\n    Limit { min: Duration::from_millis(100), ..time(\"hang\", 10) };\n";
    const ROWS: &str = "| `max_head` | `\"64KiB\"` | 8KiB to 16MiB | The head. |\n\
        | `hang` | `\"10s\"` | 100ms to 720h | A hang. |\n";

    #[track_caller]
    fn expect_of(source: &str, rows: &str, tests: &str, faults: &[&str]) {
        let files = [(super::LIMITS, source), (super::CONFIGURATION, rows), ("tests/e2e/limits.rs", tests)];
        expect(check, &files, faults);
    }

    #[test]
    fn a_limit_is_documented_and_tested() {
        let tests = "max_head = 1\\nhang = 2";
        expect_of(SOURCE, ROWS, tests, &[]);
        expect_of(SOURCE, &ROWS.replace("64KiB", "32KiB"), tests, &["`max_head` has another default"]);
        expect_of(SOURCE, &ROWS.replace("16MiB", "17MiB"), tests, &["`max_head` has another range"]);
        expect_of(SOURCE, &ROWS.replace("100ms to 720h", "time"), tests, &["`hang` has another range"]);
        expect_of(SOURCE, &ROWS.replace("`hang`", "`hung`"), tests, &["the limit `hang` has no row"]);
        expect_of(SOURCE, ROWS, "max_head = 1", &["no test in tests/e2e sets `hang`"]);
        expect_of(&SOURCE.replace("time(\"hang\"", "timed(1, 2, 3"), ROWS, tests, &["tidy cannot read this limit"]);
    }

    #[test]
    fn a_maximum_may_be_in_words() {
        let source = "pub const CACHE: Limit<u64> = size(\"cache_max\", 1, 0, 1024);\n";
        let row = "| `cache_max` | `1` | What it may hold, up to 1KiB; 0 is none. |";
        expect_of(source, row, "cache_max", &[]);
        expect_of(source, &row.replace("1KiB", "2KiB"), "cache_max", &["another range"]);
    }
}
