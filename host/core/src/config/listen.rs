use std::fmt;
use std::str::FromStr;

use crate::domain::Host;
use crate::{ValueError, authority};

/// Where to listen: a host and a port. Whether the host resolves is for whoever binds it to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddr(String);

impl ListenAddr {
    /// `host:port`, with an IPv6 address in brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ListenAddr {
    /// `127.0.0.1:3000`, which only this machine can reach.
    fn default() -> Self {
        Self("127.0.0.1:3000".to_owned())
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ListenAddr {
    type Err = ValueError;

    /// Parses `host:port`; port 0 is one that the system chooses.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |help: String| ValueError::new(format!("invalid listen address {text:?}")).help(help);
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused(format!("write host and port, such as \"127.0.0.1:{text}\"")));
        }
        if text.contains('/') {
            return Err(refused("it has no scheme and no path, as in \"127.0.0.1:3000\"".to_owned()));
        }
        if !text.starts_with('[') && text.matches(':').count() > 1 {
            return Err(refused("an IPv6 address goes in brackets, as in \"[::1]:3000\"".to_owned()));
        }
        if let Some(port) = text.strip_prefix(':') {
            return Err(refused(format!("write \"0.0.0.0:{port}\" for every address of this machine")));
        }
        let parsed = authority::parse(text).map_err(|error| refused(error.to_string()))?;
        Host::parse(parsed.host).map_err(|error| refused(error.to_string()))?;
        match parsed.port {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(refused("write host and port, such as \"127.0.0.1:3000\"".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        fn check(text: &str, expected: Result<&str, &str>) {
            let actual = text.parse::<ListenAddr>().map(|addr| addr.to_string()).map_err(|error| error.to_string());
            match (&actual, expected) {
                (Err(actual), Err(expected)) => {
                    assert!(actual.contains(expected), "{text}: {actual}")
                }
                _ => assert_eq!(actual.as_deref().map_err(String::as_str), expected, "{text}"),
            }
        }
        check("127.0.0.1:3000", Ok("127.0.0.1:3000"));
        check("0.0.0.0:0", Ok("0.0.0.0:0"));
        check("[::]:80", Ok("[::]:80"));
        check("localhost:65535", Ok("localhost:65535"));
        check("", Err("the host is empty"));
        check("3000", Err("\"127.0.0.1:3000\""));
        check(":3000", Err("\"0.0.0.0:3000\""));
        check("localhost", Err("write host and port"));
        check("localhost:", Err("write host and port"));
        check("[::1]", Err("write host and port"));
        check("::1:3000", Err("brackets"));
        check("localhost:65536", Err("the port is invalid"));
        check("http://localhost:80", Err("no scheme"));
        check("localhost:80/", Err("no scheme"));
        check("a b:80", Err("invalid character"));
        check("127.1:80", Err("four decimal numbers"));
        check("user@localhost:80", Err("user information"));
    }

    #[test]
    fn default_is_valid() {
        assert_eq!(ListenAddr::default().as_str().parse(), Ok(ListenAddr::default()));
    }
}
