//! Runs a guest until its response can go to hyper.
//!
//! The guest runs in the connection's task until it has responded and ended, or waits for something. Only a guest that
//! still runs when its response must be sent gets a task of its own, which ends with the response body.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use daylily_core::error_response::ErrorResponse;
use daylily_core::excerpt::Excerpt;
use http::header::{ALLOW, CONTENT_LENGTH, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::{Body as _, Frame};
use tokio::sync::oneshot;

use crate::http::body::{Body, Streamed};
use crate::http::exchange::{Abort, Exchange, RequestGuard, report_end};
use crate::http::watchdog::Watched;
use crate::sys::runtime::poll_unbudgeted;
use crate::wasi::http::{GuestBody, GuestResponse, content_length, describe_error};

/// Largest response that is sent in one piece, with a content-length, if the guest does not wait before its end.
const MAX_WHOLE_BYTES: usize = 64 << 10;

/// A running guest.
pub(crate) struct InFlight {
    pub(crate) guest: Watched,
    /// The head of the guest's response, once it has been returned.
    pub(crate) head: oneshot::Receiver<GuestResponse>,
    pub(crate) hold: RequestGuard,
}

/// Frames that the guest wrote without waiting: the buffered start of a response.
#[derive(Default)]
struct Buffered {
    frames: VecDeque<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    /// The body ends after these frames.
    ended: bool,
}

/// Runs the guest until it has returned a response, and on until it waits. Cancel safe: dropping the future ends the
/// guest.
///
/// # Errors
///
/// When the guest ended without a response, its response cannot be sent, or the request body failed.
pub(crate) async fn begin(mut begun: InFlight, method: &Method) -> Result<Response<Body>, Abort> {
    let head = poll_fn(|cx| begun.poll_head(cx)).await?;
    let response = head.map_err(|code| ErrorResponse::GuestError { detail: code })?;
    check(response.status())?;
    begun.hold.exchange.record().set_status(response.status().as_u16());

    let (mut parts, mut body) = response.into_parts();
    if method == Method::HEAD || !may_have_body(parts.status) {
        if !may_have_body(parts.status) {
            // RFC 9110 §8.6 forbids Content-Length with 204; with 304 it could only be wrong; with 205 it is 0, which
            // hyper adds.
            parts.headers.remove(CONTENT_LENGTH);
        }
        return Ok(Response::from_parts(parts, begun.send_without(body)));
    }
    let buffered = poll_fn(|cx| Poll::Ready(begun.buffer(&mut body, cx))).await?;
    if begun.hold.exchange.is_continued() && begun.hold.exchange.outcome().is_none() {
        // hyper sends no `100 Continue` after a head, so yield to let it send that first.
        tokio::task::yield_now().await;
    }
    let length = content_length(&parts.headers);
    let is_wrong =
        |length| if buffered.ended { length != buffered.bytes as u64 } else { length < buffered.bytes as u64 };
    if length.is_some_and(is_wrong) {
        let detail = format!("its content-length is {}, its body {} bytes", length.unwrap_or(0), buffered.bytes);
        return Err(ErrorResponse::InvalidResponse { detail: detail.into() }.into());
    }
    Ok(Response::from_parts(parts, begun.send(buffered, body, length)))
}

impl InFlight {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<GuestResponse, Abort>> {
        self.drive(cx);
        if let Some(body_error) = self.hold.exchange.body_error() {
            return Poll::Ready(Err(body_error.to_abort()));
        }
        if let Ok(head) = self.head.try_recv() {
            return Poll::Ready(Ok(head));
        }
        match self.hold.exchange.outcome() {
            Some(outcome) => Poll::Ready(Err(outcome.clone().into_abort())),
            None => Poll::Pending,
        }
    }

    /// Polls the guest unless it has ended.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if self.hold.exchange.outcome().is_none() {
            let _ = self.guest.as_mut().poll(cx);
        }
    }

    /// Buffers what the guest writes without waiting. Nothing has been sent yet, so if the guest fails before its
    /// response ends, an error response is sent instead.
    fn buffer(&mut self, body: &mut GuestBody, cx: &mut Context<'_>) -> Result<Buffered, Abort> {
        let mut buffered = Buffered::default();
        let mut driven = false;
        while !buffered.ended && buffered.bytes <= MAX_WHOLE_BYTES {
            match poll_unbudgeted(cx, |cx| Pin::new(&mut *body).poll_frame(cx)) {
                Poll::Ready(Some(Ok(frame))) => {
                    driven = false;
                    buffered.push(frame);
                }
                Poll::Ready(Some(Err(error))) => {
                    if let Some(body_error) = self.hold.exchange.body_error() {
                        return Err(body_error.to_abort());
                    }
                    let why = describe_error(error, self.hold.exchange.mask());
                    let detail = Excerpt::from(format!("its body ended with: {}", why.as_str()));
                    return Err(ErrorResponse::InvalidResponse { detail }.into());
                }
                Poll::Ready(None) => buffered.ended = true,
                Poll::Pending if driven => break,
                Poll::Pending => {
                    self.drive(cx);
                    driven = true;
                }
            }
        }
        if buffered.ended && self.hold.exchange.is_end_trusted() {
            // One more poll often lets the guest return.
            self.drive(cx);
            return Ok(buffered);
        }
        match self.hold.exchange.outcome() {
            Some(outcome) if !outcome.is_clean() => Err(outcome.clone().into_abort()),
            Some(_) if buffered.bytes <= MAX_WHOLE_BYTES => Err(unfinished().into()),
            _ => Ok(buffered),
        }
    }

    /// The body of a buffered response: in one piece if it has ended, otherwise streamed.
    fn send(self, buffered: Buffered, rest: GuestBody, length: Option<u64>) -> Body {
        let Self { guest, hold, .. } = self;
        let hold = Arc::new(hold);
        let is_whole = buffered.ended && buffered.trailers.is_none();
        if is_whole {
            hold.exchange.mark_delivered();
        }
        if is_whole && hold.exchange.outcome().is_some() {
            report_end(&hold.exchange);
        }
        let at_work = hold.exchange.outcome().is_none();
        let task = at_work.then(|| tokio::spawn(finish(guest, Arc::clone(&hold))));
        if is_whole {
            return Body::whole(concat(buffered.frames), hold);
        }
        let rest = (!buffered.ended).then_some(rest);
        Body::streamed(Streamed::new(buffered.frames, buffered.trailers, rest, length, task, hold))
    }

    /// A response without a body. What the guest writes to its body is read and discarded, within its limits.
    fn send_without(self, mut body: GuestBody) -> Body {
        let Self { guest, hold, .. } = self;
        let hold = Arc::new(hold);
        hold.exchange.note_bodiless();
        if hold.exchange.outcome().is_some() {
            hold.exchange.mark_delivered();
            report_end(&hold.exchange);
            return Body::whole(Bytes::new(), hold);
        }
        let held = Arc::clone(&hold);
        tokio::spawn(async move {
            let guest = async {
                guest.await;
                report_end(&held.exchange);
                // Otherwise a body that the guest did not finish would never end.
                held.exchange.drop_ended_store();
            };
            let drain = async {
                while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
                held.exchange.mark_delivered();
            };
            tokio::join!(biased; guest, drain);
        });
        Body::whole(Bytes::new(), hold)
    }
}

