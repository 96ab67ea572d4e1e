//! Idle connections that wait for their next request.
//!
//! hyper-util's pooling client is not used: it limits neither the number of origins that it keeps connections to, nor
//! an upload whose result is no longer awaited; it finishes connecting in the background; and it supports no connect
//! time-out for a single request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use http::Method;
use hyper::client::conn::http1::SendRequest;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::policy::Origin;
use super::upload::RequestBody;
use super::watched::Expected;
use crate::sys::lock::lock;

/// The most idle connections kept for one origin.
const MAX_IDLE_PER_ORIGIN: usize = 32;

/// The most idle connections kept for one route, which may list any number of origins.
const MAX_IDLE: usize = 256;

/// An open connection. Dropping it closes the socket, even if an exchange is in progress.
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    driver: JoinHandle<()>,
    expected: Arc<Expected>,
    /// Whether the connection must not be reused.
    is_last: bool,
}

impl Connection {
    /// `driver` is the task that transfers the bytes; requests are announced to it through `expected`.
    pub(super) fn new(sender: SendRequest<RequestBody>, driver: JoinHandle<()>, expected: Arc<Expected>) -> Self {
        Self { sender, driver, expected, is_last: false }
    }

    /// The sender for the next request, which is announced to the driver.
    pub(super) fn sender_for(&mut self, method: &Method) -> &mut SendRequest<RequestBody> {
        self.expected.response_to(*method == Method::HEAD);
        &mut self.sender
    }

    /// Marks the connection as not reusable.
    pub(super) fn retire(&mut self) {
        self.is_last = true;
    }

    /// Whether no exchange is in progress and the peer has not closed the connection.
    fn is_idle(&self) -> bool {
        !self.is_last && self.sender.is_ready() && !self.driver.is_finished()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The use of a connection for one exchange. When dropped, it returns the connection to the pool if the exchange is
/// complete, and closes it otherwise.
pub(super) struct Lease {
    connection: Option<Connection>,
    origin: Origin,
    pool: Arc<Pool>,
}

impl Lease {
    pub(super) fn new(connection: Connection, origin: Origin, pool: Arc<Pool>) -> Self {
        Self { connection: Some(connection), origin, pool }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && connection.is_idle()
        {
            self.pool.put(&self.origin, connection);
        }
    }
}

/// One route's idle connections.
pub(super) struct Pool {
    idle_timeout: Duration,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    by_origin: HashMap<Origin, Vec<Parked>>,
    count: usize,
    /// Whether a task runs that closes expired connections.
    is_swept: bool,
}

struct Parked {
    connection: Connection,
    until: Instant,
}

impl Pool {
    pub(super) fn new(idle_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { idle_timeout, idle: Mutex::default() })
    }

    /// Whether the pool may hold a connection to `origin`.
    pub(super) fn has(&self, origin: &Origin) -> bool {
        self.idle().by_origin.contains_key(origin)
    }

    /// The most recently used idle connection to `origin`.
    pub(super) fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.idle();
        let idle = &mut *idle;
        let parked = idle.by_origin.get_mut(origin)?;
        let now = Instant::now();
        let mut found = None;
        while let Some(candidate) = parked.pop() {
            idle.count = idle.count.saturating_sub(1);
            if candidate.is_usable(now) {
                found = Some(candidate.connection);
                break;
            }
        }
        if parked.is_empty() {
            idle.by_origin.remove(origin);
        }
        found
    }

    fn put(self: &Arc<Self>, origin: &Origin, connection: Connection) {
        // Without a runtime, which is shutting down in that case, no task would ever close the connection.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut idle = self.idle();
        if idle.count >= MAX_IDLE {
            return;
        }
        let until = Instant::now() + self.idle_timeout;
        let parked = match idle.by_origin.get_mut(origin) {
            Some(parked) => parked,
            None => idle.by_origin.entry(origin.clone()).or_default(),
        };
        if parked.len() >= MAX_IDLE_PER_ORIGIN {
            return;
        }
        parked.push(Parked { connection, until });
        idle.count = idle.count.saturating_add(1);
        if !idle.is_swept {
            idle.is_swept = true;
            runtime.spawn(sweep(Arc::downgrade(self), until));
        }
    }

    /// Closes connections that have been idle for too long or were closed by the peer. Returns when the next one
    /// expires, if any is left.
    fn close_expired(&self) -> Option<Instant> {
        let mut idle = self.idle();
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let mut count = 0_usize;
        idle.by_origin.retain(|_, parked| {
            parked.retain(|parked| parked.is_usable(now));
            count = count.saturating_add(parked.len());
            // The list is in order of expiry.
            if let Some(first) = parked.first() {
                next = Some(next.map_or(first.until, |next| next.min(first.until)));
            }
            !parked.is_empty()
        });
        idle.count = count;
        idle.is_swept = next.is_some();
        next
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        lock(&self.idle)
    }
}

impl Parked {
    fn is_usable(&self, now: Instant) -> bool {
        now < self.until && self.connection.is_idle()
    }
}

/// Closes expired connections. Ends when the pool is empty or dropped.
async fn sweep(pool: Weak<Pool>, first: Instant) {
    let mut next = first;
    loop {
        sleep_until(next).await;
        let Some(pool) = pool.upgrade() else { return };
        match pool.close_expired() {
            Some(later) => next = later,
            None => return,
        }
    }
}
