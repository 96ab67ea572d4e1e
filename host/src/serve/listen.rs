//! The listening socket, and the descriptors its connections will need.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel keeps waiting for `accept`; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Descriptors beside the client connections: listeners, timers, mapped components, standard streams.
const SPARE_DESCRIPTORS: u64 = 128;

/// Binds `address` (`host:port`), trying each address the host resolves to.
///
/// Must be called within a tokio runtime.
///
/// # Errors
///
/// The last address's error, or one that says that the host has no address.
pub(crate) fn bind(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for candidate in address.to_socket_addrs()? {
        match bind_one(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server takes its port back while old connections are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Raises the descriptor limit to what `connections` clients and `outgoing` requests need.
///
/// Returns the number of connections that fit when the hard limit is too low for all of them.
pub(crate) fn raise_descriptor_limit(connections: u64, outgoing: u64) -> Option<u64> {
    let wanted = connections + outgoing + SPARE_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return None;
    }
    let reachable = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = Rlimit { current: Some(reachable), maximum: limit.maximum };
    let got = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => reachable,
        Err(_) => limit.current.unwrap_or(wanted),
    };
    // Where there are few, clients get at least half of them.
    (got < wanted).then(|| got.saturating_sub(outgoing + SPARE_DESCRIPTORS).max(got / 2).max(1))
}
