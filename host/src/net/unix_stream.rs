//! A Unix stream that is reset when the kernel closes it.
//!
//! A TCP socket can be told to reset its connection at its close (`SO_LINGER`), a Unix socket cannot. But the client of
//! a Unix socket gets `ECONNRESET`, after all bytes that were sent to it, if the server closes the socket while bytes of
//! the client's are unread (Linux, `unix_release_sock`). So the last byte that was read is left in the socket, and is
//! skipped by the next read. It is taken out only before an orderly close.

use std::io::{self, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::net::{RecvAncillaryBuffer, RecvFlags};
use tokio::io::{Interest, ReadBuf};
use tokio::net::UnixStream;

use super::stream::{is_read_closed, read_all};

/// A Unix stream whose last byte that was read is still in the socket. It is used on one thread.
pub(super) struct HeldStream {
    stream: UnixStream,
    /// Reads leave a byte in the socket.
    holds: AtomicBool,
    /// The first byte in the socket has been read already.
    is_held: AtomicBool,
}

impl HeldStream {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, holds: AtomicBool::new(true), is_held: AtomicBool::new(false) }
    }

    pub(super) fn get(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether reads leave a byte in the socket.
    pub(super) fn holds(&self) -> bool {
        self.holds.load(Relaxed)
    }

    /// From now on, reads leave nothing in the socket. That saves a system call for each read.
    pub(super) fn stop_holding(&self) {
        self.holds.store(false, Relaxed);
    }

    /// Takes the held byte out of the socket, so that the close is orderly.
    pub(super) fn release(&self) {
        self.stop_holding();
        if self.is_held.swap(false, Relaxed) {
            let _ = receive(&self.stream, &mut [0], &mut [], RecvFlags::empty());
        }
    }

    pub(super) fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        if !self.holds() && !self.is_held.load(Relaxed) {
            return read_all!(self.stream, buf, self.stream.try_read_buf(buf));
        }
        read_all!(self.stream, buf, self.read_held(buf))
    }

    /// Reads without the byte that was read before, and leaves the last byte in the socket.
    fn read_held(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        // Each iteration but the last takes a byte out of the socket.
        loop {
            let held = usize::from(self.is_held.load(Relaxed));
            let (mut skipped, space) = ([0; 1], buf.initialize_unfilled());
            let skipped = skipped.get_mut(..held).unwrap_or_default();
            let peeked = receive(&self.stream, skipped, space, RecvFlags::PEEK)?;
            let new = peeked.saturating_sub(held);
            if new == 0 {
                let is_end = held == 0 || is_read_closed(self.stream.ready(Interest::READABLE));
                return if is_end { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
            }
            let wanted = if self.holds() { peeked - 1 } else { peeked };
            let space = space.get_mut(..wanted.saturating_sub(held)).unwrap_or_default();
            let taken = if wanted == 0 { 0 } else { receive(&self.stream, skipped, space, RecvFlags::empty())? };
            // Fewer bytes than were shown may be taken where descriptors were sent with them. The others were not read
            // yet, so nothing is held, although bytes are in the socket.
            let is_all = taken == wanted;
            self.is_held.store(is_all && wanted < peeked, Relaxed);
            let read = if is_all { new } else { taken.saturating_sub(held) };
            if read > 0 {
                buf.advance(read);
                return Ok(read);
            }
        }
    }
}

/// Receives bytes into `first` and then into `second`, without waiting. Descriptors that the client sends are closed by
/// the kernel, because there is no room for them. The kernel ends a read behind them, which looks as if no more bytes
/// had arrived: the rest is read when more arrives, or the connection times out.
fn receive(stream: &UnixStream, first: &mut [u8], second: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    let mut parts = [IoSliceMut::new(first), IoSliceMut::new(second)];
    let flags = flags | RecvFlags::DONTWAIT;
    Ok(rustix::net::recvmsg(stream, &mut parts, &mut RecvAncillaryBuffer::default(), flags)?.bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::UnixStream as Client;

    use super::*;

    fn pair() -> (Client, HeldStream) {
        let (client, server) = Client::pair().expect("a pair");
        server.set_nonblocking(true).expect("no waiting");
        (client, HeldStream::new(UnixStream::from_std(server).expect("a runtime")))
    }

    /// Reads with a buffer of `size` bytes until nothing is there. Returns the bytes, and whether the stream has ended.
    async fn read(stream: &HeldStream, size: usize) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        loop {
            let mut space = vec![0; size];
            let mut buf = ReadBuf::new(&mut space);
            // The event loop may not have seen yet what the client did.
            tokio::task::yield_now().await;
            match stream.read(&mut buf) {
                Ok(0) => return (all, true),
                Ok(read) => assert_eq!(read, buf.filled().len()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (all, false),
                Err(error) => panic!("{error}"),
            }
            all.extend_from_slice(buf.filled());
        }
    }

    fn rest(mut client: Client) -> (Vec<u8>, Option<ErrorKind>) {
        let mut bytes = Vec::new();
        let end = client.read_to_end(&mut bytes);
        (bytes, end.err().map(|error| error.kind()))
    }

    #[tokio::test]
    async fn bytes_are_read_once_and_in_order_whatever_the_size_of_the_buffer() {
        for size in [1, 2, 3, 64] {
            for stops_after in [None, Some(0), Some(1), Some(2)] {
                let (mut client, stream) = pair();
                let mut seen = Vec::new();
                for (at, piece) in ["a", "bcd", "e", "fghijk"].into_iter().enumerate() {
                    if stops_after == Some(at) {
                        stream.stop_holding();
                    }
                    client.write_all(piece.as_bytes()).expect("room");
                    stream.get().readable().await.expect("bytes");
                    let (bytes, has_ended) = read(&stream, size).await;
                    assert_eq!((String::from_utf8_lossy(&bytes).as_ref(), has_ended), (piece, false), "{size}");
                    seen.extend(bytes);
                }
                drop(client);
                while !is_read_closed(stream.get().ready(Interest::READABLE)) {
                    tokio::task::yield_now().await;
                }
                assert_eq!(read(&stream, size).await, (Vec::new(), true), "{size} {stops_after:?}");
            }
        }
    }

    #[tokio::test]
    async fn pieces_that_arrived_together_are_read_together() {
        let (mut client, stream) = pair();
        for piece in ["a", "bc", "d"] {
            client.write_all(piece.as_bytes()).expect("room");
        }
        stream.get().readable().await.expect("bytes");
        assert_eq!(read(&stream, 64).await, (b"abcd".to_vec(), false));
    }

    #[tokio::test]
    async fn a_close_is_a_reset_until_the_byte_is_released() {
        for (releases, expected) in [(false, Some(ErrorKind::ConnectionReset)), (true, None)] {
            let (mut client, stream) = pair();
            client.write_all(b"request").expect("room");
            stream.get().readable().await.expect("bytes");
            assert_eq!(read(&stream, 64).await.0, b"request");
            assert_eq!(stream.get().try_write(b"response").expect("room"), 8);
            if releases {
                stream.release();
            }
            drop(stream);
            assert_eq!(rest(client), (b"response".to_vec(), expected));
        }
    }
}
