//! The state that the parts of one request and its response share.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Waker};

use daylily_core::error_response::ErrorResponse;
use daylily_core::excerpt::Excerpt;
use daylily_core::request_outcome::RequestOutcome;
use daylily_core::units::format_duration;
use tokio::time::Instant;

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::engine::call_outcome::{CallOutcome, EndedStore};
use crate::engine::meter::Meter;
use crate::http::admission::{Permit, RouteShare};
use crate::observe::diagnosis::CallDiagnosis;
use crate::observe::mask::Mask;
use crate::observe::record::{Record, Usage, log_request};
use crate::observe::server_timing::ServerTiming;
use crate::observe::trace_context::RequestIds;
use crate::sys::lock::lock;

/// One request and its response. Only one thread uses it; the types are `Sync` because tasks must be `Send`.
pub(crate) struct Exchange {
    record: Record,
    ids: RequestIds,
    /// What it is a part of, if it follows another guest in a chain. That one's record ends after this one's.
    whole: Option<Arc<Exchange>>,
    /// It is a request of another guest.
    is_call: bool,
    /// The outcome of a request that no guest answered.
    refused: OnceLock<RequestOutcome>,
    /// What the guest's call uses, once there is one.
    meter: Mutex<Option<Arc<Meter>>>,
    _unfinished: TaskTrackerToken,
    outcome: OnceLock<CallOutcome>,
    /// The ended store, kept until the end of its response body has been read.
    ended_store: Mutex<Option<EndedStore>>,
    /// The task that waits for the guest to write its body or to end.
    reader: Mutex<Option<Waker>>,
    body_error: OnceLock<BodyError>,
    diagnosis: OnceLock<CallDiagnosis>,
    /// The secrets of the route.
    mask: OnceLock<Arc<Mask>>,
    delivered: AtomicBool,
    /// The response has been dropped, and the guest has ended.
    is_over: AtomicBool,
    /// The response has no body, so it is complete, whatever its guest goes on to do.
    is_bodiless: AtomicBool,
    /// The response's body was cut because of its length or its end.
    was_cut: AtomicBool,
    /// The guest has begun to read a body that the client sends only after `100 Continue`.
    continued: AtomicBool,
    /// The response is to have a `server-timing`.
    is_timed: AtomicBool,
}

/// Why a request gets no response from a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Abort {
    /// The host sends an error response instead.
    #[error("refused: {0}")]
    Refused(#[from] ErrorResponse),
    /// The client has closed the connection, so no response is sent.
    #[error("client disconnected before its response")]
    ClientGone,
}

/// What went wrong with the request body while the guest was reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// The body is over `max_body`.
    TooLarge,
    /// The body made no progress for `body_timeout`.
    TooSlow,
    /// The body made too little progress while other requests waited for a permit.
    GaveWay,
    /// The body's framing is invalid.
    Malformed(Excerpt),
    /// The client left before the end of the body.
    ClientGone,
}

impl Exchange {
    /// Begins when the head has been read. `unfinished` keeps the worker alive until the request has ended.
    pub(crate) fn begin(record: Record, ids: RequestIds, unfinished: TaskTrackerToken) -> Self {
        Self {
            record,
            ids,
            whole: None,
            is_call: false,
            refused: OnceLock::new(),
            meter: Mutex::new(None),
            _unfinished: unfinished,
            outcome: OnceLock::new(),
            ended_store: Mutex::new(None),
            reader: Mutex::new(None),
            body_error: OnceLock::new(),
            diagnosis: OnceLock::new(),
            mask: OnceLock::new(),
            delivered: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_bodiless: AtomicBool::new(false),
            was_cut: AtomicBool::new(false),
            continued: AtomicBool::new(false),
            is_timed: AtomicBool::new(false),
        }
    }

    /// Makes it one for a request that another guest sends to a route.
    pub(crate) fn of_call(mut self) -> Self {
        self.is_call = true;
        self
    }

    pub(crate) fn is_call(&self) -> bool {
        self.is_call
    }

    /// Makes it a part of another one.
    pub(crate) fn part_of(mut self, whole: Option<Arc<Self>>) -> Self {
        self.whole = whole;
        self
    }

