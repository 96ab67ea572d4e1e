//! The bytes on the wire: order, lengths, trailers, and responses without a body.

use crate::harness::{Connection, Daylily, Ending, Request, Response, Setup, Shared, each};

static SERVER: Shared = Shared::new(|| {
    Setup::new()
        .route("hello.test", "hello", "")
        .route("echo.test", "echo", "")
        .route("status.test", "status", "")
        .route("stream.test", "stream", "")
        .route("service03.test", "service03", "")
});

/// The next request on the connection gets a normal response.
fn expect_usable(connection: &mut Connection) {
    connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
}

fn expect_no_trap(server: &Daylily) {
    server.get("hello.test", "/").expect(200, "Hello World\n");
    let traps = server.log().matching(|line| line.contains("trap") || line.contains("ERROR"));
    assert_eq!(traps, Vec::<String>::new());
}

#[test]
fn head_has_no_body_and_harms_nobody() {
    let server = SERVER.get();
    let cases = [
        ("hello.test", "/"),
        ("status.test", "/200"),
        ("status.test", "/204"),
        ("status.test", "/304"),
        ("status.test", "/nobody/200"),
        ("stream.test", "/n?chunks=5&size=100&pause_ms=0"),
        ("stream.test", "/n?chunks=5&size=100000&pause_ms=0"),
        ("echo.test", "/"),
        ("service03.test", "/"),
        ("service03.test", "/head"),
        ("service03.test", "/stream?chunks=5&size=100000"),
    ];
    each(&cases, |(host, target)| {
        let mut connection = server.connect();
        let response = connection.exchange(&Request::new("HEAD", host, target));
        assert!(matches!(response.status, 200 | 204 | 304), "{response:?}");
        assert_eq!((response.ending, response.body.len()), (Ending::Complete, 0));
        // Bytes of a body would be read before this response, and fail the test.
        expect_usable(&mut connection);
    });
    expect_no_trap(&server);
}

#[test]
fn head_tells_the_length_that_get_would_have() {
    let server = SERVER.get();
    for (host, target) in [("service03.test", "/head"), ("status.test", "/200")] {
        let response = server.exchange(&Request::new("HEAD", host, target));
        assert_eq!(response.values("content-length"), ["5"], "{host}");
    }
}

#[test]
fn statuses_without_a_body_have_none() {
    let server = SERVER.get();
    let cases = [
        ("GET", "status.test", "/204", 204),
        ("GET", "status.test", "/304", 304),
        ("GET", "status.test", "/nobody/204", 204),
        ("GET", "status.test", "/nobody/304", 304),
        ("HEAD", "status.test", "/204", 204),
        ("POST", "status.test", "/204", 204),
        ("GET", "service03.test", "/status/204", 204),
        ("GET", "service03.test", "/status/304", 304),
    ];
    each(&cases, |&(method, host, target, status)| {
        let mut connection = server.connect();
        let response = connection.exchange(&Request::new(method, host, target));
        assert_eq!((response.status, response.ending.clone(), response.body.len()), (status, Ending::Complete, 0));
        assert!(!response.has("content-length") && !response.has("transfer-encoding"), "{response:?}");
        expect_usable(&mut connection);
    });
    expect_no_trap(&server);
}

/// RFC 9110 §15.3.6 forbids content, but RFC 9112 §6.3 does not end such a response after its head.
#[test]
fn a_205_has_a_length_of_0() {
    let server = SERVER.get();
    for (host, target) in [("status.test", "/205"), ("status.test", "/nobody/205"), ("service03.test", "/status/205")] {
        let mut connection = server.connect();
        let response = connection.exchange(&Request::get(host, target));
        assert_eq!((response.status, response.ending.clone(), response.body.len()), (205, Ending::Complete, 0));
        assert_eq!(response.values("content-length"), ["0"], "{response:?}");
        expect_usable(&mut connection);
    }
}

/// RFC 9110 §6.6.1 and §5.6.7.
#[test]
fn every_response_has_a_date_in_the_preferred_form() {
    let server = SERVER.get();
    let bad = Request::get("hello.test", "/").header("X ", "y");
    let requests =
        [Request::get("hello.test", "/"), Request::get("status.test", "/204"), Request::get("none.test", "/"), bad];
    for request in requests {
        let response = server.exchange(&request);
        let &[date] = response.values("date").as_slice() else { panic!("not one date: {response:?}") };
        let parsed = httpdate::parse_http_date(date).expect("a date");
        assert_eq!(httpdate::fmt_http_date(parsed), date);
    }
}

#[test]
fn other_statuses_pass_through() {
    let server = SERVER.get();
    for status in [200, 201, 206, 299, 301, 400, 404, 418, 500, 503, 599] {
        server.get("status.test", &format!("/{status}")).expect(status, "hello");
        let response = server.get("service03.test", &format!("/status/{status}"));
        assert_eq!((response.status, response.ending), (status, Ending::Complete));
    }
}

