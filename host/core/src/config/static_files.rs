//! Static files of a route: `files`, `fallback` and `cache_control`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::kinds::PathOf;
use super::reader::{Located, Section};
use crate::ValueError;
use crate::route::PathPattern;

/// Files that a route serves from a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticFiles {
    /// The directory. What the `*` of the route's path stands for is a path below it.
    #[serde(with = "crate::os_path")]
    pub dir: PathBuf,
    /// The path below `dir` of the file that answers navigations to what is not a file.
    pub fallback: Option<String>,
    /// Values of `cache-control`; the first whose pattern matches a file is the file's.
    pub cache_control: Vec<CacheRule>,
}

/// A value of `cache-control`, and which files have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRule {
    /// The files.
    pub files: FilePattern,
    /// The value of the field, which is valid in a header.
    pub value: String,
}

/// Paths below a directory: a path in which each `*` stands for any characters, also for none and for slashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePattern(String);

const FILES: PathOf = PathOf {
    key: "files",
    name: "directory of static files",
    help: "write the path of a directory, such as \"public\"",
    default: "none",
};

/// More rules than any site has, and few enough to be tried for each file.
const MAX_CACHE_RULES: usize = 64;

const MAX_PATTERN_BYTES: usize = 256;

impl FilePattern {
    fn all() -> Self {
        Self("*".to_owned())
    }

    fn parse(text: &str) -> Result<Self, ValueError> {
        let refused = |help: &str| Err(ValueError::new(format!("invalid pattern {text:?}")).help(help));
        if text.is_empty() || text.len() > MAX_PATTERN_BYTES {
            return refused("a pattern has from 1 to 256 bytes");
        }
        if text.starts_with('/') {
            return refused("write the path below `files`, without a `/` before it, such as \"assets/*\"");
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether a path matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut pieces = self.0.as_bytes().split(|byte| *byte == b'*');
        let Some(mut rest) = pieces.next().and_then(|first| path.strip_prefix(first)) else { return false };
        let mut last: Option<&[u8]> = None;
        for piece in pieces {
            // The shortest match of each piece but the last leaves the most for those that follow.
            if let Some(before) = last.replace(piece) {
                let Some(at) = find(rest, before) else { return false };
                rest = rest.get(at + before.len()..).unwrap_or_default();
            }
        }
        match last {
            Some(last) => rest.ends_with(last),
            None => rest.is_empty(),
        }
    }
}

/// Where `part` is first in `text`.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    (0..=text.len().checked_sub(part.len())?).find(|at| text.get(*at..).is_some_and(|rest| rest.starts_with(part)))
}

/// Reads the keys of a route. None if it has no `files`, or invalid ones.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    path: Option<&PathPattern>,
    has_component: bool,
) -> Option<StaticFiles> {
    let place = section.place_of(FILES.key);
    let dir = section.path(&FILES);
    let fallback = read_fallback(section, has_component);
    let cache_control = read_cache_control(section);
    let Some(place) = place else {
        for key in ["fallback", "cache_control"] {
            if let Some(place) = section.place_of(key) {
                let error = ValueError::new(format!("`{key}` without `files`"));
                section.problems().add(place, error.help("add `files = \"public\"`, the directory of static files"));
            }
        }
        return None;
    };
    if path.is_some_and(|path| path.prefix().is_none()) {
        let error = ValueError::new("`files` on a route whose path does not end in `/*`");
        let help =
            "what `*` stands for is the path of a file in the directory: write `path = \"/*\"`, or \"/assets/*\"";
        section.problems().add(place, error.help(help));
    }
    Some(StaticFiles { dir: dir?, fallback, cache_control })
}

fn read_fallback(section: &mut Section<'_, '_>, has_component: bool) -> Option<String> {
    let Located { span, value } = section.text("fallback")?;
    let error = if has_component {
        ValueError::new("`fallback` on a route with a `component`")
            .help("the component gets all requests for what is not a file: remove one of both")
    } else if value.split('/').any(|segment| segment.is_empty() || segment.starts_with('.')) || value.contains('\0') {
        ValueError::new(format!("invalid fallback {value:?}"))
            .help("write the path of a file below `files`, without a `/` before it, such as \"index.html\"")
    } else {
        return Some(value.to_owned());
    };
    section.problems().add(span, error);
    None
}

/// One value for all files, or a table of patterns and values. Patterns are tried in the order of the file.
fn read_cache_control(section: &mut Section<'_, '_>) -> Vec<CacheRule> {
    let mut rules = Vec::new();
    for (pattern, value) in section.text_or_pairs("cache_control") {
        let parsed = match &pattern {
            Some(pattern) => FilePattern::parse(pattern.value).map_err(|error| (pattern.span.clone(), error)),
            None => Ok(FilePattern::all()),
        };
        let files = match parsed {
            Ok(files) if is_field_value(value.value) => files,
            Ok(_) => {
                let error = ValueError::new(format!("invalid value {:?} of cache-control", value.value));
                section.problems().add(value.span, error.help("write one such as \"public, max-age=3600\""));
                continue;
            }
            Err((span, error)) => {
                section.problems().add(span, error);
                continue;
            }
        };
        if rules.len() == MAX_CACHE_RULES {
            let error = ValueError::new(format!("`cache_control` has more than {MAX_CACHE_RULES} patterns"));
            section.problems().add(value.span, error.help("use `*` for many files: \"assets/*\""));
            break;
        }
        rules.push(CacheRule { files, value: value.value.to_owned() });
    }
    rules
}

