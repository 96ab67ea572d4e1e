//! Every family of metrics, one row each.
//!
//! To add one, add a row: the page in its three forms and docs/metrics.md, into which `cargo xtask tidy --bless` writes
//! the table, are made from it. Labels have values from the configuration or from a fixed list only: never a path, a
//! host, a client or anything else that a client can choose.

use daylily_core::connection_end::{ConnectionEnd, NotAccepted};
use daylily_core::process_role::ProcessRole;
use daylily_core::request_outcome::RequestOutcome;
use daylily_core::schedule::RunOutcome;

use super::collect::{TIME, by_listener, by_result, by_route, by_word, histograms, seconds};
use super::family::{Kind, Row, Value};
use crate::observe::metrics::histogram::Scale;
use crate::observe::metrics::{CLASSES, Snapshot, fields};
use crate::observe::server_page::SessionState;

/// The statuses of responses by their first digit.
pub(super) const STATUS_CLASSES: [&str; CLASSES] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

const WORKER_STATES: [(SessionState, &str); 5] = [
    (SessionState::Starting, "starting"),
    (SessionState::Ready, "ready"),
    (SessionState::Waiting, "waiting"),
    (SessionState::Draining, "draining"),
    (SessionState::Ended, "ended"),
];

pub(crate) const FAMILIES: &[Row] = &[
    Row {
        name: "daylily_requests",
        unit: None,
        kind: Kind::Counter,
        labels: &["route", "outcome"],
        help: "Requests that have ended, by how they ended. Outcomes that no request had are left out, except `ok` and \
               `lost`.",
        samples: |page, out| {
            for (route, sums) in page.routes() {
                for outcome in RequestOutcome::ALL {
                    let count = sums.number(fields::OUTCOMES, outcome.number().into());
                    // The alert for lost requests must see the increase from 0.
                    if count > 0 || matches!(outcome, RequestOutcome::Ok | RequestOutcome::Lost) {
                        out.integer([route, outcome.as_str()], count);
                    }
                }
            }
        },
    },
    Row {
        name: "daylily_responses",
        unit: None,
        kind: Kind::Counter,
        labels: &["route", "class"],
        help: "Requests that have ended, by the class of the status; `none` if no response began.",
        samples: |page, out| {
            for (route, sums) in page.routes() {
                for (count, class) in sums.all(fields::STATUSES).iter().zip(STATUS_CLASSES) {
                    if class != "1xx" {
                        out.integer([route, class], *count);
                    }
                }
            }
        },
    },
    Row {
        name: "daylily_request_duration_seconds",
        unit: Some("seconds"),
        kind: Kind::Histogram,
        labels: &["route"],
        help: "Time from a request's head to the end of its response and of its guest.",
        samples: |page, out| histograms(page, out, (fields::TOTAL, TIME), (-13, 6, 1)),
    },
    Row {
        name: "daylily_request_queue_seconds",
        unit: Some("seconds"),
        kind: Kind::Histogram,
        labels: &["route"],
        help: "Time that requests waited for a permit.",
        samples: |page, out| histograms(page, out, (fields::QUEUED, TIME), (-12, 4, 2)),
    },
    Row {
        name: "daylily_request_instantiate_seconds",
        unit: Some("seconds"),
        kind: Kind::Histogram,
        labels: &["route"],
        help: "Time until a request's instance was ready.",
        samples: |page, out| histograms(page, out, (fields::INSTANTIATE, TIME), (-18, 0, 2)),
    },
    Row {
        name: "daylily_request_guest_cpu_seconds",
        unit: Some("seconds"),
        kind: Kind::Histogram,
        labels: &["route"],
        help: "CPU time of a request's guest.",
        samples: |page, out| histograms(page, out, (fields::GUEST_CPU, TIME), (-18, 2, 2)),
    },
    Row {
        name: "daylily_guest_peak_memory_bytes",
        unit: Some("bytes"),
        kind: Kind::Histogram,
        labels: &["route"],
        help: "The largest size of the linear memories of a request's instance.",
        samples: |page, out| histograms(page, out, (fields::PEAK_MEMORY, Scale::Bytes), (16, 32, 2)),
    },
    Row {
        name: "daylily_requests_in_progress",
        unit: None,
        kind: Kind::Gauge,
        labels: &["route"],
        help: "Requests that have begun and not ended, with those in the queue.",
        samples: |page, out| by_route(page, out, Snapshot::in_progress),
    },
    Row {
        name: "daylily_requests_queued",
        unit: None,
        kind: Kind::Gauge,
        labels: &["route"],
        help: "Requests that wait for a permit.",
        samples: |page, out| by_route(page, out, Snapshot::queued),
    },
    Row {
        name: "daylily_request_body_bytes",
        unit: Some("bytes"),
        kind: Kind::Counter,
        labels: &["route"],
        help: "Bytes of request bodies that guests have read.",
        samples: |page, out| by_route(page, out, |sums| sums.one(fields::BYTES_IN)),
    },
    Row {
        name: "daylily_response_body_bytes",
        unit: Some("bytes"),
        kind: Kind::Counter,
        labels: &["route"],
        help: "Bytes of response bodies.",
        samples: |page, out| by_route(page, out, |sums| sums.one(fields::BYTES_OUT)),
    },
    Row {
        name: "daylily_outgoing_requests",
        unit: None,
        kind: Kind::Counter,
        labels: &["route", "result"],
        help: "Requests that guests have sent: `ok` with a response, `error` without one.",
        samples: |page, out| by_result(page, out, (fields::OUTGOING, fields::OUTGOING_FAILED)),
    },
    Row {
        name: "daylily_outgoing_request_seconds",
        unit: Some("seconds"),
        kind: Kind::Counter,
        labels: &["route"],
        help: "Time until requests that guests have sent had a response or failed.",
        samples: |page, out| seconds(page, out, fields::OUTGOING_NS),
    },
    Row {
        name: "daylily_store_operations",
        unit: None,
        kind: Kind::Counter,
        labels: &["route", "result"],
        help: "Operations of guests on key-value stores.",
        samples: |page, out| by_result(page, out, (fields::STORES, fields::STORES_FAILED)),
    },
    Row {
        name: "daylily_store_operation_seconds",
        unit: Some("seconds"),
        kind: Kind::Counter,
        labels: &["route"],
        help: "Time until operations on key-value stores were done or failed.",
        samples: |page, out| seconds(page, out, fields::STORES_NS),
    },
    Row {
        name: "daylily_schedule_runs",
        unit: None,
        kind: Kind::Counter,
        labels: &["schedule", "outcome"],
        help: "Runs of schedules, and times at which one was due that did not begin, by [outcome](schedules.md#outcomes).",
        samples: |page, out| {
            by_word(page.schedules(), out, fields::RUNS, RunOutcome::ALL.iter().map(|outcome| outcome.as_str()));
        },
    },
    Row {
        name: "daylily_connections",
        unit: None,
        kind: Kind::Counter,
        labels: &["listener"],
        help: "Client connections that were accepted.",
        samples: |page, out| by_listener(page, out, |sums| sums.one(fields::CONNECTIONS_OPENED)),
    },
    Row {
        name: "daylily_connections_open",
        unit: None,
        kind: Kind::Gauge,
        labels: &["listener"],
        help: "Client connections that are open.",
        samples: |page, out| by_listener(page, out, Snapshot::connections_open),
    },
    Row {
        name: "daylily_connections_ended",
        unit: None,
        kind: Kind::Counter,
        labels: &["listener", "reason"],
        help: "Client connections that have ended, by [how](#connections).",
        samples: |page, out| {
            let words = ConnectionEnd::ALL.iter().map(|end| end.as_str());
            by_word(page.listeners(), out, fields::CONNECTIONS_ENDED, words);
        },
    },
    Row {
        name: "daylily_connections_not_accepted",
        unit: None,
        kind: Kind::Counter,
        labels: &["listener", "reason"],
        help: "How often a worker could accept no connection, by [why](#connections).",
        samples: |page, out| {
            let words = NotAccepted::ALL.iter().map(|why| why.as_str());
            by_word(page.listeners(), out, fields::NOT_ACCEPTED, words);
        },
    },
    Row {
        name: "daylily_limit",
        unit: None,
        kind: Kind::Gauge,
        labels: &["limit", "route"],
        help: "The value of a limit, by its key in the configuration, in seconds, bytes or a count. Those of the server \
               have no route and are for all workers together.",
        samples: |page, out| page.limits(&mut |limit, route, value| out.add([limit, route], Value::Float(value))),
    },
    Row {
        name: "daylily_limit_use",
        unit: None,
        kind: Kind::Gauge,
        labels: &["limit", "route"],
        help: "How much of a limit is in use now; only for `max_connections`, `max_concurrency` and `max_queue`.",
        samples: |page, out| page.uses(&mut |limit, route, value| out.integer([limit, route], value)),
    },
    Row {
        name: "daylily_limit_hits",
        unit: None,
        kind: Kind::Counter,
        labels: &["limit", "route"],
        help: "Requests that ended because of a limit.",
        samples: |page, out| page.hits(&mut |limit, route, value| out.integer([limit, route], value)),
    },
    Row {
        name: "daylily_access_log_dropped",
        unit: None,
        kind: Kind::Counter,
        labels: &["reason"],
        help: "Requests that have no line in the access log: `unread` if the records came faster than they were written, \
               `unwritten` if the log could not be written until long after their worker had ended.",
        samples: |page, out| {
            out.integer(["unread"], page.workers().one(fields::RECORDS_DROPPED));
            out.integer(["unwritten"], page.workers().one(fields::LINES_DROPPED));
        },
    },
    Row {
        name: "daylily_process_cpu_seconds",
        unit: Some("seconds"),
        kind: Kind::Counter,
        labels: &["role"],
        help: "CPU time of all processes of a role, with those that have ended. The last 250 ms of a worker may be \
               missing.",
        samples: |page, out| {
            for role in ProcessRole::ALL {
                let ns = page.workers().number(fields::CPU_NS, role.number().into());
                out.add([role.as_str()], Value::Float(TIME.in_unit(ns)));
            }
        },
    },
    Row {
        name: "daylily_process_resident_memory_bytes",
        unit: Some("bytes"),
        kind: Kind::Gauge,
        labels: &["role"],
        help: "Memory of the processes of a role: `supervisor`, `observer` or `worker`. Memory that they share is counted \
               in each.",
        samples: |page, out| page.by_role(&mut |role, sum| out.integer([role], sum.resident_bytes)),
    },
    Row {
        name: "daylily_process_open_files",
        unit: None,
        kind: Kind::Gauge,
        labels: &["role"],
        help: "Open file descriptors of the processes of a role.",
        samples: |page, out| page.by_role(&mut |role, sum| out.integer([role], sum.open_files)),
    },
    Row {
        name: "daylily_processes",
        unit: None,
        kind: Kind::Gauge,
        labels: &["role"],
        help: "Processes of a role, with workers that drain.",
        samples: |page, out| page.by_role(&mut |role, sum| out.integer([role], sum.processes)),
    },
    Row {
        name: "daylily_workers",
        unit: None,
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Workers of the generation that serves, by their state in `daylily status`.",
        samples: |page, out| {
            for (state, word) in WORKER_STATES {
                let workers = page.server.workers.iter().filter(|worker| worker.state == state);
                out.integer([word], workers.count() as u64);
            }
        },
    },
    Row {
        name: "daylily_worker_restarts",
        unit: None,
        kind: Kind::Counter,
        labels: &["reason"],
        help: "Workers that were replaced: `hung`, `blocked` by file calls that did not return, or `died`.",
        samples: |page, out| {
            let totals = page.server.totals;
            out.integer(["hung"], totals.hangs);
            out.integer(["blocked"], totals.blocked);
            out.integer(["died"], totals.restarts.saturating_sub(totals.hangs).saturating_sub(totals.blocked));
        },
    },
    Row {
        name: "daylily_reloads",
        unit: None,
        kind: Kind::Counter,
        labels: &["result"],
        help: "Reloads: `ok`, or `failed`.",
        samples: |page, out| {
            let totals = page.server.totals;
            out.integer(["ok"], totals.reloads.saturating_sub(totals.reloads_failed));
            out.integer(["failed"], totals.reloads_failed);
        },
    },
    Row {
        name: "daylily_generation",
        unit: None,
        kind: Kind::Gauge,
        labels: &[],
        help: "The number of the generation that serves. It increases with each reload.",
        samples: |page, out| out.integer([], page.server.generation),
    },
    Row {
        name: "daylily_generations_draining",
        unit: None,
        kind: Kind::Gauge,
        labels: &[],
        help: "Generations whose workers finish their requests in progress.",
        samples: |page, out| out.integer([], page.server.draining.len() as u64),
    },
    Row {
        name: "daylily_build_info",
        unit: None,
        kind: Kind::Gauge,
        labels: &["version"],
        help: "1, with the version of the program.",
        samples: |_, out| out.integer([env!("CARGO_PKG_VERSION")], 1),
    },
];