#[test]
fn an_interim_status_is_no_answer() {
    let server = SERVER.get();
    for host in ["status.test", "service03.test"] {
        for status in [100, 101, 103] {
            let target = if host == "status.test" { format!("/{status}") } else { format!("/status/{status}") };
            let response = server.get(host, &target);
            assert_eq!((response.status, response.ending), (500, Ending::Complete), "{host} {target}");
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = SERVER.get();
    let slow = |chunks: usize, pause: u32| {
        Request::get("stream.test", &format!("/n?chunks={chunks}&size=10&pause_ms={pause}"))
    };
    // The slowest first, so that the order is only right if responses wait for earlier ones.
    let requests = [
        slow(3, 60),
        Request::get("hello.test", "/"),
        Request::post("echo.test", "/").body(b"with a length"),
        Request::post("echo.test", "/").chunked(&[b"in ", b"chunks"]),
        slow(2, 20),
        Request::new("HEAD", "hello.test", "/"),
        Request::get("status.test", "/204"),
        Request::post("service03.test", "/echo").body(b"third"),
        Request::get("hello.test", "/last"),
    ];
    let mut connection = server.connect();
    connection.send(&requests.iter().flat_map(Request::bytes).collect::<Vec<u8>>());
    let responses: Vec<Response> = requests.iter().map(|request| connection.response(request.method())).collect();
    assert!(responses.iter().all(|response| response.ending == Ending::Complete), "{responses:?}");
    let lengths: Vec<usize> = responses.iter().map(|response| response.body.len()).collect();
    assert_eq!(lengths, [30, 12, 13, 9, 20, 0, 0, 5, 12]);
    let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 204, 200, 200]);
}

#[test]
fn trailers_go_both_ways() {
    let server = SERVER.get();
    for (host, target) in [("echo.test", "/"), ("service03.test", "/echo")] {
        let mut connection = server.connect();
        let request = Request::post(host, target)
            .header("TE", "trailers")
            .header("Connection", "TE")
            .header("Trailer", "x-checksum, x-other")
            .chunked(&[b"some ", b"text"])
            .trailer("x-checksum", "abc")
            .trailer("x-other", "second");
        let response = connection.exchange(&request);
        response.expect(200, "some text");
        let mut trailers = response.trailers.clone();
        trailers.sort();
        let expected = [("x-checksum", "abc"), ("x-other", "second")];
        assert_eq!(trailers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())), "{host}");
        expect_usable(&mut connection);
    }
}

#[test]
fn a_client_that_does_not_want_trailers_gets_a_whole_body() {
    let server = SERVER.get();
    for (host, target) in [("echo.test", "/"), ("service03.test", "/echo")] {
        let request = Request::post(host, target).chunked(&[b"text"]).trailer("x-checksum", "abc");
        server.exchange(&request).expect(200, "text");
    }
}

#[test]
fn http_1_0_gets_no_chunks_and_the_connection_ends() {
    let server = Setup::new()
        .route_at("name = 'echo'\npath = '/echo'", "service03")
        .route_at("name = 'stream'\npath = '/n'", "stream")
        .route_at("name = 'hello'", "hello")
        .start();
    let long = "x".repeat(10 * 1000);
    let cases = [
        (Request::get("", "/"), "Hello World\n".to_owned()),
        (Request::get("", "/n?chunks=3&size=100000&pause_ms=1"), String::new()),
        (Request::post("", "/echo").body(long.as_bytes()), long.clone()),
    ];
    each(&cases, |(request, body)| {
        let mut connection = server.connect();
        let response = connection.exchange(&request.clone().http10());
        assert_eq!((response.status, response.ending.clone()), (200, Ending::Complete));
        assert!(!response.has("transfer-encoding"), "{:?}", response.headers);
        match body.as_str() {
            "" => assert_eq!(response.body.len(), 300_000),
            body => assert_eq!(response.text(), body),
        }
        connection.expect_closed();
    });
}

#[test]
fn http_1_0_keeps_the_connection_only_where_asked_and_possible() {
    let server = Setup::bare(&[]).start();
    let mut connection = server.connect();
    for _ in 0..3 {
        let response = connection.exchange(&Request::get("", "/").http10().header("Connection", "keep-alive"));
        response.expect(200, "Hello World\n");
        assert_eq!(response.values("connection"), ["keep-alive"], "{response:?}");
        assert!(response.has("content-length"), "kept open without a length: {response:?}");
    }
    let response = connection.exchange(&Request::get("", "/").http10());
    assert!(!response.values("connection").contains(&"keep-alive"), "{response:?}");
    connection.expect_closed();
}

/// The end of the connection is the end of such a body, so the response must not announce keep-alive.
#[test]
fn http_1_0_without_a_length_is_not_kept() {
    let server = Setup::new().route_at("", "stream").start();
    let mut connection = server.connect();
    let request = Request::get("", "/?chunks=3&size=4&pause_ms=1").http10();
    let response = connection.exchange(&request.header("Connection", "keep-alive"));
    assert!(!response.has("content-length") && response.closes(), "{response:?}");
    connection.expect_closed();
}

#[test]
fn a_client_that_asks_to_close_is_obeyed() {
    let server = SERVER.get();
    for host in ["hello.test", "service03.test"] {
        let mut connection = server.connect();
        connection.exchange(&Request::get(host, "/").header("Connection", "close")).expect(200, "Hello World\n");
        connection.expect_closed();
    }
}
