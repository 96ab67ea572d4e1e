//! Observability: the log, and the records, counters and metrics in shared memory.

pub(crate) mod counters;
pub(crate) mod diagnosis;
pub(crate) mod journal;
pub(crate) mod log;
pub(crate) mod mask;
pub(crate) mod metrics;
pub(crate) mod record;
pub(crate) mod request_id;
pub(crate) mod scoreboard;
pub(crate) mod server_page;
pub(crate) mod server_timing;
pub(crate) mod sink;
pub(crate) mod source_map;
pub(crate) mod trace_context;
