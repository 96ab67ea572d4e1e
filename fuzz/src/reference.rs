//! A second parser of HTTP/1.1, the reference for the target `http`. It applies RFC 9112 and RFC 9110 to all that a
//! client sends at once, while the server parses byte by byte with two parsers. They share no code.
//!
//! It decides which requests need a response and which must have none. Where the RFCs leave a choice, it reports that and
//! stops.

use std::net::Ipv6Addr;

/// How a server must treat the next bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The server must respond to this request.
    Request(Request),
    /// The server must send an error response or close the connection: it sends no complete response of a guest for
    /// these bytes, and nothing after them.
    Refused,
    /// The server may do either, so what follows is not checked.
    Either,
    /// The rest is no complete request: the server sends no complete response of a guest for it.
    Unfinished,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// The server must send no response after this one.
    pub(crate) is_last: bool,
    /// The server may close the connection after this request: a response to HTTP/1.0 may end with its connection.
    pub(crate) may_be_last: bool,
}

/// Empty lines before a request that a server may have to skip (§2.2: at least one).
const MAX_EMPTY_LINES: usize = 16;
/// A request with more fields may be rejected.
const MANY_FIELDS: usize = 60;
/// The most digits of a chunk size (§7.1).
const MAX_SIZE_DIGITS: usize = 16;

/// A parsed value, or how the server must treat the bytes instead.
type Read<T> = Result<T, Next>;

/// The next request, and the bytes after it.
pub(crate) fn next(input: &[u8]) -> (Next, &[u8]) {
    match request(input) {
        Ok((request, rest)) => (Next::Request(request), rest),
        Err(next) => (next, b""),
    }
}

fn request(mut input: &[u8]) -> Read<(Request, &[u8])> {
    for count in 0.. {
        match input {
            [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => input = rest,
            [] | [b'\r'] => return Err(Next::Unfinished),
            _ => break,
        }
        if count == MAX_EMPTY_LINES {
            return Err(Next::Refused);
        }
    }
    let (line, mut input) = line(input)?;
    let mut fields = Vec::new();
    loop {
        let (line, rest) = self::line(input)?;
        input = rest;
        if line.is_empty() {
            break;
        }
        fields.push(field(line)?);
    }
    if fields.len() > MANY_FIELDS {
        return Err(Next::Either);
    }
    let (method, target, is_1_1) = request_line(line)?;
    host(&fields, is_1_1)?;
    let named = |name: &'static str| fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| *value);
    if named("expect").any(|value| !value.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Next::Either);
    }
    let options: Vec<_> = named("connection").flat_map(list).map(<[u8]>::to_ascii_lowercase).collect();
    let is_last = options.iter().any(|option| option == b"close")
        || (!is_1_1 && !options.iter().any(|option| option == b"keep-alive"));
    let (body, rest) = body(
        input,
        &named("transfer-encoding").collect::<Vec<_>>(),
        &named("content-length").collect::<Vec<_>>(),
        is_1_1,
    )?;
    Ok((Request { method: method.to_vec(), target: target.to_vec(), body, is_last, may_be_last: !is_1_1 }, rest))
}

/// Splits at LF, and removes it with a CR before it.
fn line(input: &[u8]) -> Read<(&[u8], &[u8])> {
    let end = input.iter().position(|&byte| byte == b'\n').ok_or(Next::Unfinished)?;
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    Ok((line, &input[end + 1..]))
}

/// §3, for requests to an origin server.
fn request_line(line: &[u8]) -> Read<(&[u8], &[u8], bool)> {
    let parts: Vec<_> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts[..] else { return Err(Next::Either) };
    let is_1_1 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(Next::Either),
    };
    if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) || method == b"CONNECT" {
        return Err(Next::Either);
    }
    if target.contains(&b'#') {
        return Err(Next::Refused);
    }
    // A server may reject a character that no URI has, or accept it.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%?".contains(byte);
    if !target.starts_with(b"/") || target.starts_with(b"//") || !target.iter().all(is_plain) {
        return Err(Next::Either);
    }
    Ok((method, target, is_1_1))
}

/// §5 and RFC 9110 §5.
fn field(line: &[u8]) -> Read<(String, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(Next::Refused)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    // Also rejects a folded line, which begins with whitespace.
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(Next::Refused);
    }
    if value.iter().any(|&byte| is_control(byte)) {
        return Err(Next::Refused);
    }
    // Only spaces and tabs may surround a field value, while `trim_ascii` removes a form feed, too.
    if line[colon + 1..].iter().any(|&byte| is_control(byte)) {
        return Err(Next::Either);
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value))
}

