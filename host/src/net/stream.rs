//! The byte stream of one client.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::net::Shutdown;
use socket2::SockRef;
use tokio::io::{Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

use super::peer::Peer;
use super::unix_stream::HeldStream;

/// A client's connection, on which a protocol reads requests and writes responses. Several tasks share it.
///
/// Closing it is orderly, unless [`Stream::reset_unless_complete`] or [`Stream::reset_when_closed`] was called: then the
/// client gets an error after the bytes that were sent, also when the kernel closes the stream because this process has
/// died.
pub(crate) struct Stream {
    socket: Socket,
    peer: Peer,
    /// A [`Closing`].
    closing: AtomicU8,
}

enum Socket {
    Tcp(TcpStream),
    Unix(HeldStream),
}

/// What closing the stream now means to its client.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Closing {
    Orderly,
    /// A reset, until [`Stream::shut_down_writing`] says that everything was written.
    Incomplete,
    Reset,
}

/// Reads what has arrived. A read that does not fill the buffer has emptied the socket (epoll(7), "Do I need to
/// continuously read"), so readiness is cleared at once. That saves the system call that would return `EAGAIN`.
macro_rules! read_all {
    ($stream:expr, $buf:ident, $read:expr) => {{
        let mut all = None;
        let result = $stream.try_io(Interest::READABLE, || {
            let read = $read?;
            if read == 0 || $buf.remaining() == 0 {
                return Ok(read);
            }
            all = Some(read);
            Err(io::ErrorKind::WouldBlock.into())
        });
        all.map_or(result, Ok)
    }};
}
pub(super) use read_all;

impl Stream {
    pub(crate) fn tcp(stream: TcpStream, peer: Peer) -> Self {
        // Sends heads and small bodies at once (no Nagle delay). A failure only costs latency.
        let _ = stream.set_nodelay(true);
        Self { socket: Socket::Tcp(stream), peer, closing: AtomicU8::new(Closing::Orderly as u8) }
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        let socket = Socket::Unix(HeldStream::new(stream));
        Self { socket, peer: Peer::Unix, closing: AtomicU8::new(Closing::Orderly as u8) }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The address that the client connected to, if it can be written with a port. An IPv4-mapped address is returned as
    /// an IPv4 address, as on a dual-stack socket.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(stream) => {
                let address = stream.local_addr().ok()?;
                Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
            }
            Socket::Unix(_) => None,
        }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Unix(stream) => stream.get().poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Socket::Tcp(stream) => stream.poll_write_ready(cx),
            Socket::Unix(stream) => stream.get().poll_write_ready(cx),
        }
    }

    /// Waits until bytes or the end of the stream can be read. Cancel safe.
    ///
    /// # Errors
    ///
    /// When the event loop is shutting down.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(stream) => stream.readable().await,
            Socket::Unix(stream) => stream.get().readable().await,
        }
    }

    /// Whether the client has closed its side or reset the connection, even while bytes that it sent before are unread.
    /// (The poller reports the end of the stream separately from readable bytes.)
    pub(crate) fn is_read_closed(&self) -> bool {
        match &self.socket {
            Socket::Tcp(stream) => is_read_closed(stream.ready(Interest::READABLE)),
            Socket::Unix(stream) => is_read_closed(stream.get().ready(Interest::READABLE)),
        }
    }

    /// Reads what has arrived, without waiting. Returns 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing has arrived; otherwise the error of the connection.
    pub(crate) fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp(stream) => read_all!(stream, buf, stream.try_read_buf(buf)),
            Socket::Unix(stream) => stream.read(buf),
        }
    }

    /// Writes as much as the socket takes without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the socket takes nothing; otherwise the error of the connection.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp(stream) => stream.try_write(bytes),
            Socket::Unix(stream) => stream.get().try_write(bytes),
        }
    }

    /// As [`Stream::try_write`], of several slices.
    ///
    /// # Errors
    ///
    /// As [`Stream::try_write`].
    pub(crate) fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp(stream) => stream.try_write_vectored(bufs),
            Socket::Unix(stream) => stream.get().try_write_vectored(bufs),
        }
    }

    /// Whether this stream can be reset. A Unix stream cannot after [`Stream::forgo_reset`].
    pub(crate) fn can_reset(&self) -> bool {
        match &self.socket {
            Socket::Tcp(_) => true,
            Socket::Unix(stream) => stream.holds(),
        }
    }

    /// The protocol does not need resets: its messages show themselves whether they are complete. This makes reading a
    /// Unix stream cheaper.
    pub(crate) fn forgo_reset(&self) {
        if let Socket::Unix(stream) = &self.socket {
            stream.stop_holding();
        }
    }

    /// From now on, closing the stream resets it, until [`Stream::shut_down_writing`].
    pub(crate) fn reset_unless_complete(&self) {
        self.reset(Closing::Incomplete);
    }

    /// From now on, closing the stream resets it.
    pub(crate) fn reset_when_closed(&self) {
        self.reset(Closing::Reset);
    }

    fn reset(&self, closing: Closing) {
        self.closing.store(closing as u8, Relaxed);
        if let Socket::Tcp(stream) = &self.socket {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Tells the client that everything was written, so closing the stream is orderly from here on.
    ///
    /// # Errors
    ///
    /// When the stream is to be reset, or the client has closed it already.
    pub(crate) fn shut_down_writing(&self) -> io::Result<()> {
        let closing = self.closing.load(Relaxed);
        if closing == Closing::Reset as u8 {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the response was cut"));
        }
        match &self.socket {
            Socket::Tcp(stream) => {
                if closing == Closing::Incomplete as u8 {
                    let _ = SockRef::from(stream).set_linger(None);
                }
                rustix::net::shutdown(stream, Shutdown::Write)?;
            }
            Socket::Unix(stream) => {
                stream.release();
                rustix::net::shutdown(stream.get(), Shutdown::Write)?;
            }
        }
        self.closing.store(Closing::Orderly as u8, Relaxed);
        Ok(())
    }
}

/// Whether `ready`, the readiness of a socket, includes the end of the stream.
pub(super) fn is_read_closed(ready: impl Future<Output = io::Result<Ready>>) -> bool {
    match pin!(ready).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => ready.is_read_closed(),
        Poll::Ready(Err(_)) => true,
        Poll::Pending => false,
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Socket::Unix(stream) = &self.socket
            && self.closing.load(Relaxed) == Closing::Orderly as u8
        {
            stream.release();
        }
    }
}
