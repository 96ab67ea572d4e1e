//! Requests that guests send to other routes of their server, at `http://NAME.daylily.internal/`.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{Daylily, Ending, PATIENCE, Request, Setup, Shared, each, eventually};

/// Routes that others call. `roomy` lets the two callers wait for long.
fn callees(setup: Setup, roomy: &str) -> Setup {
    let called = "'route:hello', 'route:echo', 'route:stream', 'route:trap', 'route:site', 'route:small', 'route:burn', \
                  'route:front', 'route:front3'";
    let calls = |name: &str| format!("name = '{name}'\nhost = '{name}.test'\nallow_http = [{called}]\n{roomy}");
    let named = |name: &str, more: &str| format!("name = '{name}'\nhost = '{name}.test'\n{more}");
    setup
        .route_at(&calls("front"), "outgoing")
        .route_at(&calls("front3"), "service03")
        .route_at(&named("hello", ""), "hello")
        .route_at(&named("below", "path = '/below/*'"), "hello")
        .route_at(&named("echo", "max_body = '100MiB'"), "echo")
        .route_at(&named("stream", "wall_time = '10m'\ncpu_time = '10m'"), "stream")
        .route_at(&named("trap", ""), "trap")
        .route_at(&named("small", "max_body = 10"), "echo")
        .route_at(&named("burn", "cpu_time = '300ms'"), "burn")
        .route_at("name = 'caller-of-below'\nhost = 'caller-of-below.test'\nallow_http = ['route:below']", "outgoing")
        .raw_route("\n[[route]]\nname = 'site'\nhost = 'site.test'\npath = '/static/*'\nfiles = 'public'\n")
        .file("public/page.txt", b"a page\n")
}

static SERVER: Shared = Shared::new(|| callees(Setup::new(), ""));

const CALLERS: [&str; 2] = ["front.test", "front3.test"];

