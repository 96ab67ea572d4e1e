//! The request's body: its largest size, and how long it may stall, in both directions.

use std::time::Duration;

use crate::harness::{Connection, Ending, Request, Setup, Shared, each};

static SERVER: Shared = Shared::new(|| {
    Setup::new()
        .route("hello.test", "hello", "")
        .route("echo.test", "echo", "max_body = 1000")
        .route("service03.test", "service03", "max_body = 1000")
        .route("one.test", "echo", "max_body = 1")
        .route("stalled.test", "echo", "body_timeout = '600ms'")
        .route("stalled03.test", "service03", "body_timeout = '600ms'")
});

/// A body of `size` bytes in chunks of 100.
fn chunked(host: &str, target: &str, size: usize) -> Request {
    let body = vec![b'x'; size];
    Request::post(host, target).chunked(&body.chunks(100).collect::<Vec<_>>())
}

fn with_length(host: &str, target: &str, size: usize) -> Request {
    Request::post(host, target).body(&vec![b'x'; size])
}

#[test]
fn a_body_at_and_under_the_limit_arrives_whole() {
    let server = SERVER.get();
    for (host, sizes) in
        [("echo.test", &[0, 1, 999, 1000][..]), ("service03.test", &[999, 1000]), ("one.test", &[0, 1])]
    {
        for &size in sizes {
            for request in [with_length(host, "/echo", size), chunked(host, "/echo", size)] {
                server.exchange(&request).expect(200, &"x".repeat(size));
            }
        }
    }
}

#[test]
fn a_length_over_the_limit_is_refused_unread() {
    let server = SERVER.get();
    let cases =
        [("echo.test", "1001"), ("echo.test", "9223372036854775807"), ("service03.test", "1001"), ("one.test", "2")];
    each(&cases, |(host, length)| {
        // No byte of the body is sent.
        let mut connection = server.connect();
        connection.send(&Request::post(host, "/echo").header("Content-Length", length).head_bytes());
        connection.response("POST").expect_refusal(413, "request body too large");
    });
}

#[test]
fn chunks_over_the_limit_are_refused_when_they_come() {
    let server = SERVER.get();
    for size in [1001, 1100, 50_000] {
        // `/count` responds after the body, so an error response can still be sent.
        server.exchange(&chunked("echo.test", "/count", size)).expect_refusal(413, "request body too large");
    }
    server.exchange(&chunked("echo.test", "/count", 1000)).expect(200, "1000 bytes\n");
}

/// A guest that returns the request's body as its response sees the body error in its response. The client is still to
/// blame.
#[test]
fn a_body_that_is_handed_back_is_still_the_clients() {
    let server = SERVER.get();
    // In one chunk, so that nothing has been sent back when the limit is reached.
    let pass = |size: usize| Request::post("service03.test", "/pass").chunked(&[&vec![b'x'; size][..]]);
    server.exchange(&pass(1000)).expect(200, &"x".repeat(1000));
    server.exchange(&pass(1001)).expect_refusal(413, "request body too large");
}

#[test]
fn chunks_over_the_limit_after_the_head_cut_the_response() {
    let server = SERVER.get();
    for host in ["echo.test", "service03.test"] {
        let mut connection = server.connect();
        connection.send(&Request::post(host, "/echo").header("Transfer-Encoding", "chunked").head_bytes());
        connection.send(b"3\r\nabc\r\n");
        let mut response = connection.head();
        assert_eq!(response.status, 200);
        connection.read_chunk(b"abc");
        connection.try_send(format!("3e8\r\n{}\r\n0\r\n\r\n", "x".repeat(1000)).as_bytes());
        connection.finish(&mut response, "POST", &mut |_| {});
        assert_eq!(response.ending, Ending::Truncated, "{host}");
    }
}

#[test]
fn a_body_that_moves_may_take_longer_than_the_time_out() {
    let server = SERVER.get();
    for host in ["stalled.test", "stalled03.test"] {
        let mut connection = server.connect();
        connection.send(&Request::post(host, "/echo").header("Content-Length", "8").head_bytes());
        for _ in 0..8 {
            // Eight of these are longer than the 600 ms that a single wait may last.
            std::thread::sleep(Duration::from_millis(150));
            connection.send(b"x");
        }
        connection.response("POST").expect(200, "xxxxxxxx");
    }
}

#[test]
fn a_stalled_request_body_is_refused() {
    let server = SERVER.get();
    let cases = [
        Request::post("stalled.test", "/count").header("Content-Length", "8"),
        Request::post("stalled.test", "/count").header("Transfer-Encoding", "chunked"),
    ];
    for request in cases {
        for part in [&b""[..], b"1\r\nx"] {
            let mut connection = server.connect();
            connection.send(&request.head_bytes()).send(part);
            connection.response("POST").expect_refusal(408, "request body timed out");
            connection.expect_closed();
        }
    }
}

#[test]
fn a_request_body_that_stalls_after_the_head_cuts_the_response() {
    let server = SERVER.get();
    for host in ["stalled.test", "stalled03.test"] {
        let mut connection = server.connect();
        connection.send(&Request::post(host, "/echo").header("Content-Length", "8").head_bytes()).send(b"xxx");
        let response = connection.response("POST");
        assert_eq!((response.status, response.ending), (200, Ending::Truncated), "{host}");
    }
}

#[test]
fn a_client_that_stops_reading_is_left() {
    for (guest, target) in
        [("stream", "/n?chunks=64&size=1000000&pause_ms=0"), ("service03", "/stream?chunks=64&size=1000000")]
    {
        let server = Setup::new()
            .server("max_concurrency = 1\nmax_queue = 1\nqueue_timeout = '20s'")
            .route("stream.test", guest, "body_timeout = '500ms'\nwall_time = '5m'\ncpu_time = '60s'")
            .route("hello.test", "hello", "")
            .start();
        let mut idle = Connection::open_narrow(server.address());
        idle.send(&Request::get("stream.test", target).bytes());
        idle.some_bytes();
        // The only permit is released when the reader's time is up.
        server.get("hello.test", "/").expect(200, "Hello World\n");
        let mut response = idle.head();
        idle.finish(&mut response, "GET", &mut |_| {});
        assert_eq!(response.ending, Ending::Truncated);
    }
}
