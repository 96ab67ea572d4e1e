//! The journal of a worker: shared memory with its requests in progress and the records of those that have ended, so
//! that they survive the worker's death, and no reader of a log stands in a request's way.
//!
//! The worker writes everything except: the read position, which the observer advances after it has written the records
//! before it to the access log; the number of dropped records that were reported; and, once the worker has ended, the
//! first words of its places, which the observer clears.

mod facts;
mod layout;
mod reader;
mod record;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use facts::{RouteFacts, WorkerFacts};
pub(crate) use layout::create;
pub(crate) use reader::JournalReader;
pub(crate) use record::{
    Entry, MAX_HOST_BYTES, MAX_METHOD_BYTES, MAX_PATH_BYTES, MAX_QUERY_BYTES, MAX_SCHEDULE_BYTES, Numbers, Text,
};
pub(crate) use writer::{Journal, Place, TextOf};
