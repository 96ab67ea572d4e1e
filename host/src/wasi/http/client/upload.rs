//! The body of an outgoing request, and its framing.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use wasmtime_wasi_http::{Error, WasiBody};

use super::slot::OutgoingPermit;
use crate::sys::lock::lock;
use crate::sys::runtime::poll_unbudgeted;
use crate::wasi::http::received;

/// How long to wait until a guest has decided whether a GET has a body. A 0.3 guest reports that there is none only
/// after it has sent the request.
const UNDECIDED_BODY_WAIT: Duration = Duration::from_millis(5);

/// Decides how the body is framed and sets the header fields for that.
///
/// A request without a body is sent without `Transfer-Encoding`. A body of unknown length is chunked, whatever the
/// method. A `Content-Length` is always the length of the body: with a wrong one, the next request on the connection,
/// of another instance, would become part of this body.
pub(super) async fn frame(
    head: &mut request::Parts,
    mut body: WasiBody,
    slot: Arc<OutgoingPermit>,
) -> Result<(RequestBody, Option<Upload>), Error> {
    let length = content_length(&head.headers)?;
    let mut first = None;
    let mut is_empty = body.is_end_stream();
    if !is_empty && matches!(length, None | Some(0)) {
        match first_frame(&mut body, length.is_none() && has_usually_no_body(&head.method)).await {
            Some(Some(frame)) => first = Some(frame?),
            Some(None) => is_empty = true,
            None => {}
        }
    }
    if !is_empty && head.method == Method::TRACE {
        // RFC 9110 §9.3.8: without content.
        return Err(Error::HttpRequestMethodInvalid);
    }
    if length == Some(0) {
        // hyper would not poll such a body at all.
        if let Some(data) = first.as_ref().and_then(Frame::data_ref).filter(|data| !data.is_empty()) {
            return Err(Error::HttpRequestBodySize(Some(len(data))));
        }
        is_empty = true;
    }
    if is_empty {
        // RFC 9110 §10.1.1: not in a request without content.
        head.headers.remove(EXPECT);
        return match length {
            Some(1..) => Err(Error::HttpRequestBodySize(Some(0))),
            Some(0) => Ok((RequestBody::empty(), None)),
            None => {
                // RFC 9110 §8.6: where a body is expected, declare that there is none.
                if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
                    head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
                Ok((RequestBody::empty(), None))
            }
        };
    }
    if length.is_none() {
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let (body, upload) = streaming(body, first, length, slot);
    Ok((body, Some(upload)))
}

/// The body of a request to another guest. It needs no framing, so nothing waits for its first frame. A wrong
/// `Content-Length` is an error, as on a connection.
pub(super) async fn pass_on(
    head: &request::Parts,
    mut body: WasiBody,
    slot: Arc<OutgoingPermit>,
) -> Result<(RequestBody, Option<Upload>), Error> {
    let length = content_length(&head.headers)?;
    if head.method == Method::TRACE && !body.is_end_stream() {
        // As in `frame`.
        return match first_frame(&mut body, true).await {
            Some(None) if length.unwrap_or(0) == 0 => Ok((RequestBody::empty(), None)),
            _ => Err(Error::HttpRequestMethodInvalid),
        };
    }
    if body.is_end_stream() {
        return match length {
            Some(1..) => Err(Error::HttpRequestBodySize(Some(0))),
            _ => Ok((RequestBody::empty(), None)),
        };
    }
    if length == Some(0) {
        // It is not read.
        let first = first_frame(&mut body, false).await.flatten().transpose()?;
        return match first.as_ref().and_then(Frame::data_ref).filter(|data| !data.is_empty()) {
            Some(data) => Err(Error::HttpRequestBodySize(Some(len(data)))),
            None => Ok((RequestBody::empty(), None)),
        };
    }
    let (body, upload) = streaming(body, None, length, slot);
    Ok((body, Some(upload)))
}

fn streaming(
    body: WasiBody,
    first: Option<Frame<Bytes>>,
    length: Option<u64>,
    slot: Arc<OutgoingPermit>,
) -> (RequestBody, Upload) {
    let (done, finished) = oneshot::channel();
    let progress = Arc::new(Progress::default());
    let upload = Upload { finished, progress: Arc::clone(&progress) };
    let (remaining, done) = (length, Some(done));
    let streaming = Streaming { body, first, last: None, remaining, sent: 0, done, progress, slot };
    (RequestBody(Some(Box::new(streaming))), upload)
}

fn len(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

fn has_usually_no_body(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE)
}

/// The first frame of the body, if it is available or, with `may_wait`, arrives within [`UNDECIDED_BODY_WAIT`].
async fn first_frame(body: &mut WasiBody, may_wait: bool) -> Option<Option<Result<Frame<Bytes>, Error>>> {
    if may_wait {
        return timeout(UNDECIDED_BODY_WAIT, body.frame()).await.ok();
    }
    // Not `timeout` with a duration of zero, which would wait for the timer's next tick.
    poll_fn(|cx| {
        Poll::Ready(match poll_unbudgeted(cx, |cx| Pin::new(&mut *body).poll_frame(cx)) {
            Poll::Ready(frame) => Some(frame),
            Poll::Pending => None,
        })
    })
    .await
}

/// The value of `Content-Length`. More than one is an error.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let digits = value.to_str().unwrap_or_default();
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    match digits.parse() {
        Ok(length) if is_number && values.next().is_none() => Ok(Some(length)),
        _ => Err(Error::HttpProtocolError),
    }
}

