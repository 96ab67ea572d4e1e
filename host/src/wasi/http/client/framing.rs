//! Checks the bytes of a response before hyper parses them: limits what hyper 1.12 would read without end, and rejects
//! what hyper accepts against RFC 9112.
//!
//! This can be removed when hyper's client limits the number of interim responses, the digits of a chunk size and the
//! whitespace after it, and rejects a bare LF in chunks and trailers.

use super::connect::MAX_FIELDS;
use crate::message::transfer_coding::chunked::{
    self, Chunked, MAX_CHUNK_SIZE_DIGITS, MAX_EXTENSION_BYTES, MAX_TRAILER_BYTES, Scanned, SizeLines,
};

/// The most interim responses (1xx) to one request. A server that reports progress sends one every few seconds.
const MAX_INTERIM_RESPONSES: usize = 64;

/// The most bytes of the interim responses to one request.
const MAX_INTERIM_BYTES: usize = 64 << 10;

/// The most empty lines before a response. RFC 9112 allows none; hyper would parse all of them again for every byte
/// that arrives.
const MAX_EMPTY_LINES: usize = 1;

/// Chunk size lines are read as leniently as hyper reads them, everything else strictly.
const CHUNKED: chunked::Limits =
    chunked::Limits { trailer_bytes: MAX_TRAILER_BYTES, trailer_fields: MAX_FIELDS, size_lines: SizeLines::Lenient };

/// Why a response is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error(
        "its interim responses (1xx) are over the limit of {MAX_INTERIM_RESPONSES} responses (MAX_INTERIM_RESPONSES) or \
         {MAX_INTERIM_BYTES} bytes (MAX_INTERIM_BYTES)"
    )]
    InterimResponses,
    #[error("there are empty lines before its response")]
    EmptyLines,
    #[error("a chunk size is over the limit of {MAX_CHUNK_SIZE_DIGITS} digits (MAX_CHUNK_SIZE_DIGITS)")]
    ChunkSize,
    #[error("chunk extensions are over the limit of {MAX_EXTENSION_BYTES} bytes (MAX_EXTENSION_BYTES)")]
    ChunkExtensions,
    #[error(transparent)]
    Malformed(chunked::Error),
    #[error(
        "its trailer section is over the limit of {MAX_TRAILER_BYTES} bytes (MAX_TRAILER_BYTES) or {MAX_FIELDS} fields \
         (MAX_FIELDS)"
    )]
    Trailers,
}

/// The error messages name the limits, as for all limits of a response.
impl From<chunked::Error> for Violation {
    fn from(error: chunked::Error) -> Self {
        match error {
            chunked::Error::ChunkSizeDigits => Self::ChunkSize,
            chunked::Error::ExtensionBytes => Self::ChunkExtensions,
            chunked::Error::TrailerBytes | chunked::Error::TrailerFields => Self::Trailers,
            chunked::Error::ChunkSize
            | chunked::Error::Extension
            | chunked::Error::BareCr
            | chunked::Error::ChunkEnd
            | chunked::Error::Trailer => Self::Malformed(error),
        }
    }
}

/// Scans the bytes of a connection from the request to the end of its response.
#[derive(Default)]
pub(super) enum Scanner {
    /// Nothing to check: hyper counts a body with a length, and closes a connection on which it receives bytes between
    /// two exchanges.
    #[default]
    Unwatched,
    Head(Head),
    Chunks(Chunked),
}

impl Scanner {
    /// A scanner for the response to a request that is about to be sent.
    pub(super) fn response_to(is_head_request: bool) -> Self {
        Self::Head(Head { is_head_request, ..Head::default() })
    }

