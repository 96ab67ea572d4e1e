//! A listening socket in a worker: it makes byte streams.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{AddressFamily, Shutdown, SocketFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net;

use super::listen;
use super::peer::Peer;
use super::stream::Stream;

/// A listening socket.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A listening socket that the event loop watches.
pub(crate) enum Accepting {
    Tcp(net::TcpListener),
    Unix(AsyncFd<UnixListener>),
}

impl Listener {
    /// # Errors
    ///
    /// When it is no socket, or of a kind that daylily does not listen on.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        match rustix::net::getsockname(&socket)?.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => Ok(Self::Tcp(socket.into())),
            AddressFamily::UNIX => Ok(Self::Unix(socket.into())),
            family => Err(io::Error::other(format!("a listener has the unknown address family {}", family.as_raw()))),
        }
    }

    /// A second handle of the socket, for an accept loop. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the socket cannot be duplicated, or the event loop cannot register it.
    pub(crate) fn accepting(&self) -> io::Result<Accepting> {
        Ok(match self {
            Self::Tcp(listener) => Accepting::Tcp(net::TcpListener::from_std(listener.try_clone()?)?),
            Self::Unix(listener) => Accepting::Unix(watched(listener.try_clone()?)?),
        })
    }

    /// Accepts a connection from the backlog without waiting for one. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the backlog is empty (`WouldBlock`), or the connection cannot be accepted or registered.
    pub(crate) fn accept_now(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::tcp(net::TcpStream::from_std(stream)?, Peer::Tcp(address)))
            }
            Self::Unix(listener) => accept_unix(listener),
        }
    }

    /// Refuses new clients of a socket that is about to close. Connections that are complete stay in the backlog, and
    /// TCP handshakes in progress can complete.
    pub(crate) fn refuse_clients(&self) {
        match self {
            Self::Tcp(listener) => listen::refuse_handshakes(listener),
            Self::Unix(listener) => {
                // From here on, `connect` fails as if no process listened, and `accept` returns what waits. This also
                // holds for the other workers, which all close the socket, too. An error means that it does not listen.
                let _ = rustix::net::shutdown(listener, Shutdown::Read);
            }
        }
    }
}

impl Accepting {
    /// Waits for a connection and accepts it. Cancel safe: one that is not accepted stays in the backlog.
    ///
    /// # Errors
    ///
    /// When `accept` fails. The listener can be used further.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(Stream::tcp(stream, Peer::Tcp(address)))
            }
            Self::Unix(listener) => loop {
                let mut ready = listener.readable().await?;
                let was_shut_down = ready.ready().is_read_closed();
                match ready.try_io(|listener| accept_unix(listener.get_ref())) {
                    Ok(accepted) => return accepted,
                    // `Listener::refuse_clients` was called, here or in another worker. Such a socket is always ready,
                    // and has no further clients.
                    Err(_would_block) if was_shut_down => std::future::pending().await,
                    Err(_would_block) => {}
                }
            },
        }
    }
}

/// tokio's own `UnixListener` would never return from `accept` once the socket was shut down.
#[expect(unsafe_code, reason = "the only way to wait for a listener and see that it was shut down")]
fn watched(listener: UnixListener) -> io::Result<AsyncFd<UnixListener>> {
    // SAFETY: a `UnixListener` has the same descriptor until it is dropped, and `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}

fn accept_unix(listener: &UnixListener) -> io::Result<Stream> {
    let stream = rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    Ok(Stream::unix(net::UnixStream::from_std(stream.into())?))
}
