//! A connection as hyper reads and writes it: with complete error responses where hyper would only send a status.

use std::io::{ErrorKind, Result as IoResult};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::routes::NOT_STORED;
use crate::net::stream::Stream;

pub(super) struct AdminIo {
    stream: Stream,
    /// The last request could not be parsed, and its error response was written.
    has_refused: bool,
}

impl AdminIo {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, has_refused: false }
    }

    /// The stream of a connection whose last request could not be parsed. The client gets an error response also for
    /// what hyper does not answer, such as HTTP/2 without TLS.
    pub(super) fn refused(self) -> Stream {
        if !self.has_refused {
            // The socket has room: it is the only response that was not sent.
            let _ = self.stream.try_write(refusal(StatusCode::BAD_REQUEST).as_bytes());
        }
        self.stream
    }
}

/// What is written instead of hyper's own response to a head that it cannot parse. Each other response of the admin
/// listener says that it must not be stored, and hyper's does not.
fn replacement(bytes: &[u8]) -> Option<String> {
    let status = bytes.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").and_then(|end| bytes.get(..end))?;
    if head.windows(NOT_STORED.len()).any(|word| word == NOT_STORED.as_bytes()) {
        return None;
    }
    StatusCode::from_bytes(status).ok().map(refusal)
}

fn refusal(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or_default();
    let body = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => "the request head is too large\n",
        _ => "malformed request\n",
    };
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: {NOT_STORED}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        status.as_u16(),
        body.len(),
    )
}

impl AsyncRead for AdminIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<IoResult<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(drop)),
            }
        }
    }
}

impl AsyncWrite for AdminIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<IoResult<usize>> {
        let replacement = replacement(bytes);
        let bytes_to_write = replacement.as_ref().map_or(bytes, |text| text.as_bytes());
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(bytes_to_write) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // What the socket does not take of a replacement, which is the last response, is lost.
                result if replacement.is_some() => {
                    self.has_refused = true;
                    return Poll::Ready(result.map(|_| bytes.len()));
                }
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<IoResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<IoResult<()>> {
        Poll::Ready(self.stream.shut_down_writing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_responses_of_hyper_are_replaced() {
        #[track_caller]
        fn check(bytes: &str, expected: Option<&str>) {
            let body = replacement(bytes.as_bytes()).and_then(|text| Some(text.split_once("\r\n\r\n")?.1.to_owned()));
            assert_eq!(body.as_deref(), expected, "{bytes}");
        }
        check("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", Some("malformed request\n"));
        check("HTTP/1.1 431 Too Large\r\nconnection: close\r\n\r\n", Some("the request head is too large\n"));
        check("HTTP/1.1 200 OK\r\ncache-control: no-store\r\n\r\nok\n", None);
        check("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nno-store", Some("malformed request\n"));
        check("ok\n", None);
        check("HTTP/1.1", None);
    }
}
