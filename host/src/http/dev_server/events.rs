//! The events that a page of `daylily dev` waits for: the version of the generation, when it connects.
//!
//! Nothing follows: the stream ends when the generation drains, the browser connects again, and gets the version of the
//! next one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Interval, interval_at};

use crate::sys::drain::Drain;

/// Interval of comments, by which the end of a client is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Milliseconds after which a browser connects again.
const RETRY_MS: u32 = 200;

/// A stream of server-sent events (HTML Living Standard §9.2).
pub(crate) struct Events {
    first: Option<Bytes>,
    drains: Pin<Box<dyn Future<Output = ()> + Send>>,
    keep_alive: Interval,
}

impl Events {
    pub(super) fn new(version: &str, drain: &Drain) -> Self {
        let mut steps = drain.steps();
        let has_begun = drain.closes_connections();
        let drains = Box::pin(async move {
            if !has_begun {
                steps.next().await;
            }
        });
        let first = format!("retry: {RETRY_MS}\ndata: {version}\n\n").into();
        Self { first: Some(first), drains, keep_alive: interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE) }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.drains.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.keep_alive.poll_tick(cx).map(|_| Some(Ok(Bytes::from_static(b":\n"))))
    }
}
