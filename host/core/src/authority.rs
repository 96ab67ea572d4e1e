//! Parses the `host[:port]` of a request: its `Host` field, or the authority of its target.
//!
//! RFC 9112 §3.2 requires a server to answer 400 to any invalid `Host`, because everything that uses the value (routes,
//! caches, the guest's own links) trusts it.

use std::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// A valid authority, without user information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host as written: a name, an IPv4 address, or an IPv6 address in its brackets. Not empty.
    pub host: &'a str,
    /// The port, if there is one.
    pub port: Option<u16>,
}

/// What is wrong with an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AuthorityError {
    /// No host, or an empty authority.
    #[error("the host is empty")]
    EmptyHost,
    /// `user@host`: RFC 9110 §4.2.4 calls for treating it as an error, since it is often used to disguise the host.
    #[error("the authority has user information")]
    UserInformation,
    /// The part in brackets is not an IPv6 address, or has no closing bracket.
    #[error("the host is not a valid IPv6 address")]
    InvalidIpv6,
    /// `%` that is not followed by two hexadecimal digits.
    #[error("the host has an invalid percent-encoding")]
    InvalidPercentEncoding,
    /// A byte that is not allowed in a host.
    #[error("the host has an invalid character")]
    InvalidCharacter,
    /// Other characters than digits, or a number over 65535.
    #[error("the port is invalid")]
    InvalidPort,
}

/// Parses `host`, `host:port` or `host:` (RFC 3986 §3.2.2 and §3.2.3).
///
/// Stricter than the grammar in two points. A comma, which the grammar allows in a name, is rejected, because two
/// `Host` fields look like that once an intermediary has joined them. And of the literals in brackets, only IPv6
/// addresses are accepted.
///
/// # Errors If it is not valid; the error says which part.
pub fn parse(text: &str) -> Result<Authority<'_>, AuthorityError> {
    if text.contains('@') {
        return Err(AuthorityError::UserInformation);
    }
    let (host, port) = if text.starts_with('[') { split_ipv6(text)? } else { split_name(text)? };
    Ok(Authority { host, port: port.map(parse_port).transpose()?.flatten() })
}

/// Whether a host, as in [`Authority::host`], is `localhost` or a loopback address.
pub fn is_loopback(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
    }
}

fn split_ipv6(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    let end = text.find(']').ok_or(AuthorityError::InvalidIpv6)?;
    let (host, rest) = text.split_at_checked(end + 1).ok_or(AuthorityError::InvalidIpv6)?;
    parse_bracketed(host).ok_or(AuthorityError::InvalidIpv6)?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(AuthorityError::InvalidCharacter),
    }
}

fn split_name(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if host.is_empty() {
        return Err(AuthorityError::EmptyHost);
    }
    let mut bytes = host.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut is_hex = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
            if !(is_hex() && is_hex()) {
                return Err(AuthorityError::InvalidPercentEncoding);
            }
        } else if !is_name_byte(byte) {
            return Err(AuthorityError::InvalidCharacter);
        }
    }
    Ok((host, port))
}

/// An IPv6 address in its brackets.
pub(crate) fn parse_bracketed(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// `unreserved` and `sub-delims` of RFC 3986, except the comma.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}

/// RFC 3986 §3.2.3 has `port = *DIGIT`, so the port may be empty, which is the same as no port.
fn parse_port(text: &str) -> Result<Option<u16>, AuthorityError> {
    if text.is_empty() {
        return Ok(None);
    }
    // `u16::from_str` would also accept a leading `+`.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::InvalidPort);
    }
    text.parse().map(Some).map_err(|_| AuthorityError::InvalidPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, Option<u16>), AuthorityError>) {
        let actual = parse(text).map(|authority| (authority.host, authority.port));
        assert_eq!(actual, expected, "{text:?}");
    }

    #[test]
    fn names() {
        check("example.com", Ok(("example.com", None)));
        check("Example.COM:80", Ok(("Example.COM", Some(80))));
        check("example.com.", Ok(("example.com.", None)));
        check("localhost:3000", Ok(("localhost", Some(3000))));
        check("a_b.example", Ok(("a_b.example", None)));
        check("xn--bcher-kva.example", Ok(("xn--bcher-kva.example", None)));
        check("a!$&'()*+;=~-b", Ok(("a!$&'()*+;=~-b", None)));
        check("127.0.0.1:8080", Ok(("127.0.0.1", Some(8080))));
        check("1.2.3", Ok(("1.2.3", None)));
        check("ex%41mple", Ok(("ex%41mple", None)));
        check("%2f%2F", Ok(("%2f%2F", None)));

        check("", Err(AuthorityError::EmptyHost));
        check(":80", Err(AuthorityError::EmptyHost));
        check("a%4", Err(AuthorityError::InvalidPercentEncoding));
        check("a%", Err(AuthorityError::InvalidPercentEncoding));
        check("a%4g", Err(AuthorityError::InvalidPercentEncoding));
        check("a%%41", Err(AuthorityError::InvalidPercentEncoding));
        check("user@example.com", Err(AuthorityError::UserInformation));
        check("user:secret@example.com:80", Err(AuthorityError::UserInformation));
        check("@", Err(AuthorityError::UserInformation));
        check("@[::1]", Err(AuthorityError::UserInformation));
        for bad in [" a", "a ", "a b", "a\tb", "a,b", "a, b", "a/b", "a?b", "a#b", "a\\b", "a\"b", "a<b"] {
            check(bad, Err(AuthorityError::InvalidCharacter));
        }
        for bad in ["http://a", "a]", "a[", "a\0", "a\r\nb", "bücher.example", "a^b", "a|b", "{a}", "a`b"] {
            let expected =
                if bad.starts_with("http:") { AuthorityError::InvalidPort } else { AuthorityError::InvalidCharacter };
            check(bad, Err(expected));
        }
    }

    #[test]
    fn ports() {
        check("a:", Ok(("a", None)));
        check("a:0", Ok(("a", Some(0))));
        check("a:00080", Ok(("a", Some(80))));
        check("a:65535", Ok(("a", Some(65535))));
        for bad in ["a:65536", "a:+80", "a:-1", "a:8 0", "a: 80", "a:80 ", "a:x", "a:80:80", "a::", "a:80/", "::1"] {
            let expected = if bad == "::1" { AuthorityError::EmptyHost } else { AuthorityError::InvalidPort };
            check(bad, Err(expected));
        }
    }

    #[test]
    fn ipv6() {
        check("[::1]", Ok(("[::1]", None)));
        check("[::1]:80", Ok(("[::1]", Some(80))));
        check("[::1]:", Ok(("[::1]", None)));
        check("[2001:DB8::A]", Ok(("[2001:DB8::A]", None)));
        check("[::ffff:127.0.0.1]:1", Ok(("[::ffff:127.0.0.1]", Some(1))));

        for bad in ["[::1", "[", "[]", "[]:80", "[::g]", "[127.0.0.1]", "[fe80::1%25eth0]", "[v1.a]", "[ ::1]"] {
            check(bad, Err(AuthorityError::InvalidIpv6));
        }
        check("[::1]80", Err(AuthorityError::InvalidCharacter));
        check("[::1]]", Err(AuthorityError::InvalidCharacter));
        check("[::1]:65536", Err(AuthorityError::InvalidPort));
    }
}
