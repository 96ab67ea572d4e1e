use std::os::fd::AsFd;

use daylily_core::connection_end::{ConnectionEnd, NotAccepted};
use daylily_core::request_outcome::RequestOutcome;

use super::block::FIELDS;
use super::histogram::{Scale, size_bucket, time_bucket};
use super::*;
use crate::observe::journal::Numbers;

/// The blocks of a worker with the routes `a`, `b` and `c`, of which so many have one of their own, and with the
/// listeners `one:80` and `two:80`.
fn worker(max_routes: usize) -> (std::sync::Arc<WorkerMetrics>, MetricsReader) {
    let listeners = ["one:80", "two:80"].map(String::from).to_vec();
    let names =
        BlockNames::new(["a", "b", "c"].map(String::from).into_iter(), max_routes, listeners, vec!["clean".to_owned()]);
    let file = create(&names).expect("shared memory");
    let metrics = WorkerMetrics::open(file.as_fd(), names.counts()).expect("a worker's side");
    (metrics, MetricsReader::open(file.as_fd(), names).expect("a reader's side"))
}

/// A request of a route (1 is `a`; 0 is none) that ends.
fn request(metrics: &WorkerMetrics, route: u32, numbers: &Numbers) {
    let numbers = Numbers { route, ..*numbers };
    metrics.note_begun();
    if route > 0 {
        metrics.note_routed(&numbers);
        metrics.note_admitted(&numbers);
    }
    metrics.note_ended(&numbers, route > 0);
}

