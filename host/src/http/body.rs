//! The response bodies that hyper sends.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::http::connection::InRequest;
use crate::http::dev_server::Events;
use crate::http::exchange::{RequestGuard, report_end};
use crate::http::files::FileBody;
use crate::observe::record::log_request;
use crate::sys::runtime::poll_unbudgeted;
use crate::wasi::http::{GuestBody, describe_error, received};

/// A response body.
pub(crate) struct Body {
    kind: Kind,
    /// What follows the body of a page of `daylily dev`.
    appended: Option<Box<Appended>>,
    /// Keeps the request in progress until the body has been sent.
    in_request: Option<InRequest>,
}

enum Kind {
    /// A body in one piece, with a content-length.
    Whole {
        /// The bytes, until hyper has taken them.
        bytes: Option<Bytes>,
        /// Kept until hyper drops the body, after it has taken the bytes.
        hold: Option<Arc<RequestGuard>>,
    },
    /// A body that is sent as the guest writes it.
    Streamed(Box<Streamed>),
    /// A file, whose length is known.
    File(Box<FileBody>),
    /// The events that pages of `daylily dev` wait for.
    Events(Box<Events>),
}

/// What follows a body.
struct Appended {
    bytes: Option<Bytes>,
    /// The trailers of the body, when they have been read.
    trailers: Option<Frame<Bytes>>,
}

/// A body that the guest is still writing, or that has trailers.
pub(crate) struct Streamed {
    /// The frames that were written before the response was sent.
    first: VecDeque<Bytes>,
    rest: Option<GuestBody>,
    trailers: Option<HeaderMap>,
    /// Number of bytes that are left of the announced content-length.
    missing_bytes: Option<u64>,
    /// The last bytes of the announced content-length, when the guest passes on another body. They are held back until
    /// it is known that no byte follows.
    last: Option<Bytes>,
    /// The task that runs the guest, until it ends.
    task: Option<JoinHandle<()>>,
    hold: Arc<RequestGuard>,
}

impl Body {
    /// The whole response of a guest that buffered it.
    pub(crate) fn whole(bytes: Bytes, hold: Arc<RequestGuard>) -> Self {
        Self::from(Kind::Whole { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), hold: Some(hold) })
    }

    /// A response by the host.
    pub(crate) fn text(text: String) -> Self {
        Self::from(Kind::Whole { bytes: Some(text.into()), hold: None })
    }

    /// A response by the host without a body.
    pub(crate) fn empty() -> Self {
        Self::from(Kind::Whole { bytes: None, hold: None })
    }

    /// A response that the guest still writes, or that has trailers.
    pub(crate) fn streamed(streamed: Streamed) -> Self {
        Self::from(Kind::Streamed(Box::new(streamed)))
    }

    /// A file or a part of one.
    pub(crate) fn file(file: FileBody) -> Self {
        Self::from(Kind::File(Box::new(file)))
    }

    /// Events, until the worker drains.
    pub(crate) fn events(events: Events) -> Self {
        Self::from(Kind::Events(Box::new(events)))
    }

    /// Adds bytes after those of the body, and before its trailers.
    pub(crate) fn append(&mut self, bytes: Bytes) {
        self.appended = Some(Box::new(Appended { bytes: Some(bytes), trailers: None }));
    }

    /// The text of a response by the host.
    pub(crate) fn into_text(self) -> String {
        match self.kind {
            Kind::Whole { bytes, .. } => String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned(),
            Kind::Streamed(_) | Kind::File(_) | Kind::Events(_) => String::new(),
        }
    }

    /// Whether it is text by the host.
    pub(crate) fn is_by_host(&self) -> bool {
        matches!(self.kind, Kind::Whole { hold: None, .. })
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File(_))
    }

    /// Whether the length of the body is unknown.
    pub(crate) fn is_open_ended(&self) -> bool {
        match &self.kind {
            Kind::Streamed(streamed) => streamed.missing_bytes.is_none(),
            Kind::Events(_) => true,
            Kind::Whole { .. } | Kind::File(_) => false,
        }
    }

    /// The number of bytes that are known to follow.
    pub(crate) fn len(&self) -> usize {
        match &self.kind {
            Kind::Whole { bytes, .. } => bytes.as_ref().map_or(0, Bytes::len),
            Kind::Streamed(_) | Kind::Events(_) => 0,
            Kind::File(file) => usize::try_from(file.len()).unwrap_or(usize::MAX),
        }
    }

    /// Keeps `in_request` until the body is dropped.
    pub(crate) fn during(self, in_request: InRequest) -> Self {
        if self.is_open_ended() {
            in_request.begin_open_ended();
        }
        match &self.kind {
            Kind::Streamed(streamed) => in_request.begin_streaming(streamed.hold.share()),
            Kind::File(_) | Kind::Events(_) => in_request.begin_file(),
            Kind::Whole { .. } => {}
        }
        Self { in_request: Some(in_request), ..self }
    }
}

