//! The ledger of a schedule in its store, changed with compare-and-swap.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daylily_core::schedule::{FORM, Ledger};
use tokio::time::Instant;

use crate::storage::client::{CallError, StoreClient};
use crate::storage::message::{Answer, Operation, Seen};

/// How often a change is tried again because another worker was faster. Each time, another one has succeeded.
const MAX_TRIES: usize = 64;

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
    /// ledger has the change, in case that the answer of the store is lost. Not cancel safe: what was sent may be done.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached within this time. The change may have been made nevertheless.
    pub(super) async fn change<T>(
        &self,
        within: Duration,
        mut change: impl FnMut(Option<&Ledger>) -> Option<(Ledger, T)>,
        is_made: impl Fn(&Ledger, &T) -> bool,
    ) -> Result<Changed<T>, EntryError> {
        let until = Instant::now() + within;
        let mut found = self.read(until).await?;
        for _ in 0..MAX_TRIES {
            let Some((ledger, change)) = change(found.ledger.as_ref()) else {
                return Ok(Changed { ledger: found.ledger, change: None });
            };
            let value = serde_json::to_vec(&ledger).map_err(|error| self.unreadable(&error.to_string()))?;
            match self.call(Operation::Swap(self.key.clone(), found.seen, value.into()), until).await {
                Ok(Answer::Done) => return Ok(Changed { ledger: Some(ledger), change: Some(change) }),
                Ok(answer) => found = self.found(answer)?,
                Err(error) => {
                    let now = self.read(until).await.map_err(|_| error)?;
                    if now.ledger.as_ref().is_some_and(|now| is_made(now, &change)) {
                        return Ok(Changed { ledger: now.ledger, change: Some(change) });
                    }
                    found = now;
                }
            }
        }
        Err(EntryError::Busy)
    }

    async fn read(&self, until: Instant) -> Result<Found, EntryError> {
        let answer = self.call(Operation::Read(self.key.clone()), until).await?;
        self.found(answer)
    }

    async fn call(&self, operation: Operation, until: Instant) -> Result<Answer, EntryError> {
        let within = until.saturating_duration_since(Instant::now());
        let called = self.store.call(operation, within).await;
        called.map_err(|error| EntryError::Store { store: self.store.name().to_owned(), error })
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
