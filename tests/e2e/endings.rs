//! The host's error responses when the guest fails: status, reason, request id, and details only with `--dev`. A
//! response that has begun is cut so that no client takes it for complete.

use crate::harness::{Daylily, Ending, PATIENCE, Request, Setup, Shared, Silence, each};

fn setup() -> Setup {
    Setup::new()
        .defaults("cpu_time = '300ms'")
        .route("hello.test", "hello", "")
        .route("trap.test", "trap", "")
        .route("burn.test", "burn", "")
        .route("echo.test", "echo", "max_body = 1000\nbody_timeout = '500ms'")
        .route("memory.test", "memory", "max_memory = '4MiB'")
        .route("status.test", "status", "")
        .route("service03.test", "service03", "")
        .route("stream.test", "stream", "wall_time = '500ms'")
        .route_at("name = 'any-burn'\npath = '/after-head'", "burn")
        .route_at("name = 'any-burn03'\npath = '/loop-after'", "service03")
        .route_at("name = 'any-stream'\npath = '/cut'\nwall_time = '500ms'", "stream")
}

static SERVER: Shared = Shared::new(setup);
static DEV: Shared = Shared::new(|| setup().flags(&["--dev"]));

/// The party that the log blames.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    /// The client: logged at level `debug` only.
    Quiet,
    /// The guest.
    Warn,
}
use Level::{Quiet, Warn};

#[derive(Debug)]
struct Case {
    request: Request,
    status: u16,
    reasons: &'static [&'static str],
    /// A part of the details that `--dev` adds.
    detail: &'static str,
    level: Level,
}

fn get(host: &str, target: &str, status: u16, reason: &'static [&'static str], detail: &'static str) -> Case {
    Case { request: Request::get(host, target), status, reasons: reason, detail, level: Warn }
}

fn cases() -> Vec<Case> {
    let refused = |request: Request, status, reasons| Case { request, status, reasons, detail: "", level: Quiet };
    vec![
        get("trap.test", "/before", 500, &["guest trapped"], "unreachable"),
        get("trap.test", "/stack", 500, &["guest trapped"], "stack"),
        get("trap.test", "/exit", 500, &["guest trapped", "guest returned no response"], ""),
        get("trap.test", "/exit-after", 500, &["guest returned an invalid response"], ""),
        get("trap.test", "/exit-after?fail", 500, &["guest trapped"], "code 1"),
        get("trap.test", "/none", 500, &["guest returned no response"], ""),
        get("trap.test", "/error", 502, &["guest returned an error code"], "boom"),
        get("memory.test", "/forever", 500, &["guest trapped"], ""),
        get("burn.test", "/loop", 504, &["CPU time limit exceeded"], ""),
        get("stream.test", "/silent?ms=60000", 504, &["wall time limit exceeded"], ""),
        get("service03.test", "/trap", 500, &["guest trapped"], "unreachable"),
        get("service03.test", "/loop", 504, &["CPU time limit exceeded"], ""),
        get("service03.test", "/error", 502, &["guest returned an error code"], ""),
        get("service03.test", "/exit-after", 500, &["guest returned an invalid response"], ""),
        get("service03.test", "/exit-after?fail", 500, &["guest trapped"], "code 1"),
        get("service03.test", "/exit-at-once", 500, &["guest returned no response"], ""),
        get("service03.test", "/exit-at-once?fail", 500, &["guest trapped"], "code 1"),
        refused(Request::get("nowhere.test", "/"), 404, &["no such route"]),
        refused(Request::get("not a host", "/"), 400, &["malformed request"]),
        refused(Request::get("hello.test", "/").header("bad name", "x"), 400, &["malformed request"]),
        refused(Request::get("hello.test", "/").header("x", &"x".repeat(70_000)), 431, &["request head too large"]),
        refused(Request::post("echo.test", "/").body(&[0; 1001]), 413, &["request body too large"]),
        refused(Request::post("echo.test", "/count").header("Content-Length", "9"), 408, &["request body timed out"]),
    ]
}

/// The request id in the body, whatever precedes it.
fn request_id(text: &str) -> String {
    let id = text.rsplit_once("(request ").and_then(|(_, rest)| rest.strip_suffix(")\n"));
    id.unwrap_or_else(|| panic!("no request id in {text:?}")).to_owned()
}

