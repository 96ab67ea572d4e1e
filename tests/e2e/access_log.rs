//! The access log: one line for each request, however it ends; what it says, and what it never says.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Daylily, Load, PATIENCE, Request, Setup, chunk_bytes, eventually, is_request_id};

/// A server that writes `access.log` in its directory, with `more` in its table.
pub fn logging(more: &str) -> Setup {
    routes().top(&format!("access_log = {{ format = 'json', to = 'access.log', {more} }}\n"))
}

/// Routes whose requests can end in many ways.
pub fn routes() -> Setup {
    Setup::new()
        .route("hello.test", "hello", "")
        .route("trap.test", "trap", "")
        .route("echo.test", "echo", "max_body = 10")
        .route("burn.test", "burn", "cpu_time = '100ms'")
        .route("wall.test", "stream", "wall_time = '300ms'")
        .route("stream.test", "stream", "")
        .route("memory.test", "memory", "max_memory = '4MiB'")
}

pub fn path(server: &Daylily) -> PathBuf {
    server.directory().join("access.log")
}

fn parse(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The lines, once there are so many.
#[track_caller]
fn lines(server: &Daylily, count: usize) -> Vec<Value> {
    let read = || fs::read_to_string(path(server)).unwrap_or_default();
    let there = eventually(PATIENCE, || read().lines().count() >= count);
    let lines = parse(&read());
    assert!(there && lines.len() == count, "not {count} lines: {lines:#?}");
    lines
}

#[test]
fn every_outcome_has_its_word_in_one_line() {
    let server = logging("fields = ['id', 'method', 'host', 'path', 'route', 'status', 'outcome', 'guest']").start();
    let get = |host: &str, target: &str| Request::get(host, target).bytes();
    let long = format!("/{}", "x".repeat(70_000));
    let chunked = Request::post("echo.test", "/").header("transfer-encoding", "gzip, chunked").bytes();
    let cases: [(Vec<u8>, &str, Option<u64>); 16] = [
        (get("hello.test", "/a?secret=1"), "ok", Some(200)),
        (get("nowhere.test", "/"), "no_route", Some(404)),
        (get("trap.test", "/before"), "trap", Some(500)),
        (get("trap.test", "/exit"), "exit", Some(500)),
        (get("trap.test", "/nothing"), "no_response", Some(500)),
        (get("trap.test", "/drop-body"), "invalid_response", Some(500)),
        (get("trap.test", "/error"), "guest_error", Some(502)),
        (get("trap.test", "/after-head"), "trap", Some(500)),
        (get("burn.test", "/loop"), "cpu_limit", Some(504)),
        (get("wall.test", "/silent?ms=60000"), "wall_limit", Some(504)),
        (get("memory.test", "/grow?mib=60"), "memory_limit", Some(500)),
        (Request::post("echo.test", "/").body(&[b'x'; 11]).bytes(), "body_limit", Some(413)),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "malformed", Some(400)),
        (b"GET /\x01 HTTP/1.1\r\nhost: hello.test\r\n\r\n".to_vec(), "malformed", Some(400)),
        (get("hello.test", &long), "head_limit", Some(414)),
        (chunked, "unsupported", Some(501)),
    ];
    for (at, (request, outcome, status)) in cases.iter().enumerate() {
        let mut connection = server.connect();
        connection.send(request);
        let sent = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        let response = connection.head();
        assert_eq!(Some(u64::from(response.status)), *status, "{sent}");
        let line = &lines(&server, at + 1)[at];
        assert_eq!(line["outcome"], *outcome, "{sent}: {line}");
        assert_eq!(line.get("status").and_then(Value::as_u64), *status, "{sent}: {line}");
        assert!(is_request_id(line["id"].as_str().unwrap_or_default()), "{line}");
    }
    let all = fs::read_to_string(path(&server)).expect("the log");
    assert!(!all.contains("secret"), "queries are not logged: {all}");
    let first = &parse(&all)[0];
    let expected =
        [("method", "GET"), ("host", "hello.test"), ("path", "/a"), ("route", "hello.test"), ("guest", "ok")];
    for (name, value) in expected {
        assert_eq!(first[name], value, "{first}");
    }
}

