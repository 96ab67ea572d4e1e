//! One client connection: the state that its tasks share, and the operations on it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daylily_core::connection_end::ConnectionEnd;
use http::{HeaderValue, Request, Version};
use http_body::Body;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::h1::arrival::{Arrival, Head};
use super::h1::framing;
use crate::http::admission::RouteShare;
use crate::http::ending::{Ending, Served, SharedEnd, outcome_of_head};
use crate::http::moment::Moment;
use crate::http::phase::{Change, Phase, SharedPhase};
use crate::http::server::Worker;
use crate::http::stall::Wait;
use crate::net::peer::Peer;
use crate::net::stream::Stream;
use crate::observe::record::Recorder;
use crate::sys::drain::Drain;
use crate::sys::lock::lock;

/// How many bytes and for how long a connection is read after its last response, so that a reset does not destroy the
/// response (RFC 9112 §9.6, "lingering close").
const LINGER_BYTES: usize = 1 << 20;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// How long a client must be silent between requests before its connection rests: hyper and the buffers that make
/// reading and writing fast are released.
const REST_AFTER: Duration = Duration::from_secs(1);

/// A client's socket, shared by hyper (which reads and writes it) and the request in progress (which checks whether the
/// client is still connected). Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Shared>);

struct Shared {
    stream: Stream,
    /// Tells whether the worker still accepts new requests.
    drain: Drain,
    /// Makes the records of requests whose heads were never complete.
    recorder: Arc<Recorder>,
    /// Error responses contain the details that are otherwise only in the log.
    dev: bool,
    opened: Instant,
    head_timeout: Duration,
    idle_timeout: Duration,
    phase: SharedPhase,
    end: SharedEnd,
    arrival: Arrival,
    /// A part of a head was received that is not complete yet.
    partial_head: AtomicBool,
    /// A request body was not read to its end: hyper may close the connection while the client still sends.
    unread: AtomicBool,
    /// When the client became silent between requests.
    idle_since: Moment,
    /// When the first byte of the request head that is arriving was received.
    head_since: Moment,
    /// When the response in progress must have been sent.
    response_due: Moment,
    /// The longest time that a write may make no progress, in milliseconds.
    stall_ms: AtomicU64,
    /// The response in progress is a file: no guest has to be ended before the connection is closed.
    sends_file: AtomicBool,
    /// The route whose permit the response in progress holds, while it is streamed.
    streams_for: Mutex<Option<RouteShare>>,
}

/// Guard of a request in progress on a connection. It is dropped with the response body.
pub(crate) struct InRequest {
    connection: Connection,
    version: Version,
    head: Head,
    streams: AtomicBool,
}

impl Connection {
    pub(crate) fn new(stream: Stream, worker: &Worker) -> Self {
        let limits = &worker.limits;
        Self(Arc::new(Shared {
            stream,
            drain: worker.drain.clone(),
            recorder: Arc::clone(&worker.recorder),
            dev: worker.dev,
            opened: Instant::now(),
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            phase: SharedPhase::new(),
            end: SharedEnd::new(),
            arrival: Arrival::new(),
            partial_head: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            idle_since: Moment::none(),
            head_since: Moment::none(),
            response_due: Moment::none(),
            stall_ms: AtomicU64::new(u64::try_from(limits.idle_timeout.as_millis()).unwrap_or(u64::MAX)),
            sends_file: AtomicBool::new(false),
            streams_for: Mutex::new(None),
        }))
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.0.stream
    }

    pub(crate) fn peer(&self) -> &Peer {
        self.0.stream.peer()
    }

    /// Whether the client has closed its side or reset the connection, even while bytes that it sent before are unread.
    /// (The poller reports the end of the stream separately from readable bytes.)
    pub(crate) fn is_gone(&self) -> bool {
        self.0.stream.is_read_closed()
    }

    /// The address that the client connected to, as a `Host` value; `localhost` for a Unix socket.
    pub(crate) fn local_authority(&self) -> HeaderValue {
        let address = self.0.stream.local_address();
        let authority = address.and_then(|address| HeaderValue::from_str(&address.to_string()).ok());
        authority.unwrap_or(HeaderValue::from_static("localhost"))
    }

    /// Begins a request whose head is complete. The head and idle time-outs do not run until the guard is dropped. Must
    /// be called before hyper reads on.
    pub(crate) fn begin_request<B: Body>(&self, request: &Request<B>) -> InRequest {
        let shared = &self.0;
        shared.phase.change(Change::RequestBegins);
        shared.head_since.clear();
        shared.partial_head.store(false, Relaxed);
        shared.response_due.clear();
        if request.version() >= Version::HTTP_11 {
            // The client sees by the chunks or the length whether a response is complete.
            shared.stream.forgo_reset();
        }
        let body = request.body().size_hint().exact().map_or(framing::Body::Chunked, framing::Body::Length);
        let head = shared.arrival.begin_body(body);
        self.set_unread(body != framing::Body::Length(0));
        InRequest { connection: self.clone(), version: request.version(), head, streams: AtomicBool::new(false) }
    }

