//! Places in the sources of a program that a bundler has put into one file, for stacks of JavaScript: `daylily new`
//! makes `dist/app.wasm` of `dist/app.js`, and esbuild writes `dist/app.js.map` beside it (ECMA-426).

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::sys::read_file::read_text;

/// Size of a map. It has some bytes for each token of the program.
const MAX_MAP_BYTES: u64 = 32 << 20;

/// Places that are looked up in one text.
const MAX_PLACES: usize = 256;

/// The component of a route, beside which the map may be.
#[derive(Clone, Debug)]
pub(crate) struct Bundle(Arc<Path>);

impl Bundle {
    pub(crate) fn of(component: &Path) -> Self {
        Self(component.into())
    }

    /// `text` with the places in the bundle (`dist/app.js:10:3`) replaced by those in the sources (`src/price.js:6:10`),
    /// if there is a map. Reads it each time: it is only needed when a guest has failed, for a developer.
    pub(crate) fn mapped<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let script = self.0.with_extension("js");
        let Some(name) = script.file_name().and_then(|name| name.to_str()) else { return text.into() };
        if !text.contains(&format!("{name}:")) {
            return text.into();
        }
        match self.map(&script.with_extension("js.map")) {
            Some(map) => map.replace(text, name).into(),
            None => text.into(),
        }
    }

    /// None if there is no valid map, or a build has written one that is not of this component yet.
    fn map(&self, path: &Path) -> Option<SourceMap> {
        let written = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
        if written(path)? > written(&self.0)? {
            return None;
        }
        serde_json::from_str(&read_text(path, MAX_MAP_BYTES).ok()?).ok()
    }
}

/// A source map of version 3.
#[derive(Deserialize)]
struct SourceMap {
    sources: Vec<String>,
    mappings: String,
}

/// Where a segment of the bundle begins, and what it is from. All numbers count from zero.
#[derive(Clone, Copy, Default)]
struct Segment {
    column: i64,
    source: i64,
    line: i64,
    source_column: i64,
}

impl SourceMap {
    /// Replaces `….NAME:LINE:COLUMN` everywhere.
    fn replace(&self, text: &str, name: &str) -> String {
        let mut mapped = String::with_capacity(text.len());
        let mut rest = text;
        for _ in 0..MAX_PLACES {
            let Some((before, after)) = rest.split_once(&format!("{name}:")) else { break };
            let start = before.rfind(|c: char| c.is_whitespace() || "@(".contains(c)).map_or(0, |at| at + 1);
            let (outside, directory) = before.split_at(start);
            let place = (directory.is_empty() || directory.ends_with('/'))
                .then(|| Some((numbers(after)?, directory)))
                .flatten()
                .and_then(|((line, column, end), directory)| Some((self.place(directory, line, column)?, end)));
            match place {
                Some((place, end)) => {
                    mapped.extend([outside, &place]);
                    rest = end;
                }
                None => {
                    mapped.extend([before, name, ":"]);
                    rest = after;
                }
            }
        }
        mapped + rest
    }

    /// The place in the sources of a line and a column in the bundle, which count from one.
    fn place(&self, directory: &str, line: usize, column: i64) -> Option<String> {
        let Segment { source, line, source_column, .. } = self.segment(line.checked_sub(1)?, column - 1)?;
        let source = joined(directory, self.sources.get(usize::try_from(source).ok()?)?);
        Some(format!("{source}:{}:{}", line + 1, source_column + 1))
    }

    /// The last segment of a line that begins at a column or before it. Most numbers of a segment are relative to those
    /// of the one before, so all are read.
    fn segment(&self, line: usize, column: i64) -> Option<Segment> {
        let mut at = Segment::default();
        for (number, segments) in self.mappings.split(';').enumerate().take(line.checked_add(1)?) {
            at.column = 0;
            let mut found = None;
            for segment in segments.split(',').filter(|segment| !segment.is_empty()) {
                let fields = fields(segment)?;
                at.column = at.column.checked_add(*fields.first()?)?;
                let is_of_source = fields.len() >= 4;
                if let [_, source, line, source_column, ..] = *fields {
                    at.source = at.source.checked_add(source)?;
                    at.line = at.line.checked_add(line)?;
                    at.source_column = at.source_column.checked_add(source_column)?;
                }
                if at.column <= column {
                    found = is_of_source.then_some(at);
                }
            }
            if number == line {
                return found;
            }
        }
        None
    }
}

