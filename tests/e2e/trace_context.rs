//! The ids of requests: what guests, origins, clients and the access log get, and whose ids are believed.

use std::fs;

use serde_json::Value;

use crate::harness::{
    Connection, Daylily, PATIENCE, Request, Response, Setup, Shared, Upstream, as_component, built, each, eventually,
    is_request_id,
};
use crate::unix_sockets::Place;

/// Fields of a request.
type Fields<'a> = &'a [(&'a str, &'a str)];

/// What a guest gets: the trace id, the flags and the state of the trace.
type Ids<'a> = (Option<&'a str>, &'a str, Option<&'a str>);

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A `traceparent` with this trace.
fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// The hosts of a guest that is linked in both ways.
fn both_forms(setup: Setup, name: &str, keys: &str) -> Setup {
    let component = fs::read(built(name)).expect("a guest");
    let (direct, other) = (format!("{name}-direct.wasm"), format!("{name}-component.wasm"));
    setup
        .file(&direct, &component)
        .file(&other, &as_component(&component))
        .route_with(&format!("host = 'direct-{name}.test'\n{keys}"), &direct)
        .route_with(&format!("host = 'entire-{name}.test'\n{keys}"), &other)
}

/// The reports of both WASI versions, linked in both ways.
const REPORTS: [(&str, &str); 4] = [
    ("direct-report.test", "/"),
    ("entire-report.test", "/"),
    ("direct-service03.test", "/report"),
    ("entire-service03.test", "/report"),
];

fn reports(setup: Setup) -> Setup {
    both_forms(both_forms(setup, "report", ""), "service03", "")
}

fn with_fields(request: Request, fields: &[(&str, &str)]) -> Request {
    fields.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// The request id in a response: one valid value.
#[track_caller]
fn id_of(response: &Response) -> String {
    match response.values("x-request-id").as_slice() {
        [id] if is_request_id(id) => (*id).to_owned(),
        other => panic!("not one id: {other:?} in {response:?}"),
    }
}

/// The fields with ids in a report, sorted.
fn ids_in(report: &str) -> Vec<String> {
    let names = ["traceparent=", "tracestate=", "x-request-id="];
    let fields = report.lines().filter_map(|line| line.strip_prefix("header: "));
    fields.filter(|field| names.iter().any(|name| field.starts_with(name))).map(str::to_owned).collect()
}

/// Checks what a guest sees. `expected` has the trace (if it is not the request's id), the flags and the state.
#[track_caller]
fn check(response: &Response, expected: (Option<&str>, &str, Option<&str>)) {
    assert_eq!(response.status, 200, "{response:?}");
    let id = id_of(response);
    let (trace, flags, state) = expected;
    let parent = format!("traceparent=00-{}-{}-{flags}", trace.unwrap_or(&id), &id[16..]);
    let state = state.map(|state| format!("tracestate={state}"));
    let expected: Vec<_> = [Some(parent), state, Some(format!("x-request-id={id}"))].into_iter().flatten().collect();
    assert_eq!(ids_in(&response.text()), expected, "{response:?}");
}

#[test]
fn guests_see_the_ids_of_trusted_clients_only() {
    let place = Place::new();
    let listen = format!("listen = ['127.0.0.1:0', '{}']", place.listen("a.sock"));
    let server =
        reports(Setup::new()).without("--listen").top(&listen).server("trusted = ['unix', '10.0.0.0/8']").start();
    let (sampled, unsampled) = (traceparent("01"), traceparent("00"));
    let upper = sampled.to_uppercase();
    let future = format!("cc-{TRACE}-{PARENT}-03-more");
    let zero = format!("00-{}-{PARENT}-01", "0".repeat(32));
    let many = (0..40).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",");
    let kept = many.split(',').take(32).collect::<Vec<_>>().join(",");
    let own = (None, "00", None);
    let cases: &[(Fields<'_>, Ids<'_>)] = &[
        (&[], own),
        (&[("traceparent", &sampled)], (Some(TRACE), "01", None)),
        (&[("TraceParent", &unsampled)], (Some(TRACE), "00", None)),
        (&[("traceparent", &future)], (Some(TRACE), "01", None)),
        (
            &[("traceparent", &sampled), ("tracestate", "a=1"), ("tracestate", "b=2")],
            (Some(TRACE), "01", Some("a=1,b=2")),
        ),
        (&[("traceparent", &sampled), ("tracestate", &many)], (Some(TRACE), "01", Some(&kept))),
        (&[("traceparent", &sampled), ("tracestate", "a=1,B")], (Some(TRACE), "01", None)),
        (&[("traceparent", &sampled), ("connection", "traceparent")], (Some(TRACE), "01", None)),
        // Invalid ones, and the state with them.
        (&[("traceparent", &sampled), ("traceparent", &sampled), ("tracestate", "a=1")], own),
        (&[("traceparent", &upper), ("tracestate", "a=1")], own),
        (&[("traceparent", &zero)], own),
        (&[("traceparent", "")], own),
        (&[("tracestate", "a=1")], own),
        (&[("x-request-id", "theirs")], own),
    ];
    for (host, target) in REPORTS {
        each(cases, |(fields, expected)| {
            let request = with_fields(Request::get(host, target), fields);
            check(&Connection::open_unix(&place.path("a.sock")).exchange(&request), *expected);
            // The client at 127.0.0.1 is not trusted.
            check(&server.exchange(&request), own);
        });
    }
}