    /// Scans the next bytes.
    ///
    /// # Errors
    ///
    /// The violation, and the number of valid bytes before it.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<(), (usize, Violation)> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let read = bytes.len() - rest.len();
            let step = match self {
                Self::Unwatched => return Ok(()),
                Self::Head(head) => head.scan(rest),
                Self::Chunks(chunked) => scan_chunks(chunked, rest),
            };
            let (scanned, next) = step.map_err(|(scanned, violation)| (read + scanned, violation))?;
            if let Some(next) = next {
                *self = next;
            }
            rest = rest.get(scanned..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The number of bytes scanned and, if the state changes, the scanner for the rest.
type Step = Result<(usize, Option<Scanner>), (usize, Violation)>;

fn scan_chunks(chunked: &mut Chunked, bytes: &[u8]) -> Step {
    match chunked.scan(bytes, CHUNKED) {
        Scanned { valid, error: Some(error), .. } => Err((valid, error.into())),
        Scanned { valid, error: None, .. } => Ok((valid, chunked.has_ended().then_some(Scanner::Unwatched))),
    }
}

const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";

/// The offset of the three status digits in `HTTP/1.1 200 OK`.
const STATUS_AT: usize = 9;

/// The head of a response, with the interim responses before it. A line ends as for httparse: with LF, optionally
/// preceded by CR.
#[derive(Default)]
pub(super) struct Head {
    is_head_request: bool,
    interim_responses: usize,
    interim_bytes: usize,
    /// The state of the current head.
    bytes: usize,
    empty_lines: usize,
    status: u16,
    has_status_line: bool,
    is_coded: bool,
    /// The state of the current line: its length, whether its last byte is a CR, and whether it matches
    /// [`TRANSFER_ENCODING`] so far.
    line_bytes: usize,
    ends_with_cr: bool,
    is_coding: bool,
}

impl Head {
    fn scan(&mut self, bytes: &[u8]) -> Step {
        for (at, byte) in bytes.iter().enumerate() {
            self.bytes += 1;
            if *byte != b'\n' {
                self.take(*byte);
                continue;
            }
            let is_empty = self.line_bytes == usize::from(self.ends_with_cr);
            let next = if is_empty { self.empty_line() } else { self.line() };
            (self.line_bytes, self.ends_with_cr) = (0, false);
            if let Some(next) = next.map_err(|violation| (at, violation))? {
                return Ok((at + 1, Some(next)));
            }
        }
        Ok((bytes.len(), None))
    }

    fn take(&mut self, byte: u8) {
        let at = self.line_bytes;
        self.line_bytes += 1;
        self.ends_with_cr = byte == b'\r';
        if !self.has_status_line {
            if (STATUS_AT..STATUS_AT + 3).contains(&at) {
                self.status = self.status.wrapping_mul(10).wrapping_add(u16::from(byte.wrapping_sub(b'0')));
            }
        } else if let Some(expected) = TRANSFER_ENCODING.get(at) {
            self.is_coding = (at == 0 || self.is_coding) && byte.to_ascii_lowercase() == *expected;
        }
    }

    fn line(&mut self) -> Result<Option<Scanner>, Violation> {
        self.is_coded |= self.has_status_line && self.is_coding && self.line_bytes >= TRANSFER_ENCODING.len();
        self.has_status_line = true;
        Ok(None)
    }

    fn empty_line(&mut self) -> Result<Option<Scanner>, Violation> {
        if !self.has_status_line {
            self.empty_lines += 1;
            return if self.empty_lines > MAX_EMPTY_LINES { Err(Violation::EmptyLines) } else { Ok(None) };
        }
        // 101 ends HTTP on the connection, and `send` rejects it.
        if !matches!(self.status, 100 | 102..=199) {
            // RFC 9112 §6.3: these have no body. `send` rejects every coding but chunked.
            let has_body = !self.is_head_request && !matches!(self.status, 101 | 204 | 304);
            let is_chunked = self.is_coded && has_body;
            return Ok(Some(if is_chunked { Scanner::Chunks(Chunked::default()) } else { Scanner::Unwatched }));
        }
        let interim_responses = self.interim_responses + 1;
        let interim_bytes = self.interim_bytes + self.bytes;
        if interim_responses > MAX_INTERIM_RESPONSES || interim_bytes > MAX_INTERIM_BYTES {
            return Err(Violation::InterimResponses);
        }
        *self = Self { is_head_request: self.is_head_request, interim_responses, interim_bytes, ..Self::default() };
        Ok(None)
    }
}
