//! The request's head and the connection: size, number of fields, time to receive, idle time, number of connections.

use std::time::{Duration, Instant};

use crate::harness::{Connection, PATIENCE, Request, Setup, Shared, Silence, each};

static SERVER: Shared = Shared::new(|| {
    let limits = "max_head = '16KiB'\nmax_headers = 10\nhead_timeout = '800ms'\nidle_timeout = '700ms'";
    Setup::bare(&["-c", "daylily.toml"]).file("daylily.toml", config(limits).as_bytes())
});

fn config(limits: &str) -> String {
    let hello = crate::harness::guest("hello");
    format!("[server]\n{limits}\n[[route]]\ncomponent = '{}'\n", hello.display())
}

/// A head of exactly `size` bytes, including its empty line.
fn head_of(size: usize) -> Vec<u8> {
    let without = Request::get("a.test", "/").header("x-filler", "").head_bytes().len();
    let head = Request::get("a.test", "/").header("x-filler", &"f".repeat(size - without)).head_bytes();
    assert_eq!(head.len(), size);
    head
}

const OK: u16 = 200;
const TOO_LARGE: u16 = 431;

fn check_head(connection: &mut Connection, head: &[u8], status: u16) {
    connection.try_send(head);
    let response = connection.response("GET");
    match status {
        OK => drop(response.expect(200, "Hello World\n")),
        _ => drop(response.expect_refusal(TOO_LARGE, "request head too large")),
    }
}

#[test]
fn head_size_at_under_and_over() {
    let server = SERVER.get();
    let limit = 16 * 1024;
    let cases =
        [(limit - 1, OK), (limit, OK), (limit + 1, TOO_LARGE), (limit + 100, TOO_LARGE), (10 * limit, TOO_LARGE)];
    each(&cases, |&(size, status)| {
        check_head(&mut server.connect(), &head_of(size), status);
    });
}

#[test]
fn the_head_limit_holds_on_a_connection_in_use() {
    let server = SERVER.get();
    let mut connection = server.connect();
    check_head(&mut connection, &head_of(16 * 1024), OK);
    check_head(&mut connection, &head_of(16 * 1024), OK);
    check_head(&mut connection, &head_of(16 * 1024 + 1), TOO_LARGE);
    connection.expect_closed();
}

#[test]
fn a_head_without_an_end_is_refused_at_the_limit() {
    let server = SERVER.get();
    let fill = |begin: &str| [begin.as_bytes(), &[b'f'; 40_000]].concat();
    let endless = [
        (fill("GET / HTTP/1.1\r\nHost: a.test\r\nx: "), TOO_LARGE, "request head too large"),
        (fill("GET / HTTP/1.1\r\nHost: a.test\r\n"), TOO_LARGE, "request head too large"),
        (fill("GET /"), 414, "request target too long"),
    ];
    for (bytes, status, reason) in endless {
        let mut connection = server.connect();
        connection.try_send(&bytes);
        connection.response("GET").expect_refusal(status, reason);
        connection.expect_closed();
    }
}

/// The limit of a head is 16 KiB here.
#[test]
fn what_is_too_long_has_a_status_of_its_own() {
    let server = SERVER.get();
    let line = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "a".repeat(bytes - 16));
    let cases = [
        (line(8_000), OK, ""),
        (line(16 * 1024 - 16), OK, ""),
        // The request line fits, the whole head does not.
        (line(16 * 1024), TOO_LARGE, "request head too large"),
        (line(16 * 1024 + 1), 414, "request target too long"),
        (line(60_000), 414, "request target too long"),
    ];
    each(&cases, |(head, status, reason)| {
        for pieces in [1, 3] {
            let mut connection = server.connect();
            for piece in head.as_bytes().chunks(head.len() / pieces + 1) {
                connection.try_send(piece);
            }
            match *status {
                OK => drop(connection.response("GET").expect(200, "Hello World\n")),
                status => drop(connection.response("GET").expect_refusal(status, reason)),
            }
        }
    });
    // hyper accepts targets of up to 65,534 bytes.
    let server = Setup::new().server("max_head = '128KiB'").route("a.test", "hello", "").start();
    for (bytes, status) in [(65_534, OK), (65_535, 414)] {
        let response = server.exchange(&Request::get("a.test", &format!("/{}", "a".repeat(bytes - 1))));
        assert_eq!(response.status, status, "{}", response.text());
    }
}

#[test]
fn header_count_at_under_and_over() {
    let server = SERVER.get();
    for (count, status) in [(9, OK), (10, OK), (11, TOO_LARGE), (50, TOO_LARGE)] {
        let host = Request::get("a.test", "/");
        let request = (1..count).fold(host, |request, at| request.header(&format!("x-{at}"), "v"));
        check_head(&mut server.connect(), &request.bytes(), status);
    }
}

#[test]
fn the_defaults_are_64_kib_and_100_headers() {
    let server = Setup::bare(&[]).start();
    for (size, status) in [(64 * 1024, OK), (64 * 1024 + 1, TOO_LARGE)] {
        check_head(&mut server.connect(), &head_of(size), status);
    }
    for (count, status) in [(100, OK), (101, TOO_LARGE)] {
        let host = Request::get("a.test", "/");
        let request = (1..count).fold(host, |request, at| request.header(&format!("x-{at}"), "v"));
        check_head(&mut server.connect(), &request.bytes(), status);
    }
}

#[test]
fn a_head_that_takes_too_long_is_refused() {
    let server = SERVER.get();
    for part in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a.test\r\n"] {
        let mut connection = server.connect();
        let start = Instant::now();
        connection.send(part.as_bytes());
        connection.response("GET").expect_refusal(408, "request head timed out");
        assert!(start.elapsed() >= Duration::from_millis(700), "after {:?} of 800 ms", start.elapsed());
        connection.expect_closed();
    }
}