#[test]
fn networks_that_are_trusted() {
    let cases: &[(&str, &str, bool)] = &[
        ("127.0.0.1:0", "", false),
        ("127.0.0.1:0", "'127.0.0.1'", true),
        ("127.0.0.1:0", "'10.0.0.0/8', '127.0.0.0/8'", true),
        ("127.0.0.1:0", "'127.0.0.2', '128.0.0.0/1', '::/0', 'unix'", false),
        ("[::1]:0", "'::1'", true),
        ("[::1]:0", "'0.0.0.0/0', '::2/127'", false),
        // On a socket for both versions of IP, the client's address is ::ffff:127.0.0.1.
        ("[::]:0", "'127.0.0.1'", true),
        ("[::]:0", "'::/0'", false),
    ];
    each(cases, |(listen, trusted, is_trusted)| {
        let server = Setup::new()
            .route("a.test", "report", "")
            .without("--listen")
            .top(&format!("listen = '{listen}'"))
            .server(&format!("trusted = [{trusted}]"))
            .start();
        let mut address = server.address();
        if *listen == "[::]:0" {
            address.set_ip([127, 0, 0, 1].into());
        }
        let request = Request::get("a.test", "/").header("traceparent", &traceparent("01"));
        let (trace, flags) = if *is_trusted { (Some(TRACE), "01") } else { (None, "00") };
        check(&Connection::open(address).exchange(&request), (trace, flags, None));
    });
}

/// What the upstream received last.
fn seen(upstream: &Upstream, name: &str) -> Vec<String> {
    let seen = upstream.seen();
    let last = seen.last().expect("a request");
    last.head.values(name).into_iter().map(str::to_owned).collect()
}