impl Buffered {
    fn push(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                self.bytes += data.len();
                self.frames.push_back(data);
            }
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
    }
}

/// Runs a guest that has responded to its end. If its response has not ended by then, the body reports the outcome.
async fn finish(guest: Watched, hold: Arc<RequestGuard>) {
    guest.await;
    if hold.exchange.is_delivered() {
        report_end(&hold.exchange);
    }
}

pub(crate) fn unfinished() -> ErrorResponse {
    ErrorResponse::InvalidResponse { detail: "it returned without finishing its body".into() }
}

/// Guests must not return informational statuses (RFC 9110 §15.2).
fn check(status: StatusCode) -> Result<(), ErrorResponse> {
    if status.as_u16() >= 200 {
        return Ok(());
    }
    let detail = format!("its status {} is informational (1xx)", status.as_u16());
    Err(ErrorResponse::InvalidResponse { detail: detail.into() })
}

/// See RFC 9110 §15.3.5, §15.3.6 and §15.4.5.
pub(crate) fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

fn concat(mut frames: VecDeque<Bytes>) -> Bytes {
    match frames.len() {
        0 => Bytes::new(),
        1 => frames.pop_front().unwrap_or_default(),
        _ => {
            let mut all = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
            for frame in frames {
                all.extend_from_slice(&frame);
            }
            all.freeze()
        }
    }
}

/// An error response in plain text.
pub(crate) fn refusal(refusal: &ErrorResponse, exchange: &Exchange, dev: bool) -> Response<Body> {
    let id = exchange.record().id;
    let mut response = Response::new(Body::text(match exchange.diagnosis() {
        Some(diagnosis) => diagnosis.explain(refusal, id),
        None => refusal.body(&id.to_string(), dev, None),
    }));
    *response.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if matches!(refusal, ErrorResponse::MethodNotAllowed) {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if let Some(seconds) = refusal.retry_after_s() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(refusal, ErrorResponse::Malformed { .. } | ErrorResponse::UnknownCoding) {
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
