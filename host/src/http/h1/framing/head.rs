//! Finds the end of a request's head by the rules of httparse 1.10: empty lines before the request line do not belong
//! to it, a line ends in LF or CRLF (RFC 9112 §2.2), and the next empty line ends the head.
//!
//! The length of a body that arrives with its head is only a guess, which hyper must confirm.

use memchr::{memchr, memchr2};

use super::{Error, MAX_EMPTY_LINES, Step};

/// How much of a head has been received.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    place: Position,
    empty_lines: u8,
    request_line_bytes: usize,
    /// A space has been read, so the method has ended, and a `#` belongs to the target.
    has_space: bool,
    has_fragment: bool,
    length: Length,
}

/// The body's length according to the fields, if it is unambiguous.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Length {
    #[default]
    None,
    /// One valid `Content-Length`, and no `Transfer-Encoding`.
    Known(u64),
    Unclear,
}

/// Where in the head the next byte is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Position {
    /// At the start of a line, after only empty lines.
    #[default]
    Before,
    /// After a CR at the start of a line, after only empty lines.
    BeforeLf,
    RequestLine,
    FieldStart,
    /// After a CR at the start of a line.
    FieldLf,
    Field,
    Ended,
}

impl HeadScanner {
    /// See [`super::Framing::step`].
    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, Error> {
        let skip = self.skip_empty_lines(bytes)?;
        let rest = bytes.get(skip..).unwrap_or_default();
        let mut pass = 0;
        if self.place == Position::RequestLine {
            pass = self.pass_request_line(rest);
        }
        pass = self.pass_fields(rest, pass);
        Ok(Step { skip, pass })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.place == Position::Ended
    }

    /// The body's length, if it is unambiguous.
    pub(super) fn length(&self) -> Option<u64> {
        match self.length {
            Length::Known(length) => Some(length),
            Length::None | Length::Unclear => None,
        }
    }

    pub(super) fn has_fragment(&self) -> bool {
        self.has_fragment
    }

    pub(super) fn is_within_request_line(&self) -> bool {
        self.place == Position::RequestLine
    }

    /// Bytes of the request line received so far, including its line end.
    pub(super) fn request_line_bytes(&self) -> usize {
        self.request_line_bytes
    }

    fn skip_empty_lines(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut skip = 0;
        loop {
            match (self.place, bytes.get(skip)) {
                (Position::Before | Position::BeforeLf, None) => return Ok(skip),
                (Position::Before, Some(b'\r')) => self.place = Position::BeforeLf,
                (Position::Before | Position::BeforeLf, Some(b'\n')) => {
                    self.empty_lines += 1;
                    if self.empty_lines > MAX_EMPTY_LINES {
                        return Err(Error::EmptyLines);
                    }
                    self.place = Position::Before;
                }
                (Position::BeforeLf, Some(_)) => return Err(Error::BareCr),
                (Position::Before, Some(_)) => {
                    self.place = Position::RequestLine;
                    return Ok(skip);
                }
                _ => return Ok(skip),
            }
            skip += 1;
        }
    }

    /// Returns how many of `bytes` belong to the request line. A `#` after the first space belongs to the target.
    fn pass_request_line(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match memchr2(b'\n', b'#', rest) {
                Some(found) if rest.get(found) == Some(&b'\n') => {
                    at += found + 1;
                    self.place = Position::FieldStart;
                    break;
                }
                found => {
                    let (before, next) = found.map_or((rest.len(), rest.len()), |found| (found, found + 1));
                    self.has_space |= memchr(b' ', rest.get(..before).unwrap_or_default()).is_some();
                    at += next;
                    if found.is_none() {
                        break;
                    }
                    self.has_fragment |= self.has_space;
                }
            }
        }
        self.request_line_bytes += at;
        at
    }

    /// Returns where the head ends in `bytes`, or their length. `at` is where the fields begin or continue.
    fn pass_fields(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while let Some(&byte) = bytes.get(at) {
            match (self.place, byte) {
                (Position::FieldStart | Position::FieldLf, b'\n') => {
                    self.place = Position::Ended;
                    return at + 1;
                }
                (Position::FieldStart, b'\r') => {
                    self.place = Position::FieldLf;
                    at += 1;
                }
                (place @ (Position::FieldStart | Position::FieldLf | Position::Field), _) => {
                    let rest = bytes.get(at..).unwrap_or_default();
                    let found = memchr(b'\n', rest);
                    if place == Position::FieldStart && matches!(byte | 0x20, b'c' | b't') {
                        self.note_field(found.and_then(|found| rest.get(..found)));
                    }
                    match found {
                        Some(found) => {
                            self.place = Position::FieldStart;
                            at += found + 1;
                        }
                        None => {
                            self.place = Position::Field;
                            return bytes.len();
                        }
                    }
                }
                _ => return at,
            }
        }
        at
    }

    /// Examines a line that may be a field about the body. `line` is None if it was received in pieces.
    fn note_field(&mut self, line: Option<&[u8]>) {
        let Some(line) = line else {
            self.length = Length::Unclear;
            return;
        };
        if let Some(value) = strip_name(line, b"content-length:") {
            let digits = value.trim_ascii();
            // Nineteen digits always fit into 64 bits.
            let is_number = (1..20).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
            self.length = if is_number && self.length == Length::None {
                Length::Known(digits.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
            } else {
                Length::Unclear
            };
        } else if strip_name(line, b"transfer-encoding").is_some() {
            self.length = Length::Unclear;
        }
    }
}

/// The rest of `line` after `name`, which is compared without case.
fn strip_name<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (begin, rest) = line.split_at_checked(name.len())?;
    begin.eq_ignore_ascii_case(name).then_some(rest)
}
