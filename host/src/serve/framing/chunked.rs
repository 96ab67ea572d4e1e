//! The chunked transfer coding, strictly as RFC 9112 §7.1 writes it: every line ends in CRLF, whitespace is only
//! around the semicolon of an extension, and nothing is without a limit.

use super::{Error, Limits, MAX_CHUNK_SIZE_DIGITS, MAX_EXTENSION_BYTES, MAX_TRAILER_BYTES, is_token};

/// How much of a chunked body has come.
#[derive(Debug, Default)]
pub(super) struct Chunked {
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
    /// Gives how many of `bytes` are of the body, how many of those are no data, and what is wrong with the byte after
    /// them if they end there.
    pub(super) fn scan(&mut self, bytes: &[u8], limits: Limits) -> (usize, usize, Option<Error>) {
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
                Err(error) => return (at, at - data_bytes, Some(error)),
            }
            at += 1;
        }
        (at, at - data_bytes, None)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    fn next(&mut self, byte: u8, limits: Limits) -> Result<State, Error> {
        Ok(match (self.state, byte) {
            (State::Size { digits, size }, _) if byte.is_ascii_hexdigit() => size_with(digits, size, byte)?,
            (State::Size { digits: 0, .. }, _) => return Err(Error::ChunkSize),
            (State::Size { size, .. }, b'\r') | (State::Extension { size }, b'\r') => State::SizeLf { size },
            (State::Size { size, .. } | State::BeforeExtension { size }, b' ' | b'\t' | b';') => {
                self.count_extension()?;
                if byte == b';' { State::Extension { size } } else { State::BeforeExtension { size } }
            }
            (State::Size { .. } | State::BeforeExtension { .. }, _) => return Err(Error::ChunkSize),
            (extension @ State::Extension { .. }, _) if is_text(byte) => {
                self.count_extension()?;
                extension
            }
            (State::Extension { .. }, _) => return Err(Error::Extension),
            (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLf { size }, b'\n') => State::Data { left: size },
            (State::SizeLf { .. }, _) => return Err(Error::ChunkedBareCr),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::default(),
            (State::DataCr | State::DataLf, _) => return Err(Error::ChunkEnd),
            (State::TrailerStart, b'\r') => self.in_trailer(State::LastLf, limits)?,
            (State::TrailerStart, _) if is_token(byte) => {
                self.trailer_fields += 1;
                if self.trailer_fields > limits.fields {
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
            (State::TrailerLf | State::LastLf, _) => return Err(Error::ChunkedBareCr),
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => return Err(Error::Trailer),
            // Not asked for these.
            (state @ (State::Data { .. } | State::Ended), _) => state,
        })
    }

    fn count_extension(&mut self) -> Result<(), Error> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES { Err(Error::ExtensionBytes) } else { Ok(()) }
    }

    /// Counts a byte of the trailer section. hyper gives up at `max_head` bytes.
    fn in_trailer(&mut self, state: State, limits: Limits) -> Result<State, Error> {
        self.trailer_bytes += 1;
        let is_too_long = self.trailer_bytes > MAX_TRAILER_BYTES || self.trailer_bytes >= limits.head_bytes;
        if is_too_long { Err(Error::TrailerBytes) } else { Ok(state) }
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

/// What may be in a field's value or an extension: no control character but the tab (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
