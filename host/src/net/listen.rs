//! Listening sockets, and the limit of file descriptors that their connections need.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};

use daylily_core::log_target;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::net::address::Address;

/// Length of the backlog of connections that wait for `accept`. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Descriptors in addition to those of client connections: listeners, timers, mapped components, standard streams.
const SPARE_DESCRIPTORS: u64 = 128;

/// The first port that needs no privilege, with the default of `net.ipv4.ip_unprivileged_port_start`.
const UNPRIVILEGED_PORT: u16 = 1024;

/// Whether the kernel distributes connections between listeners at one address. Linux does since 3.9 (`SO_REUSEPORT`);
/// other systems have the option, but one of the listeners gets all or most connections.
pub(crate) const SPREADS_CONNECTIONS: bool = cfg!(target_os = "linux");

/// Why an address cannot be listened on, and what to do about it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The address, unless a name could not be resolved.
    pub(crate) at: Option<Address>,
    pub(crate) error: io::Error,
    pub(crate) remedy: Cow<'static, str>,
}

/// The address for `address` (`host:port`): the first of those that the host resolves to at which no other process
/// listens. Blocks during the name lookup.
///
/// `ours` are the addresses where this server listens already. Their ports are not checked: only this server can have
/// them, and its own listener is no conflict, as when a server moves from 127.0.0.1:3000 to 0.0.0.0:3000.
///
/// # Errors
///
/// When the name does not resolve; otherwise the error of the last address.
pub(crate) fn free(address: &str, ours: &[SocketAddr]) -> Result<SocketAddr, Refused> {
    let unresolved = |error| Refused {
        at: None,
        error,
        remedy: "the name does not resolve on this machine (/etc/hosts, DNS); write an IP address".into(),
    };
    let mut last = unresolved(io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address"));
    for candidate in address.to_socket_addrs().map_err(unresolved)? {
        let checked = if shares_port(candidate, ours) { Ok(()) } else { check(candidate) };
        match checked {
            Ok(()) => return Ok(candidate),
            Err(refused) => last = refused,
        }
    }
    Err(last)
}

/// Whether one of `ours` has the port of `address`.
pub(crate) fn shares_port(address: SocketAddr, ours: &[SocketAddr]) -> bool {
    ours.iter().any(|ours| ours.port() == address.port())
}

/// Checks that no other process listens at `address`. Listeners with `SO_REUSEPORT` can be bound beside those of
/// another server of the same user, which would then get half of the connections. The socket that is opened here has no
/// `SO_REUSEPORT`, so the kernel reports the conflict. This server's sockets that do not listen yet do not conflict.
///
/// # Errors
///
/// When another socket listens there, or the system refuses the address.
pub(crate) fn check(address: SocketAddr) -> Result<(), Refused> {
    open(address, false).map(drop).map_err(|error| Refused::at(Address::Tcp(address), error))
}

/// Binds `count` sockets to `address`, and returns them with the address that was bound. The kernel accepts no
/// connections for them before [`listen`].
///
/// # Errors
///
/// When the system refuses.
pub(crate) fn bind(address: SocketAddr, count: usize) -> Result<(Vec<OwnedFd>, SocketAddr), Refused> {
    let bind = || {
        let first = bind_another(address)?;
        // For port 0 the system chooses the port; the other sockets get the same one.
        let bound = SockRef::from(&first).local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut sockets = vec![first];
        while sockets.len() < count {
            sockets.push(bind_another(bound)?);
        }
        Ok((sockets, bound))
    };
    bind().map_err(|error| Refused::at(Address::Tcp(address), error))
}

/// Binds one more socket to an address that this server has bound already. The kernel accepts no connections for it
/// before [`listen`].
///
/// # Errors
///
/// When it cannot be bound.
pub(crate) fn bind_another(address: SocketAddr) -> io::Result<OwnedFd> {
    Ok(open(address, SPREADS_CONNECTIONS)?.into())
}

/// Lets the kernel accept connections for a socket. A socket that listens already is not changed.
///
/// # Errors
///
/// When the system refuses.
pub(crate) fn listen(socket: impl AsFd) -> io::Result<()> {
    SockRef::from(&socket).listen(BACKLOG)
}

fn open(address: SocketAddr, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // So that a restarted server can bind its port while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Makes the kernel drop new handshakes at a listener that is about to close. The client's SYN gets no response; the
/// client sends it again within a second (RFC 6298 §2.1), and is then refused, or served by another process that
/// listens at the address. Handshakes in progress can complete.
pub(crate) fn refuse_handshakes(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    {
        use socket2::SockFilter;
        // Classic BPF over the TCP header: drops segments with SYN and without ACK in the flags (byte 13).
        let filter = [
            SockFilter::new(0x30, 0, 0, 13),
            SockFilter::new(0x54, 0, 0, 0x12),
            SockFilter::new(0x15, 0, 1, 0x02),
            SockFilter::new(0x06, 0, 0, 0),
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ];
        // Without the filter, the few clients that connect at the moment of closing may be reset.
        if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
            tracing::debug!(
                target: log_target::CONNECTION,
                "failed to attach the packet filter that drops new handshakes: {error}"
            );
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
}

/// Why this server does not listen at an address.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {error}; {remedy}")]
pub(crate) struct ListenError {
    /// As it is configured.
    pub(crate) address: String,
    /// The address, unless the name in `address` could not be resolved.
    pub(crate) at: Option<Address>,
    pub(crate) error: io::Error,
    pub(crate) remedy: Cow<'static, str>,
}

impl ListenError {
    pub(crate) fn new(address: impl Display, refused: Refused) -> Self {
        let Refused { at, error, remedy } = refused;
        Self { address: address.to_string(), at, error, remedy }
    }
}

impl Refused {
    /// Chooses the remedy by the system's error.
    pub(crate) fn at(address: Address, error: io::Error) -> Self {
        let remedy = match Errno::from_io_error(&error) {
            Some(Errno::ADDRINUSE) => "is another server running there? choose an address with --listen".into(),
            Some(Errno::ACCESS) if address.tcp().is_some_and(|address| address.port() < UNPRIVILEGED_PORT) => {
                "a port below net.ipv4.ip_unprivileged_port_start needs a privilege: choose a higher one with --listen, \
                 let systemd open the socket, or give the program the privilege (setcap cap_net_bind_service=+ep)"
                    .into()
            }
            Some(Errno::ADDRNOTAVAIL) => "no network interface of this machine has this address; choose another with \
                 --listen, such as 0.0.0.0 for every IPv4 address or [::] for every address"
                .into(),
            Some(Errno::AFNOSUPPORT) => "this machine or its service manager (RestrictAddressFamilies=) does not \
                 support this address family; choose an IPv4 address with --listen if IPv6 is disabled"
                .into(),
            Some(Errno::MFILE | Errno::NFILE) => "raise the limit of open files (ulimit -n, LimitNOFILE=)".into(),
            Some(Errno::NOBUFS | Errno::NOMEM) => "the kernel has no memory for it".into(),
            Some(Errno::ACCESS | Errno::PERM) => {
                "a security policy of this machine or of its service manager forbids it (seccomp, SELinux, SystemCallFilter=)"
                    .into()
            }
            _ => "choose another address with --listen".into(),
        };
        Self { at: Some(address), error, remedy }
    }
}

/// Raises the descriptor limit (`RLIMIT_NOFILE`) to what `connections` clients and `outgoing` requests need.
///
/// Returns the number of connections that fit, if the hard limit is too low for all of them.
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
    // Clients get at least half of the descriptors when there are too few.
    (got < wanted).then(|| got.saturating_sub(outgoing + SPARE_DESCRIPTORS).max(got / 2).max(1))
}
