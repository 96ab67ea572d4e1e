use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ValueError;
use crate::domain::Host;
use crate::internal;

/// The hosts of a route: one host, every name below a domain (`*.example.com`), or any host.
///
/// Case, port and trailing dot are ignored in comparisons. Equal patterns match the same hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostPattern(pub(super) HostKind);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum HostKind {
    Any,
    Exact(Host),
    /// Every name that ends in this suffix, which starts with a dot.
    Below(String),
}

impl HostPattern {
    /// Matches every request, also one without a host.
    pub fn any() -> Self {
        Self(HostKind::Any)
    }

    /// Whether it matches a host of a request, without its port.
    pub fn matches(&self, host: &str) -> bool {
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        match &self.0 {
            HostKind::Any => true,
            HostKind::Exact(own) => Host::parse(&name).is_ok_and(|host| host == *own),
            HostKind::Below(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
        }
    }
}

impl FromStr for HostPattern {
    type Err = ValueError;

    /// Parses a host, or `*.` and a domain. "Any host" has no notation: it is the default.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |help: &str| Err(ValueError::new(format!("invalid host {text:?}")).help(help));
        if text == "*" {
            return refused("leave `host` out to match any host");
        }
        if internal::is_reserved(text) {
            return Err(internal::reserved(text));
        }
        let Some(parent) = text.strip_prefix("*.") else {
            return Host::parse(text).map(|host| Self(HostKind::Exact(host)));
        };
        match Host::parse(parent)? {
            Host::Name(name) => Ok(Self(HostKind::Below(format!(".{name}")))),
            Host::Ip(_) => refused("a wildcard cannot be used with an IP address"),
        }
    }
}

impl fmt::Display for HostPattern {
    /// As written in a configuration; empty for any host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            HostKind::Any => Ok(()),
            HostKind::Exact(Host::Name(name)) => f.write_str(name),
            HostKind::Exact(Host::Ip(IpAddr::V4(ip))) => write!(f, "{ip}"),
            HostKind::Exact(Host::Ip(IpAddr::V6(ip))) => write!(f, "[{ip}]"),
            HostKind::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// The paths of a route: one path, or everything below one (`/v1/*`).
///
/// Compared byte by byte with the path as the client sent it. Percent-encoding is not decoded and dot segments are not
/// removed, because the guest gets the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PathPattern(pub(super) PathKind);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum PathKind {
    Exact(String),
    /// Every path that starts with this prefix, which ends in a slash.
    Below(String),
}

/// Bounds the work of a look-up, which tries each slash of a path up to the length of the longest pattern.
const MAX_PATH_BYTES: usize = 1024;

impl PathPattern {
    /// `/*`: every path, including the `*` of `OPTIONS *`.
    pub fn all() -> Self {
        Self(PathKind::Below("/".to_owned()))
    }

    /// Whether it matches the path of a request, without its query.
    pub fn matches(&self, path: &str) -> bool {
        match &self.0 {
            PathKind::Exact(own) => path == own,
            PathKind::Below(prefix) => path.starts_with(prefix.as_str()),
        }
    }

    /// What precedes the `*`, if the pattern has one.
    pub fn prefix(&self) -> Option<&str> {
        match &self.0 {
            PathKind::Exact(_) => None,
            PathKind::Below(prefix) => Some(prefix),
        }
    }
}

impl FromStr for PathPattern {
    type Err = ValueError;

    /// Parses a path, or a path and `/*`, which matches everything below the path (`/v1/*` matches `/v1/` and `/v1/x`,
    /// not `/v1`).
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |help: String| Err(ValueError::new(format!("invalid path {text:?}")).help(help));
        if !text.starts_with('/') {
            return refused("a path starts with `/`".to_owned());
        }
        if text.len() > MAX_PATH_BYTES {
            return refused(format!("a path has at most {MAX_PATH_BYTES} bytes"));
        }
        let (path, below) = match text.strip_suffix('*') {
            Some(path) if path.ends_with('/') => (path, true),
            _ => (text, false),
        };
        if path.contains('*') {
            return refused("`*` can only be the whole last segment, as in \"/v1/*\"".to_owned());
        }
        if let Some(at) = parameter(path) {
            let prefix = path.get(..at).unwrap_or("/");
            return refused(format!(
                "a path has no parameters: write \"{prefix}*\" for everything below \"{prefix}\", and read the rest in \
                 the component"
            ));
        }
        if path.contains(['?', '#']) {
            return refused("a path must not have a query or a fragment".to_owned());
        }
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return refused(
                "a path must not contain `.` or `..` segments: clients remove them before they send it".to_owned(),
            );
        }
        if !is_path(path) {
            return refused(
                "percent-encode characters that are not allowed in a URL, such as \"%20\" for a space".to_owned(),
            );
        }
        let path = path.to_owned();
        Ok(Self(if below { PathKind::Below(path) } else { PathKind::Exact(path) }))
    }
}

