//! The record of one request, from its head until its response was sent and its guest has ended. Log lines, the access
//! log and the metrics are made from it.

mod begin;
mod part;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use daylily_core::config::{AccessLog, AccessLogField, Always, Sample};
use daylily_core::excerpt::Excerpt;
use daylily_core::request_outcome::RequestOutcome;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method, Version};
use tokio::time::Instant;

use super::journal::{
    Journal, MAX_HOST_BYTES, MAX_METHOD_BYTES, MAX_PATH_BYTES, MAX_QUERY_BYTES, Numbers, Place, Text, TextOf,
};
use crate::observe::metrics::WorkerMetrics;
use crate::observe::request_id::{RequestId, unix_us};
use crate::observe::scoreboard::{InProgress, Slot};
use crate::observe::server_timing::{GuestTiming, ServerTiming};
use crate::observe::trace_context::ReceivedIds;
use crate::sys::lock::lock;

pub(crate) use self::part::{Parts, Usage, WaitUsage};

/// Logs a line about the request of a record, with its id, route, method and path.
macro_rules! log_request {
    ($level:ident, $record:expr, $($message:tt)+) => {{
        let record = $record;
        tracing::$level!(
            target: daylily_core::log_target::REQUEST,
            request = %record.id, route = %record.route(), method = %record.method(), path = %record.path(),
            $($message)+
        );
    }};
}
pub(crate) use log_request;

/// Bytes of a path in a log line.
const MAX_LOGGED_PATH_BYTES: usize = 256;

/// Numbers of a guest that did not run to an end.
pub(crate) const NO_GUEST: u8 = u8::MAX;

/// One request, for the log, the counters and the journal.
pub(crate) struct Record {
    pub(crate) id: RequestId,
    method: Method,
    path: Option<PathAndQuery>,
    /// The index of the route among the worker's, plus one; 0 before the request was routed.
    route: AtomicU32,
    began: Instant,
    state: Mutex<State>,
    recorder: Arc<Recorder>,
    /// None for a part of another record.
    _counted: Option<InProgress<'static>>,
}

/// What is known of a request by now.
struct State {
    numbers: Numbers,
    times: Times,
    /// None once it has ended, and for a part of another record.
    place: Option<Place>,
    /// What its parts have used, or all parts of the record that it is part of.
    parts: Option<Arc<Parts>>,
}

impl State {
    /// Writes what is known by now, for the case that the worker dies.
    fn note_progress(&self) {
        if let Some(place) = &self.place {
            place.note_progress(&self.numbers);
        }
    }
}

/// Points in time of a request, as far as it has got.
#[derive(Clone, Copy, Default)]
struct Times {
    guest_began: Option<Instant>,
    /// A file answered the request, which was not queued.
    was_file: bool,
    guest_ended: Option<Instant>,
    /// Of a response that is streamed.
    response_began: Option<Instant>,
    response_ended: Option<Instant>,
}

/// What makes records: shared by all requests of a worker.
pub(crate) struct Recorder {
    counters: &'static Slot,
    journal: Arc<Journal>,
    metrics: Arc<WorkerMetrics>,
    rules: Rules,
    /// The names of the worker's routes.
    routes: Vec<Arc<str>>,
}

/// Which records go to the access log, and what is kept for it.
struct Rules {
    is_on: bool,
    query: bool,
    headers: Vec<HeaderName>,
    sample_millionths: u64,
    always_failed: bool,
    always_slower_than: Option<Duration>,
}

impl Rules {
    fn of(log: &AccessLog) -> Self {
        let slower = log.always.iter().filter_map(|always| match always {
            Always::SlowerThan(limit) => Some(*limit),
            Always::Failed => None,
        });
        Self {
            is_on: log.is_on(),
            query: log.has(AccessLogField::Query),
            headers: log.headers.iter().filter_map(|name| HeaderName::try_from(name.as_str()).ok()).collect(),
            sample_millionths: log.sample.millionths().into(),
            always_failed: log.always.contains(&Always::Failed),
            always_slower_than: slower.min(),
        }
    }

    /// Whether a record has only the texts that all records have, unless there are ids from outside.
    fn has_no_more_texts(&self) -> bool {
        !self.query && self.headers.is_empty()
    }

    /// How many requests the line of this one stands for, in thousandths; None if it has none.
    fn weight_milli(&self, id: RequestId, numbers: &Numbers) -> Option<u64> {
        const ALL: u64 = Sample::ALL.millionths() as u64;
        if !self.is_on {
            return None;
        }
        let is_slow = self.always_slower_than.is_some_and(|limit| u128::from(numbers.total) > limit.as_nanos());
        let has_failed = self.always_failed && (numbers.outcome().is_failure() || numbers.status >= 500);
        if self.sample_millionths == ALL || is_slow || has_failed {
            return Some(1_000);
        }
        // The lower half of an id is as good as random.
        let [_, low] = id.to_words();
        (low % ALL < self.sample_millionths).then(|| ALL * 1_000 / self.sample_millionths)
    }
}

