//! Streams from and to files: those of wasmtime-wasi, with reads and writes on the threads of the route.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::wasi::file_threads::{Blocked, Call, RouteFiles, Token};

/// An input stream from a file.
pub(super) struct Input {
    stream: DynInputStream,
    progress: Progress,
}

/// An output stream to a file.
pub(super) struct Output {
    stream: DynOutputStream,
    progress: Progress,
}

/// Tracks whether a call of the stream is in progress.
struct Progress {
    files: Arc<RouteFiles>,
    token: Token,
    call: Option<Call>,
}

impl Progress {
    fn new(files: &Arc<RouteFiles>, token: Token) -> Self {
        Self { files: Arc::clone(files), token, call: None }
    }

    /// Starts a call that may continue after the stream is dropped.
    fn begin(&mut self) -> StreamResult<()> {
        if self.call.is_none() {
            let call = self.files.begin(self.token.clone());
            self.call = Some(call.map_err(|Blocked| StreamError::LastOperationFailed(busy().into()))?);
        }
        Ok(())
    }

    fn end(&mut self) {
        if let Some(mut call) = self.call.take() {
            call.is_over = true;
        }
    }
}

/// The system error `EBUSY`.
fn busy() -> io::Error {
    rustix::io::Errno::BUSY.into()
}

/// Drives `future`, whose blocking calls run on the threads of `files`.
async fn within<F: Future>(files: &RouteFiles, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        let _entered = files.enter();
        future.as_mut().poll(context)
    })
    .await
}

impl Input {
    pub(super) fn new(files: &Arc<RouteFiles>, token: Token, stream: DynInputStream) -> Self {
        Self { stream, progress: Progress::new(files, token) }
    }
}

impl Output {
    pub(super) fn new(files: &Arc<RouteFiles>, token: Token, stream: DynOutputStream) -> Self {
        Self { stream, progress: Progress::new(files, token) }
    }
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        // Reads ahead. If it cannot, the next `read` returns the error.
        if self.progress.begin().is_err() {
            return;
        }
        within(&self.progress.files, self.stream.ready()).await;
        self.progress.end();
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.progress.begin()?;
        let read = {
            let _entered = self.progress.files.enter();
            self.stream.read(size)
        };
        // An empty result means that a read is in progress.
        if size == 0 || read.as_ref().map_or(true, |bytes| !bytes.is_empty()) {
            self.progress.end();
        }
        read
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.progress.begin()?;
        let read = within(&self.progress.files, self.stream.blocking_read(size)).await;
        self.progress.end();
        read
    }

    async fn cancel(&mut self) {
        within(&self.progress.files, self.stream.cancel()).await;
        self.progress.end();
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        within(&self.progress.files, self.stream.ready()).await;
        self.progress.end();
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.progress.begin()?;
        let written = {
            let _entered = self.progress.files.enter();
            self.stream.write(bytes)
        };
        if written.is_err() {
            self.progress.end();
        }
        written
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.progress.begin()?;
        let written = within(&self.progress.files, self.stream.blocking_write_and_flush(bytes)).await;
        self.progress.end();
        written
    }

    async fn cancel(&mut self) {
        within(&self.progress.files, self.stream.cancel()).await;
        self.progress.end();
    }
}
