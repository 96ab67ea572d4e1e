//! The values of grants: what a route's guest is granted besides its request.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ValueError;
use crate::config::{Source, Value};

/// A directory of the host that a guest may use: `HOST::GUEST[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirGrant {
    /// Where it is on the host.
    #[serde(with = "crate::os_path")]
    pub host: PathBuf,
    /// Where the guest sees it: `/`, `/data`, or `.`.
    pub guest: String,
    /// Whether the guest may only read.
    pub read_only: bool,
}

const DIR_HELP: &str = "write \"HOST::GUEST\" or \"HOST::GUEST:ro\", such as \"./data::/data:ro\"";

impl FromStr for DirGrant {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |help: &str| ValueError::new(format!("invalid directory {text:?}")).help(help);
        let (host, guest) = text.split_once("::").ok_or_else(|| refused(DIR_HELP))?;
        let (guest, read_only) = match guest.strip_suffix(":ro") {
            Some(guest) => (guest, true),
            None => (guest, false),
        };
        if host.is_empty() || guest.is_empty() {
            return Err(refused(DIR_HELP));
        }
        if host.contains('\0') || guest.contains('\0') {
            return Err(refused("a path must not contain a NUL character"));
        }
        if guest.contains(':') {
            return Err(refused("the guest's path must not contain `:`, and the only mode is `:ro`"));
        }
        if guest.split('/').any(|part| part == "..") {
            return Err(refused("the guest's path must not contain `..`"));
        }
        if guest != "." && !guest.starts_with('/') {
            return Err(refused("the guest's path starts with `/`, or is `.`"));
        }
        // "/data/" and "/data" are the same path, and "/" must not become empty.
        let trimmed = guest.trim_end_matches('/');
        let guest = if trimmed.is_empty() { "/" } else { trimmed };
        Ok(Self { host: PathBuf::from(host), guest: guest.to_owned(), read_only })
    }
}

/// Parses an environment variable: `NAME=VALUE`, or `NAME` for the variable of that name in daylily's environment.
///
/// # Errors
/// If the name is empty or has white space or control characters, or the value has a NUL character or `${`.
pub fn parse_env(text: &str) -> Result<(String, Value), ValueError> {
    let Some((name, value)) = text.split_once('=') else {
        check_env(text, "")?;
        return Ok((text.to_owned(), Value::wanted(Source::Variable(text.to_owned()))));
    };
    check_env(name, value)?;
    Ok((name.to_owned(), Value::Written(literal(name, value)?)))
}

/// Parses a variable of `wasi:config`, `KEY=VALUE`.
///
/// # Errors
/// If there is no `=`, or the key is empty or has control characters, or the value has `${`.
pub fn parse_var(text: &str) -> Result<(String, Value), ValueError> {
    let no_value = || ValueError::new(format!("{text:?} has no value")).help("write \"NAME=VALUE\"");
    let (key, value) = text.split_once('=').ok_or_else(no_value)?;
    check_var(key, value)?;
    Ok((key.to_owned(), Value::Written(literal(key, value)?)))
}

/// A value as the guest gets it: `$${` stands for `${`.
///
/// # Errors
/// If it has a `${` without a second `$`, which other programs would replace.
pub(crate) fn literal(name: &str, value: &str) -> Result<String, ValueError> {
    let mut parts = value.split("$${");
    if let Some((_, rest)) = parts.find_map(|part| part.split_once("${")) {
        let wanted = rest.split_once('}').map_or("NAME", |(wanted, _)| wanted);
        return Err(not_expanded(&format!("the value of {name:?}"), wanted));
    }
    Ok(value.replace("$${", "${"))
}

/// The error for a value with `${WANTED}`.
pub(crate) fn not_expanded(what: &str, wanted: &str) -> ValueError {
    let is_name = check_env(wanted, "").is_ok() && !wanted.contains(['"', '\'', '\\', '$', '{']);
    let wanted = if is_name { wanted } else { "NAME" };
    ValueError::new(format!("{what} has `${{`, and variables in it are not expanded")).help(format!(
        "for a variable of daylily's environment, write `{{ env = \"{wanted}\" }}` as the value in the configuration; \
         for the characters `${{`, write `$${{`"
    ))
}

