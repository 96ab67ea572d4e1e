//! What the parts of one request and its response tell each other.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::task::{Context, Waker};

use daylily_core::excerpt::Excerpt;
use daylily_core::refusal::Refusal;
use daylily_core::units::format_duration;

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::control::scoreboard::Slot;
use crate::engine::{Ending, Remains};
use crate::lock::lock;
use crate::record::Record;
use crate::request::Stop;

/// One request and its response. Everything happens on one thread; the types are shareable because
/// tasks are.
pub(crate) struct Exchange {
    record: Record,
    _unfinished: TaskTrackerToken,
    ending: OnceLock<Ending>,
    /// The ended instance, until the end of its response body has been looked at.
    remains: Mutex<Option<Remains>>,
    /// Who waits for the body that the guest writes, or for its end.
    reader: Mutex<Option<Waker>>,
    fault: OnceLock<Fault>,
    delivered: AtomicBool,
    /// The guest reads a body that the client sends only after `100 Continue`.
    continued: AtomicBool,
}

/// What went wrong with the request body while the guest was reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Over the limit.
    TooLarge,
    /// No progress for too long.
    TooSlow,
    /// Little progress while other requests waited for its place.
    GaveWay,
    /// Broken framing.
    Malformed(Excerpt),
    /// The client left in the middle of it.
    ClientGone,
}

impl Exchange {
    /// Begins with the head. `unfinished` keeps the worker from ending before the request has.
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

    /// The guest has ended. Called before its store is dropped, so that nobody takes the end of a
    /// body that the drop cuts for the end of the response.
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

    /// Whether the end of the response body, seen now, is the guest's word: it is while the instance is
    /// there, and it is when the guest returned.
    pub(crate) fn is_end_trusted(&self) -> bool {
        self.ending().is_none_or(Ending::is_clean) || lock(&self.remains).is_some()
    }

    /// Lets go of the instance; the end of its response body has been looked at.
    pub(crate) fn drop_remains(&self) {
        drop(lock(&self.remains).take());
    }

    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.get()
    }

    /// The request body is no longer what the guest should act on.
    pub(crate) fn fail(&self, fault: Fault) {
        let _ = self.fault.set(fault);
    }

    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// The guest has begun to read a body whose client waits for `100 Continue`.
    pub(crate) fn note_continued(&self) {
        self.continued.store(true, Relaxed);
    }

    pub(crate) fn is_continued(&self) -> bool {
        self.continued.load(Relaxed)
    }

    /// The whole response is with the client's connection; from now on the client may leave.
    pub(crate) fn mark_delivered(&self) {
        self.delivered.store(true, Relaxed);
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.delivered.load(Relaxed)
    }
}

impl Ending {
    /// Whether a response that the guest began may be taken for complete.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(self, Self::Done | Self::Exit(0))
    }

    /// What becomes of a request whose guest ended so before it gave a response.
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
    /// What becomes of the request instead of the guest's response.
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
