//! The body of a request as the guest reads it: from a client or from another guest, within the limits of the route.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use daylily_core::config::RouteLimits;
use daylily_core::excerpt::Excerpt;
use http::HeaderName;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::Error as HttpError;

use super::remove_nominated;
use crate::http::admission::RouteShare;
use crate::http::exchange::{BodyError, Exchange};
use crate::http::requester::Requester;
use crate::http::stall::Wait;
use crate::message::fields::remove_forbidden;
use crate::observe::trace_context::remove_from_trailers;
use crate::wasi::http::client::{RequestBody, error_from_hyper};
use crate::wasi::http::received;

/// A request body with limits on its size, and on how long a read may make no progress.
pub(crate) struct InboundBody {
    body: Source,
    left_bytes: u64,
    max_bytes: u64,
    stall: Duration,
    /// Runs while the guest waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    /// The route's share of permits, which holds the list of waits that can be asked to give way.
    share: RouteShare,
    /// How long the guest has waited for the client in all; made at the first wait.
    wait: Option<Wait>,
    /// The client sends the body only after `100 Continue`, which hyper sends when the body is first read.
    pub(super) is_expected: bool,
    /// The body has been read to its end.
    has_ended: bool,
    /// The fields that `Connection` nominates.
    pub(super) nominated: Vec<HeaderName>,
    exchange: Arc<Exchange>,
    requester: Requester,
}

/// Where a body comes from.
pub(super) enum Source {
    Client(Incoming),
    /// Another guest of this worker.
    Guest(RequestBody),
}

impl InboundBody {
    pub(super) fn new(
        body: Source,
        limits: &RouteLimits,
        share: &RouteShare,
        exchange: &Arc<Exchange>,
        requester: &Requester,
    ) -> Self {
        Self {
            body,
            left_bytes: limits.max_body_bytes,
            max_bytes: limits.max_body_bytes,
            stall: limits.body_timeout,
            stalled: None,
            share: share.clone(),
            wait: None,
            is_expected: false,
            has_ended: false,
            nominated: Vec::new(),
            exchange: Arc::clone(exchange),
            requester: requester.clone(),
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match &mut self.body {
            Source::Client(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|error| self.fail(&error))))
            }
            Source::Guest(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| {
                    frame.map_err(|_unfinished| {
                        self.exchange.fail(BodyError::ClientGone);
                        HttpError::ConnectionTerminated
                    })
                }))
            }
        }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.wait.get_or_insert_with(|| self.share.stalls().enlist()).has_to_give_way(cx, Instant::now()) {
            self.exchange.fail(BodyError::GaveWay);
            return Poll::Ready(Some(Err(HttpError::ConnectionReadTimeout)));
        }
        let stall = self.stall;
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(sleep.as_mut().poll(cx));
        self.exchange.fail(BodyError::TooSlow);
        Poll::Ready(Some(Err(HttpError::ConnectionReadTimeout)))
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, HttpError> {
        let Some(data) = frame.data_ref() else { return Ok(clean_trailers(frame, &self.nominated)) };
        match self.left_bytes.checked_sub(data.len() as u64) {
            Some(left) => {
                self.left_bytes = left;
                self.exchange.record().add_bytes_in(data.len());
                Ok(frame)
            }
            None => {
                self.exchange.fail(BodyError::TooLarge);
                Err(HttpError::HttpRequestBodySize(Some(self.max_bytes)))
            }
        }
    }

    fn fail(&self, error: &hyper::Error) -> HttpError {
        use std::error::Error;
        use std::io::ErrorKind;
        let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        self.exchange.fail(match source {
            Some(why) if matches!(why.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
                BodyError::Malformed(Excerpt::display(format_args!("the request body's framing is invalid: {why}")))
            }
            _ => BodyError::ClientGone,
        });
        error_from_hyper(error)
    }
}

impl Body for InboundBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        received::note_polled();
        if this.is_expected {
            this.exchange.note_continued();
        }
        let frame = match this.poll_source(cx) {
            Poll::Pending => return this.poll_stalled(cx),
            Poll::Ready(frame) => frame,
        };
        this.stalled = None;
        if let Some(wait) = &this.wait {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            wait.end(data.map_or(0, Bytes::len), Instant::now());
        }
        this.has_ended = frame.is_none();
        Poll::Ready(match frame {
            None => None,
            Some(Ok(frame)) => Some(this.count(frame)),
            error => error,
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Source::Client(body) => body.is_end_stream(),
            Source::Guest(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Source::Client(body) => body.size_hint(),
            Source::Guest(body) => body.size_hint(),
        }
    }
}

impl Drop for InboundBody {
    fn drop(&mut self) {
        if let Requester::Client(connection) = &self.requester {
            // hyper knows the end of a chunked body only once it has been read.
            connection.set_unread(!self.has_ended && !self.is_end_stream());
        }
    }
}

/// Removes the fields that are not allowed in trailers: fields of the connection, including those that `Connection`
/// nominates in the head, and fields of framing (RFC 9110 §6.5.1, §7.6.1). Nor are those with ids.
pub(super) fn clean_trailers(frame: Frame<Bytes>, nominated: &[HeaderName]) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            remove_nominated(&mut trailers, nominated);
            remove_forbidden(&mut trailers);
            trailers.remove(CONTENT_LENGTH);
            remove_from_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}