/// The line and the column at the start of a text, and what follows.
fn numbers(text: &str) -> Option<(usize, i64, &str)> {
    let end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (line, rest) = text.split_at(end(text));
    let rest = rest.strip_prefix(':')?;
    let (column, rest) = rest.split_at(end(rest));
    Some((line.parse().ok()?, column.parse().ok()?, rest))
}

/// The numbers of a segment: digits of 5 bits in base64, of which the sixth bit says that another follows; the lowest
/// bit of a number is its sign.
fn fields(segment: &str) -> Option<Vec<i64>> {
    let (mut numbers, mut number, mut shift) = (Vec::new(), 0_i64, 0_u32);
    for digit in segment.bytes() {
        let digit = i64::from(match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        });
        if shift > 30 {
            return None;
        }
        number |= (digit & 31) << shift;
        shift += 5;
        if digit & 32 == 0 {
            numbers.push(if number & 1 == 1 { -(number >> 1) } else { number >> 1 });
            (number, shift) = (0, 0);
        }
    }
    Some(numbers)
}

/// A path that is relative to a directory, without `..` where that is possible.
fn joined(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let root = if directory.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    /// What esbuild 0.28 makes of two files, where a comment and an `export` are gone from the first one.
    const MAP: &str = r#"{
  "version": 3,
  "sources": ["../src/price.js", "../src/app.js"],
  "mappings": ";AAAA,IAAM,SAAS,EAAE,KAAK,EAAE;AAGjB,SAAS,MAAM,MAAM;AAC1B,UAAQ,IAAI,eAAe,IAAI,EAAE;AACjC,SAAO,OAAO,IAAI,EAAE,QAAQ,CAAC;AAC/B;;;ACJA,iBAAiB,SAAS,CAAC,UAAU,MAAM,YAAY,QAAQ,MAAM,OAAO,CAAC,CAAC;AAE9E,eAAe,QAAQ,SAAS;AAC9B,SAAO,IAAI,SAAS,GAAG,MAAM,IAAI,IAAI,QAAQ,GAAG,EAAE,SAAS,MAAM,CAAC,CAAC,CAAC;AAAA,CAAI;AAC1E;",
  "names": []
}"#;

    #[test]
    fn places_in_the_sources() {
        let map: SourceMap = serde_json::from_str(MAP).expect("a map");
        for (text, expected) in [
            ("price@dist/app.js:5:3\n", "price@src/price.js:6:3\n"),
            ("  respond@dist/app.js:11:26\n  @dist/app.js:9:56", "  respond@src/app.js:6:26\n  @src/app.js:3:56"),
            ("app.js:5:3 Error: no", "../src/price.js:6:3 Error: no"),
            ("(/home/me/dist/app.js:5:3)", "(/home/me/src/price.js:6:3)"),
            // What is no place in the bundle, or none that is known.
            ("other.js:5:3 and myapp.js:5:3", "other.js:5:3 and myapp.js:5:3"),
            ("app.js:5 app.js: app.js:x:1", "app.js:5 app.js: app.js:x:1"),
            ("app.js:1:1 app.js:0:0 app.js:900:1", "app.js:1:1 app.js:0:0 app.js:900:1"),
            ("app.js:99999999999999999999:1", "app.js:99999999999999999999:1"),
        ] {
            assert_eq!(map.replace(text, "app.js"), expected);
        }
    }

    #[test]
    fn invalid_maps_change_nothing() {
        for mappings in ["", ";;;;", "!", "gggggggggggg", "A", "AAAAAA,D", "AAA", "A9AA"] {
            let map = SourceMap { sources: vec!["a.js".to_owned()], mappings: mappings.repeat(2) };
            let text = map.replace("app.js:2:1 app.js:1:9", "app.js");
            assert!(text.contains(".js:"), "{mappings}: {text}");
        }
    }

    #[test]
    fn only_the_map_of_the_component_is_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let (component, map) = (dir.path().join("app.wasm"), dir.path().join("app.js.map"));
        let (place, mapped) = ("dist/app.js:5:3", "src/price.js:6:3");
        let bundle = Bundle::of(&component);
        let check = |expected: &str| assert_eq!(bundle.mapped(place), expected);
        check(place);
        fs::write(&map, MAP).expect("a map");
        check(place);
        fs::write(&component, "").expect("a component");
        check(mapped);
        let later = SystemTime::now() + Duration::from_secs(9);
        fs::File::open(&map).and_then(|map| map.set_modified(later)).expect("a time");
        check(place);
    }
}
