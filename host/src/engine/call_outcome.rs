//! How the call of a guest ended.

use std::time::Duration;

use daylily_core::excerpt::Excerpt;

/// The outcome of a call: how the guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// It returned.
    Done,
    /// It called `exit`. After a response, code 0 is equivalent to returning.
    Exit(i32),
    /// It trapped.
    Trap(Excerpt),
    /// It exceeded its CPU time limit, which is given.
    CpuTime(Duration),
    /// It exceeded its wall time limit, which is given.
    WallTime(Duration),
    /// The client closed the connection before the end of the response.
    ClientGone,
    /// The worker's drain was over, and the call was cut.
    ShutDown,
    /// No instance could be created.
    NoInstance(Excerpt),
}

/// The store of a guest that has ended. While it is kept, a response body that the guest did not finish stays open.
/// Dropping it would make the unfinished body of a component look finished.
pub(crate) struct EndedStore(#[expect(dead_code, reason = "kept for its drop")] Option<Box<dyn Send>>);

impl EndedStore {
    /// Of a call without a store.
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn new(store: impl Send + 'static) -> Self {
        Self(Some(Box::new(store)))
    }
}
