//! Differential tests of the parsers of authorities, origins, sizes, durations and patterns against other
//! implementations of the same rules.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use daylily_core::allow_http::{AllowHttp, Origin, Scheme};
use daylily_core::authority;
use daylily_core::route::{HostPattern, PathPattern};
use daylily_core::units::{format_duration, format_size, parse_duration, parse_size};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    authority(text);
    size(text);
    duration(text);
    origin(text);
    // A pattern is equal to its own text.
    if let Ok(pattern) = text.parse::<HostPattern>() {
        assert_eq!(pattern.to_string().parse(), Ok(pattern), "{text:?}");
    }
    if let Ok(pattern) = text.parse::<PathPattern>() {
        assert_eq!(pattern.to_string(), text);
    }
}

/// RFC 3986 §3.2.2 and §3.2.3, parsed from the end of the text: the port follows the last colon outside of brackets.
fn authority(text: &str) {
    let expected = (|| {
        let (host, port) = match text.rfind(':') {
            Some(at) if !text[at..].contains(']') => (&text[..at], &text[at + 1..]),
            _ => (text, ""),
        };
        let port = match port.trim_start_matches('0') {
            "" if port.is_empty() => None,
            digits if digits.len() <= 5 && port.chars().all(|char| char.is_ascii_digit()) => {
                let value = digits.chars().fold(0, |value, char| value * 10 + char.to_digit(10).unwrap_or(0));
                Some(u16::try_from(value).ok()?)
            }
            _ => return None,
        };
        let is_valid = if let Some(inner) = host.strip_prefix('[') {
            inner.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok()
        } else {
            let decoded = host.split('%').enumerate().all(|(part, text)| {
                let skip = if part == 0 { 0 } else { 2 };
                let hex = text.as_bytes().get(..skip).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
                hex && text.bytes().skip(skip).all(|byte| {
                    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~')
                        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
                })
            });
            !host.is_empty() && decoded
        };
        is_valid.then_some((host, port))
    })();
    let actual = authority::parse(text).ok().map(|authority| (authority.host, authority.port));
    assert_eq!(actual, expected, "{text:?}");
}

fn size(text: &str) {
    let units = [
        ("", 1),
        ("kB", 1000),
        ("MB", 1000 * 1000),
        ("GB", 1000 * 1000 * 1000),
        ("TB", 1000_u128.pow(4)),
        ("KiB", 1024),
        ("MiB", 1024 * 1024),
        ("GiB", 1024 * 1024 * 1024),
        ("TiB", 1024_u128.pow(4)),
    ];
    let expected = quantity(text, &units).and_then(|bytes| u64::try_from(bytes).ok());
    assert_eq!(parse_size(text).ok(), expected, "{text:?}");
    if let Some(bytes) = expected {
        assert_eq!(parse_size(&format_size(bytes)).ok(), Some(bytes), "{text:?}");
    }
}

fn duration(text: &str) {
    let expected = quantity(text, &[("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000)]);
    let expected = expected.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    assert_eq!(parse_duration(text).ok(), expected, "{text:?}");
    if let Some(duration) = expected {
        assert_eq!(parse_duration(&format_duration(duration)).ok(), Some(duration), "{text:?}");
    }
}

/// A number that fits in `u64`, and a unit.
fn quantity(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    units.iter().find_map(|(unit, factor)| {
        let digits = text.strip_suffix(unit)?;
        let is_number = !digits.is_empty() && digits.chars().all(|char| char.is_ascii_digit());
        let number = is_number.then(|| digits.parse::<u64>().ok()).flatten()?;
        Some(u128::from(number) * factor)
    })
}

/// An entry of `allow_http` keeps its meaning when it is printed and parsed, and it allows what it names.
fn origin(text: &str) {
    let Ok(origin) = text.parse::<Origin>() else { return };
    let written = origin.to_string();
    assert_eq!(written.parse::<Origin>().as_ref(), Ok(&origin), "{text:?} is written {written:?}");
    let (scheme, rest) = match written.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => panic!("{text:?} is written {written:?}"),
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (rest, Some(scheme.default_port())),
    };
    let list = AllowHttp::new(vec![origin]);
    let is_below = host.starts_with("*.");
    let named = host.replacen('*', "a", 1);
    let other = if scheme == Scheme::Http { Scheme::Https } else { Scheme::Http };
    let at = port.unwrap_or(12_345);
    let permit = list.find(scheme, &named, at).unwrap_or_else(|| panic!("{text:?} does not allow itself"));
    assert!(list.find(other, &named, at).is_none(), "{text:?} allows another scheme");
    assert_eq!(list.find(scheme, &named, at ^ 1).is_some(), port.is_none(), "{text:?} and another port");
    assert!(list.find(scheme, "elsewhere.invalid", at).is_none() || is_below, "{text:?} allows another host");
    // No name but `localhost` permits a connection to the machine itself.
    let ip = named.trim_matches(['[', ']']);
    let is_ip = ip.parse::<Ipv4Addr>().is_ok() || ip.parse::<Ipv6Addr>().is_ok();
    assert!(is_ip || named == "localhost" || !permit.allows_address(Ipv4Addr::LOCALHOST.into()), "{text:?}");
    assert!(!permit.allows_address(Ipv4Addr::new(169, 254, 169, 254).into()) || ip == "169.254.169.254", "{text:?}");
}
