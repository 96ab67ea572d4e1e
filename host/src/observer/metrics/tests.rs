use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::Path;

use daylily_core::config::{Overrides, parse};
use daylily_core::connection_end::{ConnectionEnd, NotAccepted};
use daylily_core::process_role::ProcessRole;
use daylily_core::schedule::RunOutcome;
use prost::Message as _;

use super::families::STATUS_CLASSES;
use super::family::Kind;
use super::protobuf::MetricFamily;
use super::*;
use crate::observe::journal::Numbers;
use crate::observe::metrics::{BlockNames, MetricsReader, Sums, WorkerMetrics, create};
use crate::observe::server_page;
use crate::observer::collected::Scrape;

/// A page with requests of the routes `a"b\c` and `quiet`.
fn page() -> Page {
    let config = "[[route]]\nname = 'a\"b\\c'\npath = '/a'\ncomponent = 'a.wasm'\n\
        [[route]]\nname = 'quiet'\ncomponent = 'a.wasm'\n";
    let config = parse(Path::new("daylily.toml"), config, &Overrides::default()).expect("a configuration");
    let limits = Limits::of(&config, 2);
    let names = BlockNames::new(
        limits.route_names(),
        10,
        vec!["unix:/run/a\"b".to_owned(), "c:80".to_owned()],
        vec!["clean".to_owned()],
    );
    let file = create(&names).expect("shared memory");
    let metrics = WorkerMetrics::open(file.as_fd(), names.counts()).expect("a worker's side");
    for total in [1_000_000, 3_000_000, 100_000_000] {
        let numbers = Numbers {
            status: 200,
            route: 1,
            total,
            bytes_out: 11,
            id: [total, 7],
            began_unix_us: 1_700_000_000_000_001,
            ..Numbers::default()
        };
        metrics.note_begun();
        metrics.note_routed(&numbers);
        metrics.note_admitted(&numbers);
        metrics.note_ended(&numbers, true);
    }
    metrics.begin_connection(0).end(ConnectionEnd::ClientReset);
    std::mem::forget(metrics.begin_connection(0));
    metrics.note_not_accepted(1, NotAccepted::Limit);
    metrics.note_runs(0, RunOutcome::Missed, 2);
    let reader = MetricsReader::open(file.as_fd(), names).expect("a reader's side");
    let routes: BTreeSet<_> = limits.route_names().chain([String::new()]).collect();
    let exemplars: BTreeMap<_, _> =
        reader.routes().filter_map(|(name, block)| Some((name.to_owned(), block.exemplar()?))).collect();
    let (workers, listeners) = (vec![std::process::id()], reader.listeners().map(str::to_owned).collect());
    let schedules = reader.schedules().map(str::to_owned).collect();
    let server = server_page::Snapshot { pid: std::process::id(), generation: 7, ..server_page::Snapshot::default() };
    let mut sums = reader.sums();
    sums.add(&Sums::of_cpu_ns(ProcessRole::Observer, 1_500_000_000));
    Page::new(Scrape { sums, limits, routes, listeners, schedules, exemplars, workers }, Some(server))
}

