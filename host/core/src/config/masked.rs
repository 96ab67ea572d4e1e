//! The text of a configuration as errors show it, maybe in a log: with stars instead of what may be secret. Each byte stays
//! where it is.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Keys of a `[store.NAME]` whose values are no secrets. The value of any other key may be one: the key may have a typo.
const HARMLESS: [&str; 10] =
    ["backend", "durability", "ttl", "max_key", "max_value", "max_store", "required", "user", "prefix", "bucket"];

/// Where a secret is from.
const SOURCES: [&str; 3] = ["file", "env", "credential"];

/// A string has at most so many quotes at each end.
const MAX_QUOTES: usize = 3;

/// The text with stars instead of passwords: of those in URLs, and of all that stores may have as one. `tree` is what
/// could be read of it; what could not is looked at line by line.
pub(super) fn without_secrets(text: &str, tree: &DeTable<'_>) -> String {
    let mut spans = Vec::new();
    for (key, value) in tree {
        if key.get_ref() == "store" {
            of_stores(value.get_ref(), text, &mut spans);
        }
    }
    let mut masked = text.as_bytes().to_vec();
    for span in spans {
        let secret = masked.get_mut(span).unwrap_or_default();
        secret.iter_mut().filter(|byte| !matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b'*');
    }
    let masked = String::from_utf8(masked).unwrap_or_default();
    masked.split_inclusive('\n').map(masked_line).collect()
}

fn of_stores(stores: &DeValue<'_>, text: &str, spans: &mut Vec<Range<usize>>) {
    let DeValue::Table(stores) = stores else { return };
    for (_, store) in stores {
        let DeValue::Table(store) = store.get_ref() else {
            spans.push(between_quotes(text, store.span()));
            continue;
        };
        for (key, value) in store {
            let (key, span) = (key.get_ref().as_ref(), between_quotes(text, value.span()));
            match value.get_ref() {
                _ if key == "backend" => {
                    let (url, begin) = (text.get(span.clone()).unwrap_or_default(), span.start);
                    spans.extend(of_url(url).into_iter().map(|secret| begin + secret.start..begin + secret.end));
                }
                _ if HARMLESS.contains(&key) => {}
                DeValue::Table(source) => {
                    let other = source.iter().filter(|(key, _)| !SOURCES.contains(&key.get_ref().as_ref()));
                    spans.extend(other.map(|(_, value)| between_quotes(text, value.span())));
                }
                _ => spans.push(span),
            }
        }
    }
}

/// A string without its quotes, or any other value.
fn between_quotes(text: &str, mut span: Range<usize>) -> Range<usize> {
    let first = text.get(span.clone()).and_then(|value| value.chars().next());
    let Some(quote) = first.filter(|first| matches!(first, '"' | '\'')) else { return span };
    for _ in 0..MAX_QUOTES {
        let value = text.get(span.clone()).unwrap_or_default();
        if value.len() < 2 || !value.starts_with(quote) || !value.ends_with(quote) {
            break;
        }
        span = span.start + 1..span.end - 1;
    }
    span
}

/// The parts of a URL that may have a password: before an `@`, and parameters.
fn of_url(url: &str) -> Vec<Range<usize>> {
    let begin = url.find("://").map(|at| at + "://".len());
    let begin = begin.or_else(|| url.find(':').map(|at| at + 1)).unwrap_or_default();
    let before = url.rfind('@').map(|at| begin.min(at)..at);
    let parameters = url.find(['?', '#']).map(|at| at + 1..url.len());
    before.into_iter().chain(parameters).collect()
}

fn masked_line(line: &str) -> String {
    let in_urls = masked_after(line, "://", |rest| {
        let end = rest.find(['"', '\'', '\n']).unwrap_or(rest.len());
        Some(0..rest.get(..end)?.rfind('@')?)
    });
    let in_backend = masked_after(&in_urls, "backend", |rest| {
        let value = written(rest)?;
        let secret = of_url(rest.get(value.clone())?).into_iter().next()?;
        Some(value.start + secret.start..value.start + secret.end)
    });
    masked_after(&masked_after(&in_backend, "password", secret), "token", secret)
}

