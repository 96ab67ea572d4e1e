use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::pattern::{HostKind, PathKind};
use crate::authority;
use crate::config::Route;
use crate::domain::Host;

/// The routes of a configuration, indexed.
///
/// A look-up costs as much with ten thousand routes as with ten: it is a few hash look-ups, one for each label of the
/// host and each slash of the path. Their number is the client's choice, so no more of them are tried than the longest
/// pattern has.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Names and IPv4 addresses, each in its only lower-case spelling.
    exact: HashMap<Box<str>, Paths>,
    ipv6: HashMap<Ipv6Addr, Paths>,
    /// Keyed by suffix, with its leading dot.
    below: HashMap<Box<str>, Paths>,
    longest_below_bytes: usize,
    any: Paths,
}

/// The routes of one host, keyed by path; values are indices of routes.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, usize>,
    /// Keyed by prefix, with its trailing slash; the root is not among them.
    below: HashMap<Box<str>, usize>,
    longest_below_bytes: usize,
    /// The route for all other paths. If it is the only route of the host, no hash is computed.
    root: Option<usize>,
}

impl RouteTable {
    /// Indexes `routes`. Of two routes with equal patterns, which no valid configuration has, the first is used.
    pub fn new(routes: &[Route]) -> Self {
        let mut table = Self::default();
        for (index, route) in routes.iter().enumerate() {
            table.paths_of(&route.host.0).add(&route.path.0, index);
        }
        table
    }

    /// The index of the route for a request, if any matches.
    ///
    /// `host` is as in the request, without the port (an IPv6 address in brackets). `None` is a request without a host,
    /// which only routes for any host match. `path` is without the query. An exact host takes precedence over
    /// wildcards, longer wildcards over shorter ones, and these over any host; within a host, an exact path over
    /// prefixes, and longer prefixes over shorter ones. If a host has no route for the path, the next less specific
    /// host is tried.
    ///
    /// Allocates nothing if `host` is lower case.
    pub fn find(&self, host: Option<&str>, path: &str) -> Option<usize> {
        // RFC 9110 §4.2.3: an empty path is the same as "/".
        let path = if path.is_empty() { "/" } else { path };
        let by_host = host.and_then(|host| self.find_by_host(host, path));
        by_host.or_else(|| self.any.find(path))
    }

    fn find_by_host(&self, host: &str, path: &str) -> Option<usize> {
        if let Some(ip) = authority::parse_bracketed(host) {
            return self.ipv6.get(&ip)?.find(path);
        }
        let name = normal(host);
        let exact = self.exact.get(&*name).and_then(|paths| paths.find(path));
        exact.or_else(|| self.find_below(&name, path))
    }

    fn find_below(&self, name: &str, path: &str) -> Option<usize> {
        let mut suffixes = suffixes(name, self.longest_below_bytes);
        suffixes.find_map(|suffix| self.below.get(suffix)?.find(path))
    }

    fn paths_of(&mut self, host: &HostKind) -> &mut Paths {
        match host {
            HostKind::Any => &mut self.any,
            HostKind::Exact(Host::Name(name)) => self.exact.entry(name.as_str().into()).or_default(),
            HostKind::Exact(Host::Ip(IpAddr::V4(ip))) => self.exact.entry(ip.to_string().into()).or_default(),
            HostKind::Exact(Host::Ip(IpAddr::V6(ip))) => self.ipv6.entry(*ip).or_default(),
            HostKind::Below(suffix) => {
                self.longest_below_bytes = self.longest_below_bytes.max(suffix.len());
                self.below.entry(suffix.as_str().into()).or_default()
            }
        }
    }
}

impl Paths {
    fn add(&mut self, path: &PathKind, index: usize) {
        match path {
            PathKind::Exact(path) => self.exact.entry(path.as_str().into()).or_insert(index),
            PathKind::Below(prefix) if prefix == "/" => self.root.get_or_insert(index),
            PathKind::Below(prefix) => {
                self.longest_below_bytes = self.longest_below_bytes.max(prefix.len());
                self.below.entry(prefix.as_str().into()).or_insert(index)
            }
        };
    }

