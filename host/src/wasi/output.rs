//! A guest's stdout and stderr: whole lines are logged with the route and the request, up to a limit. Lines of
//! `wasi:logging` share that limit.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use daylily_core::excerpt::printable;
use daylily_core::log_target;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::observe::diagnosis::CallDiagnosis;
use crate::observe::mask::{Mask, MaskedStream};
use crate::observe::request_id::RequestId;
use crate::sys::lock::lock;

/// A longer line is logged in pieces of this size, which bounds what the host buffers for a guest. An escaped character
/// counts with its printed length.
pub(super) const MAX_LINE_BYTES: usize = 8 << 10;

/// What each log line costs of `max_output` beside its text: the time, the level, the route, the request and the
/// stream.
const LINE_OVERHEAD_BYTES: u64 = 128;

/// What a guest may write in one call.
pub(crate) const WRITE_BUDGET_BYTES: usize = 64 << 10;

/// The most lines that one call logs. The event loop is blocked meanwhile, for a fraction of a millisecond.
const MAX_LINES_OF_CALL: usize = 128;

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Both output streams of one instance. Incomplete lines are buffered until they end or the instance ends.
#[derive(Clone)]
pub(crate) struct GuestOutput(Arc<Mutex<Lines>>);

/// One stream of a [`GuestOutput`], which implements the stream traits of wasmtime-wasi.
#[derive(Clone)]
pub(crate) struct GuestStream {
    output: GuestOutput,
    stream: Stream,
}

struct Lines {
    route: Arc<str>,
    request: RequestId,
    /// Gets everything that the guest writes, also what is over the limit.
    diagnosis: Option<CallDiagnosis>,
    limit_bytes: u64,
    left_bytes: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Output that is logged after other tasks have run.
    later: VecDeque<(Stream, Bytes)>,
    is_cut: bool,
    /// None if the guest has no secrets.
    masking: Option<Box<Masking>>,
}

/// The secrets of the guest, and what was written of each stream that may be the beginning of one.
struct Masking {
    mask: Arc<Mask>,
    stdout: MaskedStream,
    stderr: MaskedStream,
}

impl Masking {
    fn stream(&mut self, stream: Stream) -> (&Mask, &mut MaskedStream) {
        match stream {
            Stream::Stdout => (&self.mask, &mut self.stdout),
            Stream::Stderr => (&self.mask, &mut self.stderr),
        }
    }
}

impl GuestOutput {
    /// Secrets in `mask` are not shown.
    pub(crate) fn new(
        route: Arc<str>,
        request: RequestId,
        limit_bytes: u64,
        diagnosis: Option<CallDiagnosis>,
        mask: Option<Arc<Mask>>,
    ) -> Self {
        let (stdout, stderr) = Default::default();
        Self(Arc::new(Mutex::new(Lines {
            route,
            request,
            diagnosis,
            limit_bytes,
            left_bytes: limit_bytes,
            stdout: Vec::new(),
            stderr: Vec::new(),
            later: VecDeque::new(),
            is_cut: false,
            masking: mask.map(|mask| Box::new(Masking { mask, stdout, stderr })),
        })))
    }

    pub(crate) fn stream(&self, stream: Stream) -> GuestStream {
        GuestStream { output: self.clone(), stream }
    }

    /// Whether the limit is reached, so that nothing more is logged.
    pub(super) fn is_cut(&self) -> bool {
        lock(&self.0).is_cut
    }

    /// A whole text without the secrets in it.
    pub(super) fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let lines = lock(&self.0);
        lines.masking.as_ref().map_or(Cow::Borrowed(text), |masking| masking.mask.text(text))
    }

    /// Passes a line to `write`, with the route and the request, or as much of it as the limit allows. `fields`, the
    /// texts that the line has besides, count as well.
    pub(super) fn log(&self, line: &str, fields: &str, write: impl FnOnce(&str, RequestId, &str)) {
        lock(&self.0).log(line, fields, write);
    }
}

/// The start of `bytes` that one call may log.
pub(crate) fn of_one_call(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.get(..WRITE_BUDGET_BYTES).unwrap_or(bytes);
    match memchr::memchr_iter(b'\n', bytes).nth(MAX_LINES_OF_CALL - 1) {
        Some(last) => bytes.get(..=last).unwrap_or(bytes),
        None => bytes,
    }
}

impl Lines {
    /// Takes all of `bytes`. What exceeds the limits of one call is logged later.
    fn write(&mut self, stream: Stream, mut bytes: Bytes) {
        if self.masking.is_some() {
            bytes = self.masked(stream, &bytes).into_owned().into();
        }
        self.diagnose(stream, &bytes);
        if self.is_cut {
            return;
        }
        if self.later.is_empty() {
            let now = bytes.split_to(of_one_call(&bytes).len());
            self.take(stream, &now);
        }
        if !bytes.is_empty() && !self.is_cut {
            self.later.push_back((stream, bytes));
        }
    }

    /// Logs one call's share of `later`. Returns whether any is left.
    fn go_on(&mut self) -> bool {
        if let Some((stream, mut bytes)) = self.later.pop_front() {
            let now = bytes.split_to(of_one_call(&bytes).len());
            if !bytes.is_empty() {
                self.later.push_front((stream, bytes));
            }
            self.take(stream, &now);
        }
        if self.is_cut {
            self.later.clear();
        }
        !self.later.is_empty()
    }