fn outcomes(sums: &Sums, route: &str) -> Vec<(&'static str, u64)> {
    let count = |outcome: &RequestOutcome| {
        sums.get(route).map_or(0, |sums| sums.number(fields::OUTCOMES, outcome.number().into()))
    };
    let counts = RequestOutcome::ALL.iter().map(|outcome| (outcome.as_str(), count(outcome)));
    counts.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn bounds_are_included() {
    #[track_caller]
    fn check(scale: Scale, bucket_of: fn(u64) -> usize, value: u64, bound: f64) {
        let bucket = bucket_of(value);
        let bounds = (bucket > 0).then(|| scale.bound(bucket - 1));
        let expected = (0..).map(|bucket| scale.bound(bucket)).find(|found| *found >= bound);
        assert_eq!(Some(scale.bound(bucket)), expected, "{value} is in {bounds:?}..={}", scale.bound(bucket));
    }
    let seconds = |value, bound| check(Scale::Seconds, time_bucket, value, bound);
    seconds(0, 0.0);
    seconds(1, 0.0);
    seconds(953, 0.0);
    seconds(954, 1e-6);
    seconds(1_000, 1e-6);
    seconds(1_000_000, 0.001);
    seconds(999_999_999, 0.9999);
    seconds(1_000_000_000, 1.0);
    seconds(1_000_000_001, 1.01);
    seconds(1_189_207_115, 1.15);
    seconds(1_189_207_116, 1.2);
    seconds(2_000_000_000, 2.0);
    seconds(1_024_000_000_000, 1_024.0);
    seconds(1_024_000_001_000, f64::INFINITY);
    seconds(u64::MAX / 2, f64::INFINITY);
    let bytes = |value, bound| check(Scale::Bytes, size_bucket, value, bound);
    bytes(0, 65_536.0);
    bytes(65_536, 65_536.0);
    bytes(65_537, 131_072.0);
    bytes(1 << 32, 4_294_967_296.0);
    bytes((1 << 32) + 1, f64::INFINITY);
    bytes(u64::MAX, f64::INFINITY);
}

#[test]
fn a_value_is_between_the_bounds_of_its_bucket() {
    let mut value = 1_u64;
    while value < 1 << 42 {
        for ns in [value - 1, value, value + 1, value * 5 / 4, value * 3 / 2] {
            let (bucket, seconds) = (time_bucket(ns), ns as f64 / 1e9);
            let above = bucket == 0 || seconds > Scale::Seconds.bound(bucket - 1) * (1.0 - 1e-12);
            assert!(above && seconds <= Scale::Seconds.bound(bucket) * (1.0 + 1e-12), "{ns} in {bucket}");
        }
        value *= 2;
    }
}

#[test]
fn a_workers_requests_are_counted_by_route_and_outcome() {
    let (metrics, reader) = worker(10);
    let numbers = Numbers { status: 200, total: 2_000_000, bytes_out: 11, peak_memory: 100_000, ..Numbers::default() };
    for _ in 0..3 {
        request(&metrics, 1, &numbers);
    }
    request(&metrics, 3, &Numbers { outcome: RequestOutcome::Trap.number(), status: 500, ..numbers });
    request(&metrics, 0, &Numbers { outcome: RequestOutcome::NoRoute.number(), status: 404, ..Numbers::default() });
    let sums = reader.sums();
    assert_eq!(outcomes(&sums, "a"), [("ok", 3)]);
    assert_eq!(outcomes(&sums, "b"), []);
    assert_eq!(outcomes(&sums, "c"), [("trap", 1)]);
    assert_eq!(outcomes(&sums, ""), [("no_route", 1)]);
    let a = sums.get("a").expect("a");
    assert_eq!((a.in_progress(), a.queued(), a.one(fields::BYTES_OUT)), (0, 0, 33));
    assert_eq!(a.all(fields::STATUSES), [0, 0, 3, 0, 0, 0]);
    let (sum, buckets) = a.all(fields::TOTAL).split_last().expect("a histogram");
    assert_eq!((*sum, buckets[time_bucket(2_000_000)], buckets.iter().sum::<u64>()), (6_000_000, 3, 3));
    let none = sums.get("").expect("requests without a route");
    assert_eq!((none.in_progress(), none.queued()), (0, 0));
}

#[test]
fn routes_beyond_the_blocks_share_one() {
    let (metrics, reader) = worker(1);
    for route in 1..=3 {
        request(&metrics, route, &Numbers::default());
    }
    let sums = reader.sums();
    assert_eq!((outcomes(&sums, "a"), outcomes(&sums, "other")), (vec![("ok", 1)], vec![("ok", 2)]));
    assert!(sums.get("b").is_none());
}

#[test]
fn requests_in_progress_are_lost_with_their_worker() {
    let (metrics, reader) = worker(10);
    let numbers = Numbers { route: 2, ..Numbers::default() };
    // One without a route yet, one in the queue, one that runs, and one whose response is complete.
    for steps in 0..4 {
        metrics.note_begun();
        if steps > 0 {
            metrics.note_routed(&numbers);
        }
        if steps > 1 {
            metrics.note_admitted(&numbers);
        }
        if steps > 2 {
            metrics.note_delivered(&numbers);
        }
    }
    let connection = metrics.begin_connection(0);
    let live = reader.sums();
    let gauges = |sums: &Sums, name| sums.get(name).map(|sums| (sums.in_progress(), sums.queued()));
    assert_eq!((gauges(&live, ""), gauges(&live, "b")), (Some((1, 1)), Some((3, 1))));
    assert_eq!(live.connections_open(), 1);
    let dead = reader.sums_at_death();
    assert_eq!((gauges(&dead, ""), gauges(&dead, "b")), (Some((0, 0)), Some((0, 0))));
    assert_eq!((outcomes(&dead, ""), outcomes(&dead, "b")), (vec![("lost", 1)], vec![("ok", 1), ("lost", 2)]));
    assert_eq!((dead.connections_open(), ends(&dead, "one:80")), (0, vec![("lost", 1)]));
    // Nothing is lost twice, and nothing decreases.
    assert_eq!(dead.clone().at_death(), dead);
    assert_eq!(live.since(&dead).get("b"), Some(&Snapshot::default()));
    drop(connection);
}

fn ends(sums: &Sums, listener: &str) -> Vec<(&'static str, u64)> {
    let count = |end: &ConnectionEnd| {
        sums.listener(listener).map_or(0, |sums| sums.number(fields::CONNECTIONS_ENDED, end.number().into()))
    };
    let counts = ConnectionEnd::ALL.iter().map(|end| (end.as_str(), count(end)));
    counts.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn connections_are_counted_by_listener_and_end() {
    // Routes beyond the blocks share one, and listeners' blocks come after it.
    let (metrics, reader) = worker(1);
    request(&metrics, 3, &Numbers::default());
    metrics.begin_connection(0).end(ConnectionEnd::ClientClosed);
    let open = [0, 1, 1].map(|listener| metrics.begin_connection(listener));
    metrics.begin_connection(1).end(ConnectionEnd::Cut);
    drop(metrics.begin_connection(1));
    metrics.note_not_accepted(1, NotAccepted::Exhausted);
    let sums = reader.sums();
    let of = |listener| {
        let snapshot = sums.listener(listener).expect("a listener");
        (snapshot.one(fields::CONNECTIONS_OPENED), snapshot.connections_open(), snapshot.all(fields::NOT_ACCEPTED))
    };
    assert_eq!((of("one:80"), of("two:80")), ((2, 1, &[0, 0, 0][..]), (4, 2, &[0, 1, 0][..])));
    assert_eq!(ends(&sums, "one:80"), [("client_closed", 1)]);
    assert_eq!(ends(&sums, "two:80"), [("cut", 1), ("drain", 1)]);
    assert_eq!((sums.connections_open(), outcomes(&sums, "other")), (3, vec![("ok", 1)]));
    assert!(sums.get("one:80").is_none() && sums.listener("a").is_none());
    drop(open);
}

#[test]
fn sums_reach_another_version_by_name() {
    let (metrics, reader) = worker(10);
    let numbers = Numbers { status: 200, total: 5, queued: 7, bytes_in: 9, ..Numbers::default() };
    request(&metrics, 1, &numbers);
    request(&metrics, 0, &Numbers { outcome: RequestOutcome::Malformed.number(), ..numbers });
    metrics.begin_connection(1).end(ConnectionEnd::IdleTimeout);
    let sums = reader.sums();
    let json = sums.to_json().expect("JSON");
    assert_eq!(Sums::from_json(&json).expect("sums"), sums);
    let text = String::from_utf8(json).expect("text");
    for name in
        [r#""outcomes.malformed":1"#, r#""bytes_in":9"#, r#""total.0":1"#, r#""connections_ended.idle_timeout":1"#]
    {
        assert!(text.contains(name), "no {name} in {text}");
    }
    let other = br#"{"a":{"outcomes.ok":3,"outcomes.melted":1,"begun":4,"unknown":5}}"#;
    assert_eq!(outcomes(&Sums::from_json(other).expect("sums"), "a"), [("ok", 3)]);
    assert!(Sums::from_json(b"{").is_err());
}

#[test]
fn the_slowest_request_is_the_exemplar_for_a_minute() {
    let (metrics, reader) = worker(10);
    let mut unix_us = 1_000_000_000;
    let mut check = |total, after_us, expected: Option<u64>| {
        unix_us += after_us;
        request(&metrics, 1, &Numbers { total, began_unix_us: unix_us, id: [total, 1], ..Numbers::default() });
        let exemplar = reader.routes().nth(1).and_then(|(_, block)| block.exemplar());
        assert_eq!(exemplar.map(|exemplar| exemplar.ns), expected);
        assert_eq!(exemplar.map(|exemplar| exemplar.id.to_words()), expected.map(|ns| [ns, 1]));
    };
    check(5, 0, Some(5));
    check(3, 1, Some(5));
    check(9, 1, Some(9));
    check(4, 60_000_000, Some(4));
}

#[test]
fn fields_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = FIELDS.iter().map(|field| field.name).collect();
    assert_eq!(names.len(), FIELDS.len());
    assert_eq!(FIELDS.iter().map(|field| field.len).sum::<usize>() + 5, super::block::WORDS);
}

/// Blocks that nothing was counted in take no memory when they are read.
#[test]
fn reading_takes_no_memory() {
    let names =
        BlockNames::new((0..1_000).map(|route| route.to_string()), 1_000, vec!["one:80".to_owned()], Vec::new());
    let file = create(&names).expect("shared memory");
    let metrics = WorkerMetrics::open(file.as_fd(), names.counts()).expect("a worker's side");
    let reader = MetricsReader::open(file.as_fd(), names).expect("a reader's side");
    for route in [1, 500, 1_000] {
        request(&metrics, route, &Numbers { outcome: RequestOutcome::Trap.number(), ..Numbers::default() });
    }
    let _open = metrics.begin_connection(0);
    let kib = || rustix::fs::fstat(&file).expect("its size").st_blocks / 2;
    let before = kib();
    let sums = reader.sums();
    assert!(reader.routes().filter(|(_, block)| block.exemplar().is_some()).count() <= 3);
    for route in ["0", "499", "999"] {
        assert_eq!(outcomes(&sums, route), [("trap", 1)], "{route}");
    }
    assert_eq!(sums.listener("one:80").map(Snapshot::connections_open), Some(1));
    // A block may begin or end within a page of another one.
    assert!(before <= 64 && kib() <= before + 32, "{before} KiB, then {} KiB", kib());
}

/// What is said of memory: 1,000 routes take at most 8 MiB in each worker.
#[test]
fn a_thousand_routes_fit() {
    let names =
        BlockNames::new((0..5_000).map(|route| route.to_string()), 1_000, vec!["one:80".to_owned()], Vec::new());
    let file = create(&names).expect("shared memory");
    let bytes = rustix::fs::fstat(&file).expect("its size").st_size;
    assert_eq!(names.routes().count(), 1_002);
    assert!(bytes <= 8 << 20, "{bytes}");
}
