//! Where a listener can be reached.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketAddrUnix};

/// Hexadecimal digits of the hash in the name of a control socket.
const HASH_DIGITS: usize = 16;

/// The address of a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    /// The path of the socket's file; or `@` and a name for a socket in the abstract namespace, which only systemd
    /// passes.
    Unix(PathBuf),
}

impl Address {
    /// The address of a socket.
    ///
    /// # Errors
    ///
    /// When it is no socket, or neither a TCP nor a Unix socket with an address.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Self> {
        let address = rustix::net::getsockname(socket)?;
        let other = || io::Error::other("it has neither an IP address nor a path");
        match address.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => {
                SocketAddr::try_from(address).map(Self::Tcp).map_err(|_| other())
            }
            AddressFamily::UNIX => {
                let unix = SocketAddrUnix::try_from(address).map_err(|_| other())?;
                unix_path(&unix).map(Self::Unix).ok_or_else(other)
            }
            _ => Err(other()),
        }
    }

    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// What clients are given: a URL, or `unix:` and the path.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}/"),
            Self::Unix(_) => self.to_string(),
        }
    }

    /// How to send a request, if a URL alone does not say so.
    pub(crate) fn hint(&self) -> Option<String> {
        let Self::Unix(path) = self else { return None };
        let path = path.to_string_lossy();
        Some(match path.strip_prefix('@') {
            Some(name) => format!("curl --abstract-unix-socket {} http://localhost/", quoted(name)),
            None => format!("curl --unix-socket {} http://localhost/", quoted(&path)),
        })
    }

    /// Names the server with this first address among those of one user, in a file name. Other versions of this program
    /// must find the same name.
    pub(crate) fn server_name(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(path) => {
                // A path may be as long as that of the control socket, and contains `/`.
                let hash = blake3::hash(path.as_os_str().as_bytes()).to_hex();
                format!("unix-{}", hash.get(..HASH_DIGITS).unwrap_or_default())
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn unix_path(address: &SocketAddrUnix) -> Option<PathBuf> {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.abstract_name() {
        return Some(OsStr::from_bytes(&[b"@", name].concat()).into());
    }
    address.path_bytes().map(|path| OsStr::from_bytes(path).into())
}

/// `word` as one word of a shell's command line.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_can_be_pasted_into_a_shell() {
        for (path, expected) in [
            ("/run/a.sock", "curl --unix-socket /run/a.sock http://localhost/"),
            ("/run/a b.sock", "curl --unix-socket '/run/a b.sock' http://localhost/"),
            ("/run/it's", "curl --unix-socket '/run/it'\\''s' http://localhost/"),
            ("@web", "curl --abstract-unix-socket web http://localhost/"),
        ] {
            assert_eq!(Address::Unix(path.into()).hint().as_deref(), Some(expected));
        }
        assert_eq!(Address::Tcp(([127, 0, 0, 1], 80).into()).hint(), None);
    }

    /// A successor of another version opens the control socket with this name.
    #[test]
    fn names_of_servers_do_not_change() {
        assert_eq!(Address::Tcp(([127, 0, 0, 1], 80).into()).server_name(), "127.0.0.1:80");
        assert_eq!(Address::Unix("/run/daylily.sock".into()).server_name(), "unix-16d57818045f01b2");
    }
}
