//! A guest's stdout and stderr: whole lines into the log, with the route and the request, up to a limit.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::lock::lock;
use crate::request_id::RequestId;

/// A longer line comes out in pieces of this size, so that no guest makes the host keep more.
const MAX_LINE_BYTES: usize = 8 << 10;

/// What a guest may write in one call.
pub(super) const WRITE_BUDGET_BYTES: usize = 64 << 10;

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Both output streams of one instance. Half lines are kept until they end or the instance does.
#[derive(Clone)]
pub(crate) struct GuestOutput(Arc<Mutex<Lines>>);

/// One stream of a [`GuestOutput`], as wasmtime-wasi wants it.
#[derive(Clone)]
pub(crate) struct GuestStream {
    output: GuestOutput,
    stream: Stream,
}

struct Lines {
    route: Arc<str>,
    request: RequestId,
    limit_bytes: u64,
    left_bytes: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    cut: bool,
}

impl GuestOutput {
    pub(crate) fn new(route: Arc<str>, request: RequestId, limit_bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            route,
            request,
            limit_bytes,
            left_bytes: limit_bytes,
            stdout: Vec::new(),
            stderr: Vec::new(),
            cut: false,
        })))
    }

    pub(crate) fn stream(&self, stream: Stream) -> GuestStream {
        GuestStream { output: self.clone(), stream }
    }
}

impl Lines {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let allowed = usize::try_from(self.left_bytes).unwrap_or(usize::MAX).min(bytes.len());
        self.left_bytes -= allowed as u64;
        let (allowed, rest) = bytes.split_at_checked(allowed).unwrap_or((bytes, &[]));
        for piece in allowed.split_inclusive(|byte| *byte == b'\n') {
            self.push(stream, piece);
        }
        if !rest.is_empty() && !self.cut {
            self.cut = true;
            self.end_lines();
            tracing::warn!(
                target: "guest", route = %self.route, request = %self.request,
                "output cut: the guest wrote more than max_output = {}", daylily_core::units::format_size(self.limit_bytes),
            );
        }
    }

    /// Takes a piece of one line, which may end it.
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
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            return;
        }
        let line = printable(&String::from_utf8_lossy(line));
        let (route, request) = (&self.route, &self.request);
        match stream {
            Stream::Stdout => tracing::info!(target: "guest", %route, %request, stream = "stdout", "{line}"),
            Stream::Stderr => tracing::warn!(target: "guest", %route, %request, stream = "stderr", "{line}"),
        }
    }

    fn end_lines(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.pending(stream).is_empty() {
                self.end_line(stream);
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end_lines();
    }
}

/// Escapes control characters, so that a guest can neither forge log lines nor drive a terminal.
fn printable(line: &str) -> String {
    let mut printable = String::with_capacity(line.len());
    for character in line.chars() {
        if character.is_control() && character != '\t' {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

impl GuestStream {
    fn write_all(&self, bytes: &[u8]) {
        // A panic while it was held can at worst have lost a line.
        lock(&self.output.0).write(self.stream, bytes);
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
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write_all(bytes);
        Poll::Ready(Ok(bytes.len()))
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
    async fn ready(&mut self) {}
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_all(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BUDGET_BYTES)
    }
}