/// Waits until everything logged so far can be read: lines are in order, so it waits for a later one.
fn wait_for_log(server: &Daylily) {
    let id = request_id(&server.get("trap.test", "/before").text());
    server.log().wait_for(&[&id]);
}

#[test]
fn each_ending_has_its_status_reason_and_id() {
    let server = SERVER.get();
    each(&cases(), |case| {
        let response = server.exchange(&case.request);
        let reason = case.reasons.iter().find(|reason| response.text().starts_with(**reason));
        let reason = reason.unwrap_or_else(|| panic!("want one of {:?}, got {response:?}", case.reasons));
        // The body has exactly reason and id, so no details.
        let id = response.expect_refusal(case.status, reason);
        match case.level {
            Quiet => {
                wait_for_log(&server);
                assert_eq!(server.log().matching(|line| line.contains(&id)), Vec::<String>::new());
            }
            Warn => drop(server.log().wait_for(&[&id, "WARN", reason, case.detail])),
        }
        server.get("hello.test", "/").expect(200, "Hello World\n");
    });
}

#[test]
fn a_developer_is_told_the_details() {
    let server = DEV.get();
    each(&cases(), |case| {
        let response = server.exchange(&case.request);
        let text = response.text();
        assert_eq!((response.status, response.ending.clone()), (case.status, Ending::Complete), "{text}");
        assert!(case.reasons.iter().any(|reason| text.starts_with(reason)), "{text}");
        // What follows the first line is in `diagnosis.rs`.
        let first = text.split_inclusive('\n').next().unwrap_or_default();
        assert!(first.contains(case.detail), "no {:?} in {text:?}", case.detail);
        assert!(crate::harness::is_request_id(&request_id(first)), "{text}");
        assert!(text == first || text[first.len()..].starts_with('\n'), "{text:?}");
    });
    let detailed = [
        (Request::get("trap.test", "/before"), "guest trapped: "),
        (Request::get("not a host", "/"), "malformed request: "),
        (Request::get("hello.test", "/").header("bad name", "x"), "malformed request: "),
    ];
    for (request, start) in detailed {
        let text = server.exchange(&request).text();
        assert!(text.starts_with(start), "want {start:?}, got {text:?}");
    }
}

