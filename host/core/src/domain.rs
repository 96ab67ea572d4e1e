//! Hosts in a configuration, normalized to one spelling each.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{ValueError, authority};

/// RFC 1035 §2.3.4, without the root's dot.
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A host that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Host {
    /// A domain name: lower case, no trailing dot.
    Name(String),
    Ip(IpAddr),
}

impl Host {
    /// Parses a domain name, an IPv4 address, or an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, ValueError> {
        if text.starts_with('[') {
            return match authority::parse_bracketed(text) {
                Some(ip) => Ok(Self::Ip(ip.into())),
                None => Err(ValueError::new(format!("invalid IPv6 address {text:?}"))),
            };
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        let name = parse_name(text)?;
        // Resolvers read `127.1`, `0x7f.1` and `2130706433` as IPv4 addresses. The WHATWG URL standard's rule for a
        // host that ends in a number rejects all of them.
        if name.rsplit('.').next().is_some_and(is_number) {
            return Err(ValueError::new(format!("invalid IPv4 address {text:?}"))
                .help("write four decimal numbers, such as \"127.0.0.1\""));
        }
        Ok(Self::Name(name))
    }
}

/// Parses a domain name into lower case and without its trailing dot.
fn parse_name(text: &str) -> Result<String, ValueError> {
    let refused = |help: &str| ValueError::new(format!("invalid host name {text:?}")).help(help);
    if !text.is_ascii() {
        return Err(refused("write an international name in its ASCII form, \"xn--…\""));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() || name.split('.').any(str::is_empty) {
        return Err(refused("a name and its labels must not be empty"));
    }
    if name.contains('*') {
        return Err(refused("`*` can only be the whole first label, as in \"*.example.com\""));
    }
    if name.contains('/') {
        return Err(refused("write the host alone, without scheme and path"));
    }
    match name.bytes().filter(|byte| *byte == b':').count() {
        0 => {}
        1 => return Err(refused("write the host without a port")),
        _ => return Err(refused("an IPv6 address goes in brackets")),
    }
    if !name.bytes().all(|byte| is_name_byte(byte) || byte == b'.') {
        return Err(refused("letters, digits, `-`, `_` and `.` are allowed"));
    }
    if name.len() > MAX_NAME_BYTES || name.split('.').any(|label| label.len() > MAX_LABEL_BYTES) {
        return Err(refused("a name has at most 253 characters, a label at most 63"));
    }
    Ok(name.to_ascii_lowercase())
}

pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        fn check(text: &str, expected: Result<&str, &str>) {
            let actual = match Host::parse(text) {
                Ok(Host::Name(name)) => Ok(format!("name {name}")),
                Ok(Host::Ip(ip)) => Ok(format!("ip {ip}")),
                Err(error) => Err(error.to_string()),
            };
            match (&actual, expected) {
                (Err(actual), Err(expected)) => {
                    assert!(actual.contains(expected), "{text}: {actual}")
                }
                _ => assert_eq!(actual.as_deref().map_err(String::as_str), expected, "{text}"),
            }
        }
        check("Example.COM", Ok("name example.com"));
        check("example.com.", Ok("name example.com"));
        check("localhost", Ok("name localhost"));
        check("a_b-c.d1", Ok("name a_b-c.d1"));
        check("3com.example", Ok("name 3com.example"));
        check("127.0.0.1", Ok("ip 127.0.0.1"));
        check("[::1]", Ok("ip ::1"));
        check("[0:0::0001]", Ok("ip ::1"));
        check("[::ffff:1.2.3.4]", Ok("ip ::ffff:1.2.3.4"));

        check("", Err("must not be empty"));
        check(".", Err("must not be empty"));
        check("a..b", Err("must not be empty"));
        check("a.b..", Err("must not be empty"));
        check("*", Err("whole first label"));
        check("a.*.b", Err("whole first label"));
        check("::1", Err("brackets"));
        check("a:80", Err("without a port"));
        check("a/b", Err("without scheme and path"));
        check("http://a", Err("without scheme and path"));
        check("a b", Err("letters, digits"));
        check("bücher.example", Err("xn--"));
        check("127.1", Err("four decimal numbers"));
        check("2130706433", Err("four decimal numbers"));
        check("0x7f.1", Err("four decimal numbers"));
        check("127.0.0.0x1", Err("four decimal numbers"));
        check("127.0.0.256", Err("four decimal numbers"));
        check("127.0.0.1.", Err("four decimal numbers"));
        check("0x", Err("four decimal numbers"));
        check("[::1", Err("invalid IPv6"));
        check("[127.0.0.1]", Err("invalid IPv6"));
        check(&"a".repeat(63), Ok(&format!("name {}", "a".repeat(63))));
        check(&"a".repeat(64), Err("at most 63"));
        check(&"a.".repeat(127), Ok(&format!("name {}a", "a.".repeat(126))));
        check(&"a.".repeat(128), Err("at most 253"));
    }
}