/// Each byte arrives soon after the previous one: the time-out is for the whole head.
#[test]
fn a_trickling_head_is_refused_all_the_same() {
    let server = SERVER.get();
    for first in [true, false] {
        let mut connection = server.connect();
        if !first {
            connection.exchange(&Request::get("a.test", "/")).expect(200, "Hello World\n");
        }
        let start = Instant::now();
        connection.send(b"GET / HTTP/1.1\r\nx: ");
        let refused = loop {
            match connection.try_response("GET", Duration::from_millis(100)) {
                Ok(response) => break response,
                Err(Silence::Closed) => panic!("closed without an answer"),
                Err(Silence::Waiting) => drop(connection.try_send(b"y")),
            }
            assert!(start.elapsed() < PATIENCE, "still waiting for the head");
        };
        refused.expect_refusal(408, "request head timed out");
    }
}

#[test]
fn a_connection_that_never_speaks_is_closed() {
    let server = SERVER.get();
    let mut connection = server.connect();
    let start = Instant::now();
    // There is no request to respond to.
    assert!(matches!(connection.try_response("GET", PATIENCE), Err(Silence::Closed)));
    assert!(start.elapsed() < PATIENCE / 2, "after {:?}", start.elapsed());
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = SERVER.get();
    let mut connection = server.connect();
    let get = Request::get("a.test", "/");
    connection.exchange(&get).expect(200, "Hello World\n");
    std::thread::sleep(Duration::from_millis(250));
    connection.exchange(&get).expect(200, "Hello World\n");
    let took = connection.expect_closed();
    assert!(took >= Duration::from_millis(600), "idle for {took:?} of 700 ms");
    assert!(took < Duration::from_secs(10), "idle for {took:?}");
}

#[test]
fn connections_at_and_over_their_limit() {
    let server =
        Setup::bare(&["-c", "daylily.toml"]).file("daylily.toml", config("max_connections = 3").as_bytes()).start();
    let get = Request::get("a.test", "/");
    let mut open: Vec<Connection> = (0..3).map(|_| server.connect()).collect();
    for connection in &mut open {
        connection.exchange(&get).expect(200, "Hello World\n");
    }
    let mut next = server.connect();
    next.send(&get.bytes());
    assert!(next.is_quiet_for(Duration::from_millis(400)), "a fourth connection was served");
    // The open connections are not disturbed, and the fourth is accepted when one of them ends.
    for connection in &mut open {
        connection.exchange(&get).expect(200, "Hello World\n");
    }
    open.pop().expect("three connections").leave();
    next.response("GET").expect(200, "Hello World\n");
}

#[test]
fn the_descriptor_limit_is_raised_to_what_connections_need() {
    let server = Setup::bare(&[]).through("ulimit -Sn 256; exec \"$@\"").start();
    let limit = server.process().descriptor_limit();
    assert!(limit >= 10_000, "{limit} descriptors for 10,000 connections");
}

#[test]
fn a_descriptor_limit_that_cannot_be_raised_is_said_at_start() {
    // For root, remove the capability to raise the hard limit, which the server would use.
    let script = "ulimit -n 256; [ $(id -u) != 0 ] || set -- setpriv --bounding-set -sys_resource \"$@\"; exec \"$@\"";
    let server = Setup::bare(&[]).through(script).start();
    // The remaining descriptors are enough for a good number of clients.
    let mut clients: Vec<Connection> = (0..64).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.exchange(&Request::get("a.test", "/")).expect(200, "Hello World\n");
    }
    let limit = server.process().descriptor_limit();
    assert_eq!(limit, 256, "the limit could be raised");
    server.log().wait_for(&["WARN", "descriptor limit", "max_connections = 10000", "ulimit -n"]);
}

/// When descriptors run out, neither the accept loop nor the open connections are affected.
#[test]
fn running_out_of_descriptors_ends_nothing() {
    let server = Setup::bare(&[]).start();
    let get = Request::get("a.test", "/");
    let mut first = server.connect();
    first.exchange(&get).expect(200, "Hello World\n");
    let (process, limit) = (server.process(), server.process().descriptor_limit());
    process.limit_descriptors(process.descriptors() as u64 + 4);
    let mut more: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
    for connection in &mut more {
        connection.send(&get.bytes());
    }
    server.log().wait_for(&["ERROR", "failed to accept"]);
    first.exchange(&get).expect(200, "Hello World\n");
    process.limit_descriptors(limit);
    // No connection was lost: they waited in the backlog.
    for mut connection in more {
        connection.response("GET").expect(200, "Hello World\n");
    }
    first.exchange(&get).expect(200, "Hello World\n");
}

/// With any previous request, however its body was sent.
#[test]
fn a_connection_is_idle_after_a_body_too() {
    let server = Setup::new().server("idle_timeout = '500ms'").route("echo.test", "echo", "").start();
    let requests = [
        Request::get("echo.test", "/"),
        Request::post("echo.test", "/").body(b"body"),
        Request::post("echo.test", "/").chunked(&[b"body"]),
        Request::post("echo.test", "/count").chunked(&[b"in", b"pieces"]),
        Request::post("echo.test", "/").chunked(&[]),
        // An error response; only hyper reads the body.
        Request::post("none.test", "/").body(b"body"),
    ];
    each(&requests, |request| {
        let mut connection = server.connect();
        assert!(matches!(connection.exchange(request).status, 200 | 404));
        connection.expect_closed();
    });
}
