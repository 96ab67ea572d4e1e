//! The body of a response to an outgoing request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::WasiBody;

use super::error;
use super::pool::Lease;
use super::slot::OutgoingPermit;
use crate::message::fields::remove_forbidden;
use crate::wasi::http::received;

/// A response's body, which releases its connection and its slot at its end.
///
/// Dropped before that, it closes the connection: the rest of the response is not read.
pub(super) struct ResponseBody<B> {
    incoming: B,
    between_bytes: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs. It runs only while the guest waits for data, so that the guest's own pauses do not
    /// count.
    is_waiting: bool,
    held: Option<Held>,
}

/// Resources that are kept until the end of the body.
pub(super) struct Held {
    /// None for a response of another guest, which has no connection.
    pub(super) _lease: Option<Arc<Lease>>,
    pub(super) _slot: Arc<OutgoingPermit>,
}

/// A body as it is received.
pub(super) trait Received: Body<Data = Bytes> + Unpin {
    /// The error code for an incomplete body.
    fn error(error: Self::Error) -> Error;
}

impl Received for Incoming {
    fn error(error: hyper::Error) -> Error {
        error::in_body(&error)
    }
}

impl Received for WasiBody {
    fn error(error: Error) -> Error {
        error
    }
}

impl<B: Received> ResponseBody<B> {
    pub(super) fn new(incoming: B, between_bytes: Duration, held: Held) -> Self {
        let held = (!incoming.is_end_stream()).then_some(held);
        Self { incoming, between_bytes, timer: None, is_waiting: false, held }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.between_bytes;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}

impl<B: Received> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        received::note_polled();
        if self.held.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.is_waiting = false;
                if self.incoming.is_end_stream() {
                    self.held = None;
                }
                Poll::Ready(Some(Ok(clean_trailers(frame))))
            }
            Poll::Ready(Some(Err(error))) => {
                self.held = None;
                Poll::Ready(Some(Err(B::error(error))))
            }
            Poll::Ready(None) => {
                self.held = None;
                Poll::Ready(None)
            }
            Poll::Pending if self.poll_timer(cx).is_ready() => {
                self.held = None;
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Removes connection and framing fields from trailers (RFC 9110 §6.5.1, §7.6.1).
fn clean_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            remove_forbidden(&mut trailers);
            trailers.remove(CONTENT_LENGTH);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}
