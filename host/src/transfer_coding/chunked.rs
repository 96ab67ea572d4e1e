//! The chunked transfer coding as RFC 9112 §7.1 writes it: every line ends in CRLF, whitespace is only around the
//! semicolon of an extension, and nothing is without a limit. Only in the lines of chunk sizes may an origin be more
//! liberal ([`SizeLines`]).

use super::is_token;

/// Hexadecimal digits of a chunk size, which is what 64 bits need (RFC 9112 §7.1).
pub(crate) const MAX_CHUNK_SIZE_DIGITS: u8 = 16;

/// Bytes of one body between its chunk sizes and the ends of their lines: extensions (RFC 9112 §7.1.1) and whitespace.
/// hyper would refuse the next one of an extension.
pub(crate) const MAX_EXTENSION_BYTES: usize = 16 * 1024 - 1;

/// Bytes of a trailer section, with the empty line at its end. hyper reads it byte by byte at once, so this is also
/// what one turn may cost.
pub(crate) const MAX_TRAILER_BYTES: usize = 16 * 1024 - 1;

/// Why a byte cannot be of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A chunk does not begin with a digit, or something else than an extension follows its size.
    #[error("a chunk size is not a hexadecimal number")]
    ChunkSize,
    /// More than [`MAX_CHUNK_SIZE_DIGITS`].
    #[error("a chunk size has more than {MAX_CHUNK_SIZE_DIGITS} digits")]
    ChunkSizeDigits,
    /// A control character, a bare LF among them.
    #[error("a chunk extension has a control character or a bare LF")]
    Extension,
    /// More than [`MAX_EXTENSION_BYTES`].
    #[error("the chunk extensions have more than {MAX_EXTENSION_BYTES} bytes")]
    ExtensionBytes,
    /// A CR that no LF follows.
    #[error("there is a bare CR in the chunked framing")]
    BareCr,
    /// The data of a chunk is not followed by CRLF.
    #[error("a chunk's data does not end in CRLF")]
    ChunkEnd,
    /// Not `name: value` and CRLF, or folded.
    #[error("a trailer field is invalid, or its line does not end in CRLF")]
    Trailer,
    /// More than [`MAX_TRAILER_BYTES`] or [`Limits::trailer_bytes`].
    #[error("the trailer section is too long")]
    TrailerBytes,
    /// More than [`Limits::trailer_fields`].
    #[error("there are too many trailer fields")]
    TrailerFields,
}

/// What one side may send. The limits without a field here are the same for both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of the trailer section, where that is less than [`MAX_TRAILER_BYTES`].
    pub(crate) trailer_bytes: usize,
    /// Fields in the trailer section.
    pub(crate) trailer_fields: u32,
    /// What may be in the line of a chunk size.
    pub(crate) size_lines: SizeLines,
}

/// What may follow a chunk size in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SizeLines {
    /// Extensions as RFC 9112 §7.1.1 writes them.
    Strict,
    /// Any bytes but CR and LF in an extension, and whitespace without an extension: some origins pad their sizes.
    Lenient,
}

/// How far a piece of a body is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// Bytes that are of the body, from the first on.
    pub(crate) valid: usize,
    /// How many of those are no data.
    pub(crate) framing: usize,
    /// What is wrong with the byte after the valid ones. None if the piece, or the body, ends there.
    pub(crate) error: Option<Error>,
}

/// How much of a chunked body has come.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: State,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: u32,
}

/// What the next byte must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A digit, or after one what may follow a size.
    Size {
        digits: u8,
        size: u64,
    },
    /// Whitespace after a size, or the semicolon.
    BeforeExtension {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// The begin of a trailer field, or the CR of the empty line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Ended,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { digits: 0, size: 0 }
    }
}

impl Chunked {
    /// Looks at the next bytes. After an error, what follows means nothing.
    pub(crate) fn scan(&mut self, bytes: &[u8], limits: Limits) -> Scanned {
        let (mut at, mut data_bytes) = (0, 0);
        while let Some(&byte) = bytes.get(at) {
            if let State::Data { left } = self.state {
                let data = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += data;
                data_bytes += data;
                let left = left - data as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                continue;
            }
            if self.has_ended() {
                break;
            }
            match self.next(byte, limits) {
                Ok(state) => self.state = state,
                Err(error) => return Scanned { valid: at, framing: at - data_bytes, error: Some(error) },
            }
            at += 1;
        }
        Scanned { valid: at, framing: at - data_bytes, error: None }
    }

