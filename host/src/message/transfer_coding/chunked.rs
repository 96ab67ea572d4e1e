//! The chunked transfer coding, strictly as in RFC 9112 §7.1: every line ends in CRLF, whitespace is only allowed
//! around the semicolon of an extension, and every length has a limit. Only chunk-size lines from an origin may be more
//! liberal ([`SizeLines`]).

use super::is_token;

/// Most hexadecimal digits of a chunk size: 64 bits need no more (RFC 9112 §7.1).
pub(crate) const MAX_CHUNK_SIZE_DIGITS: u8 = 16;

/// Most bytes of one body between chunk sizes and the ends of their lines: extensions (RFC 9112 §7.1.1) and whitespace.
/// hyper fails at one more byte of extensions.
pub(crate) const MAX_EXTENSION_BYTES: usize = 16 * 1024 - 1;

/// Most bytes of a trailer section, including the empty line at its end. hyper reads it byte by byte without yielding,
/// so this also limits how long it holds the event loop.
pub(crate) const MAX_TRAILER_BYTES: usize = 16 * 1024 - 1;

/// Why the next byte is not valid in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A chunk does not begin with a digit, or its size is followed by something other than an extension.
    #[error("a chunk size is not a hexadecimal number")]
    ChunkSize,
    /// More than [`MAX_CHUNK_SIZE_DIGITS`] digits.
    #[error("a chunk size has more than {MAX_CHUNK_SIZE_DIGITS} digits")]
    ChunkSizeDigits,
    /// A control character or a bare LF.
    #[error("a chunk extension has a control character or a bare LF")]
    Extension,
    /// More than [`MAX_EXTENSION_BYTES`] bytes.
    #[error("the chunk extensions have more than {MAX_EXTENSION_BYTES} bytes")]
    ExtensionBytes,
    /// A CR that is not followed by LF.
    #[error("there is a bare CR in the chunked framing")]
    BareCr,
    /// The data of a chunk is not followed by CRLF.
    #[error("a chunk's data does not end in CRLF")]
    ChunkEnd,
    /// A line that is not `name: value` and CRLF, or a folded one.
    #[error("a trailer field is invalid, or its line does not end in CRLF")]
    Trailer,
    /// More bytes than [`MAX_TRAILER_BYTES`] or [`Limits::trailer_bytes`].
    #[error("the trailer section is too long")]
    TrailerBytes,
    /// More fields than [`Limits::trailer_fields`].
    #[error("there are too many trailer fields")]
    TrailerFields,
}

/// Limits that differ between clients and origins. The constants of this module apply to both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most bytes of the trailer section, if less than [`MAX_TRAILER_BYTES`].
    pub(crate) trailer_bytes: usize,
    /// Most fields in the trailer section.
    pub(crate) trailer_fields: u32,
    /// What is allowed in a chunk-size line.
    pub(crate) size_lines: SizeLines,
}

/// What may follow the size in a chunk-size line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SizeLines {
    /// Only extensions as in RFC 9112 §7.1.1.
    Strict,
    /// Any bytes except CR and LF in an extension, and whitespace without an extension, because some origins pad their
    /// sizes.
    Lenient,
}

/// How much of a piece is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// Number of bytes from the start of the piece that belong to the body.
    pub(crate) valid: usize,
    /// How many of those are framing, not data.
    pub(crate) framing: usize,
    /// The error at the byte after the valid ones. None if the piece or the body ends there.
    pub(crate) error: Option<Error>,
}

/// How much of a chunked body has been read.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: ScanState,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: u32,
}

/// What the next byte must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    /// A digit or, after at least one digit, what may follow a size.
    Size {
        digits: u8,
        size: u64,
    },
    /// Whitespace after a size, or the semicolon of an extension.
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
    /// The start of a trailer field, or the CR of the empty line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Ended,
}

impl Default for ScanState {
    fn default() -> Self {
        Self::Size { digits: 0, size: 0 }
    }
}

