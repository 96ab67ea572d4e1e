//! Connections between processes that have no address for each other: one end of a new socket pair is sent over a socket
//! that both have, the doorbell. It waits there until the other process takes it, also while that process is started
//! again.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// Connects to the process at the other end of `doorbell`. Does not wait for it.
///
/// # Errors
///
/// If that process is gone for good, does not take connections, or the system has no descriptors left.
pub(crate) fn ring(doorbell: &UnixStream) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = [theirs.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&theirs));
    // One byte in one message, which arrives whole or not at all.
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(doorbell, &[IoSlice::new(&[0])], &mut ancillary, flags)?;
    Ok(ours)
}

/// Takes the next connection; None if there is none yet. Does not wait.
///
/// # Errors
///
/// `UnexpectedEof` when no process is left that could connect.
pub(crate) fn answer(doorbell: &UnixStream) -> io::Result<Option<UnixStream>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = match rustix::net::recvmsg(doorbell, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags) {
        Ok(received) => received,
        Err(error) if error == rustix::io::Errno::AGAIN => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return Ok(descriptors.next().map(UnixStream::from));
        }
    }
    // At the descriptor limit, the kernel drops the descriptor, and the other side sees its connection closed.
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn connections_wait_until_they_are_taken() {
        let (front, back) = UnixStream::pair().expect("a pair");
        assert!(answer(&back).expect("a doorbell").is_none());
        let ours: Vec<UnixStream> = (0..3).map(|_| ring(&front).expect("room")).collect();
        for (number, mut stream) in (0_u8..).zip(&ours) {
            stream.write_all(&[number]).expect("a connection");
        }
        for number in 0..3 {
            let mut theirs = answer(&back).expect("a doorbell").expect("a connection");
            let mut byte = [9];
            theirs.read_exact(&mut byte).expect("a byte");
            assert_eq!(byte, [number]);
        }
        // Those that are left in the socket are closed with it.
        let mut left = ring(&front).expect("room");
        drop(back);
        assert_eq!(left.read(&mut [0]).expect("an end"), 0);
        assert!(ring(&front).is_err());
    }

    #[test]
    fn the_end_of_all_others_is_seen() {
        let (front, back) = UnixStream::pair().expect("a pair");
        let also = front.try_clone().expect("a descriptor");
        drop(front);
        assert!(answer(&back).expect("a doorbell").is_none());
        drop(also);
        assert_eq!(answer(&back).expect_err("the end").kind(), io::ErrorKind::UnexpectedEof);
    }
}
