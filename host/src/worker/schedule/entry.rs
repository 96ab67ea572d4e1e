//! The ledger of a schedule in its store, changed with compare-and-swap.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daylily_core::schedule::{FORM, Ledger};
use tokio::time::{Instant, sleep};

use crate::storage::client::{CallError, StoreClient};
use crate::storage::message::{Answer, Operation, Seen};

/// How often a change is tried again because another worker was faster. Each time, another one has succeeded.
const MAX_TRIES: usize = 64;

/// How long it is looked, after the answer to a change was lost, whether the change was made; and the pauses between.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// Where a ledger is.
pub(super) struct Entry {
    store: Arc<StoreClient>,
    key: String,
}

/// Why a ledger could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryError {
    #[error("the store `{store}` cannot be used: {error}")]
    Store { store: String, error: CallError },
    #[error("the store `{store}` did not respond in time")]
    Slow { store: String },
    #[error("the value of {key:?} in the store `{store}` {why}")]
    Unreadable { store: String, key: String, why: String },
    #[error("other workers change it all the time")]
    Busy,
}

/// A ledger, and the change that was made to it, if any.
pub(super) struct Changed<T> {
    pub(super) ledger: Option<Ledger>,
    pub(super) change: Option<T>,
}

/// A ledger could not be read or changed.
pub(super) struct Failed<T> {
    pub(super) error: EntryError,
    /// The change that may have been made nevertheless.
    pub(super) uncertain: Option<T>,
}

impl<T> From<EntryError> for Failed<T> {
    fn from(error: EntryError) -> Self {
        Self { error, uncertain: None }
    }
}

/// A ledger with the revision that a swap must have found.
struct Found {
    ledger: Option<Ledger>,
    seen: Seen,
}

impl Entry {
    pub(super) fn new(store: Arc<StoreClient>, key: String) -> Self {
        Self { store, key }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Replaces the ledger by what `change` makes of it; if that is None, it stays as it is. `is_made` says whether a
    /// ledger has the change: if the answer of the store is lost, it is looked for. Not cancel safe: what was sent may be
    /// done.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached within this time, and [`SETTLE_PATIENCE`] after a change whose answer was lost.
    pub(super) async fn change<T>(
        &self,
        within: Duration,
        mut change: impl FnMut(Option<&Ledger>) -> Option<(Ledger, T)>,
        is_made: impl Fn(&Ledger, &T) -> bool,
    ) -> Result<Changed<T>, Failed<T>> {
        let until = Instant::now() + within;
        let mut found = self.read(until).await?;
        let mut uncertain: Option<T> = None;
        for _ in 0..MAX_TRIES {
            // It may also have been made after the ledger was read again.
            let is_there = |made: &T| found.ledger.as_ref().is_some_and(|ledger| is_made(ledger, made));
            if let Some(made) = uncertain.take_if(|made| is_there(made)) {
                return Ok(Changed { ledger: found.ledger, change: Some(made) });
            }
            let Some((ledger, change)) = change(found.ledger.as_ref()) else {
                return Ok(Changed { ledger: found.ledger, change: None });
            };
            let value = serde_json::to_vec(&ledger).map_err(|error| self.unreadable(&error.to_string()))?;
            match self.call(Operation::Swap(self.key.clone(), found.seen, value.into()), until).await {
                Ok(Answer::Done) => return Ok(Changed { ledger: Some(ledger), change: Some(change) }),
                Ok(answer) => found = self.found(answer)?,
                Err(error) => match self.settle().await {
                    Ok(now)
                        if Instant::now() < until || now.ledger.as_ref().is_some_and(|now| is_made(now, &change)) =>
                    {
                        (found, uncertain) = (now, Some(change));
                    }
                    _ => return Err(Failed { error, uncertain: Some(change) }),
                },
            }
        }
        Err(EntryError::Busy.into())
    }

    /// Reads the ledger as soon as the store can be reached.
    async fn settle(&self) -> Result<Found, EntryError> {
        let until = Instant::now() + SETTLE_PATIENCE;
        loop {
            match self.read(until).await {
                Err(EntryError::Store { .. }) if Instant::now() + SETTLE_PAUSE < until => sleep(SETTLE_PAUSE).await,
                read => return read,
            }
        }
    }

    async fn read(&self, until: Instant) -> Result<Found, EntryError> {
        let answer = self.call(Operation::Read(self.key.clone()), until).await?;
        self.found(answer)
    }

    async fn call(&self, operation: Operation, until: Instant) -> Result<Answer, EntryError> {
        let within = until.saturating_duration_since(Instant::now());
        let called = self.store.call(operation, within).await;
        called.map_err(|error| {
            let store = self.store.name().to_owned();
            match error {
                // `store_timeout` has no effect here, and is not to be named.
                CallError::TimedOut(_) => EntryError::Slow { store },
                error => EntryError::Store { store, error },
            }
        })
    }

    fn found(&self, answer: Answer) -> Result<Found, EntryError> {
        match answer {
            Answer::Entry(entry) => {
                let ledger = entry.as_ref().map(|(value, _)| self.parse(value)).transpose()?;
                Ok(Found { ledger, seen: Seen::of(entry) })
            }
            _ => Err(self.unreadable("has another form")),
        }
    }

    fn parse(&self, value: &Bytes) -> Result<Ledger, EntryError> {
        /// What all versions have.
        #[derive(serde::Deserialize)]
        struct Form {
            form: u32,
        }
        let Form { form } = serde_json::from_slice(value)
            .map_err(|error| self.unreadable(&format!("was not written by daylily: {error}; delete it")))?;
        if form > FORM {
            return Err(self.unreadable("was written by a newer version of daylily"));
        }
        serde_json::from_slice(value).map_err(|error| self.unreadable(&format!("is damaged: {error}; delete it")))
    }

    fn unreadable(&self, why: &str) -> EntryError {
        EntryError::Unreadable { store: self.store.name().to_owned(), key: self.key.clone(), why: why.to_owned() }
    }
}