/// The state of a request's body, for the task that sends the request.
pub(super) struct Upload {
    finished: oneshot::Receiver<Result<(), Error>>,
    progress: Arc<Progress>,
}

impl Upload {
    /// When the guest last wrote a part of the body, or the request was started.
    pub(super) fn last_progress(&self) -> Instant {
        self.progress.last()
    }

    /// Why the body could not be sent to its end, if the guest is the cause.
    pub(super) fn failure(&mut self) -> Option<Error> {
        self.finished.try_recv().ok()?.err()
    }

    /// How the body has ended, if it has. One that was dropped before its end was not sent.
    pub(super) fn end(&mut self) -> Option<Result<(), Error>> {
        match self.finished.try_recv() {
            Ok(result) => Some(result),
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(Error::ConnectionTerminated)),
            Err(oneshot::error::TryRecvError::Empty) => None,
        }
    }

    /// Returns itself, unless the body has been sent or never will be.
    pub(super) fn in_progress(mut self) -> Option<Self> {
        let state = self.finished.try_recv();
        matches!(state, Err(oneshot::error::TryRecvError::Empty)).then_some(self)
    }

    /// To be called when the origin has rejected the rest: nothing more is sent, and the connection ends with the
    /// response.
    pub(super) fn cease(&self) {
        self.progress.ceased.store(true, Relaxed);
    }

    pub(super) fn has_ceased(&self) -> bool {
        self.progress.ceased.load(Relaxed)
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Waits until the body has been sent.
    pub(super) async fn finished(self) -> Result<(), Error> {
        // The body was dropped before its end: the origin did not want the rest.
        self.finished.await.unwrap_or(Err(Error::ConnectionTerminated))
    }
}

/// The state that the body and the task that sends it share.
pub(super) struct Progress {
    last: Mutex<Instant>,
    /// The task that waits for the guest to write.
    waiting: Mutex<Option<Waker>>,
    ceased: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { last: Mutex::new(Instant::now()), waiting: Mutex::new(None), ceased: AtomicBool::new(false) }
    }
}

impl Progress {
    fn made(&self) {
        *lock(&self.last) = Instant::now();
    }

    fn last(&self) -> Instant {
        *lock(&self.last)
    }

    /// To be called when the guest has returned: the body continues without it, or ends.
    pub(super) fn go_on(&self) {
        if let Some(waiting) = lock(&self.waiting).take() {
            waiting.wake();
        }
    }
}

/// The body of an outgoing request, as hyper polls it. Most requests have none.
pub(crate) struct RequestBody(Option<Box<Streaming>>);

