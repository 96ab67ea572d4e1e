//! Each way in which a request can end is one request in the response, in the access log and in the metrics.

use std::collections::BTreeMap;

use daylily_core::request_outcome::RequestOutcome as Outcome;

use crate::access_log;
use crate::harness::{
    Connection, Counts, Daylily, Ending, MetricsPage, PATIENCE, Request, Response, Setup, Shared, count, each, entire,
    eventually,
};

/// What a client sees of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saw {
    Complete(u16),
    /// An error response, and whether the connection ends after it.
    Refused(u16, &'static str, Then),
    Cut(u16),
    /// The connection ended without a response.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Stays,
    Closes,
}

use Saw::{Complete, Cut, Nothing, Refused};
use Then::{Closes, Stays};

/// A response, complete or cut, and its connection.
type Answer = Option<(Response, Connection)>;

/// Sends a request that ends in one way.
type Drive = fn(&Daylily) -> Answer;

struct Case {
    outcome: Outcome,
    server: &'static Shared,
    drive: Drive,
    saw: Saw,
    route: Option<&'static str>,
    /// The status in the access log.
    status: Option<u16>,
    /// The other requests that `drive` sends: their routes and outcomes.
    also: &'static [(&'static str, Outcome)],
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.outcome, self.saw)
    }
}

impl Case {
    const fn new(outcome: Outcome, route: &'static str, saw: Saw, drive: Drive) -> Self {
        let status = match saw {
            Complete(status) | Refused(status, ..) | Cut(status) => Some(status),
            Nothing => None,
        };
        let route = if route.is_empty() { None } else { Some(route) };
        Self { outcome, server: &ORDINARY, drive, saw, route, status, also: &[] }
    }

