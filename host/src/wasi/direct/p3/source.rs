//! Bodies received from a client or an origin: read by the guest, or passed on by the host.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime_wasi_http::Error as HttpError;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

use super::body::Transmission;
use super::pipe::Limit;
use crate::component_abi::{ByteSource, Transfer};
use crate::message::fields::remove_forbidden;
use crate::wasi::http::GuestBody;
use crate::wasi::state::State;

/// The trailers or the error after a body's last byte.
pub(in crate::wasi) type Trailers = Result<Option<HeaderMap>, HttpError>;

/// An empty stream.
pub(super) struct Nothing;

impl ByteSource<State> for Nothing {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut State, _: &mut [u8]) -> wasmtime::Result<Poll<Transfer>> {
        Ok(Poll::Ready(Transfer::Ended))
    }
}

/// The standard input of the process, which is closed. A read of zero bytes succeeds, as in wasmtime-wasi.
pub(super) struct ClosedInput {
    _open: oneshot::Sender<()>,
}

impl ClosedInput {
    /// `open` is dropped when the guest has read the end or has dropped the stream.
    pub(super) fn new(open: oneshot::Sender<()>) -> Self {
        Self { _open: open }
    }
}

impl ByteSource<State> for ClosedInput {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut State, room: &mut [u8]) -> wasmtime::Result<Poll<Transfer>> {
        Ok(Poll::Ready(if room.is_empty() { Transfer::Done(0) } else { Transfer::Ended }))
    }
}

/// A received body as the guest reads it.
pub(in crate::wasi) struct BodySource {
    body: GuestBody,
    /// Bytes that did not fit into the guest's buffer.
    rest: Bytes,
    /// Receives the trailers or the error after the last byte.
    trailers: Option<oneshot::Sender<Trailers>>,
}

impl BodySource {
    /// Also returns the receiver of the trailers or the error after the last byte.
    pub(in crate::wasi) fn new(first: Bytes, body: GuestBody) -> (Self, oneshot::Receiver<Trailers>) {
        let (sender, trailers) = oneshot::channel();
        (Self { body, rest: first, trailers: Some(sender) }, trailers)
    }

    /// Reads from the body until there are bytes for the guest. Returns false at the end of the body.
    pub(in crate::wasi) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while self.rest.is_empty() {
            let trailers = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => Ok(None),
                Some(Err(error)) => Err(error),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.rest = data;
                        continue;
                    }
                    Err(frame) => Ok(frame.into_trailers().ok()),
                },
            };
            if let Some(sender) = self.trailers.take() {
                let _ = sender.send(trailers);
            }
            return Poll::Ready(false);
        }
        Poll::Ready(true)
    }

    /// Copies as many bytes as there are and `room` has, and returns their number.
    pub(in crate::wasi) fn copy_to(&mut self, room: &mut [u8]) -> usize {
        let count = room.len().min(self.rest.len());
        self.rest.copy_to_slice(room.get_mut(..count).unwrap_or_default());
        count
    }

    /// The bytes that were read from the body and not yet given to the guest.
    pub(in crate::wasi) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// The bytes that were read from the body and not yet given to the guest, and the rest of the body.
    pub(super) fn into_parts(self) -> (Bytes, GuestBody) {
        (self.rest, self.body)
    }
}

impl From<BodySource> for GuestBody {
    /// What of the body the guest has not read.
    fn from(source: BodySource) -> Self {
        let (first, body) = source.into_parts();
        Passed::new(first, body, None, None, None).boxed_unsync()
    }
}

impl ByteSource<State> for BodySource {
    fn poll_read(&mut self, cx: &mut Context<'_>, _: &mut State, room: &mut [u8]) -> wasmtime::Result<Poll<Transfer>> {
        Ok(self.poll_fill(cx).map(|filled| match filled {
            true => Transfer::Done(self.copy_to(room)),
            false => Transfer::Ended,
        }))
    }
}

/// A received body that the host passes on without the guest.
pub(super) struct Passed {
    /// Bytes that were already read from `body`.
    first: Option<Bytes>,
    body: GuestBody,
    sent: Option<Transmission>,
    /// Dropped when the end has been read: until then, the guest counts as running.
    passed: Option<oneshot::Sender<()>>,
    /// The content-length of the head, and how many bytes have been read.
    limit: Option<Limit>,
    read: u64,
}