    /// The state that the framing and the service share.
    pub(crate) fn arrival(&self) -> &Arrival {
        &self.0.arrival
    }

    /// Limits the writes of the response in progress: the whole response must be sent within `whole` from `now`, and no
    /// single write may wait longer than `stall`.
    pub(crate) fn bound_writes(&self, now: Instant, whole: Duration, stall: Duration) {
        self.0.response_due.set(self.0.opened, now + whole);
        self.0.stall_ms.store(u64::try_from(stall.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// When a write that waits for the client to read times out.
    pub(crate) fn write_limit(&self) -> Instant {
        let stalled = Instant::now() + Duration::from_millis(self.0.stall_ms.load(Relaxed));
        self.0.response_due.get(self.0.opened).map_or(stalled, |due| due.min(stalled))
    }

    /// A write waits for the client to read: puts the wait on the route's list of waits that can be asked to give way,
    /// if the request holds a permit of a route while it is streamed.
    pub(crate) fn enlist(&self, wait: Option<Wait>) -> Option<Wait> {
        let streams_for = lock(&self.0.streams_for);
        let share = streams_for.as_ref()?;
        Some(wait.unwrap_or_else(|| share.stalls().enlist()))
    }

    /// When a read times out, because the head is incomplete or has not begun, and how the connection ends then. None
    /// during a request, whose body has its own limits.
    pub(crate) fn read_limit(&self) -> Option<(Instant, ConnectionEnd)> {
        let shared = &self.0;
        if shared.is_receiving() {
            return None;
        }
        let since = |moment: &Moment| moment.get(shared.opened);
        Some(match (since(&shared.head_since), since(&shared.idle_since)) {
            (Some(head_since), _) => (head_since + shared.head_timeout, ConnectionEnd::HeadTimeout),
            (None, Some(idle_since)) => {
                shared.or_drained(idle_since, (idle_since + shared.idle_timeout, ConnectionEnd::IdleTimeout))
            }
            // A new connection must begin its first request within `head_timeout`, not `idle_timeout`.
            (None, None) => {
                shared.or_drained(shared.opened, (shared.opened + shared.head_timeout, ConnectionEnd::HeadTimeout))
            }
        })
    }

    /// When the connection may rest: [`REST_AFTER`] after a response that has been sent completely, if nothing was
    /// received since.
    pub(crate) fn rest_time(&self) -> Option<Instant> {
        let shared = &self.0;
        let is_between_requests = self.is_idle() && !shared.is_receiving() && shared.head_since.is_none();
        is_between_requests.then(|| shared.idle_since.get(shared.opened)).flatten().map(|since| since + REST_AFTER)
    }

    pub(crate) fn change_phase(&self, change: Change) {
        self.0.phase.change(change);
    }

    /// Whether the client has been silent for [`REST_AFTER`].
    pub(crate) fn rests(&self) -> bool {
        self.0.phase.get() == Phase::Resting
    }

    /// Bytes of a head, or empty lines before one, were received.
    pub(crate) fn note_head(&self) {
        let shared = &self.0;
        if shared.head_since.is_none() {
            shared.head_since.set(shared.opened, Instant::now());
        }
    }

    /// Bytes of a request's head were received, and not the whole of it. Empty lines before it are none of its bytes.
    pub(crate) fn note_partial_head(&self) {
        self.0.partial_head.store(true, Relaxed);
    }

    /// Whether there is no request that bytes which are written now could answer: they are hyper's own error response.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.phase.get() == Phase::Idle
    }

    pub(crate) fn is_dev(&self) -> bool {
        self.0.dev
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.0.recorder
    }

    /// Notes what closes the connection. Only the first reason counts.
    pub(crate) fn note_end(&self, end: ConnectionEnd) {
        self.0.end.note(end);
    }

    /// A read has found the end of what the client sends.
    pub(crate) fn note_end_read(&self) {
        self.0.end.note_read();
    }

    /// The connection has ended; returns how. A head that was received, or a part of one, gets its record, if it has
    /// become no request and has no answer.
    pub(crate) fn end(&self, served: Served) -> ConnectionEnd {
        let shared = &self.0;
        let is_unread = shared.unread.load(Relaxed) || shared.arrival.is_body_coming();
        let (is_gone, drains) = (shared.end.is_read() || self.is_gone(), shared.drain.closes_connections());
        let end = Ending { served, noted: shared.end.get(), is_gone, drains, is_unread }.reason();
        let has_head = shared.partial_head.load(Relaxed) || shared.arrival.has_head();
        if has_head && shared.phase.get() != Phase::Answered {
            shared.recorder.incomplete_head(outcome_of_head(end), None, self.peer().address());
        }
        end
    }

    /// Whether the client began a request head and did not complete it in time.
    pub(crate) fn is_head_too_slow(&self) -> bool {
        self.0.phase.get() == Phase::TimedOut && !self.0.head_since.is_none()
    }

    /// Sets whether a request body is arriving that has not been read to its end.
    pub(crate) fn set_unread(&self, unread: bool) {
        self.0.unread.store(unread, Relaxed);
    }

    /// Writes as much of `bytes` as the socket takes without waiting: the last response before the connection closes.
    pub(crate) fn write_now(&self, bytes: &[u8]) {
        let _ = self.0.stream.try_write(bytes);
    }

    /// Whether a request is in progress that ends by itself when the drain cuts it. A file does not.
    pub(crate) fn ends_when_cut(&self) -> bool {
        self.0.phase.get() == Phase::InRequest && !self.0.sends_file.load(Relaxed)
    }

    /// Reads and discards what the client still sends after the last response, within limits, so that closing the
    /// socket does not reset the connection before the client has received the response.
    pub(crate) async fn linger(&self) {
        let shared = &self.0;
        let may_still_send = shared.arrival.is_coming() || shared.unread.load(Relaxed) || !shared.head_since.is_none();
        if !may_still_send || shared.stream.shut_down_writing().is_err() {
            return;
        }
        let drain = async {
            // On the heap, because every connection reserves room for this future.
            let mut scratch = vec![0_u8; 4096];
            let mut left = LINGER_BYTES;
            while left > 0 && shared.stream.readable().await.is_ok() {
                // Yields to other tasks while a client sends faster than this reads.
                tokio::task::coop::consume_budget().await;
                match shared.stream.read(&mut ReadBuf::new(&mut scratch)) {
                    Ok(0) => return,
                    Ok(read) => left = left.saturating_sub(read),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        };
        // A client that still sends after this time may lose the response to a reset.
        let _ = tokio::time::timeout(LINGER_TIME, drain).await;
    }
}

impl InRequest {
    /// A response of unknown length begins. For an HTTP/1.0 client the end of the connection is the end of the body
    /// (RFC 9112 §6.3), so only a reset shows that part of the body is missing. Until everything has been written,
    /// every close is therefore a reset, including the kernel's close when this process is killed.
    pub(crate) fn begin_open_ended(&self) {
        if self.version < Version::HTTP_11 {
            self.connection.0.stream.reset_unless_complete();
        }
    }

    /// What the framing found in the request's head.
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// Whether the client can be shown that a response is incomplete. On a Unix socket that is not possible for an
    /// HTTP/1.0 request that is sent after an HTTP/1.1 request.
    pub(crate) fn can_be_cut(&self) -> bool {
        self.version >= Version::HTTP_11 || self.connection.0.stream.can_reset()
    }

    /// A streamed response begins: the guest writes it as the client reads it.
    pub(crate) fn begin_streaming(&self, share: &RouteShare) {
        *lock(&self.connection.0.streams_for) = Some(share.clone());
        self.streams.store(true, Relaxed);
    }

    /// The response is a file.
    pub(crate) fn begin_file(&self) {
        self.connection.0.sends_file.store(true, Relaxed);
    }

    /// The response ends before it is complete.
    pub(crate) fn cut(&self) {
        self.connection.note_end(match () {
            () if self.connection.is_gone() => ConnectionEnd::ClientGone,
            () if self.connection.0.drain.is_cut() => ConnectionEnd::Drain,
            () => ConnectionEnd::Cut,
        });
        if self.version < Version::HTTP_11 {
            self.connection.0.stream.reset_when_closed();
            self.connection.set_unread(false);
            self.connection.0.arrival.note_body_end();
        }
    }
}

impl Shared {
    /// `limit`, or the earlier time at which the drain closes a client that has been idle since `since`.
    fn or_drained(&self, since: Instant, limit: (Instant, ConnectionEnd)) -> (Instant, ConnectionEnd) {
        let drained = self.drain.idle_limit(since).filter(|drained| *drained < limit.0);
        drained.map_or(limit, |drained| (drained, ConnectionEnd::Drain))
    }

    /// Whether received bytes cannot be a head: a request is in progress, or the rest of its body is still arriving
    /// after an early response.
    fn is_receiving(&self) -> bool {
        self.phase.get() == Phase::InRequest || self.arrival.is_body_coming()
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        let shared = &self.connection.0;
        shared.idle_since.set(shared.opened, Instant::now());
        shared.phase.change(Change::ResponseTaken);
        shared.sends_file.store(false, Relaxed);
        if self.streams.load(Relaxed) {
            *lock(&shared.streams_for) = None;
        }
    }
}