impl Appended {
    /// The frame to send when the body has come to `frame`.
    fn after(&mut self, frame: Option<io::Result<Frame<Bytes>>>) -> Option<io::Result<Frame<Bytes>>> {
        match frame {
            Some(Ok(frame)) if frame.is_data() => Some(Ok(frame)),
            Some(Ok(trailers)) => match self.bytes.take() {
                Some(bytes) => {
                    self.trailers = Some(trailers);
                    Some(Ok(Frame::data(bytes)))
                }
                None => Some(Ok(trailers)),
            },
            None => self.bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            error => error,
        }
    }

    fn len(&self) -> usize {
        self.bytes.as_ref().map_or(0, Bytes::len)
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, appended: None, in_request: None }
    }
}

impl Streamed {
    pub(crate) fn new(
        first: VecDeque<Bytes>,
        trailers: Option<HeaderMap>,
        rest: Option<GuestBody>,
        length: Option<u64>,
        task: Option<JoinHandle<()>>,
        hold: Arc<RequestGuard>,
    ) -> Self {
        hold.exchange.record().note_response();
        Self { first, rest, trailers, missing_bytes: length, last: None, task, hold }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        while let Some(bytes) = self.first.pop_front() {
            if let Some(counted) = self.count(bytes).transpose() {
                return Poll::Ready(Some(counted));
            }
        }
        while let Some(rest) = &mut self.rest {
            let (next, is_from_outside) =
                received::observe(|| poll_unbudgeted(cx, |cx| Pin::new(&mut *rest).poll_frame(cx)));
            match next {
                // The guest has written everything that it announced, so do not wait until it also closes its body.
                Poll::Pending if !is_from_outside && self.last.is_some() => break,
                Poll::Pending if self.hold.exchange.outcome().is_none() => {
                    self.hold.exchange.wake_at_end(cx);
                    return Poll::Pending;
                }
                // A guest that has ended writes nothing more.
                Poll::Pending => {
                    return Poll::Ready(Some(Err(self.cut("the guest ended before it finished its body"))));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => match self.count(bytes).transpose() {
                        Some(counted) => return Poll::Ready(Some(counted)),
                        None => continue,
                    },
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Poll::Ready(Some(Err(error))) => {
                    let why = describe_error(error, self.hold.exchange.mask());
                    return Poll::Ready(Some(Err(self.cut(why.as_str()))));
                }
                Poll::Ready(None) if self.is_short() || self.hold.exchange.is_end_trusted() => {}
                Poll::Ready(None) => {
                    return Poll::Ready(Some(Err(self.cut("the guest was aborted before it finished its body"))));
                }
            }
            if self.is_short() {
                return Poll::Ready(Some(Err(self.cut("the body is shorter than its content-length"))));
            }
            self.rest = None;
        }
        Poll::Ready(match (self.last.take(), self.trailers.take()) {
            (Some(last), trailers) => {
                self.trailers = trailers;
                Some(Ok(Frame::data(last)))
            }
            (None, Some(trailers)) => {
                // hyper does not poll for the end after trailers.
                self.complete();
                Some(Ok(Frame::trailers(trailers)))
            }
            (None, None) => {
                self.complete();
                None
            }
        })
    }

    fn is_short(&self) -> bool {
        self.missing_bytes.is_some_and(|missing| missing > 0)
    }

    fn complete(&mut self) {
        let exchange = &self.hold.exchange;
        if exchange.is_delivered() {
            return;
        }
        exchange.mark_delivered();
        exchange.record().note_response_ended();
        if exchange.outcome().is_some() {
            report_end(exchange);
        }
    }

    /// Counts `bytes` against the announced length. Returns the frame to send now, if any.
    fn count(&mut self, bytes: Bytes) -> io::Result<Option<Frame<Bytes>>> {
        let Some(missing) = self.missing_bytes else { return Ok(Some(Frame::data(bytes))) };
        let Some(missing) = missing.checked_sub(bytes.len() as u64) else {
            return Err(self.cut("the body is longer than its content-length"));
        };
        self.missing_bytes = Some(missing);
        if missing > 0 || self.rest.is_none() {
            return Ok(Some(Frame::data(bytes)));
        }
        // hyper does not read beyond the announced length, so check for excess bytes before these are sent.
        self.last = Some(self.last.take().filter(|_| bytes.is_empty()).unwrap_or(bytes));
        Ok(None)
    }

    /// The error that makes hyper close the connection, so that clients do not take a partial body for a complete one.
    fn cut(&self, why: &str) -> io::Error {
        let exchange = &self.hold.exchange;
        exchange.note_cut();
        match exchange.outcome() {
            Some(outcome) if !outcome.is_clean() => report_end(exchange),
            _ if exchange.body_error().is_some() => {
                log_request!(debug, exchange.record(), "response cut because the request body failed: {why}");
            }
            _ => {
                log_request!(warn, exchange.record(), "guest failed during its response, which was cut: {why}");
            }
        }
        io::Error::other("response cut")
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some(trailers) = this.appended.as_mut().and_then(|appended| appended.trailers.take()) {
            return Poll::Ready(Some(Ok(trailers)));
        }
        let frame = match &mut this.kind {
            Kind::Whole { bytes, hold } => {
                if let (Some(bytes), Some(hold)) = (&bytes, &hold) {
                    hold.exchange.record().add_bytes_out(bytes.len());
                }
                bytes.take().map(|bytes| Ok(Frame::data(bytes)))
            }
            Kind::Streamed(streamed) => {
                let frame = ready!(streamed.poll_next(cx));
                if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                    streamed.hold.exchange.record().add_bytes_out(bytes.len());
                }
                frame
            }
            Kind::File(file) => ready!(file.poll_next(cx)).map(|read| read.map(Frame::data)),
            Kind::Events(events) => ready!(events.poll_next(cx)).map(|event| event.map(Frame::data)),
        };
        let frame = match &mut this.appended {
            Some(appended) => appended.after(frame),
            None => frame,
        };
        if let (Some(Err(_)), Some(in_request)) = (&frame, &this.in_request) {
            in_request.cut();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.appended.as_ref().is_none_or(|appended| appended.bytes.is_none() && appended.trailers.is_none())
            && match &self.kind {
                Kind::Whole { bytes, .. } => bytes.is_none(),
                Kind::Streamed(_) | Kind::Events(_) => false,
                Kind::File(file) => file.len() == 0,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let appended = self.appended.as_ref().map_or(0, |appended| appended.len()) as u64;
        match &self.kind {
            Kind::Whole { bytes, .. } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64 + appended),
            Kind::Streamed(_) | Kind::Events(_) => SizeHint::default(),
            Kind::File(file) => SizeHint::with_exact(file.len().saturating_add(appended)),
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        if self.missing_bytes == Some(0) && self.first.is_empty() && self.last.is_none() {
            // hyper does not poll for the end after the last byte of an announced length.
            self.complete();
        }
        if !self.hold.exchange.is_delivered()
            && let Some(task) = self.task.take()
        {
            task.abort();
        }
    }
}