#[test]
fn ids_differ() {
    let server = SERVER.get();
    let mut ids: Vec<String> = (0..50).map(|_| request_id(&server.get("nowhere.test", "/").text())).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[test]
fn a_refusal_to_head_has_no_body() {
    let server = SERVER.get();
    for (host, target, status) in
        [("nowhere.test", "/", 404), ("trap.test", "/before", 500), ("burn.test", "/loop", 504)]
    {
        let mut connection = server.connect();
        let response = connection.exchange(&Request::new("HEAD", host, target));
        assert_eq!((response.status, response.body.len()), (status, 0));
        assert!(!response.closes(), "{response:?}");
        connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    }
}

#[test]
fn a_refused_connection_goes_on_or_ends_but_is_not_confused() {
    let server = SERVER.get();
    each(&cases(), |case| {
        let mut connection = server.connect();
        let refused = connection.exchange(&case.request);
        assert_eq!(refused.status, case.status);
        // The rest of a body, or a malformed head, could be read as a request.
        let must_close = [400, 408, 431].contains(&case.status);
        // Depends on whether the whole body had been received.
        let may_close = must_close || case.status == 413;
        assert!(may_close || !refused.closes(), "{refused:?}");
        connection.try_send(&Request::get("hello.test", "/").bytes());
        match connection.try_response("GET", PATIENCE) {
            Ok(next) if must_close => panic!("answered after {}: {next:?}", case.status),
            Ok(next) => drop(next.expect(200, "Hello World\n")),
            Err(silence) => assert_eq!((silence, may_close), (Silence::Closed, true)),
        }
    });
}

/// Guests that fail after their response has begun. If the guest has not waited since, it can fail before its head is
/// sent: then a complete error response is as correct as a cut.
const CUT: &[(&str, &str, &str, bool)] = &[
    ("trap.test", "/after-head", "guest trapped", true),
    ("trap.test", "/after-length", "guest trapped", true),
    ("trap.test", "/drop-body", "guest returned an invalid response", true),
    ("trap.test", "/short", "guest returned an invalid response", true),
    ("burn.test", "/after-head", "CPU time limit exceeded", false),
    ("stream.test", "/?chunks=100&size=10&pause_ms=50", "wall time limit exceeded", false),
    ("service03.test", "/trap-after", "guest trapped", true),
    ("service03.test", "/loop-after", "CPU time limit exceeded", false),
    ("service03.test", "/short", "guest returned an invalid response", true),
];

#[test]
fn a_cut_response_never_looks_complete() {
    let server = SERVER.get();
    each(CUT, |&(host, target, reason, may_refuse)| {
        let warned = |line: &str| line.contains("WARN") && line.contains(host) && line.contains(reason);
        let before = server.log().matching(warned).len();
        let response = server.get(host, target);
        if response.status == 500 && may_refuse {
            response.expect_refusal(500, reason);
        } else {
            assert_eq!((response.status, response.ending.clone()), (200, Ending::Truncated), "{response:?}");
            assert!(response.body.len() < 1000, "{response:?}");
        }
        let told = crate::harness::eventually(PATIENCE, || server.log().matching(warned).len() > before);
        assert!(told, "nothing about {reason:?} in the log of {host}");
        server.get("hello.test", "/").expect(200, "Hello World\n");
    });
}

/// Guests that fail after the whole response, or end by `exit`, and what the log says of it, if anything.
const LATE: &[(&str, &str, Option<&str>)] = &[
    ("trap.test", "/late", Some("unreachable")),
    ("trap.test", "/exit-late", None),
    ("trap.test", "/exit-late?fail", Some("code 1")),
    ("service03.test", "/trap-late", Some("unreachable")),
    ("service03.test", "/exit-late", None),
    ("service03.test", "/exit-late?fail", Some("code 1")),
];

/// A failure after the whole response does not affect the response.
#[test]
fn a_failure_after_the_whole_response_is_only_logged() {
    let server = SERVER.get();
    each(LATE, |&(host, target, detail)| {
        for _ in 0..3 {
            let mut connection = server.connect();
            connection.exchange(&Request::get(host, target)).expect(200, "done\n");
            connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
        }
        let path = target.split('?').next().unwrap_or_default();
        if let Some(detail) = detail {
            server.log().wait_for(&["WARN", host, path, "after its response", "guest trapped", detail]);
        } else {
            wait_for_log(&server);
            let warned = |line: &str| ["WARN", host, path].iter().all(|part| line.contains(part));
            assert_eq!(server.log().matching(warned), Vec::<String>::new());
        }
    });
}

/// Without chunks or a length, only a reset shows that a response is incomplete.
#[test]
fn a_cut_response_to_http_1_0_is_reset() {
    let server = SERVER.get();
    for target in ["/after-head", "/loop-after", "/cut?chunks=100&size=10&pause_ms=50"] {
        let response = server.exchange(&Request::get("", target).http10());
        assert_eq!((response.status, response.ending), (200, Ending::Truncated), "{target}");
    }
}

/// After a complete response, the next request on the connection is answered; after a cut, the connection is closed.
#[test]
fn a_request_behind_a_trap_is_answered_or_the_connection_is_closed() {
    let server = SERVER.get();
    let cases = [
        ("trap.test", "/before", 500, true),
        ("trap.test", "/none", 500, true),
        ("trap.test", "/error", 502, true),
        ("burn.test", "/loop", 504, true),
        ("burn.test", "/after-head", 200, false),
        ("service03.test", "/trap", 500, true),
        ("service03.test", "/loop-after", 200, false),
    ];
    each(&cases, |&(host, target, status, goes_on)| {
        let mut connection = server.connect();
        connection.send(&[Request::get(host, target).bytes(), Request::get("hello.test", "/").bytes()].concat());
        let first = connection.response("GET");
        assert_eq!((first.status, first.ending == Ending::Complete), (status, goes_on), "{first:?}");
        if goes_on {
            connection.response("GET").expect(200, "Hello World\n");
        } else {
            connection.expect_closed();
        }
    });
}