    pub(crate) fn whole(&self) -> Option<&Self> {
        self.whole.as_deref()
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn ids(&self) -> &RequestIds {
        &self.ids
    }

    /// From here on, the response is to say where its time went.
    pub(crate) fn tell_timing(&self) {
        self.is_timed.store(true, Relaxed);
    }

    /// Where the time went until now, if the response is to say so.
    pub(crate) fn timing(&self) -> Option<ServerTiming> {
        let usage = || lock(&self.meter).as_ref().map(|meter| meter.usage());
        self.is_timed.load(Relaxed).then(|| self.record.timing(usage().as_ref()))
    }

    /// Records that the guest has ended. Must be called before its store is dropped: the drop ends the guest's body,
    /// and a reader would take that for the end of the response.
    pub(crate) fn end(&self, outcome: CallOutcome, ended_store: Option<EndedStore>) {
        if self.outcome.set(outcome).is_ok() {
            self.record.note_guest_ended();
        }
        *lock(&self.ended_store) = ended_store;
        if let Some(reader) = lock(&self.reader).take() {
            reader.wake();
        }
    }

    /// Wakes the task of `context` when the guest ends.
    pub(crate) fn wake_at_end(&self, context: &Context<'_>) {
        *lock(&self.reader) = Some(context.waker().clone());
    }

    /// Whether the end of the response body, if read now, was written by the guest. It was if the guest returned, or if
    /// its store still exists, because a dropped store ends the body, too.
    pub(crate) fn is_end_trusted(&self) -> bool {
        self.outcome().is_none_or(CallOutcome::is_clean) || lock(&self.ended_store).is_some()
    }

    /// Drops the ended store, after the end of its response body has been read.
    pub(crate) fn drop_ended_store(&self) {
        drop(lock(&self.ended_store).take());
    }

    pub(crate) fn outcome(&self) -> Option<&CallOutcome> {
        self.outcome.get()
    }

    /// Records a body error. Only the first one counts.
    pub(crate) fn fail(&self, body_error: BodyError) {
        let _ = self.body_error.set(body_error);
    }

    pub(crate) fn body_error(&self) -> Option<&BodyError> {
        self.body_error.get()
    }

    /// Records that the request gets an error response instead of a guest's.
    pub(crate) fn refuse(&self, outcome: RequestOutcome) {
        let _ = self.refused.set(outcome);
    }

    /// Records that the guest's call begins, and what measures it.
    pub(crate) fn begin_call(&self, meter: &Arc<Meter>, now: Instant) {
        *lock(&self.meter) = Some(Arc::clone(meter));
        self.record.note_guest_began(now);
    }

    pub(crate) fn note_bodiless(&self) {
        self.is_bodiless.store(true, Relaxed);
        self.record.note_delivered();
    }

    pub(crate) fn note_cut(&self) {
        self.was_cut.store(true, Relaxed);
    }

    /// How the request has ended, for its record.
    ///
    /// `guest` is how the guest has ended.
    fn request_outcome(&self, guest: Option<RequestOutcome>) -> RequestOutcome {
        if let Some(refused) = self.refused.get() {
            // An exit and a trap have the same error response; so have a request that is refused and one that is cut.
            return match (refused, guest) {
                (RequestOutcome::Trap | RequestOutcome::ShutDown, Some(guest)) => guest,
                _ => *refused,
            };
        }
        if self.is_delivered() || self.is_bodiless.load(Relaxed) {
            return RequestOutcome::Ok;
        }
        // Before the guest's end: a guest often traps because its request's body failed.
        if let Some(body_error) = self.body_error() {
            return body_error.request_outcome();
        }
        match guest.filter(|guest| guest.is_failure()) {
            Some(failed) => failed,
            None if self.was_cut.load(Relaxed) => RequestOutcome::InvalidResponse,
            None => RequestOutcome::ClientGone,
        }
    }

    /// Keeps what the call records for its developer, and the secrets that its guest is granted.
    pub(crate) fn set_diagnosis(&self, diagnosis: &Option<CallDiagnosis>, mask: Option<&Arc<Mask>>) {
        if let Some(mask) = mask {
            let _ = self.mask.set(Arc::clone(mask));
        }
        if let Some(diagnosis) = diagnosis {
            let _ = self.diagnosis.set(diagnosis.clone());
        }
    }

    /// The secrets that texts of the guest may have.
    pub(crate) fn mask(&self) -> Option<&Mask> {
        self.mask.get().map(|mask| &**mask)
    }

    pub(crate) fn diagnosis(&self) -> Option<&CallDiagnosis> {
        self.diagnosis.get()
    }

    /// Logs the stack of a failed guest. `is_sent` says whether an error response has it, if that is for developers.
    pub(crate) fn log_stack(&self, is_sent: bool) {
        if let Some(diagnosis) = self.diagnosis() {
            diagnosis.log_stack(self.record.id, self.record.route(), is_sent);
        }
    }

    /// Records that the guest has begun to read a body whose client waits for `100 Continue`.
    pub(crate) fn note_continued(&self) {
        self.continued.store(true, Relaxed);
    }

    pub(crate) fn is_continued(&self) -> bool {
        self.continued.load(Relaxed)
    }

    /// Records that hyper has the whole response. From now on, the client may leave without ending the guest.
    pub(crate) fn mark_delivered(&self) {
        self.delivered.store(true, Relaxed);
        self.record.note_delivered();
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.delivered.load(Relaxed)
    }

    /// Whether the response was dropped before its end.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_over.load(Relaxed) && !self.is_delivered()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let usage = lock(&self.meter).take().map(|meter| meter.usage()).unwrap_or_default();
        let guest = self.outcome().map(|outcome| outcome.request_outcome(&usage));
        self.record.end(self.request_outcome(guest), guest, &usage);
    }
}

