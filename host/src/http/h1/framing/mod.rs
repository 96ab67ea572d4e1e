//! Finds where each message on a client's connection ends. The bytes are checked before hyper gets them, by rules that
//! are stricter than hyper's where two parsers could read them differently. hyper gets no byte of a message part before
//! the end of the previous part is known. Pure: no socket, no clock, no allocation.
//!
//! Written for hyper 1.12.0, whose chunked decoder takes any line in a trailer section for the last one after a bare LF
//! (`0\r\nX: a\n\r\n` swallows what follows), reads any number of leading zeros of a chunk size, and drops the fragment
//! of a target. When hyper fixes all three, the use of [`chunked`] and the fragment in [`head`] can be removed.
//! `Transfer-Encoding` is checked in [`crate::message::transfer_coding`], because hyper accepts any list that ends in `chunked`.

mod head;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use self::head::HeadScanner;
use crate::message::transfer_coding::chunked::{self, Chunked, Scanned, SizeLines};

/// Most empty lines before a request line (RFC 9112 §2.2: servers should ignore at least one).
pub(crate) const MAX_EMPTY_LINES: u8 = 16;

/// Bytes of chunked framing, without chunk data, after which the connection yields to others. hyper reads them one by
/// one, in under 0.1 ms per KiB.
const TURN_BYTES: usize = 4 * 1024;

/// Why bytes are not HTTP/1.1, or are ambiguous. Bytes after them are not read as a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// More than [`MAX_EMPTY_LINES`] empty lines.
    #[error("there are more than {MAX_EMPTY_LINES} empty lines before the request line")]
    EmptyLines,
    /// A CR before the request line that is not followed by LF.
    #[error("there is a bare CR before the request line")]
    BareCr,
    /// hyper and [`Framing`] disagree about the end of the head.
    #[error("the end of the head is ambiguous")]
    Ambiguous,
    /// Invalid chunked framing or trailer section.
    #[error(transparent)]
    Chunked(#[from] chunked::Error),
}

/// The limits `max_head` and `max_headers`, which also apply to a trailer section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// `max_head`.
    pub(crate) head_bytes: usize,
    /// `max_headers`.
    pub(crate) fields: u32,
}

impl Limits {
    /// hyper fails when a trailer section reaches `max_head` bytes, so the limit is one less.
    fn chunked(self) -> chunked::Limits {
        chunked::Limits {
            trailer_bytes: self.head_bytes.saturating_sub(1),
            trailer_fields: self.fields,
            size_lines: SizeLines::Strict,
        }
    }
}

/// The body that follows a request's head (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// A body of this many bytes; 0 means no body.
    Length(u64),
    /// A chunked body, up to the empty line after the trailer section.
    Chunked,
}

/// What to do with received bytes. The bytes after `skip` and `pass` are for a later step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Number of bytes to drop: empty lines before a request line.
    pub(crate) skip: usize,
    /// Number of bytes after those to pass to the parser.
    pub(crate) pass: usize,
}

/// The framing of one connection's messages, one after the other.
#[derive(Debug)]
pub(crate) struct Framing {
    limits: Limits,
    /// The head that is being read, or the last one that was read.
    head: HeadScanner,
    /// Number of body bytes that were passed together with that head.
    ahead: u64,
    /// Bytes of chunked framing that were passed since the connection last yielded.
    turn_bytes: usize,
    part: Part,
}

#[derive(Debug)]
enum Part {
    HeadScanner,
    /// A head has passed; the next call of [`Framing::begin_body`] determines the body.
    HeadPassed,
    /// Number of body bytes left.
    Length(u64),
    Chunked(Chunked),
    Broken(Error),
}

