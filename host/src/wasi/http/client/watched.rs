//! A connection to an origin as hyper reads and writes it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Scanner, Violation};
use super::policy::Origin;

/// Which response is read next. Shared by the tasks that send requests and the task that transfers the bytes.
#[derive(Default)]
pub(super) struct Expected(AtomicU8);

const NOTHING: u8 = 0;
const RESPONSE: u8 = 1;
const RESPONSE_TO_HEAD: u8 = 2;

impl Expected {
    /// Announces the response to a request that is about to be sent.
    pub(super) fn response_to(&self, is_head_request: bool) {
        self.0.store(if is_head_request { RESPONSE_TO_HEAD } else { RESPONSE }, Relaxed);
    }

    fn take(&self) -> Option<Scanner> {
        match self.0.swap(NOTHING, Relaxed) {
            NOTHING => None,
            expected => Some(Scanner::response_to(expected == RESPONSE_TO_HEAD)),
        }
    }
}

/// A stream from an origin whose responses are scanned before hyper parses them.
pub(super) struct Watched<T> {
    stream: T,
    origin: Origin,
    expected: Arc<Expected>,
    scanner: Scanner,
    violation: Option<Violation>,
}

impl<T> Watched<T> {
    pub(super) fn new(stream: T, origin: Origin, expected: Arc<Expected>) -> Self {
        Self { stream, origin, expected, scanner: Scanner::default(), violation: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(violation) = this.violation {
            return Poll::Ready(Err(error(violation)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if let Some(scanner) = this.expected.take() {
            this.scanner = scanner;
        }
        let read = buf.filled().get(before..).unwrap_or_default();
        let Err((valid, violation)) = this.scanner.scan(read) else { return Poll::Ready(Ok(())) };
        this.origin.log_violation(violation);
        if valid == 0 {
            return Poll::Ready(Err(error(violation)));
        }
        // The valid bytes before the violation may contain the head of the response.
        this.violation = Some(violation);
        buf.set_filled(before + valid);
        Poll::Ready(Ok(()))
    }
}

fn error(violation: Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
