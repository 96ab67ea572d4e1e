//! What the parts of one request and its response tell each other.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use daylily_core::refusal::Refusal;

use crate::engine::Ending;
use crate::record::Record;
use crate::request::Stop;

/// One request and its response. Everything happens on one thread; the types are shareable because
/// tasks are.
pub(crate) struct Exchange {
    record: Record,
    ending: OnceLock<Ending>,
    fault: OnceLock<Fault>,
    delivered: AtomicBool,
}

/// What went wrong with the request body while the guest was reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Over the limit.
    TooLarge,
    /// No progress for too long.
    TooSlow,
    /// Broken framing.
    Malformed(String),
    /// The client left in the middle of it.
    ClientGone,
}

impl Exchange {
    pub(crate) fn begin() -> Self {
        Self {
            record: Record::begin(),
            ending: OnceLock::new(),
            fault: OnceLock::new(),
            delivered: AtomicBool::new(false),
        }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// The guest has ended. Called before its store is dropped, so that nobody takes the end of a
    /// body that the drop cuts for the end of the response.
    pub(crate) fn end(&self, ending: Ending) {
        let _ = self.ending.set(ending);
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
            Self::Exit(code) => Refusal::Trap { detail: format!("it called exit with code {code}") },
            Self::Trap(detail) => Refusal::Trap { detail },
            Self::CpuTime => Refusal::CpuTime,
            Self::WallTime => Refusal::WallTime,
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
            Self::Malformed(detail) => Refusal::Malformed { detail: detail.clone() },
        })
    }
}