    /// Whether the empty line after the trailer section has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    fn next(&mut self, byte: u8, limits: Limits) -> Result<State, Error> {
        let is_lenient = limits.size_lines == SizeLines::Lenient;
        Ok(match (self.state, byte) {
            (State::Size { digits, size }, _) if byte.is_ascii_hexdigit() => size_with(digits, size, byte)?,
            (State::Size { digits: 0, .. }, _) => return Err(Error::ChunkSize),
            (State::Size { size, .. }, b'\r') | (State::Extension { size }, b'\r') => State::SizeLf { size },
            (State::Size { size, .. } | State::BeforeExtension { size }, b' ' | b'\t' | b';') => {
                self.count_extension()?;
                if byte == b';' { State::Extension { size } } else { State::BeforeExtension { size } }
            }
            (State::BeforeExtension { size }, b'\r') if is_lenient => State::SizeLf { size },
            (State::Size { .. } | State::BeforeExtension { .. }, _) => return Err(Error::ChunkSize),
            (extension @ State::Extension { .. }, _) if is_text(byte) || is_lenient && byte != b'\n' => {
                self.count_extension()?;
                extension
            }
            (State::Extension { .. }, _) => return Err(Error::Extension),
            (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLf { size }, b'\n') => State::Data { left: size },
            (State::SizeLf { .. }, _) => return Err(Error::BareCr),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::default(),
            (State::DataCr | State::DataLf, _) => return Err(Error::ChunkEnd),
            (State::TrailerStart, b'\r') => self.in_trailer(State::LastLf, limits)?,
            (State::TrailerStart, _) if is_token(byte) => {
                self.trailer_fields += 1;
                if self.trailer_fields > limits.trailer_fields {
                    return Err(Error::TrailerFields);
                }
                self.in_trailer(State::TrailerName, limits)?
            }
            (State::TrailerName, _) if is_token(byte) => self.in_trailer(State::TrailerName, limits)?,
            (State::TrailerName, b':') => self.in_trailer(State::TrailerValue, limits)?,
            (State::TrailerValue, _) if is_text(byte) => self.in_trailer(State::TrailerValue, limits)?,
            (State::TrailerValue, b'\r') => self.in_trailer(State::TrailerLf, limits)?,
            (State::TrailerLf, b'\n') => self.in_trailer(State::TrailerStart, limits)?,
            (State::LastLf, b'\n') => self.in_trailer(State::Ended, limits)?,
            (State::TrailerLf | State::LastLf, _) => return Err(Error::BareCr),
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => return Err(Error::Trailer),
            // Not asked for these.
            (state @ (State::Data { .. } | State::Ended), _) => state,
        })
    }

    fn count_extension(&mut self) -> Result<(), Error> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES { Err(Error::ExtensionBytes) } else { Ok(()) }
    }

    /// Counts a byte of the trailer section.
    fn in_trailer(&mut self, state: State, limits: Limits) -> Result<State, Error> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > MAX_TRAILER_BYTES.min(limits.trailer_bytes) {
            return Err(Error::TrailerBytes);
        }
        Ok(state)
    }
}

/// A size with one more digit. Sixteen digits cannot overflow.
fn size_with(digits: u8, size: u64, digit: u8) -> Result<State, Error> {
    if digits == MAX_CHUNK_SIZE_DIGITS {
        return Err(Error::ChunkSizeDigits);
    }
    let value = char::from(digit).to_digit(16).ok_or(Error::ChunkSize)?;
    Ok(State::Size { digits: digits + 1, size: size << 4 | u64::from(value) })
}

/// What may be in a field's value, or strictly in an extension: no control character but the tab (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(size_lines: SizeLines) -> Limits {
        Limits { trailer_bytes: 20, trailer_fields: 2, size_lines }
    }

    /// A body, whole and byte by byte: how many of its bytes are valid, and the error behind them.
    #[track_caller]
    fn check(body: &str, size_lines: SizeLines, valid: usize, error: Option<Error>) {
        for piece_bytes in [1, body.len()] {
            let (mut chunked, mut seen) = (Chunked::default(), (0, None));
            for piece in body.as_bytes().chunks(piece_bytes) {
                let scanned = chunked.scan(piece, limits(size_lines));
                seen = (seen.0 + scanned.valid, scanned.error);
                if scanned.error.is_some() || chunked.has_ended() {
                    break;
                }
            }
            assert_eq!(seen, (valid, error), "{body:?}, {size_lines:?}, in pieces of {piece_bytes}");
            assert_eq!(chunked.has_ended(), error.is_none(), "{body:?}, {size_lines:?}");
        }
    }

    #[test]
    fn origins_may_send_other_lines_of_sizes_and_nothing_else() {
        use SizeLines::{Lenient, Strict};
        for (body, at, error) in [
            ("2 \r\nok\r\n0\r\n\r\n", 2, Error::ChunkSize),
            ("2\t \r\nok\r\n0 \r\n\r\n", 3, Error::ChunkSize),
            ("2;a\0\r\nok\r\n0\r\n\r\n", 3, Error::Extension),
            ("2 ;\x7f\r\nok\r\n0\r\n\r\n", 3, Error::Extension),
        ] {
            check(body, Strict, at, Some(error));
            check(body, Lenient, body.len(), None);
        }
        for size_lines in [Strict, Lenient] {
            check("2;a\r\nok\r\n0 ; b\r\n\r\n", size_lines, 18, None);
            check("2 2\r\n", size_lines, 2, Some(Error::ChunkSize));
            check("2 \n", size_lines, 2, Some(Error::ChunkSize));
            check("2\n", size_lines, 1, Some(Error::ChunkSize));
            check("2;a\n", size_lines, 3, Some(Error::Extension));
            check("2;a\rb", size_lines, 4, Some(Error::BareCr));
            check(" \r\n", size_lines, 0, Some(Error::ChunkSize));
            check("0\r\nx: \0\r\n\r\n", size_lines, 6, Some(Error::Trailer));
            check("0\r\nx: a\r\n b\r\n\r\n", size_lines, 9, Some(Error::Trailer));
            check("0\r\nx\r\n\r\n", size_lines, 4, Some(Error::Trailer));
        }
    }

    #[test]
    fn a_trailer_section_is_under_its_limits() {
        let size_lines = SizeLines::Strict;
        check("0\r\nx:\r\ny:\r\n\r\n", size_lines, 13, None);
        check("0\r\nx:\r\ny:\r\nz:\r\n\r\n", size_lines, 11, Some(Error::TrailerFields));
        // Twenty bytes, those of the empty line included.
        check("0\r\nx:12345678901234\r\n\r\n", size_lines, 23, None);
        check("0\r\nx:123456789012345\r\n\r\n", size_lines, 23, Some(Error::TrailerBytes));
    }
}