/// Where the first segment begins that other servers take for a parameter: `:id`, `{id}`, `<id>`, or the `...` of Spin.
fn parameter(path: &str) -> Option<usize> {
    let is_parameter = |segment: &&str| {
        let is_named =
            segment.strip_prefix(':').is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '_'));
        is_named || segment.contains(['{', '<']) || *segment == "..."
    };
    let before: usize =
        path.split('/').take_while(|segment| !is_parameter(segment)).map(|segment| segment.len() + 1).sum();
    // The last segment has no slash after it.
    (before <= path.len()).then_some(before)
}

/// `*( pchar / "/" )` of RFC 3986 §3.3.
fn is_path(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut is_hex = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
        let valid = match byte {
            b'%' => is_hex() && is_hex(),
            _ => byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte),
        };
        if !valid {
            return false;
        }
    }
    true
}

impl fmt::Display for PathPattern {
    /// As written in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            PathKind::Exact(path) => f.write_str(path),
            PathKind::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T>(text: &str, expected: Result<&str, &str>)
    where
        T: FromStr<Err = ValueError> + fmt::Display,
    {
        let actual = text.parse::<T>().map(|pattern| pattern.to_string()).map_err(|error| error.to_string());
        match (&actual, expected) {
            (Err(actual), Err(expected)) => assert!(actual.contains(expected), "{text}: {actual}"),
            _ => assert_eq!(actual.as_deref().map_err(String::as_str), expected, "{text}"),
        }
    }

    #[test]
    fn hosts() {
        check::<HostPattern>("example.com", Ok("example.com"));
        check::<HostPattern>("Example.COM.", Ok("example.com"));
        check::<HostPattern>("*.Example.com", Ok("*.example.com"));
        check::<HostPattern>("127.0.0.1", Ok("127.0.0.1"));
        check::<HostPattern>("[0:0::1]", Ok("[::1]"));
        check::<HostPattern>("*", Err("leave `host` out"));
        check::<HostPattern>("", Err("must not be empty"));
        check::<HostPattern>("example.com:80", Err("without a port"));
        check::<HostPattern>("a.*.com", Err("whole first label"));
        check::<HostPattern>("*.*.com", Err("whole first label"));
        check::<HostPattern>("*.127.0.0.1", Err("cannot be used with an IP address"));
        check::<HostPattern>("https://example.com", Err("invalid host name"));
        check::<HostPattern>("users.Daylily.internal", Err("reserved"));
        check::<HostPattern>("*.daylily.internal", Err("reserved"));
        check::<HostPattern>("*.internal", Ok("*.internal"));
        assert_eq!(HostPattern::any().to_string(), "");
    }

    #[test]
    fn paths() {
        check::<PathPattern>("/", Ok("/"));
        check::<PathPattern>("/*", Ok("/*"));
        check::<PathPattern>("/v1/*", Ok("/v1/*"));
        check::<PathPattern>("/a/b.c~d:e@f;g=h,i", Ok("/a/b.c~d:e@f;g=h,i"));
        check::<PathPattern>("/a%20b", Ok("/a%20b"));
        check::<PathPattern>("/a//b/", Ok("/a//b/"));
        check::<PathPattern>("/.well-known/*", Ok("/.well-known/*"));
        check::<PathPattern>("", Err("starts with `/`"));
        check::<PathPattern>("*", Err("starts with `/`"));
        check::<PathPattern>("v1/*", Err("starts with `/`"));
        check::<PathPattern>("/v1*", Err("whole last segment"));
        check::<PathPattern>("/*/v1", Err("whole last segment"));
        check::<PathPattern>("/**", Err("whole last segment"));
        check::<PathPattern>("/a?b", Err("must not have a query"));
        check::<PathPattern>("/a#b", Err("must not have a query"));
        check::<PathPattern>("/a/../b", Err("`..`"));
        check::<PathPattern>("/./*", Err("`..`"));
        check::<PathPattern>("/a/:id", Err("write \"/a/*\" for everything below \"/a/\""));
        check::<PathPattern>("/a/{id}/b/{c}", Err("write \"/a/*\""));
        check::<PathPattern>("/{id}", Err("write \"/*\""));
        check::<PathPattern>("/a/b-{id}", Err("write \"/a/*\""));
        check::<PathPattern>("/a/<int:id>", Err("write \"/a/*\""));
        check::<PathPattern>("/a/:id/*", Err("write \"/a/*\""));
        check::<PathPattern>("/a/...", Err("write \"/a/*\""));
        check::<PathPattern>("/a:b/:/:1", Ok("/a:b/:/:1"));
        check::<PathPattern>("/a b", Err("percent-encode"));
        check::<PathPattern>("/ü", Err("percent-encode"));
        check::<PathPattern>("/a%2", Err("percent-encode"));
        check::<PathPattern>("/a\"b", Err("percent-encode"));
        check::<PathPattern>(&format!("/{}", "a".repeat(1024)), Err("at most 1024 bytes"));
    }
}
