//! The names of routes as hosts: `NAME.daylily.internal`, at which guests send requests to other routes of their
//! server. They are never resolved.

use crate::ValueError;

/// The domain of these hosts. It, and every name below it, is reserved.
pub const DOMAIN: &str = "daylily.internal";

/// RFC 1035 §2.3.4.
const MAX_LABEL_BYTES: usize = 63;

/// Whether a host, without its port, is reserved. Case and a trailing dot are ignored.
pub fn is_reserved(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    // Most hosts are shorter.
    let Some(at) = name.len().checked_sub(DOMAIN.len()) else { return false };
    let name = name.as_bytes();
    name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(DOMAIN.as_bytes()))
        && (at == 0 || name.get(at - 1) == Some(&b'.'))
}

/// The name of the route that a reserved host stands for, in the case in which it was written.
pub fn route_of(host: &str) -> Option<&str> {
    let name = host.strip_suffix('.').unwrap_or(host);
    if !is_reserved(name) {
        return None;
    }
    name.get(..name.len().checked_sub(DOMAIN.len() + 1)?)
}

/// Checks that a route's name can be a label of a host.
pub(crate) fn check_name(name: &str) -> Result<(), ValueError> {
    let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = (1..=MAX_LABEL_BYTES).contains(&name.len())
        && name.bytes().all(is_known)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_label {
        return Ok(());
    }
    let error = ValueError::new(format!("the route {name:?} cannot be called: its name is not a label of a host"));
    Err(error.help("give the route a `name` of 1 to 63 lower-case letters, digits and `-`, such as \"users\""))
}

/// The error for a reserved host in a configuration.
pub(crate) fn reserved(text: &str) -> ValueError {
    ValueError::new(format!("the host {text:?} is reserved"))
        .help("hosts below `daylily.internal` are for requests from route to route")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_hosts() {
        #[track_caller]
        fn check(host: &str, reserved: bool, route: Option<&str>) {
            assert_eq!((is_reserved(host), route_of(host)), (reserved, route), "{host}");
        }
        check("users.daylily.internal", true, Some("users"));
        check("Users.DAYLILY.internal.", true, Some("Users"));
        check("a.b.daylily.internal", true, Some("a.b"));
        check("daylily.internal", true, None);
        check(".daylily.internal", true, Some(""));
        check("daylily.internal.example", false, None);
        check("xdaylily.internal", false, None);
        check("x.internal", false, None);
        check("é.daylily.internal", true, Some("é"));
        check("éaylily.internal", false, None);
        check("", false, None);
    }

    #[test]
    fn names() {
        for name in ["a", "users", "v2-users", "1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "Users", "a.b", "-a", "a-", "a_b", "/v1/*", "ü", &"a".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