impl Passed {
    /// `sent` reports the transmission to the guest, `passed` the end of the body to the task that keeps the body's
    /// resources. Both are optional.
    pub(super) fn new(
        first: Bytes,
        body: GuestBody,
        sent: Option<Transmission>,
        passed: Option<oneshot::Sender<()>>,
        limit: Option<Limit>,
    ) -> Self {
        Self { first: Some(first).filter(|first| !first.is_empty()), body, sent, passed, limit, read: 0 }
    }

    fn is_over(&self) -> bool {
        self.left().is_none_or(|left| left == 0)
            && self.first.is_none()
            && (self.body.is_end_stream() || self.body.size_hint().exact() == Some(0))
    }

    /// How many bytes are missing to the content-length.
    fn left(&self) -> Option<u64> {
        self.limit.as_ref().map(|limit| limit.bytes.saturating_sub(self.read))
    }

    /// Fails a body that is longer or shorter than its content-length, as wasmtime-wasi-http does for components.
    fn count(&mut self, frame: Option<Frame<Bytes>>) -> Option<Result<Frame<Bytes>, HttpError>> {
        let length = frame.as_ref().and_then(Frame::data_ref).map(Bytes::len);
        self.read = self.read.saturating_add(length.unwrap_or(0) as u64);
        let failed = self.limit.as_ref().filter(|limit| match length {
            Some(_) => self.read > limit.bytes,
            None => self.read != limit.bytes,
        });
        if let Some(limit) = failed {
            return Some(Err(limit.fail(self.read)));
        }
        if frame.is_none() {
            Transmission::tell(&mut self.sent, Ok(()));
            self.passed = None;
        }
        frame.map(|frame| Ok(without_forbidden_trailers(frame)))
    }
}

impl http_body::Body for Passed {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let next = match self.first.take() {
            Some(first) => Some(Ok(Frame::data(first))),
            None => ready!(Pin::new(&mut self.body).poll_frame(cx)),
        };
        Poll::Ready(match next.transpose() {
            Ok(frame) => self.count(frame),
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left().is_none_or(|left| left == 0) && self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left() {
            Some(left) => SizeHint::with_exact(left),
            None if self.first.is_none() => self.body.size_hint(),
            None => SizeHint::default(),
        }
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

    use super::*;

    struct Parts(VecDeque<Bytes>);

    impl http_body::Body for Parts {
        type Data = Bytes;
        type Error = HttpError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
            Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
        }
    }

    /// Passes on a body of `parts`, the first of them already read, with a content-length of 5: its bytes, or the
    /// length in the error.
    #[track_caller]
    fn check(parts: &[&'static str], expected: Result<&str, u64>) {
        let rest = parts.iter().skip(1).map(|part| Bytes::from_static(part.as_bytes())).collect();
        let body = Parts(rest).boxed_unsync();
        let first = Bytes::from_static(parts.first().unwrap_or(&"").as_bytes());
        let limit = Limit { bytes: 5, code: ErrorCode::HttpResponseBodySize, sent: None };
        let mut passed = Passed::new(first, body, None, None, Some(limit));
        let mut seen = Vec::new();
        let mut context = Context::from_waker(std::task::Waker::noop());
        let result = loop {
            match Pin::new(&mut passed).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => seen.extend(frame.into_data().unwrap_or_default()),
                Poll::Ready(Some(Err(HttpError::HttpResponseBodySize(bytes)))) => break Err(bytes.unwrap_or(u64::MAX)),
                Poll::Ready(None) => break Ok(String::from_utf8_lossy(&seen).into_owned()),
                other => unreachable!("{other:?}"),
            }
        };
        assert_eq!(result, expected.map(str::to_owned), "{parts:?}");
    }

    #[test]
    fn a_body_that_is_passed_on_has_its_length() {
        check(&["", "abcde"], Ok("abcde"));
        check(&["abcde"], Ok("abcde"));
        check(&["ab", "cd", "e"], Ok("abcde"));
        check(&["abcde", ""], Ok("abcde"));
        check(&[], Err(0));
        check(&["abcd"], Err(4));
        check(&["ab", "cd"], Err(4));
        check(&["abcdef"], Err(6));
        check(&["abcde", "f"], Err(6));
        check(&["", "abcde", "fg"], Err(7));
    }
}
