//! How connections end, for the metrics: what closed one is noted where it happens, the rest follows from its state at
//! the end.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use daylily_core::connection_end::ConnectionEnd;
use daylily_core::error_response::ErrorResponse;
use daylily_core::request_outcome::RequestOutcome;

/// A number that no end has.
const NONE: u8 = u8::MAX;

/// What closes a connection, once that is known. The tasks of the connection share it. They run on one thread.
pub(crate) struct SharedEnd {
    number: AtomicU8,
    /// A read has found the end of what the client sends. The poller may not have reported it yet: the first read does not
    /// wait for it.
    is_read: AtomicBool,
}

impl SharedEnd {
    pub(crate) const fn new() -> Self {
        Self { number: AtomicU8::new(NONE), is_read: AtomicBool::new(false) }
    }

    pub(crate) fn note_read(&self) {
        self.is_read.store(true, Relaxed);
    }

    pub(crate) fn is_read(&self) -> bool {
        self.is_read.load(Relaxed)
    }

    /// Only the first call counts.
    pub(crate) fn note(&self, end: ConnectionEnd) {
        if self.number.load(Relaxed) == NONE {
            self.number.store(end.number(), Relaxed);
        }
    }

    pub(crate) fn get(&self) -> Option<ConnectionEnd> {
        ConnectionEnd::from_number(self.number.load(Relaxed))
    }
}

/// How hyper has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Between two requests.
    Orderly,
    /// The socket failed.
    Failed,
    /// The client closed its side within a request.
    Incomplete,
    Unparsable,
    /// The service, or a response's body, ended with an error.
    Abandoned,
}

impl Served {
    pub(crate) fn of(served: &Result<(), hyper::Error>) -> Self {
        let Err(error) = served else { return Self::Orderly };
        let is_io = error.source().is_some_and(<dyn Error>::is::<io::Error>);
        match () {
            () if error.is_incomplete_message() => Self::Incomplete,
            () if error.is_parse() => Self::Unparsable,
            () if is_io && !error.is_user() => Self::Failed,
            () => Self::Abandoned,
        }
    }
}

/// What is known of a connection at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) served: Served,
    pub(crate) noted: Option<ConnectionEnd>,
    /// The client has closed its side or reset the connection.
    pub(crate) is_gone: bool,
    /// The worker closes connections after their responses.
    pub(crate) drains: bool,
    /// A request's body was not read to its end.
    pub(crate) is_unread: bool,
}

impl Ending {
    pub(crate) fn reason(self) -> ConnectionEnd {
        let Self { served, noted, is_gone, drains, is_unread } = self;
        if let Some(noted) = noted {
            return noted;
        }
        match served {
            Served::Failed => ConnectionEnd::ClientReset,
            Served::Incomplete => ConnectionEnd::ClientGone,
            Served::Unparsable => ConnectionEnd::Malformed,
            Served::Abandoned if is_gone => ConnectionEnd::ClientGone,
            Served::Orderly if is_gone => ConnectionEnd::ClientClosed,
            Served::Abandoned | Served::Orderly if drains => ConnectionEnd::Drain,
            Served::Abandoned => ConnectionEnd::Internal,
            Served::Orderly if is_unread => ConnectionEnd::UnreadBody,
            Served::Orderly => ConnectionEnd::Requested,
        }
    }
}

/// How a connection ends whose last response is this error, which no request's service sends.
pub(crate) fn after_last_word(refusal: &ErrorResponse) -> ConnectionEnd {
    match refusal {
        ErrorResponse::HeadTimeout => ConnectionEnd::HeadTimeout,
        ErrorResponse::TargetTooLong | ErrorResponse::HeadTooLarge => ConnectionEnd::HeadLimit,
        ErrorResponse::Malformed { .. } => ConnectionEnd::Malformed,
        // Of requests that have a service.
        ErrorResponse::NoRoute
        | ErrorResponse::NoFile
        | ErrorResponse::ForeignHost
        | ErrorResponse::ReservedHost
        | ErrorResponse::MethodNotAllowed
        | ErrorResponse::BodyTimeout
        | ErrorResponse::GaveWay
        | ErrorResponse::BodyTooLarge
        | ErrorResponse::UnknownCoding
        | ErrorResponse::Trap { .. }
        | ErrorResponse::NoResponse
        | ErrorResponse::InvalidResponse { .. }
        | ErrorResponse::GuestError { .. }
        | ErrorResponse::QueueFull
        | ErrorResponse::QueueTimeout
        | ErrorResponse::NoPermit
        | ErrorResponse::LoopDetected
        | ErrorResponse::NoInstance { .. }
        | ErrorResponse::ShuttingDown
        | ErrorResponse::CpuTime { .. }
        | ErrorResponse::WallTime { .. }
        | ErrorResponse::Internal { .. } => ConnectionEnd::Internal,
    }
}

/// How a request has ended whose head was received, wholly or in part, when its connection ended.
pub(crate) fn outcome_of_head(end: ConnectionEnd) -> RequestOutcome {
    match end {
        ConnectionEnd::Malformed => RequestOutcome::Malformed,
        ConnectionEnd::HeadLimit => RequestOutcome::HeadLimit,
        ConnectionEnd::HeadTimeout => RequestOutcome::HeadTimeout,
        ConnectionEnd::Drain => RequestOutcome::ShutDown,
        ConnectionEnd::Lost => RequestOutcome::Lost,
        ConnectionEnd::Internal => RequestOutcome::Internal,
        ConnectionEnd::ClientClosed
        | ConnectionEnd::ClientGone
        | ConnectionEnd::ClientReset
        | ConnectionEnd::Requested
        | ConnectionEnd::UnreadBody
        | ConnectionEnd::IdleTimeout
        | ConnectionEnd::UnreadResponse
        | ConnectionEnd::Cut => RequestOutcome::ClientGone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts() {
        let end = SharedEnd::new();
        assert_eq!(end.get(), None);
        end.note(ConnectionEnd::Cut);
        end.note(ConnectionEnd::Malformed);
        assert_eq!(end.get(), Some(ConnectionEnd::Cut));
    }

    #[test]
    fn reasons() {
        /// `state` has letters for what is so: `g`one, `d`rains, `u`nread.
        #[track_caller]
        fn check(served: Served, noted: Option<ConnectionEnd>, state: &str, expected: ConnectionEnd) {
            let [is_gone, drains, is_unread] = ['g', 'd', 'u'].map(|letter| state.contains(letter));
            let ending = Ending { served, noted, is_gone, drains, is_unread };
            assert_eq!(ending.reason(), expected, "{ending:?}");
        }
        use ConnectionEnd as E;
        check(Served::Orderly, None, "", E::Requested);
        check(Served::Orderly, None, "u", E::UnreadBody);
        check(Served::Orderly, None, "du", E::Drain);
        check(Served::Orderly, None, "gdu", E::ClientClosed);
        check(Served::Orderly, Some(E::HeadLimit), "gdu", E::HeadLimit);
        check(Served::Failed, None, "g", E::ClientReset);
        check(Served::Failed, Some(E::UnreadResponse), "", E::UnreadResponse);
        check(Served::Incomplete, None, "gd", E::ClientGone);
        check(Served::Unparsable, None, "", E::Malformed);
        check(Served::Abandoned, None, "g", E::ClientGone);
        check(Served::Abandoned, None, "d", E::Drain);
        check(Served::Abandoned, Some(E::Cut), "gd", E::Cut);
        check(Served::Abandoned, None, "", E::Internal);
    }
}