#[test]
fn origins_get_the_trace() {
    let upstream = Upstream::echo();
    let grant = format!("allow_http = ['{}']", upstream.url(""));
    let setup = both_forms(both_forms(Setup::new(), "outgoing", &grant), "service03", &grant);
    let server = setup.server("trusted = ['127.0.0.1']").start();
    let own = format!("00-{}-{}-01", "1".repeat(32), "2".repeat(16));
    let own_parent = format!("&traceparent={own}");
    let sampled = traceparent("01");
    let received: &[(&str, &str)] = &[("traceparent", &sampled), ("tracestate", "a=1")];
    // What the client sends, what the guest sets; the trace that the origin gets (T: the client's, ID: the request's
    // id), and the state.
    let cases: &[(Fields<'_>, &str, &str, &[&str])] = &[
        (&[], "", "00-ID-LOW-00", &[]),
        (received, "", "00-T-LOW-01", &["a=1"]),
        (received, &own_parent, &own, &[]),
        (received, "&tracestate=b=2", "00-T-LOW-01", &["b=2"]),
        (&[], &own_parent, &own, &[]),
        (received, "&traceparent=none", "none", &[]),
        (received, "&times=2", "00-T-LOW-01", &["a=1"]),
    ];
    let hosts = ["direct-outgoing.test", "entire-outgoing.test", "direct-service03.test", "entire-service03.test"];
    for host in hosts {
        each(cases, |(fields, more, parent, states)| {
            let target = format!("/send?url={}{more}", upstream.url("/"));
            let response = server.exchange(&with_fields(Request::get(host, &target), fields));
            assert!(response.text().starts_with("status: 200\n"), "{response:?}");
            let id = id_of(&response);
            let parent = parent.replace("ID", &id).replace("LOW", &id[16..]).replace('T', TRACE);
            assert_eq!(seen(&upstream, "traceparent"), [parent], "{host}");
            assert_eq!(seen(&upstream, "tracestate"), *states, "{host}");
            assert_eq!(seen(&upstream, "x-request-id"), [""; 0], "{host}");
        });
    }
}

#[test]
fn every_response_has_the_id() {
    let server = Setup::new()
        .route("hello.test", "hello", "max_body = 10")
        .route("headers.test", "headers", "")
        .route("trap.test", "trap", "")
        .route("stream.test", "stream", "")
        .server("max_headers = 20")
        .start();
    let many = (0..21).fold(Request::get("hello.test", "/"), |request, _| request.header("x-a", "b"));
    let body = Request::post("hello.test", "/").body(&[0; 11]);
    let get = |host: &str, target: &str| Request::get(host, target).header("x-request-id", "theirs");
    let cases: &[(Request, u16)] = &[
        (get("hello.test", "/"), 200),
        (Request::new("HEAD", "hello.test", "/"), 200),
        (get("hello.test", "/").http10().header("Host", "hello.test"), 200),
        (get("stream.test", "/?chunks=2&size=5&pause_ms=5"), 200),
        (get("headers.test", "/?x-request-id=mine&x-request-id=again"), 200),
        (get("nowhere.test", "/"), 404),
        (Request::new("HEAD", "nowhere.test", "/"), 404),
        (get("trap.test", "/before"), 500),
        (get("trap.test", "/error"), 502),
        (body, 413),
        (many, 431),
        (get("hello.test", "/\u{1}"), 400),
        (get("", "/"), 400),
    ];
    let mut ids = Vec::new();
    for (request, status) in cases {
        let response = server.exchange(request);
        assert_eq!(response.status, *status, "{response:?}");
        let id = id_of(&response);
        if *status >= 400 && request.method() != "HEAD" {
            assert!(response.text().ends_with(&format!(" (request {id})\n")), "{response:?}");
        }
        ids.push(id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), cases.len(), "each request has an id of its own");
}

/// A guest that trusts the trailers of requests gets no ids of clients from there.
#[test]
fn trailers_have_no_ids() {
    let server = Setup::new().route("echo.test", "echo", "").server("trusted = ['127.0.0.1']").start();
    let request = Request::post("echo.test", "/")
        .header("TE", "trailers")
        .header("Trailer", "x-request-id, traceparent, tracestate, x-end")
        .chunked(&[b"text"]);
    let request = ["x-request-id", "traceparent", "tracestate", "x-end"]
        .iter()
        .fold(request, |request, name| request.trailer(name, "7"));
    let response = server.exchange(&request);
    assert_eq!((response.status, response.text().as_str()), (200, "text"));
    assert_eq!(response.trailers, [("x-end".to_owned(), "7".to_owned())]);
}

/// The lines of the access log, once there are so many.
#[track_caller]
fn lines(server: &Daylily, count: usize) -> Vec<Value> {
    let read = || fs::read_to_string(server.directory().join("access.log")).unwrap_or_default();
    assert!(eventually(PATIENCE, || read().lines().count() >= count), "not {count} lines: {}", read());
    read().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn the_access_log_has_the_ids_of_trusted_clients() {
    let place = Place::new();
    let server = Setup::new()
        .route("hello.test", "hello", "")
        .top("access_log = { format = 'json', to = 'access.log' }\n")
        .top(&format!("listen = ['127.0.0.1:0', '{}']\n", place.listen("a.sock")))
        .without("--listen")
        .server("trusted = ['unix']")
        .start();
    let long = "x".repeat(200);
    let parent = traceparent("01");
    let cases: &[(bool, Fields<'_>, Option<&str>, Option<&str>)] = &[
        (true, &[], None, None),
        (true, &[("traceparent", &parent), ("x-request-id", "abc-1")], Some(TRACE), Some("abc-1")),
        (true, &[("x-request-id", "\" é\t\\")], None, Some("\" é\t\\")),
        (true, &[("x-request-id", &long)], None, Some(&long[..128])),
        (true, &[("x-request-id", "a"), ("x-request-id", "a")], None, None),
        (true, &[("x-request-id", "")], None, None),
        (true, &[("traceparent", "00-xyz")], None, None),
        (false, &[("traceparent", &parent), ("x-request-id", "abc-1")], None, None),
    ];
    for (at, (is_trusted, fields, trace, request_id)) in cases.iter().enumerate() {
        let host = if at % 2 == 0 { "hello.test" } else { "nowhere.test" };
        let request = with_fields(Request::get(host, "/"), fields);
        let response = match is_trusted {
            true => Connection::open_unix(&place.path("a.sock")).exchange(&request),
            false => server.exchange(&request),
        };
        let line = &lines(&server, at + 1)[at];
        assert_eq!(line["id"], id_of(&response), "{line}");
        assert_eq!(line.get("trace").and_then(Value::as_str), *trace, "{line}");
        assert_eq!(line.get("x_request_id").and_then(Value::as_str), *request_id, "{line}");
    }
}

/// The names in `server-timing`, whose durations are checked, and the field as the guest has set it.
fn timing(response: &Response) -> Vec<String> {
    let entries = response.values("server-timing").into_iter().flat_map(|value| value.split(", "));
    let name = |entry: &str| {
        let (name, duration) = entry.split_once(";dur=").expect(entry);
        let ms: f64 = duration.parse().expect(entry);
        assert!((0.0..60_000.0).contains(&ms), "{entry}");
        assert!(name != "guest" || ms >= 50.0, "the guest has waited: {entry}");
        name.to_owned()
    };
    entries.map(name).collect()
}

static TIMED: Shared = Shared::new(|| {
    Setup::new()
        .defaults("server_timing = true")
        .route("timed.test", "stream", "")
        .route("headers.test", "headers", "")
        .route("trap.test", "trap", "")
        .route("untimed.test", "stream", "server_timing = false")
});

const ALL: &[&str] = &["queue", "instantiate", "guest"];

#[test]
fn server_timing_says_where_the_time_went() {
    let server = TIMED.get();
    assert_eq!(timing(&server.get("timed.test", "/silent?ms=60")), ALL);
    assert_eq!(timing(&server.get("untimed.test", "/silent?ms=60")), [""; 0]);
    // No route has it, so only a developer is told.
    assert_eq!(timing(&server.get("nowhere.test", "/")), [""; 0]);
    let field =
        |response: &Response| response.values("server-timing").iter().map(|value| value.len()).collect::<Vec<_>>();
    let response = server.get("headers.test", "/?server-timing=db;dur=5");
    assert_eq!((response.values("server-timing")[0], field(&response).len()), ("db;dur=5", 2), "{response:?}");
    let refused = server.get("trap.test", "/before");
    assert_eq!((refused.status, field(&refused).len()), (500, 1), "{refused:?}");
    let untimed = Setup::new().route("a.test", "hello", "").start();
    assert!(!untimed.get("a.test", "/").has("server-timing"));
}

#[test]
fn developers_always_have_server_timing() {
    let setup = Setup::new().route("a.test", "stream", "server_timing = false");
    let server = setup.flags(&["--dev"]).start();
    assert_eq!(timing(&server.get("a.test", "/silent?ms=60")), ALL);
    assert_eq!(timing(&server.get("nowhere.test", "/")), ["queue"]);
}