impl Framing {
    /// The state before the first request.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, head: HeadScanner::default(), ahead: 0, turn_bytes: 0, part: Part::HeadScanner }
    }

    /// Decides what to do with `bytes`, the next bytes of the connection: all that previous steps neither skipped nor
    /// passed. A step is empty only if `bytes` is empty.
    ///
    /// # Errors
    ///
    /// When the first byte is invalid. Every later call returns the same error.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<Step, Error> {
        let step = match &mut self.part {
            Part::HeadScanner => self.head.step(bytes).map(|step| {
                if self.head.has_ended() {
                    self.part = Part::HeadPassed;
                    self.ahead_of(step, bytes.len())
                } else {
                    step
                }
            }),
            Part::HeadPassed => Err(Error::Ambiguous),
            Part::Length(left) => {
                let pass = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= pass as u64;
                if *left == 0 {
                    self.begin_head();
                }
                Ok(Step { skip: 0, pass })
            }
            Part::Chunked(chunked) => {
                let Scanned { valid: pass, framing, error } = chunked.scan(bytes, self.limits.chunked());
                let error = error.map(Error::Chunked);
                self.turn_bytes += framing;
                let has_ended = chunked.has_ended();
                match error {
                    Some(error) if pass > 0 => self.part = Part::Broken(error),
                    None if has_ended => self.begin_head(),
                    _ => {}
                }
                error.filter(|_| pass == 0).map_or(Ok(Step { skip: 0, pass }), Err)
            }
            Part::Broken(error) => Err(*error),
        };
        step.inspect_err(|error| self.part = Part::Broken(*error))
    }

    /// The parser has parsed the head that passed, and found this body after it.
    ///
    /// # Errors
    ///
    /// When no head has passed, or the body differs from [`Framing::ahead`]. All later steps fail, too.
    pub(crate) fn begin_body(&mut self, body: Body) -> Result<(), Error> {
        match (&self.part, body) {
            (Part::HeadPassed, Body::Length(length)) if length == self.ahead => self.begin_head(),
            (Part::HeadPassed, Body::Length(length)) if self.ahead == 0 => self.part = Part::Length(length),
            (Part::HeadPassed, Body::Chunked) if self.ahead == 0 => self.part = Part::Chunked(Chunked::default()),
            (Part::Broken(error), _) => return Err(*error),
            _ => {
                self.part = Part::Broken(Error::Ambiguous);
                return Err(Error::Ambiguous);
            }
        }
        Ok(())
    }

    /// Whether the next bytes belong to a request's head, including the empty lines before it.
    pub(crate) fn is_head(&self) -> bool {
        matches!(self.part, Part::HeadScanner)
    }

    /// Whether a head has passed and its body is not known yet.
    pub(crate) fn has_head_passed(&self) -> bool {
        matches!(self.part, Part::HeadPassed)
    }

    /// Whether the last head's target has a fragment, which is not allowed (RFC 9112 §3.2, RFC 9110 §7.1).
    pub(crate) fn has_fragment(&self) -> bool {
        self.head.has_fragment()
    }

    /// Whether the received part of the request line alone is longer than a head may be.
    pub(crate) fn is_request_line_too_long(&self) -> bool {
        self.head.is_within_request_line() || self.head.request_line_bytes() > self.limits.head_bytes
    }

    /// The length of the whole body that was passed in one piece with the head; 0 if none was. It is taken from the
    /// head by [`head`] only: the parser must find the same length before it uses these bytes.
    pub(crate) fn ahead(&self) -> u64 {
        self.ahead
    }

    /// Adds the body to a step that ends with its head, if the whole body has been received: it is then not buffered
    /// and copied.
    fn ahead_of(&mut self, step: Step, came: usize) -> Step {
        let length = self.head.length().and_then(|length| usize::try_from(length).ok());
        let whole = length.filter(|length| *length <= came - step.skip - step.pass).unwrap_or(0);
        self.ahead = whole as u64;
        Step { pass: step.pass + whole, ..step }
    }

    /// Whether the connection must yield to others, because more than [`TURN_BYTES`] of framing passed, which gives a
    /// guest no data. Resets the count if so.
    pub(crate) fn is_turn_over(&mut self) -> bool {
        let is_over = self.turn_bytes > TURN_BYTES;
        if is_over {
            self.turn_bytes = 0;
        }
        is_over
    }

    fn begin_head(&mut self) {
        self.ahead = 0;
        self.head = HeadScanner::default();
        self.part = Part::HeadScanner;
    }
}