/// A value that is not the table of its source.
fn secret(rest: &str) -> Option<Range<usize>> {
    let value = written(rest)?;
    Some(value.clone()).filter(|_| !rest.get(value).is_some_and(|value| value.starts_with('{')))
}

/// The value after a key, which may be in quotes: within its own quotes, or else to the end of the line.
fn written(rest: &str) -> Option<Range<usize>> {
    let value = rest.strip_prefix(['"', '\'']).unwrap_or(rest).trim_start().strip_prefix('=')?.trim_start();
    let begin = rest.len() - value.len();
    let end = rest.trim_end_matches(['\r', '\n']).len().max(begin);
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else { return Some(begin..end) };
    // One that begins with three may go on in the next line.
    let is_long = value.chars().take_while(|first| *first == quote).count() >= MAX_QUOTES;
    let begin = begin + if is_long { MAX_QUOTES } else { 1 };
    let length = rest.get(begin..)?.rfind(quote);
    Some(begin..length.map_or(end.max(begin), |length| begin + length))
}

/// A line with stars in the part that `secret` finds after each `mark`.
fn masked_after(line: &str, mark: &str, secret: impl Fn(&str) -> Option<Range<usize>>) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut left = line;
    while let Some((before, rest)) = left.split_once(mark) {
        masked.extend([before, mark]);
        let hidden = secret(rest).unwrap_or_default();
        masked.push_str(rest.get(..hidden.start).unwrap_or_default());
        masked.push_str(&"*".repeat(hidden.len()));
        left = rest.get(hidden.end..).unwrap_or_default();
    }
    masked + left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let (tree, _) = DeTable::parse_recoverable(text);
        let masked = without_secrets(text, tree.get_ref());
        assert_eq!(masked.len(), text.len());
        masked
    }

    #[test]
    fn passwords_are_masked_in_lines() {
        for (line, expected) in [
            ("backend = \"redis://:secret@h/0\" # x@y", "backend = \"redis://*******@h/0\" # x@y"),
            ("backend = 'redis://ü:p@q@h' \n", "backend = 'redis://******@h' \n"),
            ("backend = \"redis://h/0\" # a@b", "backend = \"redis://h/0\" # a@b"),
            ("backend = \"redis://:hunter/22xx@h", "backend = \"redis://************@h"),
            ("backend = \"redis:hunter22@h\"", "backend = \"redis:********@h\""),
            ("password = \"a\\\"b\"", "password = \"****\""),
            ("password=''", "password=''"),
            ("token = 'abc'", "token = '***'"),
            ("token_file = 'abc'", "token_file = 'abc'"),
            ("password = \"open", "password = \"****"),
            ("password = hunter22\n", "password = ********\n"),
            ("\"password\" = \"x\"", "\"password\" = \"*\""),
            ("password = { file = \"x\" }", "password = { file = \"x\" }"),
            ("# password", "# password"),
        ] {
            assert_eq!(masked(line), expected);
        }
    }

    #[test]
    fn passwords_are_masked_in_tables() {
        for (text, expected) in [
            ("backend = \"redis://:hunter/22xx@h\"", "backend = \"redis://************@h\""),
            ("backend = \"redis:hunter22@h\"", "backend = \"redis:********@h\""),
            ("backend = \"redis://h/0?password=x\"", "backend = \"redis://h/0?**********\""),
            ("password = 22442244", "password = ********"),
            ("password = \"\"\"\none\ntwo\"\"\"\nttl = 1", "password = \"\"\"\n***\n***\"\"\"\nttl = 1"),
            ("\"password\" = \"x\"", "\"password\" = \"*\""),
            ("pasword = \"hunter22\"", "pasword = \"********\""),
            ("pasword = { fil = \"hunter22\" }", "pasword = { fil = \"********\" }"),
            ("password = { file = \"x\" }", "password = { file = \"x\" }"),
            ("prefix = 'a:'\nttl = '1h'", "prefix = 'a:'\nttl = '1h'"),
        ] {
            assert_eq!(masked(&format!("[store.a]\n{text}\n")), format!("[store.a]\n{expected}\n"));
        }
        assert_eq!(masked("store.a = { \"password\" = \"x\" }"), "store.a = { \"password\" = \"*\" }");
        assert_eq!(masked("[store]\na = 'hunter22'"), "[store]\na = '********'");
    }
}