fn is_field_value(text: &str) -> bool {
    !text.trim().is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

    use std::path::Path;

    use super::*;
    use crate::config::{Config, Overrides, parse};

    #[test]
    fn patterns() {
        fn check(pattern: &str, matching: &[&str], others: &[&str]) {
            let pattern = FilePattern::parse(pattern).unwrap();
            for path in matching {
                assert!(pattern.matches(path.as_bytes()), "{pattern:?} {path}");
            }
            for path in others {
                assert!(!pattern.matches(path.as_bytes()), "{pattern:?} {path}");
            }
        }
        check("*", &["", "a", "a/b"], &[]);
        check("index.html", &["index.html"], &["a/index.html", "index.html.gz", ""]);
        check("*.html", &["index.html", "a/b.html", ".html"], &["index.htm", "html"]);
        check("assets/*", &["assets/", "assets/a/b.js"], &["assets", "x/assets/a"]);
        check("assets/*.js", &["assets/a.js", "assets/b/a.js", "assets/.js"], &["assets/js", "a.js"]);
        check("a*b*c", &["abc", "aXbYc", "abbbc", "abcbc"], &["ac", "acb", "abcd"]);
        check("aa*aa", &["aaaa", "aaxaa"], &["aaa"]);
        check("**", &["", "a"], &[]);
        assert!(FilePattern::parse("").is_err() && FilePattern::parse("/a").is_err());
        assert!(FilePattern::parse(&"a".repeat(257)).is_err());
    }

    fn config(keys: &str) -> Result<Config, String> {
        let text = format!("[[route]]\n{keys}\n");
        parse(Path::new("site/daylily.toml"), &text, &Overrides::default()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn files_are_read() {
        let rule = |files: &str, value: &str| CacheRule { files: FilePattern(files.into()), value: value.into() };
        let dir = PathBuf::from("site/public");
        let fallback = Some("app/index.html".to_owned());
        let check = |keys: &str, expected: Option<StaticFiles>, has_component: bool| {
            let config = config(keys).unwrap();
            let route = config.routes.first().unwrap();
            assert_eq!((&route.files, route.component.is_some()), (&expected, has_component), "{keys}");
        };
        let plain = StaticFiles { dir, fallback: None, cache_control: Vec::new() };
        check("files = \"public\"", Some(plain.clone()), false);
        check("component = \"a.wasm\"", None, true);
        check("files = \"public\"\ncomponent = \"a.wasm\"", Some(plain.clone()), true);
        check(
            "files = \"public\"\nfallback = \"app/index.html\"\ncache_control = \"no-cache\"",
            Some(StaticFiles { fallback, cache_control: vec![rule("*", "no-cache")], ..plain.clone() }),
            false,
        );
        // In the order of the file, which is not that of the alphabet.
        let rules = vec![rule("z/*", "a"), rule("b/*", "public, max-age=1"), rule("*", "c")];
        check(
            "path = \"/a/*\"\nfiles = \"public\"\ncache_control = { \"z/*\" = \"a\", \"b/*\" = \"public, max-age=1\", \"*\" = \"c\" }",
            Some(StaticFiles { cache_control: rules, ..plain }),
            false,
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        fn check(keys: &str, expected: &str) {
            let errors = config(keys).unwrap_err();
            assert!(errors.contains(expected), "{keys}: {errors}");
        }
        check("path = \"/a\"\nfiles = \"public\"", "`files` on a route whose path does not end in `/*`");
        check("files = \"\"", "write the path of a directory");
        check("component = \"a.wasm\"\nfallback = \"index.html\"", "`fallback` on a route with a `component`");
        check("component = \"a.wasm\"\ncache_control = \"a\"", "`cache_control` without `files`");
        check("files = \"public\"\nfallback = \"/index.html\"", "invalid fallback \"/index.html\"");
        check("files = \"public\"\nfallback = \"a/../b\"", "invalid fallback");
        check("files = \"public\"\ncache_control = \"a\\nb\"", "invalid value \"a\\nb\" of cache-control");
        check("files = \"public\"\ncache_control = { \"/a\" = \"b\" }", "without a `/` before it");
        check("files = \"public\"\ncache_control = 1", "`cache_control` must be a string or a table of strings");
        check("files = \"public\"\ncache_control = { \"a\" = 1 }", "`a` must be a string");
        check("path = \"/a/*\"", "this route has no `component` and no `files`");
    }
}
