//! Fd messages: bytes and file descriptors from one daylily process to another, over a Unix socket (`SCM_RIGHTS`).
//!
//! A process that daylily starts has such a socket as its standard input, and receives everything through it: nothing
//! is in its environment or on its command line, and the two sides need not agree on descriptor numbers.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use crate::sys::sealed::sealed;

/// Descriptors in one `sendmsg`. Linux allows at most 253 (`SCM_MAX_FD`).
const CHUNK: usize = 128;

/// Maximum number of descriptors in one fd message: far more than components and listeners need.
const MAX_DESCRIPTORS: usize = 100_000;

/// Sends `payload` and `descriptors`. Only a few bytes go through the socket, because the payload is in a file of its
/// own, so this does not wait for the receiver.
///
/// # Errors
///
/// When the receiver has closed the socket, or the system has no memory or descriptors left.
pub(crate) fn send(socket: &UnixStream, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let payload = sealed("daylily-parcel", payload)?;
    let mut all = vec![payload.as_fd()];
    all.extend_from_slice(descriptors);
    let count = u32::try_from(all.len()).map_err(io::Error::other)?;
    (&mut &*socket).write_all(&count.to_le_bytes())?;
    for chunk in all.chunks(CHUNK) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CHUNK))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(chunk)) {
            return Err(io::Error::other("too many descriptors in one message"));
        }
        rustix::net::sendmsg(socket, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
    }
    Ok(())
}

/// Receives what [`send`] sent. Blocks until it has arrived.
///
/// # Errors
///
/// When the sender has closed the socket, or sent something else.
pub(crate) fn receive(socket: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut count = [0; 4];
    (&mut &*socket).read_exact(&mut count)?;
    let count = u32::from_le_bytes(count) as usize;
    if count == 0 || count > MAX_DESCRIPTORS {
        return Err(io::Error::other(format!("invalid number of file descriptors in a message: {count}")));
    }
    let mut descriptors = Vec::with_capacity(count);
    while descriptors.len() < count {
        receive_chunk(socket, &mut descriptors)?;
    }
    let mut payload = Vec::new();
    // The file offset is shared with the sender's descriptor, and is at the end.
    let mut file = File::from(descriptors.remove(0));
    io::Seek::rewind(&mut file)?;
    file.read_to_end(&mut payload)?;
    Ok((payload, descriptors))
}

fn receive_chunk(socket: &UnixStream, descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CHUNK))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let message =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let before = descriptors.len();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    // At the descriptor limit, the kernel drops the remaining descriptors without an error.
    if descriptors.len() == before {
        return Err(io::Error::other(
            "file descriptors are missing in a message; is the limit of open files (ulimit -n) too low?",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_descriptors_arrive_in_order() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let files: Vec<File> = (0..300).map(|at| sealed("test", &[at as u8, 1]).expect("a file")).collect();
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        send(&ours, b"payload", &borrowed).expect("room in the socket");
        (&ours).write_all(b"next").expect("room in the socket");
        let (payload, received) = receive(&theirs).expect("the parcel");
        assert_eq!(payload, b"payload");
        assert_eq!(received.len(), 300);
        for (at, file) in received.into_iter().enumerate() {
            let mut bytes = Vec::new();
            let mut file = File::from(file);
            io::Seek::rewind(&mut file).expect("a file");
            file.read_to_end(&mut bytes).expect("a file");
            assert_eq!(bytes, [at as u8, 1]);
        }
        // The bytes after the message are still in the socket.
        let mut next = [0; 4];
        (&theirs).read_exact(&mut next).expect("what follows");
        assert_eq!(&next, b"next");
    }

    #[test]
    fn what_is_no_parcel_is_an_error() {
        for bytes in [&b""[..], b"\x01", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\0\0\0x"] {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            (&ours).write_all(bytes).expect("room in the socket");
            drop(ours);
            assert!(receive(&theirs).is_err(), "{bytes:?}");
        }
    }
}
