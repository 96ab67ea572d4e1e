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

/// A response's body, which releases its connection and its slot at its end, and what it is received from: the body of
/// another guest holds that guest's permit.
///
/// Dropped before that, it closes the connection: the rest of the response is not read.
pub(super) struct ResponseBody<B> {
    /// None once the body has ended.
    open: Option<Open<B>>,
    between_bytes: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs. It runs only while the guest waits for data, so that the guest's own pauses do not
    /// count.
    is_waiting: bool,
}

/// A body that has not ended.
struct Open<B> {
    incoming: B,
    _held: Held,
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
        let open = (!incoming.is_end_stream()).then_some(Open { incoming, _held: held });
        Self { open, between_bytes, timer: None, is_waiting: false }
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
        let Some(open) = &mut self.open else { return Poll::Ready(None) };
        match Pin::new(&mut open.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let is_over = open.incoming.is_end_stream();
                self.is_waiting = false;
                if is_over {
                    self.open = None;
                }
                Poll::Ready(Some(Ok(clean_trailers(frame))))
            }
            Poll::Ready(Some(Err(error))) => {
                self.open = None;
                Poll::Ready(Some(Err(B::error(error))))
            }
            Poll::Ready(None) => {
                self.open = None;
                Poll::Ready(None)
            }
            Poll::Pending if self.poll_timer(cx).is_ready() => {
                self.open = None;
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.open.as_ref().map_or_else(|| SizeHint::with_exact(0), |open| open.incoming.size_hint())
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::super::slot::Instance;
    use super::*;

    /// One frame, and something that is held until it is dropped.
    struct Holding {
        data: Option<Bytes>,
        _held: Arc<()>,
    }

    impl Body for Holding {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
        }

        fn is_end_stream(&self) -> bool {
            self.data.is_none()
        }
    }

    /// The body of another guest holds that guest's permit.
    #[tokio::test]
    async fn what_a_body_is_received_from_ends_with_it() {
        for data in [None, Some(Bytes::from_static(b"data"))] {
            let (instance, held) = (Instance::new(), Arc::new(()));
            let slot = instance.open(1).expect("a free slot");
            let frames = usize::from(data.is_some());
            let incoming = Holding { data, _held: Arc::clone(&held) }.boxed_unsync();
            let mut body = ResponseBody::new(incoming, Duration::from_secs(10), Held { _lease: None, _slot: slot });
            assert_eq!(Arc::strong_count(&held), 1 + frames);
            for _ in 0..frames {
                assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
            }
            assert_eq!((Arc::strong_count(&held), instance.count()), (1, 0));
            assert!(body.frame().await.is_none() && body.is_end_stream());
            assert_eq!(body.size_hint().exact(), Some(0));
        }
    }
}
