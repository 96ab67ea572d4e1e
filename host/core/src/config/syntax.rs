//! What is not TOML, all of it: the parser stops at a key without a value, so it is given those lines
//! empty, and goes on.

use std::borrow::Cow;

use toml::de::{DeTable, Error};

use super::diagnostic::Problems;
use crate::ValueError;

/// How the parser calls the one error that it stops at.
const STOPS: &str = "key with no value";

/// Reports the lines that the parser would stop at, and returns the text with spaces in their place,
/// so that every position stays what it is.
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
