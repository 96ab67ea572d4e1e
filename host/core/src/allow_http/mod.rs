//! Which outgoing HTTP requests a route may send: only those that its configuration lists.
//!
//! A request is checked twice. First by name ([`AllowHttp::find`]): scheme, host and port must match an entry. Then by
//! address ([`Permit::allows_address`]), for **every** address that the name resolves to, because the owner of a name
//! can point it at this machine's own network ("server-side request forgery", "DNS rebinding").

mod address;
mod origin;
mod route;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

pub use origin::{Origin, Scheme};
pub use route::{Entry, RouteGrant};

use crate::{authority, domain, internal};
use origin::OriginHost;

/// The origins and the other routes that a route may send requests to. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowHttp {
    origins: Vec<Origin>,
    routes: Vec<RouteGrant>,
}

impl AllowHttp {
    /// Allows these origins and no others.
    pub fn new(origins: Vec<Origin>) -> Self {
        Self { origins, routes: Vec::new() }
    }

    /// Allows one more origin or route.
    pub(crate) fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Origin(origin) => self.origins.push(origin),
            Entry::Route(route) => self.routes.push(route),
        }
    }

    /// The routes that may be called.
    pub fn routes(&self) -> &[RouteGrant] {
        &self.routes
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty() && self.routes.is_empty()
    }

    /// Checks a request by name. Returns the permit to check its addresses with, or `None` if no entry matches.
    ///
    /// `host` is compared without case and trailing dot; an IPv6 address may have its brackets. `port` is the port to
    /// connect to: the scheme's default if the request has none. No entry matches a [reserved](internal) host.
    pub fn find(&self, scheme: Scheme, host: &str, port: u16) -> Option<Permit> {
        if internal::is_reserved(host) {
            return None;
        }
        let host = RequestHost::parse(host)?;
        let mut matched = false;
        let mut permit = Permit { loopback: false, addresses: Vec::new() };
        for origin in self.origins.iter().filter(|origin| origin.covers(scheme, port)) {
            match &origin.host {
                OriginHost::Ip(ip) => {
                    matched |= host == RequestHost::Ip(*ip);
                    // Also applies to names of other entries, because the address itself is listed.
                    permit.addresses.push(*ip);
                }
                OriginHost::Name(name) if host.is_name(name) => {
                    matched = true;
                    permit.loopback |= name == "localhost";
                }
                OriginHost::Below(suffix) => matched |= host.is_below(suffix),
                OriginHost::Name(_) => {}
            }
        }
        matched.then_some(permit)
    }
}

/// A request whose name is allowed. Its addresses must be checked, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    loopback: bool,
    addresses: Vec<IpAddr>,
}

impl Permit {
    /// Whether the request may connect to `ip`, one of the addresses that its host resolved to.
    ///
    /// Public addresses are allowed. Other addresses only if the list contains the address itself (for this scheme and
    /// port), or if it is a loopback address and the request's host is `localhost`.
    pub fn allows_address(&self, ip: IpAddr) -> bool {
        address::is_public(ip) || (self.loopback && ip.is_loopback()) || self.addresses.contains(&ip)
    }
}

/// The host of an outgoing request. Names are compared without a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestHost<'a> {
    Ip(IpAddr),
    Name(&'a str),
}

impl<'a> RequestHost<'a> {
    fn parse(host: &'a str) -> Option<Self> {
        if let Some(ip) = authority::parse_bracketed(host) {
            return Some(Self::Ip(ip.into()));
        }
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return Some(Self::Ip(ip.into()));
        }
        if let Ok(ip) = host.parse::<Ipv6Addr>() {
            return Some(Self::Ip(ip.into()));
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        // An invalid domain name (with an empty label or percent-encoding) is never given to a resolver.
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(domain::is_name_byte);
        name.split('.').all(is_label).then_some(Self::Name(name))
    }

    fn is_name(self, listed: &str) -> bool {
        matches!(self, Self::Name(name) if name.eq_ignore_ascii_case(listed))
    }