    /// What can be shown by now of what was written, without secrets.
    fn masked<'a>(&mut self, stream: Stream, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(masking) = &mut self.masking else { return Cow::Borrowed(bytes) };
        let (mask, stream) = masking.stream(stream);
        Cow::Owned(stream.push(mask, bytes))
    }

    /// Shows what looked like the beginning of a secret until now.
    fn end_masking(&mut self) {
        let Some(mut masking) = self.masking.take() else { return };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (mask, held) = masking.stream(stream);
            let rest = held.end(mask);
            if !rest.is_empty() {
                self.diagnose(stream, &rest);
                self.later.push_back((stream, rest.into()));
            }
        }
    }

    fn diagnose(&self, stream: Stream, bytes: &[u8]) {
        match (&self.diagnosis, stream) {
            (Some(diagnosis), Stream::Stdout) => diagnosis.push_stdout(bytes),
            (Some(diagnosis), Stream::Stderr) => diagnosis.push_stderr(bytes),
            (None, _) => {}
        }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.is_cut {
                return;
            }
            self.push(stream, piece);
        }
    }

    /// Takes a piece of one line, possibly with its end.
    fn push(&mut self, stream: Stream, piece: &[u8]) {
        let (piece, ends) = match piece.strip_suffix(b"\n") {
            Some(piece) => (piece, true),
            None => (piece, false),
        };
        for part in piece.chunks(MAX_LINE_BYTES) {
            if self.pending(stream).len() + part.len() > MAX_LINE_BYTES {
                self.end_line(stream);
            }
            self.pending(stream).extend_from_slice(part);
        }
        if ends {
            self.end_line(stream);
        }
    }

    fn pending(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn end_line(&mut self, stream: Stream) {
        let line = std::mem::take(self.pending(stream));
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
        let line = printable(&line);
        let mut rest = &*line;
        while !rest.is_empty() && !self.is_cut {
            let (piece, later) = rest.split_at(rest.floor_char_boundary(MAX_LINE_BYTES));
            self.log(piece, "", |route, request, line| match stream {
                Stream::Stdout => {
                    tracing::info!(target: log_target::GUEST, %route, %request, stream = "stdout", "{line}")
                }
                Stream::Stderr => {
                    tracing::warn!(target: log_target::GUEST, %route, %request, stream = "stderr", "{line}")
                }
            });
            rest = later;
        }
    }

    /// As [`GuestOutput::log`].
    fn log(&mut self, line: &str, fields: &str, write: impl FnOnce(&str, RequestId, &str)) {
        let room = self.left_bytes.checked_sub(LINE_OVERHEAD_BYTES + fields.len() as u64);
        let fits = line.floor_char_boundary(room.map_or(0, |room| usize::try_from(room).unwrap_or(usize::MAX)));
        let kept = line.get(..fits).unwrap_or_default();
        let is_whole = room.is_some() && fits == line.len();
        if let Some(room) = room
            && (is_whole || !kept.is_empty())
        {
            self.left_bytes = room - kept.len() as u64;
            write(&self.route, self.request, kept);
        }
        if !is_whole && !self.is_cut {
            self.is_cut = true;
            tracing::warn!(
                target: log_target::GUEST, route = %self.route, request = %self.request,
                "output truncated: the guest wrote more than max_output = {}",
                daylily_core::units::format_size(self.limit_bytes),
            );
        }
    }

    /// Logs the incomplete lines when the instance has ended.
    fn end(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.end_line(stream);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end_masking();
        if !self.go_on() {
            return self.end();
        }
        // A task logs the rest and yields after each share. Without an event loop there is no other task to yield to.
        let (stdout, stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        let (route, request, later) = (Arc::clone(&self.route), self.request, std::mem::take(&mut self.later));
        let (limit_bytes, left_bytes, is_cut) = (self.limit_bytes, self.left_bytes, self.is_cut);
        let (diagnosis, masking) = (None, None);
        let mut rest =
            Self { route, request, diagnosis, limit_bytes, left_bytes, stdout, stderr, later, is_cut, masking };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                while rest.go_on() {
                    tokio::task::yield_now().await;
                }
            })),
            Err(_) => while rest.go_on() {},
        }
    }
}

impl GuestStream {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        // A panic while the lock was held can at worst have lost a line.
        lock(&self.output.0)
    }
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut lines = self.lines();
        if lines.go_on() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let now = of_one_call(bytes);
        let shown = lines.masked(self.stream, now);
        lines.diagnose(self.stream, &shown);
        lines.take(self.stream, &shown);
        Poll::Ready(Ok(now.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait::async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {
        while self.lines().go_on() {
            tokio::task::yield_now().await;
        }
    }
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BUDGET_BYTES {
            return Err(StreamError::Trap(wasmtime::format_err!("write exceeded budget")));
        }
        let mut lines = self.lines();
        let waiting: usize = lines.later.iter().map(|(_, bytes)| bytes.len()).sum();
        if waiting > WRITE_BUDGET_BYTES {
            return Err(StreamError::Trap(wasmtime::format_err!("write exceeded budget")));
        }
        lines.write(self.stream, bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if self.lines().later.is_empty() { WRITE_BUDGET_BYTES } else { 0 })
    }
}

#[cfg(test)]
mod tests;
