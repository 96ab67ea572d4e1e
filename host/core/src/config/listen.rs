use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::Host;
use crate::{ValueError, authority};

/// An address to listen on, or sockets from systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listen {
    /// A socket that daylily opens.
    Address(ListenAddr),
    /// The sockets that systemd passed: those with this `FileDescriptorName=`, or all of them.
    Systemd(Option<String>),
}

/// The limit of systemd (`fdname_is_valid`), which would also allow an empty name.
const MAX_NAME_BYTES: usize = 255;

impl fmt::Display for Listen {
    /// As written in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(addr) => addr.fmt(f),
            Self::Systemd(None) => f.write_str("systemd"),
            Self::Systemd(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

impl FromStr for Listen {
    type Err = ValueError;

    /// Parses `host:port`, `systemd` or `systemd:NAME`. A host named `systemd` cannot be configured.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "systemd" {
            return Ok(Self::Systemd(None));
        }
        let Some(name) = text.strip_prefix("systemd:") else {
            return text.parse().map(Self::Address);
        };
        let refused = |help: &str| Err(ValueError::new(format!("invalid systemd socket {text:?}")).help(help));
        if name.is_empty() {
            return refused("write \"systemd\" for every socket that systemd passes, or a name after the `:`");
        }
        if name.len() > MAX_NAME_BYTES {
            return refused("a socket's name has at most 255 characters");
        }
        if !name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':') {
            return refused("a socket's name is printable ASCII without `:`, as in FileDescriptorName=");
        }
        Ok(Self::Systemd(Some(name.to_owned())))
    }
}

/// A host and a port to listen on. The host is not resolved here, but when the address is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Parses `host:port`; port 0 lets the system choose one.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |help: String| ValueError::new(format!("invalid listen address {text:?}")).help(help);
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused(format!("write host and port, such as \"127.0.0.1:{text}\"")));
        }
        if text.contains('/') {
            return Err(refused("write host and port without scheme and path, such as \"127.0.0.1:3000\"".to_owned()));
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

    fn check_as<T: FromStr<Err = ValueError> + fmt::Display>(text: &str, expected: Result<&str, &str>) {
        let actual = text.parse::<T>().map(|listen| listen.to_string()).map_err(|error| error.to_string());
        match (&actual, expected) {
            (Err(actual), Err(expected)) => {
                assert!(actual.contains(expected), "{text}: {actual}")
            }
            _ => assert_eq!(actual.as_deref().map_err(String::as_str), expected, "{text}"),
        }
    }

    #[test]
    fn places() {
        let check = check_as::<Listen>;
        check("127.0.0.1:3000", Ok("127.0.0.1:3000"));
        check("systemd", Ok("systemd"));
        check("systemd:web", Ok("systemd:web"));
        check("systemd:3000", Ok("systemd:3000"));
        check("systemd:a b-c_d/é", Err("printable ASCII"));
        check("systemd:a b/c.socket~", Ok("systemd:a b/c.socket~"));
        check("systemd:", Err("write \"systemd\""));
        check("systemd:a:b", Err("without `:`"));
        check("systemd:a\n", Err("printable ASCII"));
        check("systemd:a\u{7f}", Err("printable ASCII"));
        check(&format!("systemd:{}", "a".repeat(255)), Ok(&format!("systemd:{}", "a".repeat(255))));
        check(&format!("systemd:{}", "a".repeat(256)), Err("at most 255"));
        check("Systemd", Err("invalid listen address"));
        check("systemd.example:80", Ok("systemd.example:80"));
        check(":3000", Err("\"0.0.0.0:3000\""));
        assert_eq!("systemd:web".parse(), Ok(Listen::Systemd(Some("web".to_owned()))));
    }

    #[test]
    fn addresses() {
        let check = check_as::<ListenAddr>;
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
        check("http://localhost:80", Err("without scheme"));
        check("localhost:80/", Err("without scheme"));
        check("a b:80", Err("invalid character"));
        check("127.1:80", Err("four decimal numbers"));
        check("user@localhost:80", Err("user information"));
    }

    #[test]
    fn default_is_valid() {
        assert_eq!(ListenAddr::default().as_str().parse(), Ok(ListenAddr::default()));
    }
}
