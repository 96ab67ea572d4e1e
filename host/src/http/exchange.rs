//! The state that the parts of one request and its response share.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Waker};

use daylily_core::error_response::ErrorResponse;
use daylily_core::excerpt::Excerpt;
use daylily_core::log_target;
use daylily_core::units::format_duration;

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::engine::outcome::{EndedStore, Outcome};
use crate::http::admission::{Permit, RouteShare};
use crate::observe::record::Record;
use crate::observe::scoreboard::Slot;
use crate::sys::lock::lock;

/// One request and its response. Only one thread uses it; the types are `Sync` because tasks must be `Send`.
pub(crate) struct Exchange {
    record: Record,
    _unfinished: TaskTrackerToken,
    outcome: OnceLock<Outcome>,
    /// The ended store, kept until the end of its response body has been read.
    ended_store: Mutex<Option<EndedStore>>,
    /// The task that waits for the guest to write its body or to end.
    reader: Mutex<Option<Waker>>,
    body_error: OnceLock<BodyError>,
    delivered: AtomicBool,
    /// The guest has begun to read a body that the client sends only after `100 Continue`.
    continued: AtomicBool,
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
    pub(crate) fn begin(counters: &'static Slot, unfinished: TaskTrackerToken) -> Self {
        Self {
            record: Record::begin(counters),
            _unfinished: unfinished,
            outcome: OnceLock::new(),
            ended_store: Mutex::new(None),
            reader: Mutex::new(None),
            body_error: OnceLock::new(),
            delivered: AtomicBool::new(false),
            continued: AtomicBool::new(false),
        }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Records that the guest has ended. Must be called before its store is dropped: the drop ends the guest's body,
    /// and a reader would take that for the end of the response.
    pub(crate) fn end(&self, outcome: Outcome, ended_store: Option<EndedStore>) {
        let _ = self.outcome.set(outcome);
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
        self.outcome().is_none_or(Outcome::is_clean) || lock(&self.ended_store).is_some()
    }

    /// Drops the ended store, after the end of its response body has been read.
    pub(crate) fn drop_ended_store(&self) {
        drop(lock(&self.ended_store).take());
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Records a body error. Only the first one counts.
    pub(crate) fn fail(&self, body_error: BodyError) {
        let _ = self.body_error.set(body_error);
    }

    pub(crate) fn body_error(&self) -> Option<&BodyError> {
        self.body_error.get()
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
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.delivered.load(Relaxed)
    }
}

impl Outcome {
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

/// The request guard: what a request holds until the last byte of its response is sent.
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
    }
}

/// Logs the outcome of a guest that had begun its response, unless it returned normally.
pub(crate) fn report_end(exchange: &Exchange) {
    let record = exchange.record();
    let when = if exchange.is_delivered() { "after its response" } else { "during its response, which was cut" };
    match exchange.outcome().cloned().map(Outcome::into_abort) {
        Some(Abort::ClientGone) => {
            tracing::debug!(
                target: log_target::REQUEST,
                request = %record.id, route = %record.route(),
                "client disconnected before the end of its response"
            );
        }
        Some(Abort::Refused(why)) if !matches!(why, ErrorResponse::NoResponse) => {
            tracing::warn!(
                target: log_target::REQUEST,
                request = %record.id, route = %record.route(), "guest failed {when}: {why}"
            );
        }
        _ => {}
    }
}
