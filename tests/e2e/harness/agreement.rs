//! Where the access log of a server and its page of metrics do not agree. Each comparison returns a line for each
//! contradiction.
//!
//! The page is older than the log, and requests may have ended in between, so each number of the page has two bounds from
//! the log. A request that had ended before the page was asked for is on it, unless the page has it as in progress. A
//! request that began after the page was received is not on it. Without requests at that moment, both bounds are the same
//! number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::access_record::{AccessRecord, count};
use super::metrics_page::{Counts, MetricsPage};

/// A request whose head was not read is counted a moment after the time of its record. In between, the page has it
/// neither as ended nor as in progress.
const HEADLESS_US: u64 = 1_000_000;

/// The clock of a record's beginning and that of its duration are not the same.
const ROUNDING_US: u64 = 5;

/// Removes lines with an id that another line has.
pub(super) fn repeated(records: &mut Vec<AccessRecord>) -> String {
    let (mut ids, mut found) = (BTreeSet::new(), String::new());
    records.retain(|record| {
        let is_first = ids.insert(record.id.clone());
        if !is_first {
            let _ = writeln!(found, "the log has a request twice: {record:?}");
        }
        is_first
    });
    found
}

/// Numbers of the log by the routes that the page has: those beyond `max_metric_routes` share a series, and a route that
/// was removed by a reload has none.
fn on_page<'a>(records: impl Iterator<Item = &'a AccessRecord>, page: &MetricsPage) -> Counts {
    let routes = page.routes();
    let other = Some("other".to_owned());
    let mut counts = Counts::new();
    for ((route, outcome), number) in count(records) {
        let route = if routes.contains(&route) { route } else { other.clone() };
        if routes.contains(&route) {
            *counts.entry((route, outcome)).or_default() += number;
        }
    }
    counts
}

/// How many requests may be counted in another way than their records say: each worker that died may have died in the
/// middle of one request's beginning or end. `deaths` is the number of those that daylily's log has. Restarts are fewer
/// when a reload came before the new worker was ready, and more when a worker was killed because it hung.
fn halves(page: &MetricsPage, deaths: usize) -> f64 {
    page.total("daylily_worker_restarts_total").max(deaths as f64)
}

/// What the page has more of than requests began before it was received.
pub(super) fn too_many(records: &[AccessRecord], page: &MetricsPage, deaths: usize) -> String {
    let begun = on_page(records.iter().filter(|record| record.began_us <= page.received_us), page);
    let (mut excess, mut found) = (0, String::new());
    for (key, counted) in page.requests() {
        let logged = begun.get(&key).copied().unwrap_or(0);
        if counted > logged {
            excess += counted - logged;
            let _ = writeln!(found, "{key:?}: {counted} in the metrics, {logged} in the access log");
        }
    }
    if excess as f64 <= halves(page, deaths) { String::new() } else { found }
}

/// What the page has less of than requests had ended before it was asked for.
pub(super) fn too_few(records: &[AccessRecord], page: &MetricsPage, deaths: usize) -> String {
    let had_ended = |record: &&AccessRecord| {
        let moment = if record.has_head { ROUNDING_US } else { HEADLESS_US };
        record.began_us + record.total_us + moment < page.asked_us
    };
    let ended = on_page(records.iter().filter(had_ended), page);
    let counted = page.requests();
    let (mut missing, mut found) = (0, String::new());
    for (key, logged) in ended {
        let counted = counted.get(&key).copied().unwrap_or(0);
        if counted < logged {
            missing += logged - counted;
            let _ = writeln!(found, "{key:?}: {counted} in the metrics, {logged} in the access log");
        }
    }
    let in_progress = page.total("daylily_requests_in_progress");
    if missing as f64 <= in_progress + halves(page, deaths) {
        String::new()
    } else {
        found + &format!("and {in_progress} in progress\n")
    }
}

/// The metrics of one page that count the same requests. While requests end, they may be in some of them only.
pub(super) fn inconsistent(page: &MetricsPage, deaths: usize) -> String {
    let halves = halves(page, deaths);
    let ended = page.by_route("daylily_requests_total", &[]);
    let lost = page.by_route("daylily_requests_total", &[("outcome", "lost")]);
    let with_a_class = page.by_route("daylily_responses_total", &[]);
    let without_a_status = page.by_route("daylily_responses_total", &[("class", "none")]);
    let timed = page.by_route("daylily_request_duration_seconds_count", &[]);
    let in_progress = page.by_route("daylily_requests_in_progress", &[]);
    let mut found = String::new();
    for (route, ended) in ended {
        let of = |sums: &BTreeMap<_, f64>| sums.get(&route).copied().unwrap_or(0.0);
        let (with_a_class, timed, moving) = (of(&with_a_class), of(&timed), of(&in_progress) + halves);
        // Requests whose worker died have no duration, nor a status.
        let untimed = if of(&lost) + halves > 0.0 { of(&without_a_status) } else { 0.0 };
        if (ended - with_a_class).abs() > moving || timed > ended + moving || timed + untimed + moving < ended {
            let _ = writeln!(
                found,
                "{route:?}: {ended} requests in the metrics, {with_a_class} with a class, {timed} with a duration"
            );
        }
    }
    found
}

/// Requests that the page refers to, of which the log says something else.
pub(super) fn wrong_exemplars(records: &[AccessRecord], page: &MetricsPage, deaths: usize) -> String {
    let routes = page.routes();
    let mut found = String::new();
    for exemplar in page.exemplars() {
        let record = records.iter().find(|record| record.id == exemplar.id);
        let agrees = record.is_some_and(|record| {
            let shares = !routes.contains(&record.route) && exemplar.route.as_deref() == Some("other");
            let us = (exemplar.seconds * 1e6).floor() as u64;
            // The record of a request whose worker died has no duration.
            let is_half = record.total_us == 0 && halves(page, deaths) > 0.0;
            (record.route == exemplar.route || shares) && (us.abs_diff(record.total_us) <= 1 || is_half)
        });
        if !agrees {
            let _ = writeln!(found, "{exemplar:?} is an exemplar, the log has {record:?}");
        }
    }
    found
}
