//! The body of a file, read as the client takes it.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use daylily_core::request_outcome::RequestOutcome;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio_util::task::AbortOnDropHandle;

use super::open::{SlowError, slowly};
use crate::http::exchange::Exchange;
use crate::observe::record::log_request;
use crate::sys::drain::Drain;
use crate::wasi::file_threads::RouteFiles;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Bytes of one file that go to a client before other tasks of the worker run.
const TURN_BYTES: usize = 512 << 10;

/// A part of a file.
pub(crate) struct FileBody {
    file: Arc<File>,
    left: Range<u64>,
    threads: Arc<RouteFiles>,
    patience: Duration,
    /// A read that waits for the disk.
    slow: Option<AbortOnDropHandle<Result<io::Result<Vec<u8>>, SlowError>>>,
    /// Bytes since other tasks have run.
    since_turn: usize,
    exchange: Arc<Exchange>,
    drain: Drain,
}

impl FileBody {
    /// `threads` make the calls that wait for a disk, each for `patience` at most.
    pub(super) fn new(
        file: Arc<File>,
        part: Range<u64>,
        (threads, patience): (&Arc<RouteFiles>, Duration),
        exchange: &Arc<Exchange>,
        drain: &Drain,
    ) -> Self {
        exchange.record().note_response();
        let threads = Arc::clone(threads);
        let (exchange, drain) = (Arc::clone(exchange), drain.clone());
        let body = Self { file, left: part, threads, patience, slow: None, since_turn: 0, exchange, drain };
        body.complete_if_sent();
        body
    }

    /// The number of bytes that follow.
    pub(crate) fn len(&self) -> u64 {
        self.left.end.saturating_sub(self.left.start)
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.len() == 0 {
            self.complete_if_sent();
            return Poll::Ready(None);
        }
        if self.since_turn >= TURN_BYTES {
            self.since_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = match ready!(self.poll_read(cx)) {
            Ok(read) => read,
            Err(error) => return Poll::Ready(Some(Err(self.cut(&format!("a file could not be read: {error}"))))),
        };
        if read.is_empty() {
            return Poll::Ready(Some(Err(self.cut("a file became shorter while it was sent"))));
        }
        self.left.start += read.len() as u64;
        self.since_turn += read.len();
        self.exchange.record().add_bytes_out(read.len());
        Poll::Ready(Some(Ok(read.into())))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, SlowError>> {
        let slow = match &mut self.slow {
            Some(slow) => slow,
            None => match self.read_now() {
                Ok(read) => return Poll::Ready(Ok(read)),
                // It is not in memory, or the file system cannot tell.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    let slow = self.read_slowly();
                    self.slow.insert(slow)
                }
                Err(error) => return Poll::Ready(Err(SlowError::Failed(error.into()))),
            },
        };
        let done = ready!(Pin::new(slow).poll(cx));
        self.slow = None;
        Poll::Ready(match done {
            Ok(read) => read.and_then(|read| Ok(read?)),
            Err(error) => Err(SlowError::Failed(io::Error::other(error))),
        })
    }

    fn chunk(&self) -> Vec<u8> {
        vec![0; usize::try_from(self.len()).unwrap_or(usize::MAX).min(CHUNK_BYTES)]
    }

    /// Reads what is in memory.
    fn read_now(&self) -> Result<Vec<u8>, Errno> {
        let mut chunk = self.chunk();
        let mut slices = [IoSliceMut::new(&mut chunk)];
        let read = preadv2(&self.file, &mut slices, self.left.start, ReadWriteFlags::NOWAIT)?;
        chunk.truncate(read);
        Ok(chunk)
    }

    /// Reads in a thread.
    fn read_slowly(&self) -> AbortOnDropHandle<Result<io::Result<Vec<u8>>, SlowError>> {
        let (file, at, mut chunk) = (Arc::clone(&self.file), self.left.start, self.chunk());
        let (threads, patience) = (Arc::clone(&self.threads), self.patience);
        let read = move || {
            let read = file.read_at(&mut chunk, at)?;
            chunk.truncate(read);
            Ok(chunk)
        };
        AbortOnDropHandle::new(tokio::spawn(async move { slowly(&threads, patience, read).await }))
    }

    /// The error that makes hyper close the connection: the client sees by the length that something is missing.
    fn cut(&self, why: &str) -> io::Error {
        self.exchange.note_cut();
        log_request!(warn, self.exchange.record(), "response cut: {why}");
        io::Error::other("response cut")
    }

    fn complete_if_sent(&self) {
        if self.len() == 0 && !self.exchange.is_delivered() {
            self.exchange.mark_delivered();
            self.exchange.record().note_response_ended();
        }
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        // hyper does not poll for the end after the last byte of an announced length.
        self.complete_if_sent();
        if !self.exchange.is_delivered() && self.drain.is_cut() {
            self.exchange.refuse(RequestOutcome::Cut);
        }
    }
}