/// §3.2: exactly one `Host`, which must be valid.
fn host(fields: &[(String, &[u8])], is_1_1: bool) -> Read<()> {
    let hosts: Vec<_> = fields.iter().filter(|(name, _)| name == "host").map(|(_, value)| *value).collect();
    match hosts[..] {
        [] if !is_1_1 => Err(Next::Either),
        [host] if is_authority(host) => Ok(()),
        _ => Err(Next::Refused),
    }
}

fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], &text[colon + 1..]),
        _ => (text, ""),
    };
    let is_port = port.chars().all(|char| char.is_ascii_digit())
        && port.trim_start_matches('0').parse::<u32>().unwrap_or(if port.trim_start_matches('0').is_empty() {
            0
        } else {
            u32::MAX
        }) <= 65_535;
    let is_host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok()),
        None => {
            let mut escaped = host.split('%');
            let plain =
                |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte));
            !host.is_empty()
                && escaped.next().is_some_and(plain)
                && escaped.all(|part| {
                    part.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
                        && part.get(2..).is_some_and(plain)
                })
        }
    };
    is_host && is_port
}

/// §6.3: where the body ends.
fn body<'i>(input: &'i [u8], codings: &[&[u8]], lengths: &[&[u8]], is_1_1: bool) -> Read<(Vec<u8>, &'i [u8])> {
    match (codings, lengths) {
        ([], []) => Ok((Vec::new(), input)),
        ([], [length]) => {
            if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
                // A list of equal numbers may be accepted.
                return Err(if length.contains(&b',') { Next::Either } else { Next::Refused });
            }
            let length =
                length.iter().fold(0_u128, |value, digit| (value * 10 + u128::from(digit - b'0')).min(1 << 100));
            let length = u64::try_from(length).map_err(|_| Next::Refused)?;
            let body = usize::try_from(length).ok().and_then(|length| input.split_at_checked(length));
            body.map(|(body, rest)| (body.to_vec(), rest)).ok_or(Next::Unfinished)
        }
        // Equal numbers may be accepted (RFC 9110 §8.6), whatever zeros they begin with.
        ([], _) => {
            let number = |length: &[u8]| String::from_utf8_lossy(length).trim_start_matches('0').to_owned();
            let is_one_number = lengths.iter().all(|length| number(length) == number(lengths[0]));
            Err(if is_one_number { Next::Either } else { Next::Refused })
        }
        // Both fields: §6.1 requires that the connection is closed after the response, at the latest.
        (_, [_, ..]) => Err(Next::Either),
        _ if !is_1_1 => Err(Next::Either),
        _ => {
            let all: Vec<_> = codings
                .iter()
                .flat_map(|codings| codings.split(|&byte| byte == b','))
                .map(<[u8]>::trim_ascii)
                .collect();
            if all.len() != 1 || !all[0].eq_ignore_ascii_case(b"chunked") {
                return Err(Next::Refused);
            }
            chunked(input)
        }
    }
}

/// §7.1, to the letter: two parsers could disagree about the end of anything else.
fn chunked(mut input: &[u8]) -> Read<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (line, rest) = crlf_line(input)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let extension = line[digits..].iter().copied().find(|byte| !b" \t".contains(byte));
        if digits == 0
            || digits > MAX_SIZE_DIGITS
            || line.iter().any(|&byte| is_control(byte))
            || (digits < line.len() && extension != Some(b';'))
        {
            return Err(Next::Refused);
        }
        let size = line[..digits]
            .iter()
            .fold(0_u64, |size, digit| size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0)));
        input = rest;
        if size == 0 {
            break;
        }
        let (data, rest) =
            usize::try_from(size).ok().and_then(|size| input.split_at_checked(size)).ok_or(Next::Unfinished)?;
        body.extend_from_slice(data);
        input = match rest {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Err(Next::Unfinished),
            _ => return Err(Next::Refused),
        };
    }
    for count in 0.. {
        let (line, rest) = crlf_line(input)?;
        input = rest;
        if line.is_empty() {
            return Ok((body, input));
        }
        if count > MANY_FIELDS {
            return Err(Next::Either);
        }
        field(line)?;
    }
    Err(Next::Either)
}

/// Splits at CRLF; a bare LF or CR is an error.
fn crlf_line(input: &[u8]) -> Read<(&[u8], &[u8])> {
    let end = input.iter().position(|&byte| byte == b'\r' || byte == b'\n').ok_or(Next::Unfinished)?;
    match &input[end..] {
        [b'\r', b'\n', rest @ ..] => Ok((&input[..end], rest)),
        [b'\r'] => Err(Next::Unfinished),
        _ => Err(Next::Refused),
    }
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}