/// What the response says of a request is in the log, and what the log says of its failure has method and path.
#[test]
fn a_failure_is_found_by_its_id() {
    let server = logging("").start();
    let id = server.get("trap.test", "/before?token=secret").expect_refusal(500, "guest trapped");
    let line = &lines(&server, 1)[0];
    assert_eq!(line["id"], id.as_str());
    let failure = server.log().wait_for(&["guest failed", &id]);
    assert!(failure.contains("method=GET path=/before") && !failure.contains("secret"), "{failure}");
}

#[test]
fn a_client_that_leaves_has_a_line() {
    let server = logging("").start();
    let mut connection = server.connect();
    connection.send(&Request::get("stream.test", "/silent?ms=60000").bytes());
    assert!(eventually(PATIENCE, || server.status().total("requests_in_progress") == 1));
    connection.leave_rudely();
    let line = &lines(&server, 1)[0];
    assert_eq!((&line["outcome"], line.get("status")), (&"client_gone".into(), None), "{line}");
    // In the middle of a head.
    let mut connection = server.connect();
    connection.send(b"GET / HTTP/1.1\r\nho");
    assert!(eventually(PATIENCE, || server.status().total("connections") == 2));
    connection.leave();
    assert_eq!(lines(&server, 2)[1]["outcome"], "client_gone");
}