impl Recorder {
    pub(crate) fn new(
        counters: &'static Slot,
        journal: Arc<Journal>,
        metrics: Arc<WorkerMetrics>,
        log: &AccessLog,
        routes: Vec<Arc<str>>,
    ) -> Arc<Self> {
        Arc::new(Self { counters, journal, metrics, rules: Rules::of(log), routes })
    }

    /// Begins the record of a request whose head was read.
    pub(crate) fn begin<B>(
        self: &Arc<Self>,
        request: &http::Request<B>,
        client: Option<SocketAddr>,
        ids: Option<&ReceivedIds>,
    ) -> Record {
        let (id, mut numbers) = first_numbers(client);
        numbers.protocol = if request.version() == Version::HTTP_10 { 10 } else { 11 };
        let uri = request.uri();
        let host = uri.authority().map_or_else(|| host(request.headers()), |authority| authority.as_str().as_bytes());
        let texts = [
            TextOf::new(Text::Method, request.method().as_str().as_bytes(), MAX_METHOD_BYTES),
            TextOf::new(Text::Host, without_user(host), MAX_HOST_BYTES),
            TextOf::new(Text::Path, uri.path().as_bytes(), MAX_PATH_BYTES),
        ];
        self.metrics.note_begun();
        let place = if ids.is_none() && self.rules.has_no_more_texts() {
            // Of most requests. A chain of iterators that are empty costs more than the texts.
            self.journal.begin(&numbers, texts)
        } else {
            let query = uri.query().filter(|_| self.rules.query);
            let query = query.map(|query| TextOf::new(Text::Query, query.as_bytes(), MAX_QUERY_BYTES));
            let fields = (0..)
                .zip(&self.rules.headers)
                .filter_map(|(number, name)| Some(TextOf::field(number, request.headers().get(name)?.as_bytes())));
            let ids = ids.into_iter().flat_map(ReceivedIds::texts);
            self.journal.begin(&numbers, texts.into_iter().chain(query).chain(ids).chain(fields))
        };
        self.counted_record(request, id, numbers, place)
    }

    /// Records a request whose head was never complete, or could not be parsed. Returns its id.
    pub(crate) fn incomplete_head(
        &self,
        outcome: RequestOutcome,
        status: Option<u16>,
        client: Option<SocketAddr>,
    ) -> RequestId {
        let (id, mut numbers) = first_numbers(client);
        numbers.status = status.unwrap_or(0);
        numbers.outcome = outcome.number();
        drop(self.counters.begin_request());
        self.metrics.note_incomplete_head(&numbers);
        if let Some(weight_milli) = self.rules.weight_milli(id, &numbers) {
            numbers.weight_milli = weight_milli;
            self.note_kept(self.journal.write(&numbers));
        }
        id
    }

    /// Counts a record that was not kept.
    fn note_kept(&self, was_kept: bool) {
        if !was_kept {
            self.metrics.note_record_dropped();
        }
    }
}

impl Record {
    /// Sets the route, by its index among the worker's.
    pub(crate) fn set_route(&self, index: usize) {
        let route = u32::try_from(index).map_or(0, |index| index.saturating_add(1));
        self.route.store(route, Relaxed);
        let mut state = lock(&self.state);
        state.numbers.route = route;
        self.recorder.metrics.note_routed(&state.numbers);
        state.note_progress();
    }

    pub(crate) fn set_status(&self, status: u16) {
        lock(&self.state).numbers.status = status;
    }

