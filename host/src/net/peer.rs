//! The client of a byte stream.

use std::fmt;
use std::net::SocketAddr;

use http::uri::Scheme;

/// The other end of a [`Stream`](super::stream::Stream), as its listener knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    /// A process of this machine. Client sockets have no path, so there is no address.
    Unix,
}

impl Peer {
    /// Its address, if it has one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix => None,
        }
    }

    /// The scheme of its requests.
    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            Self::Tcp(_) | Self::Unix => Scheme::HTTP,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}