/// Exactly one, also of a head that arrives in pieces, is not valid or is never complete.
#[test]
fn each_head_has_one_line() {
    let server = logging("").start();
    let cases: [(&[&[u8]], &str); 5] = [
        (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], "malformed"),
        (&[b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n"], "malformed"),
        (&[b"GET / HTTP/1.1\r\nno fi", b"eld\r\n\r\n"], "malformed"),
        (&[b"\r\n", b"\r\nGET / HT"], "client_gone"),
        (&[b"GET / HTTP/1.1\r\nhost: ", b"hello.test\r\n\r\n"], "ok"),
    ];
    let mut expected = Vec::new();
    for (pieces, outcome) in cases {
        let mut connection = server.connect();
        for piece in pieces {
            connection.send(piece);
            // So that they are read one by one.
            connection.is_quiet_for(Duration::from_millis(50));
        }
        connection.leave();
        expected.push(outcome);
        let outcomes: Vec<_> = lines(&server, expected.len()).iter().map(|line| line["outcome"].clone()).collect();
        assert_eq!(outcomes, expected, "{pieces:?}");
    }
}

/// A response that is cut has the outcome of its cause, and the status that was sent.
#[test]
fn a_cut_response_is_no_success() {
    let server = logging("").start();
    let mut connection = server.connect();
    connection.send(&Request::get("burn.test", "/after-head").bytes());
    connection.head();
    let line = &lines(&server, 1)[0];
    assert_eq!((&line["outcome"], &line["status"]), (&"cpu_limit".into(), &200.into()), "{line}");
}

#[test]
fn numbers_are_plausible() {
    let server = logging("fields = ['bytes_in', 'bytes_out', 'total_us', 'queued_us', 'instantiate_us', 'guest_cpu_us', \
         'guest_wait_us', 'streaming_us', 'peak_memory', 'client', 'protocol', 'component', 'digest', 'generation', 'worker', 'time']")
        .start();
    server.exchange(&Request::post("echo.test", "/").body(b"12345")).expect(200, "12345");
    server.get("stream.test", "/silent?ms=200").expect(200, "done\n");
    let lines = lines(&server, 2);
    let number = |at: usize, name: &str| lines[at][name].as_u64().unwrap_or_else(|| panic!("{name}: {}", lines[at]));
    assert_eq!((number(0, "bytes_in"), number(0, "bytes_out")), (5, 5));
    assert_eq!((number(1, "bytes_in"), number(1, "bytes_out")), (0, 5));
    assert!(number(1, "guest_wait_us") >= 190_000 && number(1, "total_us") >= 190_000, "{}", lines[1]);
    let parts = ["queued_us", "instantiate_us", "guest_cpu_us", "guest_wait_us"].map(|name| number(1, name));
    assert!(parts.iter().sum::<u64>() <= number(1, "total_us") + 4, "parts within the whole: {}", lines[1]);
    assert!(number(0, "peak_memory") >= 64 << 10, "{}", lines[0]);
    assert_eq!((&lines[0]["client"], &lines[0]["protocol"]), (&"127.0.0.1".into(), &"HTTP/1.1".into()));
    assert_eq!((number(0, "generation"), number(0, "worker")), (1, 0));
    assert!(lines[0]["digest"].as_str().is_some_and(|digest| digest.len() == 64), "{}", lines[0]);
    assert!(lines[0]["component"].as_str().is_some_and(|name| name.ends_with("echo.wasm")), "{}", lines[0]);
}

/// Every request that a worker began to read has exactly one line, also when the worker is killed, and when the
/// observer is.
#[test]
fn kills_lose_no_line_and_repeat_none() {
    let server =
        logging("fields = ['id', 'outcome', 'path']").workers(2).repeats_lines("the observer is killed").start();
    let mut slow = server.connect();
    slow.send(&Request::get("stream.test", "/silent?ms=60000").bytes());
    assert!(eventually(PATIENCE, || server.status().total("requests_in_progress") == 1));
    let load = Load::start(server.address(), 4, &Request::get("hello.test", "/load"));
    for round in 0..4 {
        load.expect_more(50);
        let workers = server.workers();
        workers[round % 2].kill();
        load.expect_more(20);
        if round == 1 {
            server.observer().kill();
        }
        let ready =
            eventually(PATIENCE, || server.status().ready().is_some_and(|ready| !ready.contains(&workers[round % 2])));
        assert!(ready, "{:?}", server.status());
    }
    let outcome = load.end();
    assert!(eventually(PATIENCE, || server.status().total("requests_in_progress") == 0));
    let begun = server.status().total("requests") as usize;
    let log = path(&server);
    server.command(&["stop"]).expect(0, &[]);
    let lines = parse(&fs::read_to_string(log).expect("the log"));
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    lines.iter().for_each(|line| *ids.entry(line["id"].as_str().expect("an id")).or_default() += 1);
    // The observer's death repeats one batch at most, and loses none.
    let repeated: usize = ids.values().map(|count| count - 1).sum();
    assert_eq!(ids.len(), begun, "{} lines, {repeated} of them repeated, {outcome:?}", lines.len());
    let of = |word: &str| lines.iter().filter(|line| line["outcome"] == word).count();
    assert!(of("ok") as u64 >= outcome.answered, "{outcome:?}");
    assert!(of("lost") as u64 >= 1 && of("lost") as u64 <= outcome.failed() + 1, "{} lost, {outcome:?}", of("lost"));
    let slow = lines.iter().find(|line| line["path"] == "/silent").expect("the slow request");
    assert_eq!(slow["outcome"], "lost");
}

#[test]
fn a_lost_request_has_a_line_in_the_log() {
    let server = logging("").start();
    let mut slow = server.connect();
    slow.send(&Request::get("stream.test", "/silent?ms=60000").bytes());
    assert!(eventually(PATIENCE, || server.status().total("requests_in_progress") == 1));
    server.process().kill();
    let line = server.log().wait_for(&["request lost"]);
    assert!(line.contains("route=stream.test method=GET path=/silent"), "{line}");
}

#[test]
fn a_sample_stands_for_all() {
    let server =
        logging("sample = 0.1, always = ['failed', 'slower than 10s'], fields = ['outcome', 'weight']").start();
    const HELLOS: usize = 2_000;
    let mut connection = server.connect();
    for _ in 0..HELLOS {
        connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    }
    for _ in 0..20 {
        server.get("trap.test", "/before").expect_refusal(500, "guest trapped");
    }
    let read = || parse(&fs::read_to_string(path(&server)).unwrap_or_default());
    let failed = || read().iter().filter(|line| line["outcome"] == "trap").count();
    assert!(eventually(PATIENCE, || failed() == 20), "all that failed: {}", failed());
    let lines = read();
    assert!(lines.iter().filter(|line| line["outcome"] == "trap").all(|line| line.get("weight").is_none()));
    let hellos: f64 = lines
        .iter()
        .filter(|line| line["outcome"] == "ok")
        .map(|line| line["weight"].as_f64().expect("a weight"))
        .sum();
    // 200 lines are expected; six standard deviations are 80.
    assert!((hellos - HELLOS as f64).abs() < 800.0, "{hellos}");
}

#[test]
fn named_fields_are_logged_and_bounded() {
    let server = logging("headers = ['user-agent', 'X-Long']").start();
    let request =
        Request::get("hello.test", "/").header("user-agent", "test \"1\"").header("x-long", &"y".repeat(1000));
    server.exchange(&request.header("cookie", "secret").header("authorization", "secret")).expect(200, "Hello World\n");
    let line = &lines(&server, 1)[0];
    assert_eq!(line["user-agent"], "test \"1\"");
    assert_eq!(line["x-long"].as_str().map(str::len), Some(128));
    assert!(!line.to_string().contains("secret"), "{line}");
}

/// A worker's heads that arrive in pieces, and pipelined requests, are one line each.
#[test]
fn pipelined_requests_have_a_line_each() {
    let server = logging("fields = ['path', 'outcome', 'bytes_in']").start();
    let mut connection = server.connect();
    let mut bytes: Vec<u8> = (0..10).flat_map(|at| Request::get("hello.test", &format!("/{at}")).bytes()).collect();
    bytes.extend(Request::post("echo.test", "/last").header("transfer-encoding", "chunked").head_bytes());
    bytes.extend(chunk_bytes(b"abc"));
    bytes.extend(b"0\r\n\r\n");
    for piece in bytes.chunks(37) {
        connection.send(piece);
    }
    for _ in 0..10 {
        connection.response("GET").expect(200, "Hello World\n");
    }
    connection.response("POST").expect(200, "abc");
    let lines = lines(&server, 11);
    for (at, line) in lines.iter().enumerate().take(10) {
        assert_eq!((&line["path"], &line["outcome"]), (&format!("/{at}").into(), &"ok".into()));
    }
    assert_eq!((&lines[10]["path"], &lines[10]["bytes_in"]), (&"/last".into(), &3.into()));
}

/// A request that is still running when `shutdown_timeout` is over was cut, whether or not its head was sent.
#[test]
fn what_a_stop_cuts_has_its_word() {
    let server = logging("fields = ['outcome', 'path']").server("shutdown_timeout = '300ms'").start();
    let mut waiting = server.connect();
    waiting.send(&Request::get("stream.test", "/silent?ms=60000").bytes());
    let mut streaming = server.connect();
    streaming.send(&Request::get("stream.test", "/?chunks=1000&size=10&pause_ms=100").bytes());
    streaming.head();
    assert!(eventually(PATIENCE, || server.status().total("requests_in_progress") == 2));
    let log = path(&server);
    server.command(&["stop"]).expect(75, &["requests cut: 2"]);
    let lines = parse(&fs::read_to_string(log).expect("the log"));
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines.iter().all(|line| line["outcome"] == "cut"), "{lines:#?}");
}

/// An empty line after a request is no request (RFC 9112 §2.2).
#[test]
fn an_empty_line_has_no_record() {
    let server = logging("fields = ['path']").start();
    let mut connection = server.connect();
    connection.exchange(&Request::get("hello.test", "/first")).expect(200, "Hello World\n");
    connection.send(b"\r\n");
    connection.leave();
    server.get("hello.test", "/second").expect(200, "Hello World\n");
    let lines = lines(&server, 2);
    assert_eq!((&lines[0]["path"], &lines[1]["path"]), (&"/first".into(), &"/second".into()));
    assert_eq!(server.status().total("requests"), 2);
}

/// What belongs to a target's or a field's user information is no host.
#[test]
fn passwords_are_no_hosts() {
    let server = logging("fields = ['host', 'status']").start();
    let mut connection = server.connect();
    connection.send(b"GET http://user:password@hello.test/ HTTP/1.1\r\nhost: hello.test\r\n\r\n");
    connection.head();
    let line = &lines(&server, 1)[0];
    assert_eq!(line["host"], "hello.test", "{line}");
}