struct Streaming {
    body: WasiBody,
    /// The frame that was read to find out whether there is a body.
    first: Option<Frame<Bytes>>,
    /// The data that reaches the `Content-Length`, held back until it is known that nothing follows.
    last: Option<Bytes>,
    /// Bytes left to the `Content-Length`.
    remaining: Option<u64>,
    sent: u64,
    done: Option<oneshot::Sender<Result<(), Error>>>,
    progress: Arc<Progress>,
    slot: Arc<OutgoingPermit>,
}

/// Makes hyper abort the request. The reason is reported through [`Upload`].
#[derive(Debug, thiserror::Error)]
#[error("the guest did not finish the request's body")]
pub(crate) struct Unfinished;

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        match &mut self.0 {
            None => Poll::Ready(None),
            Some(streaming) => streaming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|streaming| streaming.remaining == Some(0) && streaming.last.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(streaming) => {
                let held_back = streaming.last.as_ref().map_or(0, len);
                let exact = |remaining: u64| SizeHint::with_exact(remaining.saturating_add(held_back));
                streaming.remaining.map_or_else(SizeHint::default, exact)
            }
        }
    }
}

impl Streaming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        loop {
            if self.progress.ceased.load(Relaxed) {
                // After an error, hyper would drop the response, too.
                return Poll::Pending;
            }
            let (next, is_from_outside) = match self.first.take() {
                Some(first) => (Poll::Ready(Some(Ok(first))), false),
                None => received::observe(|| poll_unbudgeted(cx, |cx| Pin::new(&mut self.body).poll_frame(cx))),
            };
            let next = match next {
                Poll::Ready(next) => next,
                Poll::Pending if is_from_outside => return Poll::Pending,
                // A guest that has written its whole `Content-Length` may wait for the response before it closes the
                // body.
                Poll::Pending if self.last.is_some() => None,
                Poll::Pending if self.slot.instance().has_returned() => {
                    return Poll::Ready(Some(Err(self.fail(Error::ConnectionTerminated))));
                }
                Poll::Pending => {
                    *lock(&self.progress.waiting) = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            };
            match next {
                Some(Ok(frame)) => {
                    if let Some(frame) = self.account(frame).transpose() {
                        return Poll::Ready(Some(frame));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(self.fail(error)))),
                None => return Poll::Ready(self.end()),
            }
        }
    }

    /// Accounts for the next frame and returns what of it is to be sent now.
    fn account(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Unfinished> {
        self.progress.made();
        let data = match frame.into_data() {
            Ok(data) => data,
            // Nothing follows trailers. Those of a body with a length are not sent (RFC 9112 §7.1.2).
            Err(_) if self.remaining.is_some() => return self.end().transpose(),
            Err(trailers) => {
                self.finish(Ok(()));
                return Ok(Some(trailers));
            }
        };
        self.sent = self.sent.saturating_add(len(&data));
        let Some(remaining) = self.remaining else { return Ok(Some(Frame::data(data))) };
        let Some(left) = remaining.checked_sub(len(&data)) else {
            return Err(self.fail(Error::HttpRequestBodySize(Some(self.sent))));
        };
        self.remaining = Some(left);
        if left > 0 {
            return Ok(Some(Frame::data(data)));
        }
        // hyper polls no further than the `Content-Length`, so check first whether anything follows.
        self.last = Some(self.last.take().filter(|_| data.is_empty()).unwrap_or(data));
        Ok(None)
    }

    /// Completes the body.
    fn end(&mut self) -> Option<Result<Frame<Bytes>, Unfinished>> {
        if self.slot.instance().is_gone() {
            // The body of a dropped instance ends, too, but was not finished.
            return Some(Err(self.fail(Error::ConnectionTerminated)));
        }
        if self.remaining.is_some_and(|remaining| remaining > 0) {
            return Some(Err(self.fail(Error::HttpRequestBodySize(Some(self.sent)))));
        }
        self.finish(Ok(()));
        self.last.take().map(|last| Ok(Frame::data(last)))
    }

    fn fail(&mut self, error: Error) -> Unfinished {
        self.finish(Err(error));
        Unfinished
    }

    fn finish(&mut self, result: Result<(), Error>) {
        if let Some(done) = self.done.take() {
            // The receiver may have been dropped after the response was read.
            drop(done.send(result));
        }
    }
}