impl Chunked {
    /// Checks the next bytes. After an error, further results are meaningless.
    pub(crate) fn scan(&mut self, bytes: &[u8], limits: Limits) -> Scanned {
        let (mut at, mut data_bytes) = (0, 0);
        while let Some(&byte) = bytes.get(at) {
            if let ScanState::Data { left } = self.state {
                let data = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += data;
                data_bytes += data;
                let left = left - data as u64;
                self.state = if left == 0 { ScanState::DataCr } else { ScanState::Data { left } };
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

    /// Whether the empty line after the trailer section has been read.
    pub(crate) fn has_ended(&self) -> bool {
        self.state == ScanState::Ended
    }

    fn next(&mut self, byte: u8, limits: Limits) -> Result<ScanState, Error> {
        let is_lenient = limits.size_lines == SizeLines::Lenient;
        Ok(match (self.state, byte) {
            (ScanState::Size { digits, size }, _) if byte.is_ascii_hexdigit() => size_with(digits, size, byte)?,
            (ScanState::Size { digits: 0, .. }, _) => return Err(Error::ChunkSize),
            (ScanState::Size { size, .. }, b'\r') | (ScanState::Extension { size }, b'\r') => {
                ScanState::SizeLf { size }
            }
            (ScanState::Size { size, .. } | ScanState::BeforeExtension { size }, b' ' | b'\t' | b';') => {
                self.count_extension()?;
                if byte == b';' { ScanState::Extension { size } } else { ScanState::BeforeExtension { size } }
            }
            (ScanState::BeforeExtension { size }, b'\r') if is_lenient => ScanState::SizeLf { size },
            (ScanState::Size { .. } | ScanState::BeforeExtension { .. }, _) => return Err(Error::ChunkSize),
            (extension @ ScanState::Extension { .. }, _) if is_text(byte) || is_lenient && byte != b'\n' => {
                self.count_extension()?;
                extension
            }
            (ScanState::Extension { .. }, _) => return Err(Error::Extension),
            (ScanState::SizeLf { size: 0 }, b'\n') => ScanState::TrailerStart,
            (ScanState::SizeLf { size }, b'\n') => ScanState::Data { left: size },
            (ScanState::SizeLf { .. }, _) => return Err(Error::BareCr),
            (ScanState::DataCr, b'\r') => ScanState::DataLf,
            (ScanState::DataLf, b'\n') => ScanState::default(),
            (ScanState::DataCr | ScanState::DataLf, _) => return Err(Error::ChunkEnd),
            (ScanState::TrailerStart, b'\r') => self.in_trailer(ScanState::LastLf, limits)?,
            (ScanState::TrailerStart, _) if is_token(byte) => {
                self.trailer_fields += 1;
                if self.trailer_fields > limits.trailer_fields {
                    return Err(Error::TrailerFields);
                }
                self.in_trailer(ScanState::TrailerName, limits)?
            }
            (ScanState::TrailerName, _) if is_token(byte) => self.in_trailer(ScanState::TrailerName, limits)?,
            (ScanState::TrailerName, b':') => self.in_trailer(ScanState::TrailerValue, limits)?,
            (ScanState::TrailerValue, _) if is_text(byte) => self.in_trailer(ScanState::TrailerValue, limits)?,
            (ScanState::TrailerValue, b'\r') => self.in_trailer(ScanState::TrailerLf, limits)?,
            (ScanState::TrailerLf, b'\n') => self.in_trailer(ScanState::TrailerStart, limits)?,
            (ScanState::LastLf, b'\n') => self.in_trailer(ScanState::Ended, limits)?,
            (ScanState::TrailerLf | ScanState::LastLf, _) => return Err(Error::BareCr),
            (ScanState::TrailerStart | ScanState::TrailerName | ScanState::TrailerValue, _) => {
                return Err(Error::Trailer);
            }
            // `scan` does not call this function in these states.
            (state @ (ScanState::Data { .. } | ScanState::Ended), _) => state,
        })
    }

    fn count_extension(&mut self) -> Result<(), Error> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES { Err(Error::ExtensionBytes) } else { Ok(()) }
    }

    /// Counts a byte of the trailer section.
    fn in_trailer(&mut self, state: ScanState, limits: Limits) -> Result<ScanState, Error> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > MAX_TRAILER_BYTES.min(limits.trailer_bytes) {
            return Err(Error::TrailerBytes);
        }
        Ok(state)
    }
}

/// Appends a digit to a size. Sixteen digits cannot overflow.
fn size_with(digits: u8, size: u64, digit: u8) -> Result<ScanState, Error> {
    if digits == MAX_CHUNK_SIZE_DIGITS {
        return Err(Error::ChunkSizeDigits);
    }
    let value = char::from(digit).to_digit(16).ok_or(Error::ChunkSize)?;
    Ok(ScanState::Size { digits: digits + 1, size: size << 4 | u64::from(value) })
}

/// Bytes allowed in a field value, and in a strict extension: no control character except tab (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(size_lines: SizeLines) -> Limits {
        Limits { trailer_bytes: 20, trailer_fields: 2, size_lines }
    }

    /// Reads a body in one piece and byte by byte, and checks how many of its bytes are valid and the error after them.
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
        // Twenty bytes, including those of the empty line.
        check("0\r\nx:12345678901234\r\n\r\n", size_lines, 23, None);
        check("0\r\nx:123456789012345\r\n\r\n", size_lines, 23, Some(Error::TrailerBytes));
    }
}
