//! Metrics: they agree with what clients saw and with the access log, and no series decreases, whatever ends.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::harness::{
    Connection, Counts, Daylily, Load, MetricsPage, PATIENCE, Request, Setup, binary, copy_program, count, eventually,
};

/// Series with their labels, and their values. Those of gauges are left out: they may decrease.
pub type Series = BTreeMap<String, f64>;

fn setup() -> Setup {
    Setup::new().route("hello.test", "hello", "").route("trap.test", "trap", "").workers(2)
}

/// Asserts that no series of `before` has decreased or gone.
#[track_caller]
fn expect_no_decrease(before: &Series, after: &Series, when: &str) {
    for (name, value) in before {
        let now = after.get(name).unwrap_or_else(|| panic!("{when}: {name} is gone"));
        assert!(now >= value, "{when}: {name} went from {value} to {now}");
    }
}

/// Requests by route and outcome.
fn counts<const N: usize>(expected: [(Option<&str>, &str, u64); N]) -> Counts {
    expected.into_iter().map(|(route, outcome, count)| ((route.map(Into::into), outcome.into()), count)).collect()
}

#[test]
fn requests_are_counted_as_the_access_log_has_them() {
    let server = setup().start();
    for _ in 0..5 {
        server.get("hello.test", "/").expect(200, "Hello World\n");
    }
    assert_eq!(server.get("trap.test", "/before").status, 500);
    assert_eq!(server.get("other.test", "/").status, 404);
    let mut malformed = Connection::open(server.address());
    assert_eq!(malformed.send(b"GET nonsense HTTP/1.1\r\n\r\n").response("GET").status, 400);
    let agree = eventually(PATIENCE, || server.metrics().requests() == count(&server.records()));
    let page = server.metrics();
    assert!(agree, "{:#?} {:#?}", page.requests(), server.records());
    let (hello, trap) = (Some("hello.test"), Some("trap.test"));
    let expected = [(None, "malformed", 1), (None, "no_route", 1), (hello, "ok", 5), (trap, "trap", 1)];
    assert_eq!(page.requests(), counts(expected));
    assert_eq!(page.sum("daylily_responses_total", trap, &[("class", "5xx")]), 1.0);
    assert_eq!(page.sum("daylily_request_duration_seconds_count", hello, &[]), 5.0);
    assert!(page.sum("daylily_request_guest_cpu_seconds_sum", hello, &[]) > 0.0);
}

/// Waits until nothing is in progress. Returns the metrics then.
#[track_caller]
fn when_quiet(server: &Daylily) -> MetricsPage {
    assert!(
        eventually(PATIENCE, || server.status().total("requests_in_progress") == 0 && server.status().draining() == 0)
    );
    server.metrics()
}

#[test]
fn no_series_decreases() {
    let server = setup().own_program().repeats_lines("the observer is killed").start();
    let load = Load::start(server.address(), 2, &Request::get("hello.test", "/"));
    load.expect_more(20);
    let mut before = server.metrics().counters();
    let mut then = |when: &str| {
        load.expect_more(20);
        let after = server.metrics().counters();
        expect_no_decrease(&before, &after, when);
        before = after;
    };
    then("nothing happened");
    let workers = server.workers();
    workers.iter().for_each(|worker| worker.signal(Signal::KILL));
    let is_replaced = || server.status().ready().is_some_and(|ready| !ready.iter().any(|new| workers.contains(new)));
    assert!(eventually(PATIENCE, is_replaced), "{:?}", server.status());
    then("all workers were killed");
    server.reload();
    then("a reload");
    server.observer().signal(Signal::KILL);
    then("the observer was killed");
    let old = server.status().supervisor();
    copy_program(std::path::Path::new(binary()), &server.directory().join("daylily.new"));
    std::fs::rename(server.directory().join("daylily.new"), server.directory().join("daylily")).expect("a program");
    old.signal(Signal::USR2);
    assert!(eventually(PATIENCE, || server.status().supervisor() != old), "{:?}", server.status());
    then("an upgrade");
    assert!(eventually(PATIENCE, || !old.is_running()), "the predecessor goes on");
    then("the end of the predecessor");
    let outcome = load.end();
    let page = when_quiet(&server);
    let of = |outcome: &str| page.sum("daylily_requests_total", Some("hello.test"), &[("outcome", outcome)]);
    let (ok, lost) = (of("ok"), of("lost"));
    // Two clients: each may have had a response that was not counted yet when a worker was killed.
    let missing = outcome.answered as f64 - ok;
    assert!((-2.0..=lost).contains(&missing), "{outcome:?}, {ok} ok and {lost} lost");
    for role in ["supervisor", "observer", "worker"] {
        let used = page.sum("daylily_process_cpu_seconds_total", None, &[("role", role)]);
        assert!(used > 0.0, "{role}: {used} s");
    }
    assert_eq!(page.sum("daylily_reloads_total", None, &[("result", "ok")]), 1.0);
    assert_eq!(page.sum("daylily_worker_restarts_total", None, &[("reason", "died")]), 2.0);
}

/// Routes beyond the limit share one.
#[test]
fn routes_beyond_the_limit_share_their_metrics() {
    let server = setup().server("max_metric_routes = 1").start();
    server.get("hello.test", "/").expect(200, "Hello World\n");
    assert_eq!(server.get("trap.test", "/before").status, 500);
    let expected = counts([(Some("hello.test"), "ok", 1), (Some("other"), "trap", 1)]);
    let requests = || server.metrics().requests();
    assert!(eventually(PATIENCE, || requests() == expected), "{:?}", requests());
    let page = server.metrics();
    let routes = [None, Some("hello.test"), Some("other")].map(|route| route.map(str::to_owned));
    assert_eq!(page.routes(), routes.into());
    let limit = |route| page.sum("daylily_limit", Some(route), &[("limit", "max_body")]);
    assert_eq!((limit("hello.test") > 0.0, limit("trap.test")), (true, 0.0));
}

/// What clients choose makes no series.
#[test]
fn clients_make_no_series() {
    let server = setup().start();
    let names = || server.metrics().counters().into_keys().collect::<Vec<_>>();
    let requests = || server.metrics().total("daylily_requests_total");
    assert_eq!(server.get("hello.test", "/").status, 200);
    assert_eq!(server.get("other.test", "/").status, 404);
    assert!(eventually(PATIENCE, || requests() == 2.0));
    let before = names();
    let mut connection = Connection::open(server.address());
    for number in 0..100 {
        let request = Request::new(&format!("METHOD{number}"), "hello.test", &format!("/{number}?{number}"));
        connection.exchange(&request);
        connection.exchange(&Request::get(&format!("host{number}.test"), "/"));
    }
    assert!(eventually(PATIENCE, || requests() == 202.0), "{:?}", server.metrics());
    assert_eq!(names(), before);
}
