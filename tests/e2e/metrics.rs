//! Metrics: they agree with what clients saw and with the access log, and no series decreases, whatever ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

use crate::admin::address;
use crate::harness::{Connection, Daylily, Load, PATIENCE, Request, Setup, binary, copy_program, eventually};

/// Series with their labels, and their values. Those of gauges are left out: they may decrease.
pub type Series = BTreeMap<String, f64>;

fn setup() -> Setup {
    Setup::new()
        .top("[admin]\nlisten = '127.0.0.1:0'\n[access_log]\nformat = 'json'")
        .route("hello.test", "hello", "")
        .route("trap.test", "trap", "")
        .workers(2)
}

pub fn scrape(address: SocketAddr) -> Series {
    let text = page(address);
    let gauges: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge")).collect();
    let is_gauge = |name: &str| gauges.contains(&name.split('{').next().unwrap_or(name));
    all_series(&text).filter(|(name, _)| !is_gauge(name)).collect()
}

/// The value of a series, also of a gauge.
#[track_caller]
pub fn read(address: SocketAddr, name: &str) -> f64 {
    let text = page(address);
    let value = all_series(&text).find(|(found, _)| found == name).map(|(_, value)| value);
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn page(address: SocketAddr) -> String {
    let response = Connection::open(address).exchange(&Request::get("localhost", "/metrics"));
    assert_eq!(response.status, 200, "{response:?}");
    response.text().to_owned()
}

fn all_series(text: &str) -> impl Iterator<Item = (String, f64)> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a series and its value");
        (name.to_owned(), value.parse().expect("a number"))
    })
}

/// Asserts that no series of `before` has decreased or gone.
#[track_caller]
fn expect_no_decrease(before: &Series, after: &Series, when: &str) {
    for (name, value) in before {
        let now = after.get(name).unwrap_or_else(|| panic!("{when}: {name} is gone"));
        assert!(now >= value, "{when}: {name} went from {value} to {now}");
    }
}

fn value(series: &Series, name: &str) -> f64 {
    series.get(name).copied().unwrap_or(0.0)
}

/// Requests by route and outcome: in the metrics, and in the access log.
fn counted(series: &Series) -> BTreeMap<String, u64> {
    let requests = series.iter().filter_map(|(name, value)| {
        let labels = name.strip_prefix("daylily_requests_total{")?.strip_suffix('}')?;
        Some((labels.to_owned(), *value as u64))
    });
    requests.filter(|(_, count)| *count > 0).collect()
}

fn logged(server: &Daylily) -> BTreeMap<String, u64> {
    let mut logged = BTreeMap::new();
    for line in server.stdout().lines().into_iter().filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(&line).expect("a line of JSON");
        let outcome = line["outcome"].as_str().expect("an outcome");
        let labels = match line["route"].as_str() {
            Some(route) => format!("route=\"{route}\",outcome=\"{outcome}\""),
            None => format!("outcome=\"{outcome}\""),
        };
        *logged.entry(labels).or_insert(0) += 1;
    }
    logged
}

#[test]
fn requests_are_counted_as_the_access_log_has_them() {
    let server = setup().start();
    let admin = address(&server);
    for _ in 0..5 {
        server.get("hello.test", "/").expect(200, "Hello World\n");
    }
    assert_eq!(server.get("trap.test", "/before").status, 500);
    assert_eq!(server.get("other.test", "/").status, 404);
    let mut malformed = Connection::open(server.address());
    assert_eq!(malformed.send(b"GET nonsense HTTP/1.1\r\n\r\n").response("GET").status, 400);
    let agree = eventually(PATIENCE, || counted(&scrape(admin)) == logged(&server));
    let series = scrape(admin);
    assert!(agree, "{:#?} {:#?}", counted(&series), logged(&server));
    let expected = [
        ("outcome=\"malformed\"", 1),
        ("outcome=\"no_route\"", 1),
        ("route=\"hello.test\",outcome=\"ok\"", 5),
        ("route=\"trap.test\",outcome=\"trap\"", 1),
    ];
    assert_eq!(counted(&series), expected.map(|(labels, count)| (labels.to_owned(), count)).into());
    assert_eq!(value(&series, "daylily_responses_total{route=\"trap.test\",class=\"5xx\"}"), 1.0);
    assert_eq!(value(&series, "daylily_request_duration_seconds_count{route=\"hello.test\"}"), 5.0);
    assert!(value(&series, "daylily_request_guest_cpu_seconds_sum{route=\"hello.test\"}") > 0.0);
}

