use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ValueError;
use crate::domain::Host;
use crate::internal;

/// The schemes of outgoing requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// `http`, with default port 80.
    Http,
    /// `https`, with default port 443.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of a URL that has none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// One entry of `allow_http`: `[scheme://]host[:port]`.
///
/// The default scheme is `https`; the default port is the scheme's; the port `*` is any port; the host `*.example.org`
/// is every name below `example.org`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub(super) host: OriginHost,
    scheme: Scheme,
    /// `None` means any port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum OriginHost {
    Name(String),
    Ip(IpAddr),
    /// Every name that ends in this suffix, which starts with a dot.
    Below(String),
}

impl Origin {
    pub(super) fn covers(&self, scheme: Scheme, port: u16) -> bool {
        self.scheme == scheme && self.port.is_none_or(|own| own == port)
    }
}

impl FromStr for Origin {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (scheme, rest) = split_scheme(text)?;
        if rest.contains(['/', '?', '#']) {
            return Err(refused(text).help("an origin must not have a path"));
        }
        if rest.contains('@') {
            return Err(refused(text).help("an origin must not have a user name or password"));
        }
        if !rest.contains('[') && rest.matches(':').count() > 1 {
            return Err(refused(text).help("an IPv6 address goes in brackets, as in \"http://[::1]:80\""));
        }
        let (host, port) = split_port(rest);
        let port = match port {
            None => Some(scheme.default_port()),
            Some("*") => None,
            Some(digits) => Some(
                parse_port(digits)
                    .ok_or_else(|| refused(text).help("a port is a number from 1 to 65535, or `*` for any"))?,
            ),
        };
        Ok(Self { host: parse_host(text, host)?, scheme, port })
    }
}

fn refused(text: &str) -> ValueError {
    ValueError::new(format!("invalid origin {text:?}"))
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), ValueError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok((Scheme::Https, text));
    };
    for known in [Scheme::Http, Scheme::Https] {
        if scheme.eq_ignore_ascii_case(known.as_str()) {
            return Ok((known, rest));
        }
    }
    Err(refused(text).help("the scheme is `http` or `https`"))
}

/// Splits at the colon before the port, which is not one inside brackets.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port != 0)
}

fn parse_host(text: &str, host: &str) -> Result<OriginHost, ValueError> {
    if internal::is_reserved(host) {
        return Err(refused(text).help("write \"route:NAME\" for the route that is named NAME"));
    }
    if host == "*" {
        return Err(refused(text).help("list each host; a wildcard needs a domain, as in \"*.example.org\""));
    }
    let with_place = |error: ValueError| {
        let (message, help) = error.into_parts();
        let error = ValueError::new(format!("invalid origin {text:?}"));
        error.help(help.map_or(message.clone(), |help| format!("{message}: {help}")))
    };
    match host.strip_prefix("*.") {
        None => match Host::parse(host).map_err(with_place)? {
            Host::Name(name) => Ok(OriginHost::Name(name)),
            Host::Ip(ip) => Ok(OriginHost::Ip(ip)),
        },
        Some(parent) => match Host::parse(parent).map_err(with_place)? {
            Host::Name(name) => Ok(OriginHost::Below(format!(".{name}"))),
            Host::Ip(_) => Err(refused(text).help("a wildcard cannot be used with an IP address")),
        },
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        match &self.host {
            OriginHost::Name(name) => f.write_str(name)?,
            OriginHost::Ip(IpAddr::V4(ip)) => write!(f, "{ip}")?,
            OriginHost::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            OriginHost::Below(suffix) => write!(f, "*{suffix}")?,
        }
        match self.port {
            None => f.write_str(":*"),
            Some(port) if port == self.scheme.default_port() => Ok(()),
            Some(port) => write!(f, ":{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        fn check(text: &str, expected: Result<&str, &str>) {
            let actual = text.parse::<Origin>().map(|origin| origin.to_string()).map_err(|error| error.to_string());
            match (&actual, expected) {
                (Err(actual), Err(expected)) => {
                    assert!(actual.contains(expected), "{text}: {actual}")
                }
                _ => assert_eq!(actual.as_deref().map_err(String::as_str), expected, "{text}"),
            }
        }
        check("https://api.example.com", Ok("https://api.example.com"));
        check("api.example.com", Ok("https://api.example.com"));
        check("HTTPS://API.Example.COM.", Ok("https://api.example.com"));
        check("https://api.example.com:443", Ok("https://api.example.com"));
        check("http://api.example.com:443", Ok("http://api.example.com:443"));
        check("http://127.0.0.1:9000", Ok("http://127.0.0.1:9000"));
        check("http://localhost:*", Ok("http://localhost:*"));
        check("localhost:8443", Ok("https://localhost:8443"));
        check("*.example.org", Ok("https://*.example.org"));
        check("http://*.Example.org.:*", Ok("http://*.example.org:*"));
        check("http://[::1]", Ok("http://[::1]"));
        check("[0:0::1]:8443", Ok("https://[::1]:8443"));
        check("https://[::1]:*", Ok("https://[::1]:*"));

        check("", Err("must not be empty"));
        check("https://", Err("must not be empty"));
        check("*", Err("list each host"));
        check("https://*", Err("list each host"));
        check("http://*:80", Err("list each host"));
        check("*.", Err("must not be empty"));
        check("*.*.example.org", Err("whole first label"));
        check("api.*.example.org", Err("whole first label"));
        check("*example.org", Err("whole first label"));
        check("*.10.0.0.1", Err("cannot be used with an IP address"));
        check("*.[::1]", Err("cannot be used with an IP address"));
        check("ftp://example.org", Err("`http` or `https`"));
        check("://example.org", Err("`http` or `https`"));
        check("https://example.org/", Err("must not have a path"));
        check("https://example.org/v1", Err("must not have a path"));
        check("https://example.org?q", Err("must not have a path"));
        check("https://user@example.org", Err("must not have a user name"));
        check("example.org:", Err("from 1 to 65535"));
        check("example.org:0", Err("from 1 to 65535"));
        check("example.org:65536", Err("from 1 to 65535"));
        check("example.org:+80", Err("from 1 to 65535"));
        check("example.org:http", Err("from 1 to 65535"));
        check("::1", Err("brackets"));
        check("*.::1", Err("brackets"));
        check("https://2001:db8::1", Err("brackets"));
        check("http://[::1", Err("invalid origin"));
        check("http://127.1:80", Err("four decimal numbers"));
        check("http://exa mple.org", Err("letters, digits"));
        check("bücher.example", Err("xn--"));
        check("http://users.daylily.internal", Err("route:NAME"));
        check("http://*.daylily.internal", Err("route:NAME"));
        check("http://*.internal", Ok("http://*.internal"));
    }
}
