//! A worker's connection to a store: frames in, frames out, without waiting.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use bytes::{Buf as _, BytesMut};
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendFlags};

use super::message::{self, Answer, Operation, Request, Response, StoreError};

/// Bytes that are read from a connection before the next one has its turn.
pub(super) const READ_BYTES: usize = 64 << 10;

/// Operations of one connection that may wait, and their bytes. Further writes fail.
const MAX_WAITING: usize = 1_024;
const MAX_WAITING_BYTES: usize = 16 << 20;

/// Answers that a worker has not read. While there are so many bytes, no more of its operations are read, and those that
/// have arrived and read from the store wait.
const MAX_UNREAD_BYTES: usize = 4 << 20;

/// A connection.
pub(super) struct Connection {
    number: u64,
    stream: UnixStream,
    input: BytesMut,
    output: BytesMut,
    waiting: usize,
    waiting_bytes: usize,
    is_closed: bool,
}

/// An operation that has arrived and has no answer yet.
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) operation: Operation,
    pub(super) until_ns: u64,
}

/// What the answer to an operation needs.
pub(super) struct Ticket {
    pub(super) connection: u64,
    id: u64,
    bytes: usize,
}

/// Whether there may be more to receive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The buffer was filled, or the connection is closed.
    MaybeMore,
    /// What arrives next makes the socket readable again.
    All,
}

impl Connection {
    pub(super) fn new(number: u64, stream: UnixStream) -> Self {
        let (input, output) = Default::default();
        Self { number, stream, input, output, waiting: 0, waiting_bytes: 0, is_closed: false }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether the worker has to read answers before it gets more.
    pub(super) fn is_unread(&self) -> bool {
        self.output.len() >= MAX_UNREAD_BYTES
    }

    /// What to wait for.
    pub(super) fn awaited(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, !self.is_unread());
        flags.set(PollFlags::OUT, !self.output.is_empty());
        flags
    }

    /// Receives operations, if there are any.
    pub(super) fn receive(&mut self, buffer: &mut [u8], waiting: &mut VecDeque<Waiting>) -> Received {
        let received = match receive(&self.stream, buffer, &mut self.input) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Received::All,
            Err(_) => {
                self.is_closed = true;
                Received::MaybeMore
            }
        };
        loop {
            let before = self.input.len();
            match message::decode::<Request>(&mut self.input) {
                Ok(Some(Request { id, until_ns, operation })) => {
                    let bytes = before - self.input.len();
                    let is_full = self.waiting >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES;
                    if is_full && !operation.is_read() {
                        self.respond(&Response { id, result: Err(StoreError::Busy) });
                        continue;
                    }
                    self.waiting += 1;
                    self.waiting_bytes += bytes;
                    let ticket = Ticket { connection: self.number, id, bytes };
                    waiting.push_back(Waiting { ticket, operation, until_ns });
                }
                Ok(None) => return received,
                Err(_) => {
                    self.is_closed = true;
                    return Received::MaybeMore;
                }
            }
        }
    }

    /// The answer to an operation, which is sent later.
    pub(super) fn answer(&mut self, ticket: &Ticket, result: Result<Answer, StoreError>) {
        self.waiting -= 1;
        self.waiting_bytes -= ticket.bytes;
        self.respond(&Response { id: ticket.id, result });
    }

    fn respond(&mut self, response: &Response) {
        if message::encode(response, &mut self.output).is_ok() {
            return;
        }
        // Answers are bounded, so that they fit into a frame. One that does not is the fault of its operation alone.
        let refused = Response { id: response.id, result: Err(StoreError::AnswerTooLarge) };
        if message::encode(&refused, &mut self.output).is_err() {
            self.is_closed = true;
        }
    }

    /// Sends as much as the worker takes. Returns whether that was all.
    pub(super) fn send(&mut self) -> bool {
        while !self.output.is_empty() && !self.is_closed {
            match rustix::net::send(&self.stream, &self.output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => self.output.advance(sent),
                Err(rustix::io::Errno::AGAIN) => return false,
                Err(_) => self.is_closed = true,
            }
        }
        true
    }
}

/// Reads once from `socket`, through `buffer`. Does not wait. What follows a read that does not fill the buffer makes the
/// socket readable again, so no further call has to find that there is nothing.
///
/// # Errors
///
/// `WouldBlock`; `UnexpectedEof` at the end; those of the socket.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8], received: &mut BytesMut) -> io::Result<Received> {
    let (count, _) = rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT)?;
    match buffer.get(..count) {
        None | Some([]) => Err(ErrorKind::UnexpectedEof.into()),
        Some(bytes) => {
            received.extend_from_slice(bytes);
            Ok(if count < buffer.len() { Received::All } else { Received::MaybeMore })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::message::Page;

    #[test]
    fn an_answer_that_is_too_long_is_an_error_of_its_operation() {
        let (stream, _other) = UnixStream::pair().expect("a pair");
        let mut connection = Connection::new(0, stream);
        let keys = vec!["k".repeat(64 << 10); 200];
        connection.respond(&Response { id: 7, result: Ok(Answer::Keys(Page { keys, next: None })) });
        connection.respond(&Response { id: 8, result: Ok(Answer::Done) });
        assert!(!connection.is_closed());
        for (id, expected) in [(7, Err(StoreError::AnswerTooLarge)), (8, Ok(Answer::Done))] {
            let response: Response = message::decode(&mut connection.output).expect("a frame").expect("a whole one");
            assert_eq!((response.id, response.result), (id, expected));
        }
    }
}