fn encoded(url: &str) -> String {
    url.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn send(url: &str, more: &str) -> String {
    format!("/send?url={}{more}", encoded(url))
}

/// What both callers say of their request to `url`.
#[track_caller]
fn check(server: &Daylily, url: &str, expected: &str) {
    for caller in CALLERS {
        let response = server.get(caller, &send(url, ""));
        assert!(response.text().starts_with(expected), "{caller}: {url}: {response:?}");
    }
}

#[test]
fn a_route_is_called_by_its_name() {
    let server = SERVER.get();
    let denied = "error: ErrorCode::HttpRequestDenied";
    for (url, expected) in [
        ("http://hello.daylily.internal/", "status: 200\nHello World\n"),
        ("http://HELLO.Daylily.Internal.:80/any", "status: 200\nHello World\n"),
        ("http://site.daylily.internal/static/page.txt", "status: 200\na page\n"),
        ("http://site.daylily.internal/static/none.txt", "status: 404\nno such file"),
        ("http://site.daylily.internal/page.txt", "status: 404\nno such route"),
        ("https://hello.daylily.internal/", denied),
        ("http://hello.daylily.internal:81/", denied),
        ("http://below.daylily.internal/", denied),
        ("http://none.daylily.internal/", denied),
        ("http://daylily.internal/", denied),
        ("http://a.hello.daylily.internal/", denied),
    ] {
        check(&server, url, expected);
    }
    let response = server.get("caller-of-below.test", &send("http://below.daylily.internal/below/x", ""));
    assert_eq!(response.text(), "status: 200\nHello World\n");
    let response = server.get("caller-of-below.test", &send("http://below.daylily.internal/", ""));
    assert!(response.text().starts_with("status: 404\nno such route"), "{response:?}");
}

#[test]
fn clients_cannot_use_the_names() {
    let server = SERVER.get();
    for host in ["hello.daylily.internal", "Hello.Daylily.Internal.:3000", "daylily.internal", "x.y.daylily.internal"] {
        server.get(host, "/").expect_refusal(421, "this host is reserved for requests from route to route");
    }
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

/// No wildcard matches them, and no name is looked up.
#[test]
fn wildcards_do_not_match_the_names() {
    let keys = "name = 'front'\nhost = 'front.test'\nallow_http = ['http://*.internal:*', 'https://*.internal:*']";
    let server =
        Setup::new().route_at(keys, "outgoing").route_at("name = 'hello'\nhost = '*.internal'", "hello").start();
    let response = server.get("front.test", &send("http://hello.daylily.internal/", ""));
    assert!(response.text().starts_with("error: ErrorCode::HttpRequestDenied"), "{response:?}");
    server
        .get("hello.daylily.internal", "/")
        .expect_refusal(421, "this host is reserved for requests from route to route");
    server.get("hello.internal", "/").expect(200, "Hello World\n");
}

#[test]
fn bodies_go_both_ways() {
    let server = SERVER.get();
    // The guest of 0.2 sends the whole body before it reads, so it must fit into the buffers of both directions.
    for (caller, bytes) in CALLERS.into_iter().zip([16 << 10, 1 << 20]) {
        let body: Vec<u8> = (0..bytes).map(|at: u32| b'a' + (at % 23) as u8).collect();
        let target = send("http://echo.daylily.internal/", "&method=POST");
        let response = server.exchange(&Request::post(caller, &target).body(&body));
        let echoed = response.body.strip_prefix(b"status: 200\n");
        assert!(echoed == Some(&body[..]), "{caller}: {} bytes", response.body.len());
    }
}

#[test]
fn a_wrong_length_is_an_error() {
    let server = SERVER.get();
    for (length, said) in [(4, "error: ErrorCode::HttpRequestBodySize"), (5, "status: 200\n5 bytes\n"), (6, "error: ")]
    {
        let target = send("http://echo.daylily.internal/count", &format!("&method=POST&length={length}"));
        let response = server.exchange(&Request::post("front3.test", &target).body(b"hello"));
        assert!(response.text().starts_with(said), "{length}: {response:?}");
    }
}

#[test]
fn a_callee_that_fails_is_an_error_or_a_cut_body() {
    let server = SERVER.get();
    check(&server, "http://trap.daylily.internal/before", "status: 500\nguest trapped");
    check(&server, "http://trap.daylily.internal/error", "status: 502\n");
    for (path, expected) in [("/after-head", "status: 500\n"), ("/after-length", "status: 500\n")] {
        check(&server, &format!("http://trap.daylily.internal{path}"), expected);
    }
    // It has begun to stream, and uses up its wall time.
    let server = callees(Setup::new().defaults("wall_time = '10s'"), "wall_time = '20s'")
        .route_at("name = 'slow'\nhost = 'slow.test'\nwall_time = '500ms'", "stream")
        .route_at("name = 'of-slow'\nhost = 'of-slow.test'\nallow_http = ['route:slow']", "service03")
        .start();
    let url = encoded("http://slow.daylily.internal/?chunks=1000&pause_ms=20");
    let response = server.get("of-slow.test", &format!("/send?url={url}"));
    assert!(response.text().contains("error: ErrorCode::HttpResponseIncomplete"), "{response:?}");
    let response = server.get("of-slow.test", &format!("/relay?url={url}"));
    assert!(response.status == 200 && response.ending == Ending::Truncated, "{response:?}");
    server.log().wait_for(&["guest failed during its response", "route=slow"]);
}

#[test]
fn the_limits_are_the_callees() {
    let server = SERVER.get();
    for caller in CALLERS {
        let target = send("http://small.daylily.internal/", "&method=POST");
        let response = server.exchange(&Request::post(caller, &target).body(b"more than ten"));
        assert!(response.text().starts_with("status: 413\n"), "{caller}: {response:?}");
    }
    check(&server, "http://burn.daylily.internal/loop", "status: 504\nCPU time limit exceeded");
    // What the callee uses is not its caller's.
    let server = Setup::new()
        .route_at("name = 'burn'\nhost = 'burn.test'\ncpu_time = '600ms'", "burn")
        .route_at("name = 'front'\nhost = 'front.test'\ncpu_time = '200ms'\nallow_http = ['route:burn']", "service03")
        .start();
    let response = server.get("front.test", &send("http://burn.daylily.internal/loop", ""));
    assert!(response.text().starts_with("status: 504\n"), "{response:?}");
}

/// A request of a guest waits for no permit: it gets one at once, or 503.
#[test]
fn without_a_permit_a_call_fails_at_once() {
    let server = callees(Setup::new().server("max_concurrency = 1"), "").start();
    let began = Instant::now();
    check(&server, "http://hello.daylily.internal/", "status: 503\nno permit is free for a request of another guest");
    assert!(began.elapsed() < Duration::from_secs(4), "it was queued");
    // A file needs none.
    check(&server, "http://site.daylily.internal/static/page.txt", "status: 200\na page\n");
}

#[test]
fn a_circle_ends_in_its_limit() {
    for (server, guests) in [("", 8), ("max_chain = 3", 3), ("max_chain = 1", 1)] {
        let server = callees(Setup::new().server(server), "").start();
        let response = server.get("front3.test", "/circle?authority=front3.daylily.internal");
        let expected = format!("{}status: 508\ntoo many requests in a chain", "status: 200\n".repeat(guests - 1));
        assert!(response.text().starts_with(&expected), "{guests}: {response:?}");
        server.get("hello.test", "/").expect(200, "Hello World\n");
    }
}

/// Whether a call gets the two permits of the server.
fn both_are_free(server: &Daylily) -> bool {
    let response = server.get("front.test", &send("http://hello.daylily.internal/", ""));
    response.status == 200 && response.text().starts_with("status: 200\n")
}

#[test]
fn a_callee_ends_with_its_caller() {
    let server = callees(Setup::new().server("max_concurrency = 2\nmax_queue = 0"), "wall_time = '10m'")
        .route_at(
            "name = 'brief'\nhost = 'brief.test'\nallow_http = ['route:stream']\nwall_time = '300ms'",
            "service03",
        )
        .alone()
        .start();
    let silent = encoded("http://stream.daylily.internal/silent?ms=600000");
    let endless = encoded("http://stream.daylily.internal/?chunks=1000000&pause_ms=10");
    let soon_free = || eventually(Duration::from_millis(150), || both_are_free(&server));
    for (caller, path) in [
        ("front.test", format!("/send?url={silent}")),
        ("front3.test", format!("/send?url={silent}")),
        ("front.test", format!("/send?url={endless}")),
        ("front3.test", format!("/relay?url={endless}")),
    ] {
        let mut connection = server.connect();
        connection.send(&Request::get(caller, &path).bytes());
        // The probe must not take the permits before the call.
        let calls = || server.status().total("requests_in_progress") == 2;
        assert!(eventually(PATIENCE, calls), "{caller}{path}: no call");
        std::thread::sleep(Duration::from_millis(50));
        assert!(!both_are_free(&server), "{caller}{path}: it ended by itself");
        connection.leave();
        assert!(soon_free(), "{caller}{path}: the callee lives on");
    }
    // The caller's time is over.
    server.get("brief.test", &format!("/send?url={silent}")).expect_refusal(504, "wall time limit exceeded");
    assert!(soon_free(), "the callee lives on after its caller's time");
}

/// It has given its response in one piece, and nobody reads it.
#[test]
fn a_callee_that_works_on_ends_with_its_caller() {
    let server = callees(Setup::new().server("max_concurrency = 2\nmax_queue = 0"), "")
        .route_at("name = 'late'\nhost = 'late.test'\nwall_time = '10m'\ncpu_time = '10m'", "service03")
        .route_at("name = 'of-late'\nhost = 'of-late.test'\nallow_http = ['route:late']", "service03")
        .alone()
        .start();
    let response = server.get("of-late.test", &send("http://late.daylily.internal/late?ms=600000", ""));
    response.expect(200, "status: 200\nearly\n");
    assert!(eventually(Duration::from_millis(150), || both_are_free(&server)), "the callee lives on");
}

#[test]
fn a_body_that_is_not_read_is_not_transmitted() {
    let server = SERVER.get();
    let body = vec![b'a'; 1 << 16];
    for (url, expected) in [
        ("http://echo.daylily.internal/count", "sent: Ok(())\n"),
        ("http://hello.daylily.internal/", "sent: Err(ErrorCode::ConnectionTerminated)\n"),
        ("http://small.daylily.internal/", "sent: Err(ErrorCode::ConnectionTerminated)\n"),
    ] {
        let target = format!("/sent?url={}&method=POST", encoded(url));
        let response = server.exchange(&Request::post("front3.test", &target).body(&body));
        let text = response.text();
        assert!(text.starts_with("status: ") && text.ends_with(expected), "{url}: {response:?}");
    }
}

#[test]
fn a_refused_head_request_has_no_body() {
    let server = SERVER.get();
    let response = server.get("front3.test", &send("http://site.daylily.internal/page.txt", "&method=HEAD"));
    response.expect(200, "status: 404\n");
}

/// A client that does not read stops the callee, not the host's memory.
#[test]
fn a_response_waits_for_its_reader() {
    let server = callees(Setup::new(), "wall_time = '10m'\ncpu_time = '10m'").alone().start();
    let url = encoded("http://stream.daylily.internal/?chunks=4096&size=65536");
    let [worker] = &server.worker_processes()[..] else { panic!("not one worker") };
    for caller in [format!("/relay?url={url}"), format!("/send?url={url}")] {
        let host = if caller.starts_with("/relay") { "front3.test" } else { "front.test" };
        let before = worker.resident_kib();
        let mut connection = server.connect();
        connection.send(&Request::get(host, &caller).bytes());
        let mut response = connection.head();
        assert_eq!(response.status, 200, "{response:?}");
        std::thread::sleep(Duration::from_millis(500));
        let grown = worker.resident_kib().saturating_sub(before);
        assert!(grown < 24 * 1024, "{host}: {grown} KiB of 256 MiB are kept");
        let mut bytes = 0;
        connection.finish(&mut response, "GET", &mut |piece| bytes += piece.len());
        assert!(bytes >= 4096 * 65536 && response.ending == Ending::Complete, "{host}: {bytes} {:?}", response.ending);
    }
}

/// A request of a guest has a record with the trace and the id of its caller's.
#[test]
fn a_call_has_a_record() {
    let fields = "fields = ['id', 'route', 'status', 'outcome', 'trace', 'x_request_id', 'host', 'path']";
    let log = format!("access_log = {{ format = 'json', to = 'access.log', {fields} }}");
    let server = callees(Setup::new().top(&log), "").start();
    let response = server.get("front3.test", &send("http://hello.daylily.internal/x", ""));
    let [id] = response.values("x-request-id")[..] else { panic!("{response:?}") };
    let path = server.directory().join("access.log");
    let read = || fs::read_to_string(&path).unwrap_or_default();
    assert!(eventually(PATIENCE, || read().lines().count() == 2), "{}", read());
    let lines: Vec<serde_json::Value> = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let inner = lines.iter().find(|line| line["route"] == "hello").expect("the callee's record");
    assert_eq!(inner["x_request_id"], id, "{inner}");
    assert_eq!(inner["trace"], id, "{inner}");
    assert_ne!(inner["id"], id, "{inner}");
    assert_eq!((&inner["path"], &inner["outcome"]), (&"/x".into(), &"ok".into()), "{inner}");
    each(&lines, |line| assert_eq!(line["status"], 200));
}
