//! What a connection is doing. All changes from one phase to another are in this file.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// The phases of a connection. Whether the worker drains is not one of them: it changes when a phase ends, not what
/// happens in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// No request is in progress, and all responses have been written. A new connection begins with it.
    Idle,
    /// As [`Self::Idle`], and the client has been silent for so long that only the socket is kept for it.
    Resting,
    /// A request has been read, and hyper has not taken its whole response yet.
    InRequest,
    /// hyper has taken the whole response and has not written all of it to the socket.
    Flushing,
    /// The client sent no head, or did not complete one, in time. No request can follow.
    TimedOut,
    /// The error response to a head that is not valid has been sent. Nothing can follow it.
    Answered,
}

/// What changes the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// hyper has read a head.
    RequestBegins,
    /// hyper has taken the whole response, or dropped it.
    ResponseTaken,
    /// hyper has nothing left to write.
    Flushed,
    /// The client has been silent for a while.
    Rests,
    /// The client is waited for again, without hyper.
    RestEnds,
    /// A read has timed out.
    TimesOut,
    /// An error response was sent without a request.
    Answers,
}

impl Phase {
    const ALL: [Self; 6] = [Self::Idle, Self::Resting, Self::InRequest, Self::Flushing, Self::TimedOut, Self::Answered];

    /// The phase that follows. Changes that a phase does not have leave it as it is.
    const fn after(self, change: Change) -> Self {
        match (self, change) {
            (Self::Answered, _) => Self::Answered,
            (_, Change::Answers) => Self::Answered,
            (_, Change::RequestBegins) => Self::InRequest,
            (Self::InRequest, Change::ResponseTaken) => Self::Flushing,
            (Self::Flushing, Change::Flushed) | (Self::Resting, Change::RestEnds) => Self::Idle,
            (Self::Idle, Change::Rests) => Self::Resting,
            (Self::Idle | Self::Resting | Self::Flushing, Change::TimesOut) => Self::TimedOut,
            (phase, _) => phase,
        }
    }
}

/// The phase of one connection, which its tasks share. They run on one thread.
pub(crate) struct SharedPhase(AtomicU8);

impl SharedPhase {
    pub(crate) const fn new() -> Self {
        Self(AtomicU8::new(Phase::Idle as u8))
    }

    pub(crate) fn get(&self) -> Phase {
        let number = usize::from(self.0.load(Relaxed));
        Phase::ALL.get(number).copied().unwrap_or(Phase::Answered)
    }

    pub(crate) fn change(&self, change: Change) {
        self.0.store(self.get().after(change) as u8, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Change as C, Phase as P, SharedPhase};

    #[test]
    fn phases_follow_each_other() {
        fn check(changes: &[C], want: P) {
            let phase = SharedPhase::new();
            changes.iter().for_each(|change| phase.change(*change));
            assert_eq!(phase.get(), want, "after {changes:?}");
        }
        check(&[], P::Idle);
        check(&[C::RequestBegins], P::InRequest);
        check(&[C::RequestBegins, C::Flushed], P::InRequest);
        check(&[C::RequestBegins, C::ResponseTaken], P::Flushing);
        check(&[C::RequestBegins, C::ResponseTaken, C::Flushed], P::Idle);
        check(&[C::RequestBegins, C::ResponseTaken, C::Rests], P::Flushing);
        check(&[C::RequestBegins, C::ResponseTaken, C::RequestBegins], P::InRequest);
        check(&[C::RequestBegins, C::TimesOut], P::InRequest);
        check(&[C::RequestBegins, C::ResponseTaken, C::TimesOut, C::Flushed], P::TimedOut);
        check(&[C::Rests], P::Resting);
        check(&[C::Rests, C::Flushed], P::Resting);
        check(&[C::Rests, C::RestEnds], P::Idle);
        check(&[C::RestEnds], P::Idle);
        check(&[C::Rests, C::TimesOut], P::TimedOut);
        check(&[C::TimesOut, C::Rests], P::TimedOut);
        check(&[C::TimesOut, C::Answers], P::Answered);
        check(&[C::Answers, C::RequestBegins, C::ResponseTaken, C::Flushed, C::Rests, C::TimesOut], P::Answered);
    }

    #[test]
    fn numbers_are_places_in_the_list() {
        for (number, phase) in P::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, number);
        }
    }
}
