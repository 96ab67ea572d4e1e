//! What workers ask of the storage process, and what it answers. Both are the same version of the program.
//!
//! A frame is the length of its payload, 4 bytes, and the payload in postcard format.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use rustix::time::ClockId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sys::clock::time_ns;

/// Keys in one answer to [`Operation::List`].
pub(crate) const PAGE_KEYS: u32 = 1_000;

/// Bytes of the values in one answer: what one call of a guest may copy.
pub(crate) const MAX_ANSWER_BYTES: usize = 2 << 20;

/// A page of keys ends with the key that makes it so long.
pub(crate) const PAGE_BYTES: usize = 1 << 20;

/// The longest key of a store: this is the maximum of `max_key`.
pub(crate) const MAX_KEY_BYTES: usize = 64 << 10;

/// A page has no more bytes. The last part of it may be one long key.
pub(crate) const MAX_PAGE_BYTES: usize = PAGE_BYTES + MAX_KEY_BYTES;

/// Maximum length of a payload: more than one call of a guest may pass, and than the longest answer.
const MAX_FRAME_BYTES: usize = 8 << 20;

const LENGTH_BYTES: usize = 4;

/// An operation, with the number that its answer has. A worker sends a borrowed one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request<O = Operation> {
    pub(crate) id: u64,
    /// The worker does not wait any longer, by [`now_ns`]. An operation that has not begun by then is not begun.
    pub(crate) until_ns: u64,
    pub(crate) operation: O,
}

/// An operation on a key-value store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// [`Answer::Values`] of these keys.
    Get(Vec<String>),
    /// [`Answer::Exists`].
    Exists(String),
    /// [`Answer::Keys`]: the keys after this cursor, or the first ones, at most [`PAGE_KEYS`] and about [`PAGE_BYTES`].
    List(Option<u64>),
    /// [`Answer::Entry`].
    Read(String),
    /// [`Answer::Done`]. All of them or none.
    Set(Vec<(String, Bytes)>),
    /// [`Answer::Done`]. All of them or none; keys that do not exist are no error.
    Delete(Vec<String>),
    /// Adds to a number; a key that does not exist is 0. [`Answer::Number`], which is not less than the last one.
    Increment(String, i64, i64),
    /// Sets the value if the entry is still as it was seen. [`Answer::Done`], or else [`Answer::Entry`] as it is now.
    Swap(String, Seen, Bytes),
}

/// How an entry was, for a later swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Seen {
    Missing,
    /// With this revision, which each write changes.
    Revision(u64),
    /// With this value, in a store without revisions.
    Value(Bytes),
}

impl Seen {
    /// From what [`Answer::Entry`] has.
    pub(crate) fn of(entry: Option<(Bytes, Option<u64>)>) -> Self {
        match entry {
            None => Self::Missing,
            Some((_, Some(revision))) => Self::Revision(revision),
            Some((value, None)) => Self::Value(value),
        }
    }
}

impl Operation {
    /// Whether it changes nothing, so that it may be repeated.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Get(_) | Self::Exists(_) | Self::List(_) | Self::Read(_))
    }
}

/// The answer to the request with the same number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    pub(crate) id: u64,
    pub(crate) result: Result<Answer, StoreError>,
}

/// What an operation has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Exists(bool),
    Number(i64),
    /// In the order of the keys.
    Values(Vec<Option<Bytes>>),
    /// An entry's value, and its revision in a store that has them.
    Entry(Option<(Bytes, Option<u64>)>),
    Keys(Page),
}

/// Some of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) keys: Vec<String>,
    /// Where the next page begins; None if this is the last one.
    pub(crate) next: Option<u64>,
}

