//! A guest's stdout and stderr: whole lines are logged with the route and the request, up to a limit. Lines of
//! `wasi:logging` share that limit.

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
}

impl GuestOutput {
    pub(crate) fn new(route: Arc<str>, request: RequestId, limit_bytes: u64, diagnosis: Option<CallDiagnosis>) -> Self {
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
        })))
    }

    pub(crate) fn stream(&self, stream: Stream) -> GuestStream {
        GuestStream { output: self.clone(), stream }
    }

    /// Whether the limit is reached, so that nothing more is logged.
    pub(super) fn is_cut(&self) -> bool {
        lock(&self.0).is_cut
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
        if !self.go_on() {
            return self.end();
        }
        // A task logs the rest and yields after each share. Without an event loop there is no other task to yield to.
        let (stdout, stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        let (route, request, later) = (Arc::clone(&self.route), self.request, std::mem::take(&mut self.later));
        let (limit_bytes, left_bytes, is_cut) = (self.limit_bytes, self.left_bytes, self.is_cut);
        let mut rest = Self { route, request, diagnosis: None, limit_bytes, left_bytes, stdout, stderr, later, is_cut };
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
        lines.diagnose(self.stream, now);
        lines.take(self.stream, now);
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
mod tests {
    use super::*;

    #[test]
    fn one_call_brings_so_many_lines_into_the_log() {
        fn check(bytes: &[u8], expected: usize) {
            assert_eq!(of_one_call(bytes).len(), expected);
        }
        check(b"", 0);
        check(b"one\ntwo", 7);
        check(&b"x\n".repeat(MAX_LINES_OF_CALL), 2 * MAX_LINES_OF_CALL);
        check(&b"x\n".repeat(MAX_LINES_OF_CALL + 1), 2 * MAX_LINES_OF_CALL);
        check(&vec![b'x'; 2 << 20], WRITE_BUDGET_BYTES);
    }

    /// What exceeds one call is logged in several steps, and then the stream accepts more.
    #[tokio::test]
    async fn the_rest_takes_turns() {
        let output = GuestOutput::new("under test".into(), RequestId::next(), 1 << 30, None);
        let mut stream = output.stream(Stream::Stdout);
        let lines = b"x\n".repeat(10 * MAX_LINES_OF_CALL);
        stream.write(lines.into()).expect("room");
        assert_eq!(stream.check_write().expect("open"), 0);
        assert_eq!(lock(&output.0).left_bytes, (1 << 30) - 129 * MAX_LINES_OF_CALL as u64);
        stream.ready().await;
        assert_eq!(stream.check_write().expect("open"), WRITE_BUDGET_BYTES);
        assert_eq!(lock(&output.0).left_bytes, (1 << 30) - 10 * 129 * MAX_LINES_OF_CALL as u64);
    }

    #[test]
    fn a_line_costs_what_is_printed_of_it() {
        fn check(limit_bytes: u64, written: &[u8], left_bytes: u64, is_cut: bool) {
            let output = GuestOutput::new("under test".into(), RequestId::next(), limit_bytes, None);
            let mut lines = lock(&output.0);
            lines.write(Stream::Stderr, Bytes::copy_from_slice(written));
            lines.end();
            assert_eq!((lines.left_bytes, lines.is_cut), (left_bytes, is_cut), "{written:?} of {limit_bytes}");
        }
        check(1_000, b"", 1_000, false);
        check(1_000, b"\n\r\n\n", 1_000, false);
        check(1_000, b"abc\n", 1_000 - 131, false);
        check(1_000, b"abc\ndef", 1_000 - 262, false);
        // An escape counts with its printed length, and an invalid byte as one replacement character (3 bytes).
        check(1_000, b"\x01\n", 1_000 - 128 - 5, false);
        check(1_000, b"\xff\n", 1_000 - 128 - 3, false);
        // At the limit, and over it: the start of a line still fits.
        check(131, b"abc\n", 0, false);
        check(131, b"abcd\n", 0, true);
        check(128, b"a\n", 128, true);
        check(0, b"a\n", 0, true);
    }

    #[test]
    fn a_line_with_fields_costs_them_as_well() {
        fn check(limit_bytes: u64, line: &str, fields: &str, expected: Option<&str>, left_bytes: u64) {
            let output = GuestOutput::new("under test".into(), RequestId::next(), limit_bytes, None);
            let mut written = None;
            output.log(line, fields, |_, _, line| written = Some(line.to_owned()));
            let is_whole = expected == Some(line);
            assert_eq!(written.as_deref(), expected, "{line:?} and {fields:?} of {limit_bytes}");
            let is_cut = output.is_cut();
            assert_eq!((lock(&output.0).left_bytes, is_cut), (left_bytes, !is_whole));
        }
        check(1_000, "abc", "", Some("abc"), 1_000 - 131);
        check(1_000, "abc", "defg", Some("abc"), 1_000 - 135);
        check(135, "abc", "defg", Some("abc"), 0);
        check(134, "abc", "defg", Some("ab"), 0);
        check(132, "abc", "defg", None, 132);
        check(131, "abc", "defg", None, 131);
        // An empty line is one as well, if there is room for its fields.
        check(132, "", "defg", Some(""), 0);
        check(131, "", "defg", None, 131);
    }
}
