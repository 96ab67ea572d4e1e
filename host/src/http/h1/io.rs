//! A connection's socket as hyper reads and writes it: with time-outs on both, one message part at a time
//! ([`super::framing`]), and with complete error responses where hyper would only send a status.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use daylily_core::connection_end::ConnectionEnd;
use daylily_core::error_response::ErrorResponse;
use daylily_core::excerpt::Excerpt;
use daylily_core::log_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::framing::{self, Framing, Step};
use crate::http::connection::Connection;
use crate::http::ending::after_last_word;
use crate::http::phase::Change;
use crate::http::stall::Wait;
use crate::net::peer::Peer;
use crate::net::stream::Stream;

/// A head and a body up to this size are copied together: one `send` instead of a `writev` saves more than the copy
/// costs.
const SMALL_BYTES: usize = 1024;

/// Largest buffer for withheld bytes that a connection keeps, so that requests that each arrive in one piece with their
/// body do not allocate.
const KEPT_BYTES: usize = 8 << 10;

/// hyper's view of a [`Connection`].
pub(crate) struct ConnectionIo {
    connection: Connection,
    framing: Framing,
    withheld: Withheld,
    /// The error response that is being written in place of hyper's.
    replacement: Option<String>,
    /// Runs while the connection waits for the client to send.
    silent: Option<Pin<Box<Sleep>>>,
    /// Runs while a write waits for the client to read.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Total time that writes have waited for the client, while its request holds a permit.
    wait: Option<Wait>,
}

/// Bytes that were read together with earlier ones and may not be passed to hyper yet. No more is read until they have
/// been passed, so their number is bounded by the size of hyper's read buffer.
#[derive(Default)]
struct Withheld {
    bytes: Vec<u8>,
    taken: usize,
}

impl ConnectionIo {
    /// `limits` apply to heads and to trailer sections.
    pub(crate) fn new(connection: Connection, limits: framing::Limits) -> Self {
        let framing = Framing::new(limits);
        Self {
            connection,
            framing,
            withheld: Withheld::default(),
            replacement: None,
            silent: None,
            stalled: None,
            wait: None,
        }
    }

    /// Releases the buffer that only saves allocations.
    pub(crate) fn rested(self) -> Self {
        Self { withheld: Withheld::default(), ..self }
    }

    /// The connection's client.
    pub(crate) fn peer(&self) -> &Peer {
        self.connection.stream().peer()
    }

    /// Waits until the socket is readable, which includes the end of the stream. Cancel safe.
    ///
    /// # Errors
    ///
    /// When the client has been silent for too long.
    pub(crate) async fn bytes(&mut self) -> io::Result<()> {
        self.connection.change_phase(Change::RestEnds);
        poll_fn(|cx| match self.connection.stream().poll_read_ready(cx) {
            Poll::Ready(_) => Poll::Ready(Ok(())),
            Poll::Pending => self.poll_silent(cx, None),
        })
        .await
    }

    /// Waits for the client's bytes until the read times out, and records when the connection may rest (at `rest`). One
    /// timer serves the whole connection: it is reset only when it has fired or would fire too late.
    fn poll_silent(&mut self, cx: &mut Context<'_>, rest: Option<Instant>) -> Poll<io::Result<()>> {
        let Some((limit, end)) = self.connection.read_limit() else { return Poll::Pending };
        let next = rest.map_or(limit, |rest| rest.min(limit));
        let sleep = self.silent.get_or_insert_with(|| Box::pin(sleep_until(next)));
        if sleep.deadline() > next {
            sleep.as_mut().reset(next);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= limit {
                self.connection.change_phase(Change::TimesOut);
                self.connection.note_end(end);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client sends no request")));
            }
            if rest.is_some_and(|rest| now >= rest) {
                self.connection.change_phase(Change::Rests);
                return Poll::Pending;
            }
            sleep.as_mut().reset(next);
        }
        Poll::Pending
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.wait = self.connection.enlist(self.wait.take());
        if self.wait.as_ref().is_some_and(|wait| wait.has_to_give_way(cx, Instant::now())) {
            self.connection.note_end(ConnectionEnd::UnreadResponse);
            let reason = "the client hardly reads its response, and other requests wait for its place";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)));
        }
        let limit = self.connection.write_limit();
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(limit)));
        ready!(sleep.as_mut().poll(cx));
        self.connection.note_end(ConnectionEnd::UnreadResponse);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its response")))
    }

    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&Stream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Poll::Ready(ready) = self.connection.stream().poll_write_ready(cx) else {
                return self.poll_stalled(cx);
            };
            ready?;
            match write(self.connection.stream()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.stalled = None;
                    let written = *result.as_ref().unwrap_or(&0);
                    self.wait.take_if(|wait| wait.end(written, Instant::now()));
                    return Poll::Ready(result);
                }
            }
        }
    }

    /// hyper answers a head that it cannot parse with a bare status, before any service is called. Everything before
    /// has been written by then, so hyper's response can be replaced as a whole.
    fn replacement(&self, head: &[u8]) -> Option<String> {
        let status = self.connection.is_idle().then(|| head.strip_prefix(b"HTTP/1.")?.get(2..5)).flatten()?;
        let refusal = match status {
            b"400" => unparsable(),
            b"414" => ErrorResponse::TargetTooLong,
            b"431" if self.framing.is_request_line_too_long() => ErrorResponse::TargetTooLong,
            b"431" => ErrorResponse::HeadTooLarge,
            _ => return None,
        };
        Some(last_word(&refusal, &self.connection))
    }
}

