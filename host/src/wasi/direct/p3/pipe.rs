//! Bodies that the guest writes.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use wasmtime_wasi_http::Error as HttpError;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

use super::TrailersResult;
use super::body::Transmission;
use super::error::shortened;
use super::source::Trailers;
use crate::component_abi::{ByteSink, Transfer};
use crate::sys::lock::lock;
use crate::wasi::http::client::BODY_CHUNK_BYTES;
use crate::wasi::state::State;

/// Connects the guest's stream and trailers future with the body that the host sends.
#[derive(Default)]
struct Pipe {
    data: Option<Bytes>,
    contents_ended: bool,
    /// Set when the body cannot be completed.
    failed: Option<HttpError>,
    /// The trailers or the error after the last byte, once the guest has written them.
    end: Option<Trailers>,
    reader_gone: bool,
    /// The tasks that wait: `reader` for data, `writer` for room.
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// A new pipe: the sinks for the guest's stream and for its trailers, and the body.
///
/// `limit` is the content-length of the head. `sent` reports to the guest that the end of the body has been read; it is
/// Some for the handler's response only.
pub(super) fn pipe(
    has_contents: bool,
    limit: Option<Limit>,
    sent: Option<Transmission>,
) -> (PipeSink, Ending, PipeBody) {
    let pipe = Arc::new(Mutex::new(Pipe { contents_ended: !has_contents, ..Pipe::default() }));
    let left = limit.as_ref().filter(|_| has_contents).map(|limit| limit.bytes);
    let sink = PipeSink { pipe: Arc::clone(&pipe), written: 0, limit, is_answer: sent.is_some() };
    let ending = Ending(Some(Arc::clone(&pipe)));
    (sink, ending, PipeBody { pipe, left, sent, is_over: false })
}

/// Receives what the guest writes to the body's stream.
pub(super) struct PipeSink {
    pipe: Arc<Mutex<Pipe>>,
    written: u64,
    limit: Option<Limit>,
    /// Whether this is the body of the handler's response.
    is_answer: bool,
}

/// The content-length of a head, and how a body of another length is reported.
pub(super) struct Limit {
    pub(super) bytes: u64,
    pub(super) code: fn(Option<u64>) -> ErrorCode,
    /// None when no guest waits for the result of the transmission.
    pub(super) sent: Option<Transmission>,
}

impl Limit {
    /// The error for a body of `bytes` bytes, which is also reported to the guest.
    pub(super) fn fail(&self, bytes: u64) -> HttpError {
        if let Some(sent) = &self.sent {
            sent.resolve(Err((self.code)(Some(bytes))));
        }
        (self.code)(Some(bytes)).into()
    }
}

impl PipeSink {
    /// Fails the body, whose length is not its content-length.
    fn fail(&mut self, written: u64) {
        let Some(limit) = self.limit.take() else { return };
        let error = limit.fail(written);
        let mut pipe = lock(&self.pipe);
        pipe.failed = Some(error);
        wake(&mut pipe.reader);
    }
}

impl ByteSink<State> for PipeSink {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
        bytes: &[u8],
    ) -> wasmtime::Result<Poll<Transfer>> {
        if self.is_answer {
            // As in a component, where the guest waits with its first write until the host reads its response.
            state.pass_answer();
        }
        let bytes = bytes.get(..BODY_CHUNK_BYTES).unwrap_or(bytes);
        let written = self.written + bytes.len() as u64;
        if self.limit.as_ref().is_some_and(|limit| written > limit.bytes) {
            self.fail(written);
            return Ok(Poll::Ready(Transfer::Ended));
        }
        let mut pipe = lock(&self.pipe);
        if pipe.reader_gone {
            return Ok(Poll::Ready(Transfer::Ended));
        }
        if pipe.data.is_some() {
            pipe.writer = Some(cx.waker().clone());
            return Ok(Poll::Pending);
        }
        if !bytes.is_empty() {
            pipe.data = Some(Bytes::copy_from_slice(bytes));
            wake(&mut pipe.reader);
            self.written = written;
        }
        Ok(Poll::Ready(Transfer::Done(bytes.len())))
    }

    fn end(mut self: Box<Self>, _: &mut State) {
        if self.limit.as_ref().is_some_and(|limit| self.written != limit.bytes) {
            let written = self.written;
            self.fail(written);
        }
        let mut pipe = lock(&self.pipe);
        pipe.contents_ended = true;
        wake(&mut pipe.reader);
    }
}

impl Drop for PipeSink {
    fn drop(&mut self) {
        incomplete(&self.pipe, |pipe| pipe.contents_ended);
    }
}

/// Marks the body as incomplete if its guest ended before it had written all of it.
fn incomplete(pipe: &Mutex<Pipe>, is_written: fn(&Pipe) -> bool) {
    let mut pipe = lock(pipe);
    if !is_written(&pipe) && pipe.failed.is_none() {
        pipe.failed = Some(HttpError::HttpResponseIncomplete);
        wake(&mut pipe.reader);
    }
}

/// Receives the guest's trailers.
pub(super) struct Ending(Option<Arc<Mutex<Pipe>>>);

impl Ending {
    pub(super) fn end(mut self, state: &mut State, trailers: TrailersResult) -> wasmtime::Result<()> {
        let end = match trailers {
            Ok(Some(trailers)) => Ok(Some(state.table().delete(trailers)?.into())),
            Ok(None) => Ok(None),
            Err(code) => Err(shortened(code).into()),
        };
        if let Some(pipe) = self.0.take() {
            let mut pipe = lock(&pipe);
            // Discard the trailers if no reader is left.
            pipe.end = Some(end).filter(|_| !pipe.reader_gone);
            wake(&mut pipe.reader);
        }
        Ok(())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(pipe) = &self.0 {
            incomplete(pipe, |pipe| pipe.end.is_some());
        }
    }
}

/// A body that the guest writes.
pub(super) struct PipeBody {
    pipe: Arc<Mutex<Pipe>>,
    /// Bytes left to send, if the head has a content-length.
    left: Option<u64>,
    sent: Option<Transmission>,
    is_over: bool,
}

impl http_body::Body for PipeBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        let mut pipe = lock(&this.pipe);
        if let Some(data) = pipe.data.take() {
            wake(&mut pipe.writer);
            this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(error) = pipe.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if this.is_over {
            return Poll::Ready(None);
        }
        let end = if pipe.contents_ended { mem::take(&mut pipe.end) } else { None };
        let Some(end) = end else {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        this.is_over = true;
        match end {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => {
                Transmission::tell(&mut this.sent, Ok(()));
                Poll::Ready(None)
            }
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let pipe = lock(&self.pipe);
        let is_read = pipe.data.is_none() && pipe.failed.is_none() && pipe.contents_ended;
        is_read && (self.is_over || matches!(pipe.end, Some(Ok(None))))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        // With a content-length, hyper does not poll for the end after the last byte.
        let is_over = self.is_end_stream() || self.left == Some(0);
        Transmission::tell(&mut self.sent, if is_over { Ok(()) } else { Err(ErrorCode::ConnectionTerminated) });
        let mut pipe = lock(&self.pipe);
        pipe.reader_gone = true;
        (pipe.data, pipe.end) = (None, None);
        wake(&mut pipe.writer);
    }
}