/// Why an operation has failed, as the guest is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum StoreError {
    #[error("the value is not a whole number of 64 bits in decimal digits")]
    NotANumber,
    #[error("the number would be out of the range of 64 bits")]
    Overflow,
    #[error("the number would be negative, which this interface cannot express; wasi:keyvalue@0.2.0-draft2 can")]
    Negative,
    #[error("the values are more than 2 MiB together; read fewer at a time")]
    AnswerTooLarge,
    #[error("the store is full: it has reached max_store, or the disk is full")]
    Full,
    #[error("the store is full: its server has no room left")]
    ServerFull,
    #[error("the server has something else than a value there; only daylily may use keys with the store's prefix")]
    Foreign,
    #[error("the key is too long for the store's server")]
    KeyTooLongForServer,
    #[error("the value is too long for the store's server (max_payload)")]
    TooLongForServer,
    #[error("others have written to the key each time that it was tried, and nothing was changed")]
    Contended,
    #[error("the store's server cannot be reached, and nothing was changed")]
    Unavailable,
    #[error("the connection to the store's server was lost; a write may have been applied, or may still be")]
    Disconnected,
    #[error("the store is locked by another process")]
    Locked,
    #[error("the operation was not begun within store_timeout, and nothing was changed: the store is slow or locked")]
    Expired,
    #[error("the operation was not finished within store_timeout; some of its entries may have been written")]
    Unfinished,
    #[error("the store has too many operations waiting")]
    Busy,
    #[error("the store cannot be used; the server's log says why")]
    Failed,
}

/// A whole number in decimal digits, in the only form that it is written in.
pub(super) fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The time that deadlines are on, in all processes.
pub(crate) fn now_ns() -> u64 {
    time_ns(ClockId::Monotonic)
}

/// Appends a frame to `to`.
pub(crate) fn encode(message: &impl Serialize, to: &mut BytesMut) -> io::Result<()> {
    let begin = to.len();
    to.extend_from_slice(&[0; LENGTH_BYTES]);
    let mut sink = Sink(to);
    if let Err(error) = postcard::to_io(message, &mut sink) {
        to.truncate(begin);
        return Err(io::Error::other(error));
    }
    let length = to.len() - begin - LENGTH_BYTES;
    match (u32::try_from(length), to.get_mut(begin..begin + LENGTH_BYTES)) {
        (Ok(bytes), Some(place)) if length <= MAX_FRAME_BYTES => {
            place.copy_from_slice(&bytes.to_le_bytes());
            Ok(())
        }
        _ => {
            to.truncate(begin);
            Err(io::Error::other("a message is too long"))
        }
    }
}

struct Sink<'a>(&'a mut BytesMut);

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the first frame out of `from`; None if it is not complete.
///
/// # Errors
///
/// If it is no frame.
pub(crate) fn decode<T: DeserializeOwned>(from: &mut BytesMut) -> io::Result<Option<T>> {
    let Some(length) = from.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let Some(payload) = from.get(LENGTH_BYTES..LENGTH_BYTES + length) else {
        from.reserve(LENGTH_BYTES + length - from.len());
        return Ok(None);
    };
    let message = postcard::from_bytes(payload).map_err(io::Error::other)?;
    from.advance(LENGTH_BYTES + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_in_any_pieces() {
        let operations = [
            Operation::Get(vec!["a".to_owned(), "é\0".to_owned()]),
            Operation::Set(vec![("a".to_owned(), Bytes::from(vec![0; 1 << 20]))]),
            Operation::Swap(String::new(), Seen::Revision(u64::MAX), Bytes::new()),
        ];
        let mut all = BytesMut::new();
        for (id, operation) in (0..).zip(&operations) {
            let request = Request { id, until_ns: 1, operation };
            encode(&request, &mut all).expect("a frame");
        }
        for piece in [1, 3, 4, 5, 1_000, all.len()] {
            let mut received = BytesMut::new();
            let mut found = Vec::new();
            for bytes in all.chunks(piece) {
                received.extend_from_slice(bytes);
                // The long value in pieces of one byte would take a while.
                if bytes.len() == piece && piece < 5 && (100..1 << 20).contains(&received.len()) {
                    continue;
                }
                while let Some(request) = decode::<Request>(&mut received).expect("frames") {
                    found.push(request.operation);
                }
            }
            assert_eq!(found, operations, "in pieces of {piece}");
            assert!(received.is_empty());
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bytes in [&b"\xff\xff\xff\xff"[..], b"\x01\0\0\0\xff", b"\0\0\0\0"] {
            assert!(decode::<Request>(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
        assert!(decode::<Request>(&mut BytesMut::from(&b"\x01\0\0"[..])).expect("a part").is_none());
    }
}
