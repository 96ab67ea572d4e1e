//! Differential test of a worker's HTTP server, with hyper and a guest, against the reference parser
//! ([`crate::reference`]): each request gets its own response, whatever bytes are between the requests, and there is no
//! response without a request.

use std::cell::RefCell;

use daylily::fuzzing::Server;
use residue_guest::Wasi;

use crate::reference::{self, Next, Request};

pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static SERVER: RefCell<Server> = RefCell::new(server());
    }
    let Some((piece, sent)) = data.split_first() else { return };
    // Sent in one piece, or in pieces of this size, the last of which is the rest.
    let piece_bytes = if *piece == 0 { sent.len() } else { usize::from(*piece) };
    let mut pieces: Vec<&[u8]> = sent.chunks(piece_bytes.max(1)).take(16).collect();
    let begun: usize = pieces.iter().map(|piece| piece.len()).sum();
    pieces.push(&sent[begun..]);
    let (received, is_reset) = SERVER.with_borrow(|server| server.exchange(&pieces)).expect("a connection that ends");
    if let Err(wrong) = check(sent, &received, is_reset) {
        panic!("{wrong}\nsent: {}\nreceived, reset: {is_reset}: {}", sent.escape_ascii(), received.escape_ascii());
    }
}

fn server() -> Server {
    let component = residue_guest::encode(include_str!("../guests/echo.wat"), Wasi::P2).expect("the guest");
    let path = std::env::temp_dir().join(format!("daylily-fuzz-{}.wasm", std::process::id()));
    std::fs::write(&path, component).expect("a file");
    let server = Server::new(&path);
    let _ = std::fs::remove_file(&path);
    server.expect("a server")
}

fn check(mut sent: &[u8], mut received: &[u8], is_reset: bool) -> Result<(), String> {
    loop {
        // The response to HEAD is only a head, which may be sent before the request is known to be invalid.
        let asks_head = sent.trim_ascii_start().starts_with(b"HEAD ");
        let (next, rest) = reference::next(sent);
        sent = rest;
        let is_head = matches!(&next, Next::Request(request) if request.method == b"HEAD");
        let answer = loop {
            match answer(received, is_head, is_reset)? {
                // An interim response.
                Some((answer, rest)) if answer.status < 200 => received = rest,
                other => break other,
            }
        };
        let complete = answer.as_ref().filter(|(answer, _)| answer.body.is_some());
        match (next, complete) {
            (Next::Either, _) => return Ok(()),
            (Next::Refused | Next::Unfinished, Some((answer, rest))) => {
                let is_right = (answer.status >= 400 || asks_head) && rest.is_empty();
                return is_right.then_some(()).ok_or_else(|| format!("answered {}, and on", answer.status));
            }
            // No response, or a truncated one.
            (Next::Refused | Next::Unfinished, None) => return Ok(()),
            (Next::Request(request), None) => return Err(format!("{request:?} is not answered")),
            (Next::Request(request), Some((answer, rest))) => {
                if answer.status != 200 || (!is_head && answer.body != Some(echo(&request))) {
                    return Err(format!("{request:?} is answered {answer:?}"));
                }
                if request.is_last {
                    return rest.is_empty().then_some(()).ok_or_else(|| "answered after its last request".to_owned());
                }
                if request.may_be_last && rest.is_empty() {
                    return Ok(());
                }
                received = rest;
            }
        }
    }
}

/// The guest's response.
fn echo(request: &Request) -> Vec<u8> {
    let mut echo = request.method.clone();
    let known: [&[u8]; 9] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];
    if known.contains(&&*request.method) {
        echo.resize(8, b' ');
    }
    [&echo, &*request.target, b" ", &request.body].concat()
}

#[derive(Debug)]
struct Answer {
    status: u16,
    /// None if the body is truncated.
    body: Option<Vec<u8>>,
}

/// The next response, and the bytes after it. None at the end, or if its head is truncated.
fn answer(received: &[u8], is_head: bool, is_reset: bool) -> Result<Option<(Answer, &[u8])>, String> {
    let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&received[..end]).map_err(|_| "a head that is no text")?;
    let rest = &received[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ").or(line.strip_prefix("HTTP/1.0 ")));
    let status: u16 =
        status.and_then(|line| line.get(..3)?.parse().ok()).ok_or_else(|| format!("no status line: {head}"))?;
    let field = |name: &str| {
        lines.clone().filter_map(|line| line.split_once(':')).find(|(field, _)| field.eq_ignore_ascii_case(name))
    };
    let (body, rest) = if is_head || status < 200 || status == 204 || status == 304 {
        (Some(Vec::new()), rest)
    } else if let Some((_, length)) = field("content-length") {
        let length: usize = length.trim().parse().map_err(|_| format!("no length: {head}"))?;
        match rest.split_at_checked(length) {
            Some((body, rest)) => (Some(body.to_vec()), rest),
            None => (None, &b""[..]),
        }
    } else if field("transfer-encoding").is_some() {
        chunks(rest)?
    } else {
        // The body ends with the connection, unless that was reset.
        ((!is_reset).then(|| rest.to_vec()), &b""[..])
    };
    Ok(Some((Answer { status, body }, rest)))
}

/// Decodes chunks in the form that hyper writes.
fn chunks(mut rest: &[u8]) -> Result<(Option<Vec<u8>>, &[u8]), String> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") else { return Ok((None, b"")) };
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or("a chunk without a size")?;
        let Some((data, after)) = rest[end + 2..].split_at_checked(size) else { return Ok((None, b"")) };
        body.extend_from_slice(data);
        match after.strip_prefix(b"\r\n") {
            Some(after) => rest = after,
            None if after.len() < 2 => return Ok((None, b"")),
            None => return Err("a chunk without an end".to_owned()),
        }
        if size == 0 {
            return Ok((Some(body), rest));
        }
    }
}