    /// The whole response went to the connection.
    pub(crate) fn note_delivered(&self) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.numbers.is_delivered, true) {
            return;
        }
        if state.place.is_some() {
            self.recorder.metrics.note_delivered(&state.numbers);
        }
        state.note_progress();
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// The request has its permit, and the guest begins.
    pub(crate) fn note_guest_began(&self, now: Instant) {
        let mut state = lock(&self.state);
        state.times.guest_began = Some(now);
        if state.place.is_some() {
            self.recorder.metrics.note_admitted(&state.numbers);
        }
    }

    /// A file answers the request, without a guest and a permit.
    pub(crate) fn note_answered_by_file(&self) {
        lock(&self.state).times.was_file = true;
    }

    pub(crate) fn note_guest_ended(&self) {
        lock(&self.state).times.guest_ended = Some(Instant::now());
    }

    /// Where the time has gone until now. `usage` is what the guest has used, if one began.
    pub(crate) fn timing(&self, usage: Option<&Usage>) -> ServerTiming {
        let now = Instant::now();
        let guest_began = lock(&self.state).times.guest_began;
        let guest = guest_began.zip(usage).map(|(began, usage)| {
            let instantiate = Duration::from_nanos(usage.instantiate_ns);
            GuestTiming { instantiate, ran: (now - began).saturating_sub(instantiate) }
        });
        ServerTiming { queued: guest_began.unwrap_or(now).saturating_duration_since(self.began), guest }
    }

    /// A streamed response begins.
    pub(crate) fn note_response(&self) {
        lock(&self.state).times.response_began = Some(Instant::now());
    }

    /// The streamed response is complete.
    pub(crate) fn note_response_ended(&self) {
        lock(&self.state).times.response_ended = Some(Instant::now());
    }

    pub(crate) fn add_bytes_in(&self, bytes: usize) {
        lock(&self.state).numbers.bytes_in += bytes as u64;
    }

    pub(crate) fn add_bytes_out(&self, bytes: usize) {
        lock(&self.state).numbers.bytes_out += bytes as u64;
    }

    /// The route's name; `-` before the request was routed.
    pub(crate) fn route(&self) -> &str {
        let index = (self.route.load(Relaxed) as usize).checked_sub(1);
        index.and_then(|index| self.recorder.routes.get(index)).map_or("-", AsRef::as_ref)
    }

    pub(crate) fn method(&self) -> impl fmt::Display {
        Excerpt::within(self.method.as_str(), MAX_METHOD_BYTES)
    }

    /// The path for log lines. Without the query, which may have secrets.
    pub(crate) fn path(&self) -> impl fmt::Display {
        Excerpt::within(self.path.as_ref().map_or("*", PathAndQuery::path), MAX_LOGGED_PATH_BYTES)
    }

    /// Ends the request: exactly once, with what is known of it by now.
    pub(crate) fn end(&self, outcome: RequestOutcome, guest: Option<RequestOutcome>, usage: &Usage) {
        let mut state = lock(&self.state);
        let whole;
        let usage = match &state.parts {
            None => usage,
            Some(parts) => {
                whole = parts.with(usage, state.place.is_some());
                &whole
            }
        };
        let Some(place) = state.place.take() else { return };
        let now = Instant::now();
        let State { numbers, times, .. } = &mut *state;
        let guest_ended = times.guest_ended.unwrap_or(now);
        numbers.outcome = outcome.number();
        numbers.guest = guest.map_or(NO_GUEST, RequestOutcome::number);
        numbers.total = ns(now - self.began);
        let admitted = if times.was_file { self.began } else { times.guest_began.unwrap_or(now) };
        numbers.queued = ns(admitted.saturating_duration_since(self.began));
        numbers.instantiate = usage.instantiate_ns;
        numbers.guest_cpu = usage.guest_cpu_ns;
        if let Some(began) = times.guest_began {
            let busy = usage.instantiate_ns.saturating_add(usage.guest_cpu_ns);
            numbers.guest_wait = ns(guest_ended.saturating_duration_since(began)).saturating_sub(busy);
        }
        let response_ended = times.response_ended.unwrap_or(now);
        numbers.streaming = times.response_began.map_or(0, |began| ns(response_ended.saturating_duration_since(began)));
        numbers.peak_memory = usage.peak_memory_bytes;
        numbers.was_refused_memory = usage.was_refused_memory;
        let WaitUsage { count, failed, ns } = usage.outgoing;
        (numbers.outgoing, numbers.outgoing_failed, numbers.outgoing_time) = (count, failed, ns);
        let WaitUsage { count, failed, ns } = usage.stores;
        (numbers.stores, numbers.stores_failed, numbers.stores_time) = (count, failed, ns);
        let weight = self.recorder.rules.weight_milli(self.id, numbers);
        numbers.weight_milli = weight.unwrap_or(0);
        self.recorder.metrics.note_ended(numbers, times.guest_began.is_some());
        self.recorder.note_kept(place.end(numbers, weight.is_some()));
        log_request!(
            debug, self, status = numbers.status, outcome = %outcome, us = numbers.total / 1_000, "request ended"
        );
    }
}

/// The id of a request that begins now, and what else is known of it.
fn first_numbers(client: Option<SocketAddr>) -> (RequestId, Numbers) {
    let began_unix_us = unix_us(SystemTime::now());
    let id = RequestId::at(began_unix_us / 1_000);
    let mut numbers = Numbers { id: id.to_words(), began_unix_us, guest: NO_GUEST, ..Numbers::default() };
    if let Some(client) = client {
        numbers.set_client(client);
    }
    (id, numbers)
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn host(headers: &HeaderMap) -> &[u8] {
    headers.get(http::header::HOST).map_or(&[], http::HeaderValue::as_bytes)
}

/// An authority without its user information, which may have a password.
fn without_user(authority: &[u8]) -> &[u8] {
    authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default()
}