#[test]
fn the_texts_have_every_family_with_its_values() {
    let page = page();
    let text = |format| String::from_utf8(write(&page, format)).expect("text");
    let (prometheus, open_metrics) = (text(Format::Text), text(Format::OpenMetrics));
    for row in FAMILIES {
        let suffix = if row.kind == Kind::Counter { "_total" } else { "" };
        assert!(prometheus.contains(&format!("# TYPE {}{suffix} {}\n", row.name, row.kind.as_str())), "{}", row.name);
        assert!(open_metrics.contains(&format!("# TYPE {} {}\n", row.name, row.kind.as_str())), "{}", row.name);
        assert_eq!(
            row.unit.is_some_and(|unit| row.name.ends_with(&format!("_{unit}"))),
            open_metrics.contains(&format!("# UNIT {} ", row.name)),
            "{}",
            row.name
        );
    }
    for line in [
        r#"daylily_requests_total{route="a\"b\\c",outcome="ok"} 3"#,
        r#"daylily_requests_total{route="quiet",outcome="ok"} 0"#,
        r#"daylily_requests_total{route="quiet",outcome="lost"} 0"#,
        r#"daylily_responses_total{route="a\"b\\c",class="2xx"} 3"#,
        r#"daylily_response_body_bytes_total{route="a\"b\\c"} 33"#,
        r#"daylily_request_duration_seconds_bucket{route="a\"b\\c",le="0.0009765625"} 0"#,
        r#"daylily_request_duration_seconds_bucket{route="a\"b\\c",le="0.001953125"} 1"#,
        r#"daylily_request_duration_seconds_bucket{route="a\"b\\c",le="+Inf"} 3"#,
        r#"daylily_request_duration_seconds_sum{route="a\"b\\c"} 0.104"#,
        r#"daylily_request_duration_seconds_count{route="a\"b\\c"} 3"#,
        r#"daylily_limit{limit="max_connections"} 20000.0"#,
        r#"daylily_limit{limit="cpu_time",route="quiet"} 1.0"#,
        r#"daylily_limit_use{limit="max_queue"} 0"#,
        r#"daylily_limit_hits_total{limit="wall_time",route="quiet"} 0"#,
        r#"daylily_processes{role="worker"} 1"#,
        r#"daylily_connections_total{listener="unix:/run/a\"b"} 2"#,
        r#"daylily_connections_open{listener="unix:/run/a\"b"} 1"#,
        r#"daylily_connections_ended_total{listener="unix:/run/a\"b",reason="client_reset"} 1"#,
        r#"daylily_connections_total{listener="c:80"} 0"#,
        r#"daylily_connections_not_accepted_total{listener="c:80",reason="limit"} 1"#,
        r#"daylily_limit_use{limit="max_connections"} 1"#,
        r#"daylily_process_cpu_seconds_total{role="observer"} 1.5"#,
        r#"daylily_process_cpu_seconds_total{role="supervisor"} 0.0"#,
        "daylily_generation 7",
        r#"daylily_processes{role="supervisor"} 1"#,
    ] {
        assert!(prometheus.lines().any(|found| found == line), "no {line} in {prometheus}");
    }
    assert!(!prometheus.contains("request_id") && !prometheus.contains("EOF"));
    let exemplar = r#"le="0.125"} 3 # {request_id="0000000005f5e1000000000000000007"} 0.1 1700000000.000001"#;
    assert!(open_metrics.contains(exemplar), "no {exemplar} in {open_metrics}");
    assert!(open_metrics.ends_with("\n# EOF\n"));
    assert_eq!(STATUS_CLASSES.len(), 6);
}

/// OpenMetrics' and Prometheus' own rules: one line for each series, and each family's together.
#[test]
fn no_series_occurs_twice() {
    let text = String::from_utf8(write(&page(), Format::Text)).expect("text");
    let series: Vec<_> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' ')).collect();
    let unique: BTreeSet<_> = series.iter().map(|(series, _)| *series).collect();
    assert_eq!(series.len(), unique.len());
    assert!(series.iter().all(|(_, value)| value.parse::<f64>().is_ok()));
}

#[test]
fn native_histograms_have_the_same_counts() {
    let bytes = write(&page(), Format::Protobuf);
    let (mut rest, mut families) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut rest).expect("a family"));
    }
    assert_eq!(families.len(), FAMILIES.len());
    let durations = families.iter().find(|family| family.name == "daylily_request_duration_seconds");
    let histogram = durations.and_then(|family| {
        family.metric.iter().find_map(|metric| metric.histogram.as_ref().filter(|histogram| histogram.sample_count > 0))
    });
    let histogram = histogram.expect("a histogram with requests");
    let mut count = 0;
    let native = histogram.positive_delta.iter().map(|delta| {
        count += delta;
        count
    });
    assert_eq!((histogram.sample_count, histogram.zero_count, native.sum::<i64>()), (3, 0, 3));
    assert_eq!(histogram.bucket.iter().filter(|bucket| bucket.exemplar.is_some()).count(), 1);
}
