//! How a record begins: that of a request that a schedule sends, and what all have in common.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::{Record, Recorder, State, Times, first_numbers, host};
use crate::observe::journal::{
    MAX_HOST_BYTES, MAX_METHOD_BYTES, MAX_PATH_BYTES, MAX_QUERY_BYTES, MAX_SCHEDULE_BYTES, Numbers, Place, Text, TextOf,
};
use crate::observe::request_id::RequestId;
use crate::observe::scoreboard::InProgress;

impl Recorder {
    /// Begins the record of a request that a schedule sends.
    pub(crate) fn begin_scheduled<B>(self: &Arc<Self>, request: &http::Request<B>, schedule: &str) -> Record {
        let (id, numbers) = first_numbers(None);
        let uri = request.uri();
        let query = uri.query().filter(|_| self.rules.query).unwrap_or_default();
        let texts = [
            TextOf::new(Text::Method, request.method().as_str().as_bytes(), MAX_METHOD_BYTES),
            TextOf::new(Text::Host, host(request.headers()), MAX_HOST_BYTES),
            TextOf::new(Text::Path, uri.path().as_bytes(), MAX_PATH_BYTES),
            TextOf::new(Text::Query, query.as_bytes(), MAX_QUERY_BYTES),
            TextOf::new(Text::Schedule, schedule.as_bytes(), MAX_SCHEDULE_BYTES),
        ];
        self.metrics.note_begun();
        let place = self.journal.begin(&numbers, texts.into_iter().filter(|text| !text.bytes.is_empty()));
        self.counted_record(request, id, numbers, place)
    }

    /// The record of a request, which counts as one in progress until it ends.
    #[inline]
    pub(super) fn counted_record<B>(
        self: &Arc<Self>,
        request: &http::Request<B>,
        id: RequestId,
        numbers: Numbers,
        place: Place,
    ) -> Record {
        let state = State { numbers, times: Times::default(), place: Some(place), parts: None };
        self.record(request, id, state, Some(self.counters.begin_request()))
    }

    /// What all records begin with.
    #[inline]
    pub(super) fn record<B>(
        self: &Arc<Self>,
        request: &http::Request<B>,
        id: RequestId,
        state: State,
        counted: Option<InProgress<'static>>,
    ) -> Record {
        Record {
            id,
            method: request.method().clone(),
            path: request.uri().path_and_query().cloned(),
            route: AtomicU32::new(0),
            began: Instant::now(),
            state: Mutex::new(state),
            recorder: Arc::clone(self),
            _counted: counted,
        }
    }
}
