//! A second implementation of the rules of [`super`], for tests. It reads the whole input line by line, where [`super`]
//! reads it byte by byte and in pieces. The two share only the limits.

use super::{Body, Limits, MAX_EMPTY_LINES};
use crate::message::transfer_coding::chunked::{MAX_CHUNK_SIZE_DIGITS, MAX_EXTENSION_BYTES, MAX_TRAILER_BYTES};

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) head: Vec<u8>,
    /// As sent, including chunks and trailers.
    pub(super) body: Vec<u8>,
    pub(super) has_fragment: bool,
}

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The input ends within a message or before one; more bytes could complete it.
    Open,
    /// The next bytes are not a valid message.
    Wrong,
}

/// All complete messages of `input`, and why reading stopped after them. `body_of` returns the body that follows a
/// head.
pub(super) fn read(mut input: &[u8], limits: Limits, body_of: fn(&[u8]) -> Body) -> (Vec<Message>, End) {
    let mut messages = Vec::new();
    loop {
        match message(input, limits, body_of) {
            Ok((message, rest)) => {
                messages.push(message);
                input = rest;
            }
            Err(end) => return (messages, end),
        }
    }
}

fn message(input: &[u8], limits: Limits, body_of: fn(&[u8]) -> Body) -> Result<(Message, &[u8]), End> {
    let input = without_empty_lines(input)?;
    let mut head_bytes = 0;
    for line in input.split_inclusive(|&byte| byte == b'\n') {
        if !line.ends_with(b"\n") {
            return Err(End::Open);
        }
        head_bytes += line.len();
        if line == b"\n" || line == b"\r\n" {
            break;
        }
    }
    let (head, rest) = input.split_at(head_bytes);
    if !(head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n")) {
        return Err(End::Open);
    }
    let request_line = head.split(|&byte| byte == b'\n').next().unwrap();
    let has_fragment = request_line.iter().skip_while(|&&byte| byte != b' ').any(|&byte| byte == b'#');
    let body_bytes = match body_of(head) {
        Body::Length(length) if length > rest.len() as u64 => return Err(End::Open),
        Body::Length(length) => length as usize,
        Body::Chunked => chunked(rest, limits)?,
    };
    let (body, rest) = rest.split_at(body_bytes);
    Ok((Message { head: head.to_vec(), body: body.to_vec(), has_fragment }, rest))
}

fn without_empty_lines(mut input: &[u8]) -> Result<&[u8], End> {
    for count in 0.. {
        let rest = match input {
            [] | [b'\r'] => return Err(End::Open),
            [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => rest,
            [b'\r', ..] => return Err(End::Wrong),
            _ => return Ok(input),
        };
        if count == MAX_EMPTY_LINES {
            return Err(End::Wrong);
        }
        input = rest;
    }
    Err(End::Wrong)
}

/// The length of a chunked body, including its trailer section.
fn chunked(input: &[u8], limits: Limits) -> Result<usize, End> {
    let (mut at, mut extension_bytes) = (0, 0);
    loop {
        let (line, has_end) = line(&input[at..])?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let extension = &line[digits..];
        extension_bytes += extension.len();
        let after_space = extension.iter().find(|&&byte| byte != b' ' && byte != b'\t');
        if digits > usize::from(MAX_CHUNK_SIZE_DIGITS)
            || (digits == 0 && (has_end || !line.is_empty()))
            || after_space.is_some_and(|&byte| byte != b';')
            || (has_end && !extension.is_empty() && after_space.is_none())
            || extension.iter().any(|&byte| is_control(byte))
            || extension_bytes > MAX_EXTENSION_BYTES
        {
            return Err(End::Wrong);
        }
        if !has_end {
            return Err(End::Open);
        }
        at += line.len() + 2;
        let size = std::str::from_utf8(&line[..digits]).map(|digits| u64::from_str_radix(digits, 16).unwrap()).unwrap();
        if size == 0 {
            return Ok(at + trailers(&input[at..], limits)?);
        }
        let after = usize::try_from(size).ok().and_then(|size| input[at..].get(size..)).ok_or(End::Open)?;
        match after {
            [b'\r', b'\n', ..] => at = input.len() - after.len() + 2,
            [] | [b'\r'] => return Err(End::Open),
            _ => return Err(End::Wrong),
        }
    }
}

/// The length of the trailer section.
fn trailers(input: &[u8], limits: Limits) -> Result<usize, End> {
    let most = MAX_TRAILER_BYTES.min(limits.head_bytes - 1);
    let mut at = 0;
    for fields in 0.. {
        let rest = &input[at..];
        let (line, has_end) = line(rest)?;
        at += line.len() + if has_end { 2 } else { rest.len() - line.len() };
        let colon = line.iter().position(|&byte| byte == b':');
        let name = &line[..colon.unwrap_or(line.len())];
        let is_field = !name.is_empty()
            && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
            && !line.iter().any(|&byte| is_control(byte))
            && (colon.is_some() || rest.len() == line.len())
            && fields < limits.fields;
        if at > most || !(line.is_empty() || is_field) {
            return Err(End::Wrong);
        }
        match (has_end, line) {
            (false, _) => return Err(End::Open),
            (true, []) => return Ok(at),
            _ => {}
        }
    }
    Err(End::Wrong)
}

/// The bytes before the next CRLF, and true. Without a CRLF: all bytes, except a CR at the end that may begin one, and
/// false.
fn line(input: &[u8]) -> Result<(&[u8], bool), End> {
    let Some(end) = input.iter().position(|&byte| byte == b'\r' || byte == b'\n') else { return Ok((input, false)) };
    match &input[end..] {
        [b'\r', b'\n', ..] => Ok((&input[..end], true)),
        [b'\r'] => Ok((&input[..end], false)),
        _ => Err(End::Wrong),
    }
}

fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}
