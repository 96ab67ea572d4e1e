//! The state that the parts of one request and its response share.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Waker};

use daylily_core::excerpt::Excerpt;
use daylily_core::refusal::Refusal;
use daylily_core::units::format_duration;

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::engine::outcome::{Ending, Remains};
use crate::http::admission::{Permit, RouteShare};
use crate::observe::record::Record;
use crate::observe::scoreboard::Slot;
use crate::sys::lock::lock;

/// One request and its response. Only one thread uses it; the types are `Sync` because tasks must be `Send`.
pub(crate) struct Exchange {
    record: Record,
    _unfinished: TaskTrackerToken,
    ending: OnceLock<Ending>,
    /// The ended store, kept until the end of its response body has been read.
    remains: Mutex<Option<Remains>>,
    /// The task that waits for the guest to write its body or to end.
    reader: Mutex<Option<Waker>>,
    fault: OnceLock<Fault>,
    delivered: AtomicBool,
    /// The guest has begun to read a body that the client sends only after `100 Continue`.
    continued: AtomicBool,
}

/// Why a request gets no response from a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// The host sends an error response instead.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The client has closed the connection, so no response is sent.
    #[error("client disconnected before its response")]
    ClientGone,
}

/// What went wrong with the request body while the guest was reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
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
            ending: OnceLock::new(),
            remains: Mutex::new(None),
            reader: Mutex::new(None),
            fault: OnceLock::new(),
            delivered: AtomicBool::new(false),
            continued: AtomicBool::new(false),
        }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Records that the guest has ended. Must be called before its store is dropped: the drop ends the guest's body,
    /// and a reader would take that for the end of the response.
    pub(crate) fn end(&self, ending: Ending, remains: Option<Remains>) {
        let _ = self.ending.set(ending);
        *lock(&self.remains) = remains;
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
        self.ending().is_none_or(Ending::is_clean) || lock(&self.remains).is_some()
    }

    /// Drops the ended store, after the end of its response body has been read.
    pub(crate) fn drop_remains(&self) {
        drop(lock(&self.remains).take());
    }

    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.get()
    }

    /// Records a body error. Only the first one counts.
    pub(crate) fn fail(&self, fault: Fault) {
        let _ = self.fault.set(fault);
    }

    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
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

impl Ending {
    /// Whether a response that the guest began can be complete.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(self, Self::Done | Self::Exit(0))
    }

    /// What happens to a request whose guest had this outcome before it returned a response.
    pub(crate) fn into_stop(self) -> Stop {
        Stop::Refused(match self {
            Self::ClientGone => return Stop::ClientGone,
            Self::Done | Self::Exit(0) => Refusal::NoResponse,
            Self::Exit(code) => Refusal::Trap { detail: format!("it called exit with code {code}").into() },
            Self::Trap(detail) => Refusal::Trap { detail },
            Self::CpuTime(limit) => {
                Refusal::CpuTime { detail: format!("cpu_time = {}", format_duration(limit)).into() }
            }
            Self::ShutDown => Refusal::ShuttingDown,
            Self::WallTime(limit) => {
                Refusal::WallTime { detail: format!("wall_time = {}", format_duration(limit)).into() }
            }
            Self::NoInstance(detail) => Refusal::NoInstance { detail },
        })
    }
}

impl Fault {
    /// What happens to the request instead of sending the guest's response.
    pub(crate) fn to_stop(&self) -> Stop {
        Stop::Refused(match self {
            Self::ClientGone => return Stop::ClientGone,
            Self::TooLarge => Refusal::BodyTooLarge,
            Self::TooSlow => Refusal::BodyTimeout,
            Self::GaveWay => Refusal::GaveWay,
            Self::Malformed(detail) => Refusal::Malformed { detail: detail.clone() },
        })
    }
}

/// The request guard: what a request holds until the last byte of its response is sent.
pub(crate) struct Hold {
    pub(crate) exchange: Arc<Exchange>,
    permit: Permit,
}

impl Hold {
    pub(crate) fn new(exchange: Arc<Exchange>, permit: Permit) -> Self {
        Self { exchange, permit }
    }

    /// The share of permits of the request's route.
    pub(crate) fn share(&self) -> &RouteShare {
        self.permit.share()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Before the permit is released, because the request that gets it needs the pool slot of this store.
        self.exchange.drop_remains();
    }
}

/// Logs the outcome of a guest that had begun its response, unless it returned normally.
pub(crate) fn report_end(exchange: &Exchange) {
    let record = exchange.record();
    let when = if exchange.is_delivered() { "after its response" } else { "during its response, which was cut" };
    match exchange.ending().cloned().map(Ending::into_stop) {
        Some(Stop::ClientGone) => {
            tracing::debug!(
                request = %record.id, route = %record.route(),
                "client disconnected before the end of its response"
            );
        }
        Some(Stop::Refused(why)) if !matches!(why, Refusal::NoResponse) => {
            tracing::warn!(request = %record.id, route = %record.route(), "guest failed {when}: {why}");
        }
        _ => {}
    }
}