/// `bufs` copied into `space` as one slice, if they fit.
fn gather<'a>(bufs: &[io::IoSlice<'_>], space: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut len = 0;
    for buf in bufs {
        space.get_mut(len..len + buf.len())?.copy_from_slice(buf);
        len += buf.len();
    }
    space.get(..len)
}

pub(crate) fn unparsable() -> ErrorResponse {
    ErrorResponse::Malformed { detail: "the request head cannot be parsed".into() }
}

/// A complete error response that gives the reason and announces that the connection closes.
pub(crate) fn last_word(refusal: &ErrorResponse, connection: &Connection) -> String {
    connection.note_end(after_last_word(refusal));
    let id =
        connection.recorder().incomplete_head(refusal.outcome(), Some(refusal.status()), connection.peer().address());
    tracing::debug!(target: log_target::REQUEST, request = %id, "request refused: {refusal}");
    let body = refusal.body(&id.to_string(), connection.is_dev(), None);
    let reason = http::StatusCode::from_u16(refusal.status()).ok().and_then(|status| status.canonical_reason());
    format!(
        "HTTP/1.1 {} {}\r\ndate: {}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nx-request-id: {id}\r\n\
        connection: close\r\n\r\n{body}",
        refusal.status(),
        reason.unwrap_or_default(),
        httpdate::fmt_http_date(SystemTime::now()),
        body.len(),
    )
}

impl AsyncRead for ConnectionIo {
    /// Gives hyper the next bytes of the current message part. Iterations of the loop that give hyper nothing only drop
    /// empty lines before a request, whose number is limited.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.framing.is_turn_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            if this.withheld.is_empty() {
                let Poll::Ready(ready) = this.connection.stream().poll_read_ready(cx) else {
                    let rest = this.connection.rest_time();
                    return this.poll_silent(cx, rest);
                };
                ready?;
                match this.connection.stream().read(buf) {
                    Ok(0) => {
                        this.connection.note_end_read();
                        return Poll::Ready(Ok(()));
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                }
                let came = buf.filled_mut().get_mut(before..).unwrap_or_default();
                let Step { skip, pass } = this.frame(came)?;
                this.withheld.put(came.get(skip + pass..).unwrap_or_default());
                if skip > 0 {
                    came.copy_within(skip..skip + pass, 0);
                }
                buf.set_filled(before + pass);
            } else {
                let withheld = std::mem::take(&mut this.withheld);
                let step = this.frame(withheld.first(buf.remaining()));
                this.withheld = withheld;
                let Step { skip, pass } = step?;
                this.withheld.advance(skip);
                buf.put_slice(this.withheld.first(pass));
                this.withheld.advance(pass);
            }
            if buf.filled().len() > before {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl ConnectionIo {
    /// Returns how many of the next bytes hyper may have now.
    fn frame(&mut self, bytes: &[u8]) -> io::Result<Step> {
        self.step(bytes).map_err(|error| {
            if !self.connection.arrival().is_body_coming() && self.connection.is_idle() {
                // Written here, because hyper takes an error between requests for the end of the connection.
                let refusal = ErrorResponse::Malformed { detail: Excerpt::display(error) };
                self.connection.write_now(last_word(&refusal, &self.connection).as_bytes());
                self.connection.change_phase(Change::Answers);
            }
            self.connection.note_end(ConnectionEnd::Malformed);
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }

    fn step(&mut self, bytes: &[u8]) -> Result<Step, framing::Error> {
        if let Some(body) = self.connection.arrival().take_body() {
            self.framing.begin_body(body)?;
        }
        let is_head = self.framing.is_head();
        let step = self.framing.step(bytes);
        if is_head && !self.framing.has_head_passed() {
            // Only a head that does not arrive in one piece is timed. Most do, and need not pay for reading the clock.
            self.connection.note_head();
        }
        if is_head && !self.framing.has_head_passed() && step.as_ref().map_or(true, |step| step.pass > 0) {
            self.connection.note_partial_head();
        }
        let step = step?;
        if self.framing.has_head_passed() {
            self.connection.arrival().note_head_end(self.framing.has_fragment(), self.framing.ahead());
        } else if !is_head && self.framing.is_head() {
            self.connection.arrival().note_body_end();
        }
        Ok(step)
    }
}

impl Withheld {
    fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }

    /// Replaces the withheld bytes, which must all have been taken.
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.taken = 0;
    }

    fn first(&self, most: usize) -> &[u8] {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        rest.get(..most).unwrap_or(rest)
    }

    fn advance(&mut self, count: usize) {
        self.taken += count;
        if self.is_empty() && self.bytes.capacity() > KEPT_BYTES {
            *self = Self::default();
        }
    }
}

impl AsyncWrite for ConnectionIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Made once for a head: it has a record, and a write that has to wait is tried again.
        let replacement = self.replacement.take().or_else(|| self.replacement(buf));
        if let Some(replacement) = replacement {
            let written = self.poll_write_with(cx, |stream| stream.try_write(replacement.as_bytes()));
            if written.is_pending() {
                self.replacement = Some(replacement);
                return Poll::Pending;
            }
            self.connection.change_phase(Change::Answers);
            return written.map_ok(|_| buf.len());
        }
        self.poll_write_with(cx, |stream| stream.try_write(buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes only when it has nothing left to write.
        self.connection.change_phase(Change::Flushed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.connection.stream().shut_down_writing())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let mut small = [0; SMALL_BYTES];
        match gather(bufs, &mut small) {
            Some(gathered) => self.poll_write_with(cx, |stream| stream.try_write(gathered)),
            None => self.poll_write_with(cx, |stream| stream.try_write_vectored(bufs)),
        }
    }
}