/// Waits until nothing is in progress. Returns the metrics then.
#[track_caller]
fn when_quiet(server: &Daylily, admin: SocketAddr) -> Series {
    assert!(
        eventually(PATIENCE, || server.status().total("requests_in_progress") == 0 && server.status().draining() == 0)
    );
    scrape(admin)
}

#[test]
fn no_series_decreases() {
    let server = setup().own_program().start();
    let load = Load::start(server.address(), 2, &Request::get("hello.test", "/"));
    load.expect_more(20);
    let admin = address(&server);
    let mut before = scrape(admin);
    let mut then = |when: &str| {
        load.expect_more(20);
        let after = scrape(admin);
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
    let series = when_quiet(&server, admin);
    let ok = value(&series, "daylily_requests_total{route=\"hello.test\",outcome=\"ok\"}");
    let lost = value(&series, "daylily_requests_total{route=\"hello.test\",outcome=\"lost\"}");
    // Two clients: each may have had a response that was not counted yet when a worker was killed.
    let missing = outcome.answered as f64 - ok;
    assert!((-2.0..=lost).contains(&missing), "{outcome:?}, {ok} ok and {lost} lost");
    for role in ["supervisor", "observer", "worker"] {
        let used = value(&series, &format!("daylily_process_cpu_seconds_total{{role=\"{role}\"}}"));
        assert!(used > 0.0, "{role}: {used} s");
    }
    assert_eq!(value(&series, "daylily_reloads_total{result=\"ok\"}"), 1.0);
    assert_eq!(value(&series, "daylily_worker_restarts_total{reason=\"died\"}"), 2.0);
}

/// Routes beyond the limit share one.
#[test]
fn routes_beyond_the_limit_share_their_metrics() {
    let server = setup().server("max_metric_routes = 1").start();
    let admin = address(&server);
    server.get("hello.test", "/").expect(200, "Hello World\n");
    assert_eq!(server.get("trap.test", "/before").status, 500);
    let expected = [("route=\"hello.test\",outcome=\"ok\"", 1), ("route=\"other\",outcome=\"trap\"", 1)];
    let expected = expected.map(|(labels, count)| (labels.to_owned(), count)).into();
    assert!(eventually(PATIENCE, || counted(&scrape(admin)) == expected), "{:?}", counted(&scrape(admin)));
}

/// What clients choose makes no series.
#[test]
fn clients_make_no_series() {
    let server = setup().start();
    let admin = address(&server);
    assert_eq!(server.get("hello.test", "/").status, 200);
    assert_eq!(server.get("other.test", "/").status, 404);
    assert!(eventually(PATIENCE, || counted(&scrape(admin)).values().sum::<u64>() == 2));
    let before: Vec<String> = scrape(admin).into_keys().collect();
    let mut connection = Connection::open(server.address());
    for number in 0..100 {
        let request = Request::new(&format!("METHOD{number}"), "hello.test", &format!("/{number}?{number}"));
        connection.exchange(&request);
        connection.exchange(&Request::get(&format!("host{number}.test"), "/"));
    }
    assert!(eventually(PATIENCE, || counted(&scrape(admin)).values().sum::<u64>() == 202), "{:?}", scrape(admin));
    let after: Vec<String> = scrape(admin).into_keys().collect();
    assert_eq!(after, before);
}
