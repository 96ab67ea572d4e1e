use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::unix_listen::{self, UnixListen};
use crate::domain::Host;
use crate::{ValueError, authority};

/// An address to listen on, or sockets from systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listen {
    /// A TCP socket that daylily opens.
    Address(ListenAddr),
    /// The sockets that systemd passed: those with this `FileDescriptorName=`, or all of them.
    Systemd(Option<String>),
    /// A Unix socket that daylily opens.
    Unix(UnixListen),
}

impl Listen {
    /// Whether only one of the two can be listened on. Unix sockets with one path differ in their mode at most.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(other)) => one.path() == other.path(),
            _ => self == other,
        }
    }
}

impl Listen {
    /// The same place, but reached from this machine alone.
    #[must_use]
    pub fn on_loopback(self) -> Self {
        match self {
            Self::Address(address) => Self::Address(address.on_loopback()),
            other => other,
        }
    }

    /// The host as written, an IPv6 address in its brackets; None where there is none.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Address(address) => Some(address.split().0),
            Self::Systemd(_) | Self::Unix(_) => None,
        }
    }
}

/// What stands for the value of the variable `PORT`, and another form of it that may be written.
const VARIABLE: &str = "$PORT";
const VARIABLES: [&str; 2] = [VARIABLE, "${PORT}"];

impl Listen {
    /// Whether its port is that of the variable `PORT`.
    pub(super) fn needs_port(&self) -> bool {
        matches!(self, Self::Address(address) if address.0.ends_with(VARIABLE))
    }

    /// The same, with this port instead of the variable.
    pub(super) fn with_port(self, port: &str) -> Self {
        match self {
            Self::Address(ListenAddr(text)) => Self::Address(ListenAddr(text.replace(VARIABLE, port))),
            other => other,
        }
    }
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
            Self::Unix(socket) => socket.fmt(f),
        }
    }
}

impl FromStr for Listen {
    type Err = ValueError;

    /// Parses `host:port`, `unix:PATH`, `systemd` or `systemd:NAME`. Hosts named `unix` or `systemd` cannot be
    /// configured.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "systemd" {
            return Ok(Self::Systemd(None));
        }
        if text.starts_with(unix_listen::PREFIX) {
            return text.parse().map(Self::Unix);
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

    /// The host, an IPv6 address in its brackets, and the port.
    fn split(&self) -> (&str, &str) {
        self.0.rsplit_once(':').unwrap_or((&self.0, ""))
    }

    fn on_loopback(self) -> Self {
        match self.split() {
            (host, _) if authority::is_loopback(host) => self,
            (host, port) if host.starts_with('[') => Self(format!("[::1]:{port}")),
            (_, port) => Self(format!("127.0.0.1:{port}")),
        }
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

    /// Parses `host:port`; port 0 lets the system choose one, and `$PORT` or `${PORT}` is replaced later.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |help: String| ValueError::new(format!("invalid listen address {text:?}")).help(help);
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused(format!("write host and port, such as \"127.0.0.1:{text}\"")));
        }
        if let Some((scheme @ ("http" | "https"), place)) = text.split_once("://") {
            let place = place.split(['/', '?']).next().filter(|place| place.parse::<Self>().is_ok());
            let place = format!("\"{}\"", place.unwrap_or("127.0.0.1:3000"));
            return Err(refused(match scheme {
                "https" => {
                    format!("daylily serves HTTP without TLS: write {place}, and let a proxy before it serve https")
                }
                _ => format!("write host and port without scheme and path: {place}"),
            }));
        }
        if text.starts_with('/') || text.starts_with("unix/") {
            return Err(refused(
                "a Unix socket is written as \"unix:\" and its path: \"unix:/run/daylily/http.sock\"".to_owned(),
            ));
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
        let host = VARIABLES.iter().find_map(|variable| text.strip_suffix(variable)?.strip_suffix(':'));
        if let Some(host) = host {
            // Whatever the port is, the rest is valid.
            return match format!("{host}:1").parse::<Self>() {
                Ok(_) => Ok(Self(format!("{host}:{VARIABLE}"))),
                Err(error) => Err(refused(error.into_parts().1.unwrap_or_default())),
            };
        }
        if text.contains('$') {
            return Err(refused("the only variable in it is the port, as in \"0.0.0.0:$PORT\"".to_owned()));
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
    fn for_this_machine_alone() {
        fn check(text: &str, expected: &str) {
            let listen: Listen = text.parse().expect("a place");
            assert_eq!(listen.on_loopback().to_string(), expected, "{text}");
        }
        check("0.0.0.0:3000", "127.0.0.1:3000");
        check("0.0.0.0:$PORT", "127.0.0.1:$PORT");
        check("[::]:3000", "[::1]:3000");
        check("example.com:80", "127.0.0.1:80");
        check("127.0.0.2:3000", "127.0.0.2:3000");
        check("LocalHost:3000", "LocalHost:3000");
        check("[::1]:0", "[::1]:0");
        check("unix:/run/a.sock", "unix:/run/a.sock");
        check("systemd", "systemd");
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
        check("unix:/run/a.sock", Ok("unix:/run/a.sock"));
        check("unix:/run/a.sock?mode=0666", Ok("unix:/run/a.sock?mode=0666"));
        check("unix:3000", Err("invalid Unix socket"));
        check("unix", Err("write host and port"));
        check("unix.example:80", Ok("unix.example:80"));
        check("/run/a.sock", Err("\"unix:/run/daylily/http.sock\""));
        check("unix//run/a.sock|0222", Err("\"unix:/run/daylily/http.sock\""));
        assert_eq!("systemd:web".parse(), Ok(Listen::Systemd(Some("web".to_owned()))));
    }

    #[test]
    fn one_path_is_one_place() {
        let is_same = |one: &str, other: &str| {
            let parse = |text: &str| text.parse::<Listen>().expect("a place");
            parse(one).is_same_place(&parse(other))
        };
        assert!(is_same("unix:/a", "unix:/a?mode=0600"));
        assert!(!is_same("unix:/a", "unix:/b"));
        assert!(is_same("systemd", "systemd"));
        assert!(!is_same("a:1", "a:2"));
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
        check("http://localhost:80", Err("without scheme and path: \"localhost:80\""));
        check("http://localhost/", Err("without scheme and path: \"127.0.0.1:3000\""));
        check("https://[::1]:443/a", Err("without TLS: write \"[::1]:443\""));
        check("ftp://localhost:80", Err("without scheme"));
        check("localhost:80/", Err("without scheme"));
        check("a b:80", Err("invalid character"));
        check("127.1:80", Err("four decimal numbers"));
        check("user@localhost:80", Err("user information"));
        check("0.0.0.0:$PORT", Ok("0.0.0.0:$PORT"));
        check("[::]:${PORT}", Ok("[::]:$PORT"));
        check(":$PORT", Err("\"0.0.0.0:$PORT\""));
        check("$PORT", Err("as in \"0.0.0.0:$PORT\""));
        check("0.0.0.0:$PORTS", Err("the only variable"));
        check("0.0.0.0:8$PORT", Err("the only variable"));
        check("$HOST:$PORT", Err("the only variable"));
        check("::$PORT", Err("brackets"));
    }

    #[test]
    fn default_is_valid() {
        assert_eq!(ListenAddr::default().as_str().parse(), Ok(ListenAddr::default()));
    }
}
