//! Bodies that come from outside: as the guest reads them, and on their way out again.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::oneshot;
use wasmtime_wasi_http::Error as HttpError;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

use super::body::Transmission;
use crate::canonical::{ByteSource, Transfer};
use crate::engine::{GuestBody, State};
use crate::host_api::outgoing::remove_forbidden;

/// What comes after a body's last byte.
pub(super) type Trailers = Result<Option<HeaderMap>, HttpError>;

/// A stream that ends at once.
pub(super) struct Nothing;

impl ByteSource<State> for Nothing {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut State, _: &mut [u8]) -> wasmtime::Result<Poll<Transfer>> {
        Ok(Poll::Ready(Transfer::Ended))
    }
}

/// The standard input of the process, which is closed. That it could be read is not asked, as in wasmtime-wasi.
pub(super) struct ClosedInput;

impl ByteSource<State> for ClosedInput {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut State, room: &mut [u8]) -> wasmtime::Result<Poll<Transfer>> {
        Ok(Poll::Ready(if room.is_empty() { Transfer::Done(0) } else { Transfer::Ended }))
    }
}

/// A body from outside, as the guest reads it.
pub(super) struct BodySource {
    body: GuestBody,
    /// What the guest had no room for.
    rest: Bytes,
    /// Where what comes after the last byte goes.
    trailers: Option<oneshot::Sender<Trailers>>,
}

impl BodySource {
    /// With what comes after its last byte, once that is known.
    pub(super) fn new(first: Bytes, body: GuestBody) -> (Self, oneshot::Receiver<Trailers>) {
        let (sender, trailers) = oneshot::channel();
        (Self { body, rest: first, trailers: Some(sender) }, trailers)
    }

    fn end(&mut self, trailers: Trailers) -> wasmtime::Result<Poll<Transfer>> {
        if let Some(sender) = self.trailers.take() {
            let _ = sender.send(trailers);
        }
        Ok(Poll::Ready(Transfer::Ended))
    }

    /// What was read and not yet given, and what is to come.
    pub(super) fn into_parts(self) -> (Bytes, GuestBody) {
        (self.rest, self.body)
    }
}

impl ByteSource<State> for BodySource {
    fn poll_read(&mut self, cx: &mut Context<'_>, _: &mut State, room: &mut [u8]) -> wasmtime::Result<Poll<Transfer>> {
        while self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(None) => return self.end(Ok(None)),
                Poll::Ready(Some(Err(error))) => return self.end(Err(error)),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return self.end(Ok(frame.into_trailers().ok())),
                },
            }
        }
        let count = room.len().min(self.rest.len());
        self.rest.copy_to_slice(room.get_mut(..count).unwrap_or_default());
        Ok(Poll::Ready(Transfer::Done(count)))
    }
}

/// A body from outside on its way there again.
pub(super) struct Passed {
    /// What has been taken out of it already.
    first: Option<Bytes>,
    body: GuestBody,
    sent: Option<Transmission>,
    /// Until the end has been read: so long is the guest at work on it.
    passed: Option<oneshot::Sender<()>>,
}

impl Passed {
    /// Told are the guest, of the transmission, and whoever keeps what the body needs, both if they want to know.
    pub(super) fn new(
        first: Bytes,
        body: GuestBody,
        sent: Option<Transmission>,
        passed: Option<oneshot::Sender<()>>,
    ) -> Self {
        Self { first: Some(first).filter(|first| !first.is_empty()), body, sent, passed }
    }

    fn is_over(&self) -> bool {
        self.first.is_none() && (self.body.is_end_stream() || self.body.size_hint().exact() == Some(0))
    }
}

impl http_body::Body for Passed {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(poll, Poll::Ready(None)) {
            Transmission::tell(&mut self.sent, Ok(()));
            self.passed = None;
        }
        poll.map(|frame| frame.map(|frame| frame.map(without_forbidden_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.first.is_none() { self.body.size_hint() } else { SizeHint::default() }
    }
}

fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            remove_forbidden(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let is_over = self.is_over();
        Transmission::tell(&mut self.sent, if is_over { Ok(()) } else { Err(ErrorCode::ConnectionTerminated) });
    }
}