    const fn on(mut self, server: &'static Shared, also: &'static [(&'static str, Outcome)]) -> Self {
        (self.server, self.also) = (server, also);
        self
    }

    /// It is a request of a guest, which got this status.
    const fn of_a_guest(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }
}

static ORDINARY: Shared = Shared::new(|| {
    let entire = entire("service03").display().to_string();
    access_log::routes()
        .server("head_timeout = '500ms'")
        .route("stalled.test", "echo", "body_timeout = '300ms'")
        .route_with("name = 'many.test'\nhost = 'many.test'\nmax_instances = 1", &entire)
        .raw_route("\n[[route]]\nname = 'files.test'\nhost = 'files.test'\nfiles = 'public'\n")
        .file("public/index.html", b"home")
});

/// One request at a time, and one that waits.
fn narrow(server: &str) -> Setup {
    let narrow = "max_concurrency = 1\nmax_queue = 1";
    Setup::new()
        .server(&format!("{narrow}\n{server}"))
        .route("hello.test", "hello", "")
        .route("echo.test", "echo", "")
        .route("stream.test", "stream", "")
        .route("caller.test", "outgoing", "allow_http = ['route:called']")
        .route_at("name = 'called'\nhost = 'called.test'", "hello")
}

static NARROW: Shared = Shared::new(|| narrow("queue_timeout = '60s'"));
static IMPATIENT: Shared = Shared::new(|| narrow("queue_timeout = '200ms'\nmax_chain = 1"));
static ENDING: Shared = Shared::new(|| narrow("queue_timeout = '60s'\nshutdown_timeout = '300ms'"));

/// There is a case for each outcome.
const CASES: &[Case] = &[
    Case::new(Outcome::Ok, "hello.test", Complete(200), |server| get(server, "hello.test", "/")),
    Case::new(Outcome::Ok, "echo.test", Complete(200), |server| {
        let request = Request::post("echo.test", "/echo").header("te", "trailers").chunked(&[b"x"]);
        send(server, &request.trailer("x-sum", "1").bytes())
    }),
    Case::new(Outcome::Trap, "trap.test", Refused(500, "guest trapped", Stays), |server| {
        get(server, "trap.test", "/before")
    }),
    Case::new(Outcome::Exit, "trap.test", Refused(500, "guest trapped", Stays), |server| {
        get(server, "trap.test", "/exit")
    }),
    Case::new(Outcome::NoResponse, "trap.test", Refused(500, "guest returned no response", Stays), |server| {
        get(server, "trap.test", "/none")
    }),
    Case::new(
        Outcome::InvalidResponse,
        "trap.test",
        Refused(500, "guest returned an invalid response", Stays),
        |server| get(server, "trap.test", "/drop-body"),
    ),
    Case::new(Outcome::GuestError, "trap.test", Refused(502, "guest returned an error code", Stays), |server| {
        get(server, "trap.test", "/error")
    }),
    Case::new(Outcome::CpuLimit, "burn.test", Refused(504, "CPU time limit exceeded", Stays), |server| {
        get(server, "burn.test", "/loop")
    }),
    Case::new(Outcome::CpuLimit, "burn.test", Cut(200), |server| get(server, "burn.test", "/after-head")),
    Case::new(Outcome::WallLimit, "wall.test", Refused(504, "wall time limit exceeded", Stays), |server| {
        get(server, "wall.test", "/silent?ms=60000")
    }),
    Case::new(Outcome::MemoryLimit, "memory.test", Refused(500, "guest trapped", Stays), |server| {
        get(server, "memory.test", "/grow?mib=60")
    }),
    Case::new(Outcome::BodyLimit, "echo.test", Refused(413, "request body too large", Closes), |server| {
        send(server, &Request::post("echo.test", "/").header("content-length", "11").head_bytes())
    }),
    Case::new(Outcome::BodyTimeout, "stalled.test", Refused(408, "request body timed out", Closes), |server| {
        send(server, &Request::post("stalled.test", "/count").header("content-length", "8").head_bytes())
    }),
    Case::new(
        Outcome::BodySlow,
        "echo.test",
        Refused(408, "request body too slow while other requests waited", Closes),
        body_slow,
    )
    .on(&NARROW, &[("hello.test", Outcome::Ok)]),
    Case::new(Outcome::HeadLimit, "", Refused(414, "request target too long", Closes), |server| {
        get(server, "hello.test", &format!("/{}", "x".repeat(70_000)))
    }),
    Case::new(Outcome::HeadTimeout, "", Refused(408, "request head timed out", Closes), |server| {
        send(server, b"GET / HTTP/1.1\r\nhost: hello")
    }),
    Case::new(Outcome::Malformed, "", Refused(400, "malformed request", Closes), |server| {
        send(server, b"GET / HTTP/1.1\r\n\r\n")
    }),
    Case::new(Outcome::Malformed, "", Refused(400, "malformed request", Closes), |server| {
        send(server, b"GET /\x01 HTTP/1.1\r\nhost: hello.test\r\n\r\n")
    }),
    Case::new(Outcome::Unsupported, "", Refused(501, "unsupported transfer coding", Closes), |server| {
        send(server, &Request::post("echo.test", "/").header("transfer-encoding", "gzip, chunked").bytes())
    }),
    Case::new(Outcome::NoPermit, "called", Nothing, |server| calls(server, 503))
        .on(&NARROW, &[("caller.test", Outcome::Ok)])
        .of_a_guest(503),
    Case::new(Outcome::LoopDetected, "called", Nothing, |server| calls(server, 508))
        .on(&IMPATIENT, &[("caller.test", Outcome::Ok)])
        .of_a_guest(508),
    Case::new(Outcome::NoRoute, "", Refused(404, "no such route", Stays), |server| get(server, "nowhere.test", "/")),
    Case::new(Outcome::Ok, "files.test", Complete(200), |server| get(server, "files.test", "/")),
    Case::new(Outcome::NoFile, "files.test", Refused(404, "no such file", Stays), |server| {
        get(server, "files.test", "/none")
    }),
    Case::new(Outcome::MethodNotAllowed, "files.test", Refused(405, "method not allowed", Stays), |server| {
        send(server, &Request::new("DELETE", "files.test", "/").bytes())
    }),
    Case::new(Outcome::Internal, "files.test", Refused(500, "internal error", Stays), without_descriptors)
        .on(&ORDINARY, &[("hello.test", Outcome::Ok)]),
    Case::new(Outcome::QueueFull, "hello.test", Refused(503, "request queue full", Stays), queue_full)
        .on(&NARROW, &[("stream.test", Outcome::ClientGone), ("stream.test", Outcome::ClientGone)]),
    Case::new(Outcome::QueueTimeout, "hello.test", Refused(503, "timed out in queue", Stays), |server| {
        let _held = hold(server, 1);
        get(server, "hello.test", "/")
    })
    .on(&IMPATIENT, &[("stream.test", Outcome::ClientGone)]),
    Case::new(Outcome::NoInstance, "many.test", Refused(503, "cannot create an instance", Stays), |server| {
        get(server, "many.test", "/")
    }),
    Case::new(Outcome::ClientGone, "stream.test", Nothing, |server| {
        hold(server, 1).leave_rudely();
        None
    }),
    Case::new(Outcome::ShutDown, "hello.test", Refused(503, "server is shutting down", Closes), refused_by_a_reload)
        .on(&ENDING, &[("stream.test", Outcome::Cut)]),
    Case::new(Outcome::Cut, "stream.test", Cut(200), cut_by_a_reload).on(&ENDING, &[]),
    Case::new(Outcome::Lost, "stream.test", Nothing, |server| {
        let held = hold(server, 1);
        server.process().kill();
        answer(held)
    })
    // Not beside the others, because a death of a worker makes the harness less strict.
    .on(&IMPATIENT, &[]),
];

fn send(server: &Daylily, bytes: &[u8]) -> Answer {
    let mut connection = server.connect();
    connection.try_send(bytes);
    answer(connection)
}

fn answer(mut connection: Connection) -> Answer {
    let response = connection.try_response("GET", PATIENCE).ok()?;
    Some((response, connection))
}

fn get(server: &Daylily, host: &str, target: &str) -> Answer {
    send(server, &Request::get(host, target).bytes())
}

#[track_caller]
fn wait_for_requests(server: &Daylily, count: u64) {
    let came = eventually(PATIENCE, || server.status().total("requests_in_progress") == count);
    assert!(came, "{:?}", server.status());
}

/// A request that does not end, the one with this number among those in progress.
fn hold(server: &Daylily, number: u64) -> Connection {
    let mut connection = server.connect();
    connection.send(&Request::get("stream.test", "/silent?ms=60000").bytes());
    wait_for_requests(server, number);
    connection
}

fn queue_full(server: &Daylily) -> Answer {
    let _held = [hold(server, 1), hold(server, 2)];
    get(server, "hello.test", "/")
}

/// A guest calls another route, and gets this status.
fn calls(server: &Daylily, status: u16) -> Answer {
    let response = server.get("caller.test", "/?url=http://called.daylily.internal/");
    assert!(response.text().starts_with(&format!("status: {status}\n")), "{response:?}");
    None
}

/// A file cannot be opened, because its worker has no descriptor left.
fn without_descriptors(server: &Daylily) -> Answer {
    let mut connection = server.connect();
    connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    let (worker, limit) = (server.process(), server.process().descriptor_limit());
    worker.limit_descriptors(4);
    connection.send(&Request::get("files.test", "/index.html").bytes());
    let answer = answer(connection);
    worker.limit_descriptors(limit);
    answer
}

/// Gives way to a request that waits.
fn body_slow(server: &Daylily) -> Answer {
    let mut slow = server.connect();
    slow.send(&Request::post("echo.test", "/count").header("content-length", "8").head_bytes());
    wait_for_requests(server, 1);
    server.get("hello.test", "/").expect(200, "Hello World\n");
    answer(slow)
}

/// Waits in the queue while its worker drains.
fn refused_by_a_reload(server: &Daylily) -> Answer {
    let mut held = hold(server, 1);
    let mut waiting = server.connect();
    waiting.send(&Request::get("hello.test", "/").bytes());
    wait_for_requests(server, 2);
    server.reload();
    held.response("GET").expect_refusal(503, "server is shutting down");
    answer(waiting)
}

/// Its response has begun, and takes longer than its worker may.
fn cut_by_a_reload(server: &Daylily) -> Answer {
    let mut streaming = server.connect();
    streaming.send(&Request::get("stream.test", "/?chunks=1000&size=10&pause_ms=100").bytes());
    let mut response = streaming.head();
    server.reload();
    streaming.finish(&mut response, "GET", &mut |_| {});
    Some((response, streaming))
}

/// What was seen, with the reason of an error response as it should be.
#[track_caller]
fn saw(answer: Option<&mut (Response, Connection)>, expected: Saw) -> Saw {
    let Some((response, connection)) = answer else { return Nothing };
    if let Refused(status, reason, then) = expected {
        response.expect_refusal(status, reason);
        match then {
            Closes => drop(connection.expect_closed()),
            Stays => assert!(!response.closes(), "{response:?}"),
        }
        return expected;
    }
    if response.ending == Ending::Complete { Complete(response.status) } else { Cut(response.status) }
}

/// The difference between what was counted before and now.
fn since(now: Counts, before: &Counts) -> Counts {
    let mut counts = now;
    counts.iter_mut().for_each(|(key, count)| *count -= before.get(key).copied().unwrap_or(0));
    counts.retain(|_, count| *count > 0);
    counts
}

fn check(case: &Case) {
    let server = case.server.get();
    wait_for_requests(&server, 0);
    let (before, lines) = (server.metrics(), server.records().len());
    let class = |page: &MetricsPage| {
        let class = case.status.map_or("none".to_owned(), |status| format!("{}xx", status / 100));
        page.sum("daylily_responses_total", case.route, &[("class", &class)])
    };

    let mut answer = (case.drive)(&server);
    assert_eq!(saw(answer.as_mut(), case.saw), case.saw);

    let mut expected: Counts = BTreeMap::new();
    let this = (case.route, case.outcome);
    for (route, outcome) in case.also.iter().map(|(route, outcome)| (Some(*route), *outcome)).chain([this]) {
        *expected.entry((route.map(str::to_owned), outcome.to_string())).or_default() += 1;
    }
    let counted = || since(server.metrics().requests(), &before.requests());
    assert!(eventually(PATIENCE, || counted() == expected), "{:?}, not {expected:?}", counted());
    let others = case.also.iter().filter(|(route, _)| case.route == Some(route)).count();
    let timed = |page: &MetricsPage| page.sum("daylily_request_duration_seconds_count", case.route, &[]);
    // A request whose worker died has no duration.
    let wanted = (others + usize::from(case.outcome != Outcome::Lost)) as f64;
    let is_timed = eventually(PATIENCE, || timed(&server.metrics()) - timed(&before) == wanted);
    assert!(is_timed, "{} in the histogram, {wanted} more are wanted", timed(&server.metrics()));
    let classes = class(&server.metrics()) - class(&before);
    assert!((1.0..=1.0 + others as f64).contains(&classes), "{classes} with the class of the status");

    let logged = || server.records().split_off(lines);
    assert!(eventually(PATIENCE, || count(&logged()) == expected), "{:#?}, not {expected:?}", logged());
    let key = (case.route.map(str::to_owned), case.outcome.to_string());
    let record = logged().into_iter().find(|record| record.key() == key).expect("its record");
    assert_eq!(record.status, case.status, "{record:?}");
    if let Some((response, _)) = answer {
        assert_eq!(response.values("x-request-id"), [&record.id]);
    }
}

#[test]
fn each_outcome_is_in_the_response_the_log_and_the_metrics() {
    // Otherwise it would be started again for each case.
    let _running = ORDINARY.get();
    each(CASES, check);
}

#[test]
fn every_outcome_has_a_case() {
    let missing: Vec<&Outcome> =
        Outcome::ALL.iter().filter(|outcome| !CASES.iter().any(|case| case.outcome == **outcome)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