impl CallOutcome {
    /// The outcome of a request whose response was not complete when its guest ended in this way.
    fn request_outcome(&self, usage: &Usage) -> RequestOutcome {
        match self {
            Self::Done | Self::Exit(0) => RequestOutcome::Ok,
            Self::Exit(_) => RequestOutcome::Exit,
            Self::Trap(_) if usage.was_refused_memory => RequestOutcome::MemoryLimit,
            Self::Trap(_) => RequestOutcome::Trap,
            Self::CpuTime(_) => RequestOutcome::CpuLimit,
            Self::WallTime(_) => RequestOutcome::WallLimit,
            Self::ClientGone => RequestOutcome::ClientGone,
            Self::ShutDown => RequestOutcome::Cut,
            Self::NoInstance(_) => RequestOutcome::NoInstance,
        }
    }

    /// Whether a response that the guest began can be complete.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(self, Self::Done | Self::Exit(0))
    }

    /// What happens to a request whose guest had this outcome before it returned a response.
    pub(crate) fn into_abort(self) -> Abort {
        Abort::Refused(match self {
            Self::ClientGone => return Abort::ClientGone,
            Self::Done | Self::Exit(0) => ErrorResponse::NoResponse,
            Self::Exit(code) => ErrorResponse::Trap { detail: format!("it called exit with code {code}").into() },
            Self::Trap(detail) => ErrorResponse::Trap { detail },
            Self::CpuTime(limit) => {
                ErrorResponse::CpuTime { detail: format!("cpu_time = {}", format_duration(limit)).into() }
            }
            Self::ShutDown => ErrorResponse::ShuttingDown,
            Self::WallTime(limit) => {
                ErrorResponse::WallTime { detail: format!("wall_time = {}", format_duration(limit)).into() }
            }
            Self::NoInstance(detail) => ErrorResponse::NoInstance { detail },
        })
    }
}

impl BodyError {
    fn request_outcome(&self) -> RequestOutcome {
        match self.to_abort() {
            Abort::Refused(refusal) => refusal.outcome(),
            Abort::ClientGone => RequestOutcome::ClientGone,
        }
    }

    /// What happens to the request instead of sending the guest's response.
    pub(crate) fn to_abort(&self) -> Abort {
        Abort::Refused(match self {
            Self::ClientGone => return Abort::ClientGone,
            Self::TooLarge => ErrorResponse::BodyTooLarge,
            Self::TooSlow => ErrorResponse::BodyTimeout,
            Self::GaveWay => ErrorResponse::GaveWay,
            Self::Malformed(detail) => ErrorResponse::Malformed { detail: detail.clone() },
        })
    }
}

/// The request guard: what a request holds until hyper has dropped its response body and its guest has ended.
pub(crate) struct RequestGuard {
    pub(crate) exchange: Arc<Exchange>,
    permit: Permit,
}

impl RequestGuard {
    pub(crate) fn new(exchange: Arc<Exchange>, permit: Permit) -> Self {
        Self { exchange, permit }
    }

    /// The share of permits of the request's route.
    pub(crate) fn share(&self) -> &RouteShare {
        self.permit.share()
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        // Before the permit is released, because the request that gets it needs the pool slot of this store.
        self.exchange.drop_ended_store();
        self.exchange.is_over.store(true, Relaxed);
    }
}

/// Logs the outcome of a guest that had begun its response, unless it returned normally.
pub(crate) fn report_end(exchange: &Exchange) {
    let record = exchange.record();
    let when = if exchange.is_delivered() { "after its response" } else { "during its response, which was cut" };
    match exchange.outcome().cloned().map(CallOutcome::into_abort) {
        Some(Abort::ClientGone) if exchange.is_delivered() => {
            log_request!(debug, record, "guest ended after its response, with the one that called it");
        }
        Some(Abort::ClientGone) => {
            log_request!(debug, record, "client disconnected before the end of its response");
        }
        Some(Abort::Refused(why)) if !matches!(why, ErrorResponse::NoResponse) => {
            log_request!(warn, record, "guest failed {when}: {why}");
            exchange.log_stack(false);
        }
        _ => {}
    }
}