    fn find(&self, path: &str) -> Option<usize> {
        // The `*` of `OPTIONS *` is not a path: only the root pattern `/*` matches it.
        if !path.starts_with('/') {
            return self.root;
        }
        if let Some(index) = self.exact.get(path) {
            return Some(*index);
        }
        let mut prefixes = prefixes(path, self.longest_below_bytes);
        prefixes.find_map(|prefix| self.below.get(prefix).copied()).or(self.root)
    }
}

/// A name in lower case and without a dot at its end.
fn normal(host: &str) -> Cow<'_, str> {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// The suffixes of `name` that start with a dot and are not the whole name, the longest first.
fn suffixes(name: &str, longest_bytes: usize) -> impl Iterator<Item = &str> {
    let first = name.len().saturating_sub(longest_bytes).max(1);
    let dots = name.bytes().enumerate().skip(first).filter(|(_, byte)| *byte == b'.');
    dots.filter_map(|(at, _)| name.get(at..))
}

/// The prefixes of `path` that end in a slash, the longest first.
fn prefixes(path: &str, longest_bytes: usize) -> impl Iterator<Item = &str> {
    let bytes = path.as_bytes().iter().enumerate().take(longest_bytes);
    let slashes = bytes.rev().filter(|(_, byte)| **byte == b'/');
    slashes.filter_map(|(at, _)| path.get(..=at))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

    use super::*;
    use crate::config::ComponentSource;
    use crate::config::{Grants, Place, RouteLimits};
    use crate::route::{HostPattern, PathPattern};

    fn route(host: &str, path: &str) -> Route {
        Route {
            name: format!("{host}{path}"),
            host: if host.is_empty() { HostPattern::any() } else { host.parse().unwrap() },
            path: path.parse::<PathPattern>().unwrap(),
            middleware: Vec::new(),
            component: Some(ComponentSource::HelloWorld),
            component_place: Place::default(),
            files: None,
            limits: RouteLimits::default(),
            grants: Grants::default(),
        }
    }

    fn routes(patterns: &[(&str, &str)]) -> Vec<Route> {
        patterns.iter().map(|(host, path)| route(host, path)).collect()
    }

    fn check(routes: &[Route], host: Option<&str>, path: &str, expected: Option<&str>) {
        let found = RouteTable::new(routes).find(host, path);
        let name = found.and_then(|index| routes.get(index)).map(|route| route.name.as_str());
        assert_eq!(name, expected, "{host:?} {path}");
    }

    #[test]
    fn hosts() {
        let routes = routes(&[
            ("", "/any/*"),
            ("example.com", "/*"),
            ("*.example.com", "/*"),
            ("*.a.example.com", "/a/*"),
            ("b.a.example.com", "/b/*"),
            ("127.0.0.1", "/*"),
            ("[::1]", "/*"),
        ]);
        let check = |host: Option<&str>, path: &str, expected: Option<&str>| check(&routes, host, path, expected);
        check(Some("example.com"), "/", Some("example.com/*"));
        check(Some("EXAMPLE.com."), "/", Some("example.com/*"));
        check(Some("x.example.com"), "/", Some("*.example.com/*"));
        check(Some("X.Y.Example.Com."), "/", Some("*.example.com/*"));
        check(Some("127.0.0.1"), "/", Some("127.0.0.1/*"));
        check(Some("[::1]"), "/", Some("[::1]/*"));
        check(Some("[0:0:0::1]"), "/", Some("[::1]/*"));
        check(Some("[::2]"), "/", None);
        check(Some("xexample.com"), "/", None);
        check(Some(".example.com"), "/", None);
        check(Some("com"), "/", None);
        check(Some("example.com.evil.example"), "/", None);
        check(Some("*.example.com"), "/", Some("*.example.com/*"));
        // From the most specific host to the least specific one, until a host has a route for the path.
        check(Some("b.a.example.com"), "/b/", Some("b.a.example.com/b/*"));
        check(Some("b.a.example.com"), "/a/", Some("*.a.example.com/a/*"));
        check(Some("b.a.example.com"), "/", Some("*.example.com/*"));
        check(Some("b.a.example.com"), "/any/", Some("*.example.com/*"));
        check(Some("other.example"), "/any/x", Some("/any/*"));
        check(Some("[::2]"), "/any/x", Some("/any/*"));
        check(Some(""), "/any/x", Some("/any/*"));
        // Without a host, as in HTTP/1.0.
        check(None, "/any/x", Some("/any/*"));
        check(None, "/", None);
    }

    #[test]
    fn paths() {
        let routes = routes(&[
            ("", "/*"),
            ("", "/v1/*"),
            ("", "/v1/users/*"),
            ("", "/v1/users/me"),
            ("", "/v1"),
            ("only.example", "/"),
            ("deep.example", "/a/*"),
        ]);
        let check = |host: &str, path: &str, expected: Option<&str>| check(&routes, Some(host), path, expected);
        check("x", "/", Some("/*"));
        check("x", "", Some("/*"));
        check("x", "*", Some("/*"));
        check("x", "/v1", Some("/v1"));
        check("x", "/v1/", Some("/v1/*"));
        check("x", "/v1/x", Some("/v1/*"));
        check("x", "/v1/users", Some("/v1/*"));
        check("x", "/v1/users/", Some("/v1/users/*"));
        check("x", "/v1/users/me", Some("/v1/users/me"));
        check("x", "/v1/users/me/", Some("/v1/users/*"));
        check("x", "/v1/users/you", Some("/v1/users/*"));
        check("x", "/v12", Some("/*"));
        check("x", "/V1/", Some("/*"));
        check("x", "/%761/", Some("/*"));
        check("x", "//v1/", Some("/*"));
        check("x", "/ü/é", Some("/*"));
        // The exact path "/" does not match all paths.
        check("only.example", "/", Some("only.example/"));
        check("only.example", "", Some("only.example/"));
        check("only.example", "/x", Some("/*"));
        check("only.example", "*", Some("/*"));
        check("deep.example", "/a/é/x", Some("deep.example/a/*"));
        check("deep.example", "*", Some("/*"));
    }

    /// A client chooses the host and the path: the number of look-ups must not grow with their length.
    #[test]
    fn hostile_lengths() {
        let patterns = |n: u32| route(&format!("*.h{n}.example"), &format!("/p{n}/*"));
        let routes: Vec<Route> = (0..10_000).map(patterns).collect();
        let table = RouteTable::new(&routes);
        let host = format!("{}h9999.example", "a.".repeat(30_000));
        let path = format!("/p9999/{}", "/".repeat(60_000));
        assert_eq!(table.find(Some(&host), &path), Some(9_999));
        assert_eq!(table.find(Some(&host), &"/".repeat(60_000)), None);

        assert_eq!(suffixes(&host, table.longest_below_bytes).count(), 2);
        assert_eq!(prefixes(&path, "/p9999/".len()).count(), 2);
    }

    #[test]
    fn longest_first() {
        fn check<'a>(actual: impl Iterator<Item = &'a str>, expected: &[&str]) {
            assert_eq!(actual.collect::<Vec<_>>(), expected);
        }
        check(suffixes("a.b.c", 99), &[".b.c", ".c"]);
        check(suffixes("a.b.c", 4), &[".b.c", ".c"]);
        check(suffixes("a.b.c", 3), &[".c"]);
        check(suffixes("a.b.c", 0), &[]);
        check(suffixes(".b", 99), &[]);
        check(suffixes("", 99), &[]);
        check(prefixes("/a/b", 99), &["/a/", "/"]);
        check(prefixes("/a/b/", 99), &["/a/b/", "/a/", "/"]);
        check(prefixes("/a/b/", 3), &["/a/", "/"]);
        check(prefixes("/a", 0), &[]);
    }
}
