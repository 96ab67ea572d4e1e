//! Where the messages on a client's connection end. The bytes are judged before hyper gets them, by rules that are
//! stricter than hyper's where another parser could read them differently, and hyper gets no byte of a message part
//! before the part in front of it is known. Pure: no socket, no clock, no allocation.
//!
//! Written for hyper 1.12.0, whose chunked decoder takes any line in a trailer section for the last one after a bare
//! LF (`0\r\nX: a\n\r\n` swallows what follows), reads zeros of a chunk size without end, and drops a fragment of the
//! target. Where all three are mended, the use of [`chunked`] and the fragment of [`head`] can go; `Transfer-Encoding`
//! is judged in [`crate::transfer_coding`], since hyper takes any list that ends in `chunked`.

mod head;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use self::head::Head;
use crate::transfer_coding::chunked::{self, Chunked, Scanned, SizeLines};

/// Empty lines before a request line (RFC 9112 §2.2 asks for at least one).
pub(crate) const MAX_EMPTY_LINES: u8 = 16;

/// Bytes of chunked framing, without the data between them, after which other connections have their turn. hyper reads
/// them one by one, in under a tenth of a millisecond for each KiB.
const TURN_BYTES: usize = 4 * 1024;

/// Why bytes are not, or not beyond doubt, HTTP/1.1. Nothing that comes after them is a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// More than [`MAX_EMPTY_LINES`].
    #[error("there are more than {MAX_EMPTY_LINES} empty lines before the request line")]
    EmptyLines,
    /// A CR before the request line that no LF follows.
    #[error("there is a bare CR before the request line")]
    BareCr,
    /// hyper and [`Framing`] find the end of the head at different places.
    #[error("the end of the head is ambiguous")]
    Ambiguous,
    /// What is no chunk, or no trailer section.
    #[error(transparent)]
    Chunked(#[from] chunked::Error),
}

/// What the keys `max_head` and `max_headers` say of a trailer section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// `max_head`.
    pub(crate) head_bytes: usize,
    /// `max_headers`.
    pub(crate) fields: u32,
}

impl Limits {
    /// hyper gives up at `max_head` bytes of a trailer section.
    fn chunked(self) -> chunked::Limits {
        chunked::Limits {
            trailer_bytes: self.head_bytes.saturating_sub(1),
            trailer_fields: self.fields,
            size_lines: SizeLines::Strict,
        }
    }
}

/// What follows a request's head (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes; 0 is no body.
    Length(u64),
    /// Chunks, to the empty line after the last one.
    Chunked,
}

/// What is to be done with bytes that came. What is beyond both counts is not for now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// So many are dropped: empty lines before a request line.
    pub(crate) skip: usize,
    /// The next so many are the parser's.
    pub(crate) pass: usize,
}

/// The messages of one connection, one after the other.
#[derive(Debug)]
pub(crate) struct Framing {
    limits: Limits,
    /// The head that is being read, or was read last.
    head: Head,
    /// So many bytes of its body have passed with it.
    ahead: u64,
    /// Bytes of chunked framing that have passed in this turn.
    turn_bytes: usize,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Head,
    /// A head has passed; [`Framing::begin_body`] is to say what follows.
    HeadPassed,
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunked),
    Broken(Error),
}

impl Framing {
    /// Before the first request.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, head: Head::default(), ahead: 0, turn_bytes: 0, part: Part::Head }
    }

    /// Says what to do with `bytes`, the next ones of the connection: all that were not skipped or passed before.
    /// A step is empty only for no bytes.
    ///
    /// # Errors
    ///
    /// When the first byte cannot be taken. The same error again ever after.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<Step, Error> {
        let step = match &mut self.part {
            Part::Head => self.head.step(bytes).map(|step| {
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

    /// The parser has read the head that passed, and finds this body after it.
    ///
    /// # Errors
    ///
    /// When no head has passed, or [`Framing::ahead`] is another body. There is no step after that either.
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

    /// Whether a request's head, empty lines before it included, comes next or has begun.
    pub(crate) fn is_head(&self) -> bool {
        matches!(self.part, Part::Head)
    }

    /// Whether a head has passed whose body is not known yet.
    pub(crate) fn has_head_passed(&self) -> bool {
        matches!(self.part, Part::HeadPassed)
    }

    /// Whether the last head's target has a fragment, which none may have (RFC 9112 §3.2, RFC 9110 §7.1).
    pub(crate) fn has_fragment(&self) -> bool {
        self.head.has_fragment()
    }

    /// Whether the request line alone, as far as it has come, is longer than a head may be.
    pub(crate) fn is_request_line_too_long(&self) -> bool {
        self.head.is_within_request_line() || self.head.request_line_bytes() > self.limits.head_bytes
    }

    /// The length of the whole body that passed with the head, in one piece; 0 if none did. It is what the head seems
    /// to say: the parser must find the same before it takes these bytes for anything.
    pub(crate) fn ahead(&self) -> u64 {
        self.ahead
    }

    /// Adds the body to a step that ends with its head, if all of it is there: it need not be kept and copied then.
    fn ahead_of(&mut self, step: Step, came: usize) -> Step {
        let length = self.head.length().and_then(|length| usize::try_from(length).ok());
        let whole = length.filter(|length| *length <= came - step.skip - step.pass).unwrap_or(0);
        self.ahead = whole as u64;
        Step { pass: step.pass + whole, ..step }
    }

    /// Whether so much has passed that yields nothing to a guest that others should have their turn. The next turn
    /// begins then.
    pub(crate) fn is_turn_over(&mut self) -> bool {
        let is_over = self.turn_bytes > TURN_BYTES;
        if is_over {
            self.turn_bytes = 0;
        }
        is_over
    }

    fn begin_head(&mut self) {
        self.ahead = 0;
        self.head = Head::default();
        self.part = Part::Head;
    }
}
