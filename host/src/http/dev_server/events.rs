//! The events that a page of `daylily dev` waits for: the version of the generation, when it connects.
//!
//! When the generation drains, an event follows by which the page connects again at once, and the stream ends. The page
//! then gets the version of the next generation. It may take several connections: a browser has idle ones to workers of
//! the former generation, and may use them first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Interval, interval_at};

use crate::sys::drain::Drain;

/// Interval of comments, by which the end of a client is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a page gets when the generation drains. An event without data would not be dispatched.
const AGAIN: &str = "event: again\ndata: again\n\n";

/// A stream of server-sent events (HTML Living Standard §9.2).
pub(crate) struct Events {
    next: Option<Bytes>,
    /// None when the drain has begun.
    drains: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    keep_alive: Interval,
}

impl Events {
    pub(super) fn new(version: &str, drain: &Drain) -> Self {
        let mut steps = drain.steps();
        let keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        if drain.closes_connections() {
            return Self { next: Some(AGAIN.into()), drains: None, keep_alive };
        }
        let drains = Box::pin(async move {
            steps.next().await;
        });
        Self { next: Some(format!("data: {version}\n\n").into()), drains: Some(drains), keep_alive }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(Ok(next)));
        }
        let Some(drains) = &mut self.drains else { return Poll::Ready(None) };
        if drains.as_mut().poll(cx).is_ready() {
            self.drains = None;
            return Poll::Ready(Some(Ok(AGAIN.into())));
        }
        self.keep_alive.poll_tick(cx).map(|_| Some(Ok(Bytes::from_static(b":\n"))))
    }
}
