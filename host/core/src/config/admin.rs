//! `[admin]`: where the admin listener is, and who may use it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Config, Listen, ListenAddr};
use crate::{ValueError, authority};

/// Where the admin listener listens; by default, nowhere. Never on a socket that systemd passed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminListen(Option<Listen>);

impl AdminListen {
    /// The address or the Unix socket; `None` if the listener is off.
    pub fn place(&self) -> Option<&Listen> {
        self.0.as_ref()
    }

    /// Whether only processes of this machine can reach it, as far as that is known before a name is resolved.
    fn is_local(&self) -> bool {
        match &self.0 {
            Some(Listen::Address(address)) => host(address).is_some_and(authority::is_loopback),
            _ => true,
        }
    }
}

fn host(address: &ListenAddr) -> Option<&str> {
    authority::parse(address.as_str()).ok().map(|parsed| parsed.host)
}

fn port(address: &ListenAddr) -> Option<u16> {
    authority::parse(address.as_str()).ok()?.port
}

impl fmt::Display for AdminListen {
    /// As written in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("off"),
            Some(place) => place.fmt(f),
        }
    }
}

impl FromStr for AdminListen {
    type Err = ValueError;

    /// Parses `off`, `host:port` or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "off" {
            return Ok(Self(None));
        }
        match text.parse()? {
            Listen::Systemd(_) => Err(ValueError::new(format!("invalid admin address {text:?}"))
                .help("write off, an address and a port, or a Unix socket: daylily opens this socket itself")),
            place if place.needs_port() => Err(ValueError::new(format!("invalid admin address {text:?}"))
                .help("write its port: `$PORT` stands in the top-level `listen` only")),
            place => Ok(Self(Some(place))),
        }
    }
}

impl Config {
    /// Checks `[admin]` against the rest of the configuration. [`parse`](super::parse) has reported an error in the
    /// file; only one that flags cause is left.
    ///
    /// # Errors
    ///
    /// If other machines could use the admin listener without a token, or its place is also in `listen`.
    pub fn check_admin(&self) -> Result<(), ValueError> {
        let Some(place) = self.admin.listen.place() else { return Ok(()) };
        if !self.admin.listen.is_local() && self.admin.token_file.is_none() {
            return Err(ValueError::new(format!("the admin listener at \"{place}\" needs a token")).help(
                "other machines may reach this address: set `token_file` in [admin], or listen on 127.0.0.1, [::1] or \
                 a Unix socket",
            ));
        }
        let is_taken = |listen: &&Listen| match (listen, place) {
            (Listen::Address(one), Listen::Address(other)) => port(one) == port(other) && port(one) != Some(0),
            (listen, place) => listen.is_same_place(place),
        };
        match self.listen.iter().flatten().find(is_taken) {
            Some(listen) => {
                let error = ValueError::new(format!(
                    "the port or path of the admin listener (\"{place}\") is also in `listen`"
                ));
                Err(error.help(format!("guests serve \"{listen}\"; choose another port or path for one of the two")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        #[track_caller]
        fn check(text: &str, expected: Result<bool, &str>) {
            match (text.parse::<AdminListen>(), expected) {
                (Ok(listen), Ok(is_local)) => {
                    assert_eq!((listen.to_string().as_str(), listen.is_local()), (text, is_local));
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
        check("off", Ok(true));
        check("127.0.0.1:3001", Ok(true));
        check("127.8.9.1:3001", Ok(true));
        check("[::1]:3001", Ok(true));
        check("localhost:3001", Ok(true));
        check("LOCALHOST:3001", Ok(true));
        check("unix:/run/admin.sock", Ok(true));
        check("unix:/run/admin.sock?mode=0600", Ok(true));
        check("0.0.0.0:3001", Ok(false));
        check("[::]:3001", Ok(false));
        check("[::ffff:127.0.0.1]:3001", Ok(false));
        check("localhost.example:3001", Ok(false));
        check("10.0.0.7:3001", Ok(false));
        check("systemd", Err("daylily opens this socket itself"));
        check("systemd:admin", Err("daylily opens this socket itself"));
        check("127.0.0.1:$PORT", Err("top-level `listen` only"));
        check("3001", Err("\"127.0.0.1:3001\""));
        check("on", Err("write host and port"));
    }

    #[test]
    fn conflicts() {
        #[track_caller]
        fn check(admin: &str, listen: &[&str], token: bool, expected: Option<&str>) {
            let listen = listen.iter().map(|place| place.parse().expect("a place")).collect();
            let mut config = Config { listen: Some(listen), ..Config::default() };
            config.admin.listen = admin.parse().expect("a place");
            config.admin.token_file = token.then(|| "token".into());
            let error = config.check_admin().err().map(|error| error.to_string());
            match (&error, expected) {
                (Some(error), Some(part)) => assert!(error.contains(part), "{error}"),
                _ => assert_eq!(error.as_deref(), expected),
            }
        }
        check("off", &["127.0.0.1:3000"], false, None);
        check("127.0.0.1:3001", &["127.0.0.1:3000", "systemd"], false, None);
        check("127.0.0.1:0", &["127.0.0.1:0"], false, None);
        check("127.0.0.1:3000", &["systemd", "0.0.0.0:3000"], false, Some("also in `listen`"));
        check("unix:/a", &["unix:/b"], false, None);
        check("unix:/a?mode=0600", &["unix:/a"], false, Some("choose another port or path"));
        check("0.0.0.0:3001", &["127.0.0.1:3000"], true, None);
        check("0.0.0.0:3001", &["127.0.0.1:3000"], false, Some("set `token_file` in [admin]"));
        check("admin.example:3001", &["127.0.0.1:3000"], false, Some("needs a token"));
    }
}
