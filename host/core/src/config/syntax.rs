//! Reports all TOML syntax errors. The parser stops at a key without a value, so such lines are replaced with spaces,
//! and it goes on after them.

use std::borrow::Cow;

use toml::de::{DeTable, Error};

use super::diagnostic::Problems;
use crate::ValueError;

/// The start of the parser's message for the only error at which it stops.
const STOPS: &str = "key with no value";

/// Reports the lines at which the parser would stop, and returns the text with spaces in their place, so that all
/// positions stay the same.
pub(super) fn without_bare_keys<'a>(text: &'a str, problems: &mut Problems) -> Cow<'a, str> {
    let (_, errors) = DeTable::parse_recoverable(text);
    let mut readable = Cow::Borrowed(text);
    for error in errors.iter().filter(|error| error.message().starts_with(STOPS)) {
        let Some(span) = error.span() else { continue };
        let start = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        readable.to_mut().replace_range(start..start + line.len(), &" ".repeat(line.len()));
        report(error, text, problems);
    }
    readable
}

pub(super) fn report(error: &Error, text: &str, problems: &mut Problems) {
    let span = error.span().unwrap_or(text.len()..text.len());
    problems.add(span, ValueError::new(error.message()));
}