    /// Whether the name is one or more labels followed by `suffix`, which starts with a dot.
    fn is_below(self, suffix: &str) -> bool {
        let Self::Name(name) = self else { return false };
        let split = name.len().checked_sub(suffix.len()).and_then(|at| name.split_at_checked(at));
        split.is_some_and(|(labels, end)| !labels.is_empty() && end.eq_ignore_ascii_case(suffix))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

    use super::*;
    use Scheme::{Http, Https};

    fn list(entries: &[&str]) -> AllowHttp {
        AllowHttp::new(entries.iter().map(|entry| entry.parse().unwrap()).collect())
    }

    #[test]
    fn by_name() {
        let list = list(&[
            "https://api.example.com",
            "http://127.0.0.1:9000",
            "http://localhost:*",
            "*.example.org",
            "http://*.internal.example:8080",
            "https://[2001:DB8::1]",
            "Shop.Example.NET.",
            "http://*.internal:*",
        ]);
        let check = |expected: bool, scheme: Scheme, host: &str, port: u16| {
            let actual = list.find(scheme, host, port).is_some();
            assert_eq!(actual, expected, "{}://{host}:{port}", scheme.as_str());
        };
        // Exact names: compared without case and trailing dot.
        check(true, Https, "api.example.com", 443);
        check(true, Https, "API.Example.com.", 443);
        check(true, Https, "shop.example.net", 443);
        check(false, Https, "api.example.com..", 443);
        check(false, Https, "api.example.com", 8443);
        check(false, Http, "api.example.com", 80);
        check(false, Http, "api.example.com", 443);
        check(false, Https, "example.com", 443);
        check(false, Https, "a.api.example.com", 443);
        check(false, Https, "api.example.com.evil.example", 443);
        check(false, Https, "evilapi.example.com", 443);
        check(false, Https, "api.example.co", 443);
        check(false, Https, "", 443);
        check(false, Https, ".", 443);
        // Wildcards match one or more labels, but not the domain itself.
        check(true, Https, "a.example.org", 443);
        check(true, Https, "a.b.example.org", 443);
        check(true, Https, "A.EXAMPLE.ORG.", 443);
        check(false, Https, "example.org", 443);
        check(false, Https, ".example.org", 443);
        check(false, Https, "a..example.org", 443);
        check(false, Https, "aexample.org", 443);
        check(false, Https, "a.example.org.evil.example", 443);
        check(false, Https, "a.example.org", 80);
        check(false, Https, "a%2eexample.org", 443);
        check(false, Https, "a/b.example.org", 443);
        check(false, Https, "evil.example\0.example.org", 443);
        check(false, Https, "ü.example.org", 443);
        check(true, Http, "x.internal.example", 8080);
        check(false, Http, "x.internal.example", 80);
        // A reserved host is matched by nothing.
        check(true, Http, "x.internal", 80);
        check(false, Http, "x.daylily.internal", 80);
        check(false, Http, "X.Daylily.Internal.", 80);
        // Ports.
        check(true, Http, "localhost", 80);
        check(true, Http, "localhost", 65535);
        check(false, Https, "localhost", 443);
        check(false, Http, "a.localhost", 80);
        // Addresses are compared like names.
        check(true, Http, "127.0.0.1", 9000);
        check(false, Http, "127.0.0.1", 9001);
        check(false, Http, "127.0.0.2", 9000);
        check(false, Http, "127.1", 9000);
        check(false, Http, "2130706433", 9000);
        check(false, Http, "[::ffff:127.0.0.1]", 9000);
        check(true, Https, "[2001:db8::1]", 443);
        check(true, Https, "[2001:db8:0:0::1]", 443);
        check(true, Https, "2001:db8::1", 443);
        check(false, Https, "[2001:db8::2]", 443);
        check(false, Https, "[2001:db8::1", 443);
    }

    #[test]
    fn by_address() {
        fn check(entries: &[&str], request: (Scheme, &str, u16), ip: &str, expected: bool) {
            let permit = list(entries).find(request.0, request.1, request.2).unwrap();
            assert_eq!(permit.allows_address(ip.parse().unwrap()), expected, "{entries:?} {request:?} {ip}");
        }
        // A listed name may only resolve to public addresses.
        let api = (Https, "api.example.com", 443);
        check(&["api.example.com"], api, "93.184.216.34", true);
        check(&["api.example.com"], api, "2606:2800:220:1::1", true);
        check(&["api.example.com"], api, "127.0.0.1", false);
        check(&["api.example.com"], api, "169.254.169.254", false);
        check(&["api.example.com"], api, "::1", false);
        // Another entry for `localhost` does not change that.
        check(&["api.example.com", "https://localhost"], api, "127.0.0.1", false);
        // An entry for the address does, if scheme and port are the same.
        check(&["api.example.com", "https://10.0.0.7"], api, "10.0.0.7", true);
        check(&["api.example.com", "https://10.0.0.7:*"], api, "10.0.0.7", true);
        check(&["api.example.com", "https://10.0.0.7"], api, "10.0.0.8", false);
        check(&["api.example.com", "http://10.0.0.7"], api, "10.0.0.7", false);
        check(&["api.example.com", "https://10.0.0.7:8443"], api, "10.0.0.7", false);
        // `localhost` allows loopback addresses, and no other non-public ones.
        let localhost = (Http, "localhost", 9000);
        check(&["http://localhost:9000"], localhost, "127.0.0.1", true);
        check(&["http://localhost:9000"], localhost, "127.8.9.10", true);
        check(&["http://localhost:9000"], localhost, "::1", true);
        check(&["http://localhost:9000"], localhost, "::ffff:127.0.0.1", false);
        check(&["http://localhost:9000"], localhost, "10.0.0.1", false);
        check(&["http://localhost:9000"], localhost, "0.0.0.0", false);
        // A name below `localhost` is treated like any other name.
        check(&["http://*.localhost:9000"], (Http, "a.localhost", 9000), "127.0.0.1", false);
        // An entry for an address allows exactly that address.
        let address = (Http, "127.0.0.1", 9000);
        check(&["http://127.0.0.1:9000"], address, "127.0.0.1", true);
        check(&["http://127.0.0.1:9000"], address, "127.0.0.2", false);
        check(&["http://127.0.0.1:9000"], address, "::1", false);
        check(&["http://127.0.0.1:9000"], address, "::ffff:127.0.0.1", false);
        check(&["http://[::1]:9000"], (Http, "[::1]", 9000), "::1", true);
        check(&["http://[::ffff:127.0.0.1]:9000"], (Http, "[::ffff:127.0.0.1]", 9000), "::ffff:127.0.0.1", true);
        check(&["http://[::ffff:127.0.0.1]:9000"], (Http, "[::ffff:127.0.0.1]", 9000), "127.0.0.1", false);
    }

    #[test]
    fn nothing_by_default() {
        let none = AllowHttp::default();
        assert!(none.is_empty());
        assert_eq!(none.find(Https, "example.com", 443), None);
        assert!(!list(&["example.com"]).is_empty());
    }
}
