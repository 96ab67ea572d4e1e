//! The listening socket, and the descriptors its connections will need.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that the kernel keeps waiting for `accept`; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Descriptors beside the client connections: listeners, timers, mapped components, standard streams.
const SPARE_DESCRIPTORS: u64 = 128;

/// Whether the kernel spreads connections between the listeners at one address. Linux does since 3.9
/// (`SO_REUSEPORT`); elsewhere the option exists, and one of the listeners gets all or most.
pub(crate) const SPREADS_CONNECTIONS: bool = cfg!(target_os = "linux");

/// Binds `count` listeners to `address` (`host:port`), trying each address the host resolves to. Gives the
/// address that was bound as well. `ours` is where this server listens already.
///
/// # Errors
///
/// The last address's error, or one that says that the host has no address.
pub(crate) fn bind(address: &str, count: usize, ours: &[SocketAddr]) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for candidate in address.to_socket_addrs()? {
        match bind_all(candidate, count, ours) {
            Ok(listeners) => return Ok(listeners),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_all(address: SocketAddr, count: usize, ours: &[SocketAddr]) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    // Listeners that spread connections may be bound beside another server's of the same user, which
    // would then get half of ours. This one may not, and says so. (Not beside our own either, such as
    // the old 127.0.0.1:3000 of a server that is now to listen on 0.0.0.0:3000.)
    if !ours.iter().any(|ours| ours.port() == address.port()) {
        drop(open(address, false)?);
    }
    let first = listen(bind_another(address)?)?;
    // Port 0 is the system's choice, the same for all of them.
    let bound = SockRef::from(&first).local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut listeners = vec![first];
    while listeners.len() < count {
        listeners.push(listen(bind_another(bound)?)?);
    }
    Ok((listeners, bound))
}

/// One more socket at an address that is ours. The kernel gives it no connections before [`listen`].
///
/// # Errors
///
/// When it cannot be bound.
pub(crate) fn bind_another(address: SocketAddr) -> io::Result<OwnedFd> {
    Ok(open(address, SPREADS_CONNECTIONS)?.into())
}

/// Lets the kernel accept connections for a socket; one that listens already stays as it is.
///
/// # Errors
///
/// When it cannot be listened on.
pub(crate) fn listen<S: AsFd>(socket: S) -> io::Result<S> {
    SockRef::from(&socket).listen(BACKLOG)?;
    Ok(socket)
}

fn open(address: SocketAddr, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server takes its port back while old connections are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Lets no new client begin a handshake with a listener that is about to close. One that tries hears
/// nothing, tries again within a second (RFC 6298 §2.1), and is then refused, or served by whoever listens
/// there by then; one whose handshake has begun may complete it.
pub(crate) fn refuse_handshakes(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    {
        use socket2::SockFilter;
        // Classic BPF over the TCP header: drop what has SYN and not ACK among its flags, in byte 13.
        let filter = [
            SockFilter::new(0x30, 0, 0, 13),
            SockFilter::new(0x54, 0, 0, 0x12),
            SockFilter::new(0x15, 0, 1, 0x02),
            SockFilter::new(0x06, 0, 0, 0),
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ];
        // Without it, a few clients may be reset that come in the very moment of closing.
        if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
            tracing::debug!("failed to refuse new handshakes: {error}");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
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
