//! The record of a request that no client has sent.

use std::sync::Arc;

use super::{Record, Recorder, first_numbers, host};
use crate::observe::journal::{
    MAX_HOST_BYTES, MAX_METHOD_BYTES, MAX_PATH_BYTES, MAX_QUERY_BYTES, MAX_SCHEDULE_BYTES, Text, TextOf,
};

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
        self.record(request, id, numbers, place)
    }
}