pub(crate) fn check_env(name: &str, value: &str) -> Result<(), ValueError> {
    let refused = |help: &str| Err(ValueError::new(format!("invalid environment variable {name:?}")).help(help));
    if name.is_empty() {
        refused("it needs a name")
    } else if name.contains('=') {
        refused("a name must not contain `=`")
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        refused("a name must not contain white space or control characters")
    } else if value.contains('\0') {
        refused("a value must not contain a NUL character")
    } else {
        Ok(())
    }
}

pub(crate) fn check_var(key: &str, _value: &str) -> Result<(), ValueError> {
    let refused = |help: &str| Err(ValueError::new(format!("invalid variable {key:?}")).help(help));
    if key.is_empty() {
        refused("it needs a key")
    } else if key.chars().any(char::is_control) {
        refused("a key must not contain control characters")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirs() {
        fn check(text: &str, expected: Result<&str, &str>) {
            let actual = text
                .parse::<DirGrant>()
                .map_err(|error| error.to_string())
                .map(|dir| format!("{} {} {}", dir.host.display(), dir.guest, if dir.read_only { "ro" } else { "rw" }));
            match (&actual, expected) {
                (Err(actual), Err(expected)) => {
                    assert!(actual.contains(expected), "{text}: {actual}")
                }
                _ => assert_eq!(actual.as_deref().map_err(String::as_str), expected, "{text}"),
            }
        }
        check("./data::/data", Ok("./data /data rw"));
        check("/srv/www::/:ro", Ok("/srv/www / ro"));
        check("data::/a/b/:ro", Ok("data /a/b ro"));
        check(".::.", Ok(". . rw"));
        check("c:/x::/x", Ok("c:/x /x rw"));
        check("./data", Err("write \"HOST::GUEST\""));
        check("", Err("write \"HOST::GUEST\""));
        check("::/data", Err("write \"HOST::GUEST\""));
        check("data::", Err("write \"HOST::GUEST\""));
        check("data:::ro", Err("write \"HOST::GUEST\""));
        check("data::/data:rw", Err("the only mode is `:ro`"));
        check("a::b::/c", Err("the only mode is `:ro`"));
        check("data::data", Err("starts with `/`"));
        check("data::/a/../b", Err("must not contain `..`"));
        check("da\0ta::/a", Err("NUL"));
    }

    #[test]
    fn pairs() {
        fn check(
            parse: fn(&str) -> Result<(String, Value), ValueError>,
            text: &str,
            expected: Result<(&str, &str), &str>,
        ) {
            let actual = parse(text).map_err(|error| error.to_string());
            match (&actual, expected) {
                (Err(actual), Err(expected)) => {
                    assert!(actual.contains(expected), "{text}: {actual}")
                }
                (Ok((name, value)), Ok(expected)) => {
                    assert_eq!((name.as_str(), value.text()), expected);
                    assert_eq!(value.secret(), None);
                }
                _ => assert_eq!(format!("{actual:?}"), format!("{expected:?}"), "{text}"),
            }
        }
        check(parse_env, "A=b", Ok(("A", "b")));
        check(parse_env, "A=", Ok(("A", "")));
        check(parse_env, "A=b=c d", Ok(("A", "b=c d")));
        check(parse_env, "A=$B $$ {", Ok(("A", "$B $$ {")));
        check(parse_env, "A=$${B}$${", Ok(("A", "${B}${")));
        check(parse_env, "A=$$${B}", Ok(("A", "$${B}")));
        check(parse_env, "A=x${B_1}", Err("write `{ env = \"B_1\" }`"));
        check(parse_env, "A=$${B}${", Err("write `{ env = \"NAME\" }`"));
        check(parse_env, "A=${B \"}", Err("write `{ env = \"NAME\" }`"));
        check(parse_var, "a=${b}", Err("for the characters `${`, write `$${`"));
        check(parse_var, "A", Err("write \"NAME=VALUE\""));
        check(parse_env, "A B", Err("must not contain white space"));
        check(parse_env, "=b", Err("needs a name"));
        check(parse_env, "A B=c", Err("must not contain white space"));
        check(parse_env, "A\n=c", Err("must not contain white space"));
        check(parse_env, "A=\0", Err("NUL"));
        check(parse_var, "a.b c=d", Ok(("a.b c", "d")));
        check(parse_var, "=d", Err("needs a key"));
        check(parse_var, "a\t=d", Err("control characters"));
        assert_eq!(parse_env("A"), Ok(("A".to_owned(), Value::wanted(Source::Variable("A".to_owned())))));
    }
}
