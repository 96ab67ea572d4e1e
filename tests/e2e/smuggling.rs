//! Requests that two parsers could read differently: they get an error response, or one response before the connection
//! closes.

use crate::harness::{PATIENCE, Request, Setup, Shared, Silence, each};

static SERVER: Shared = Shared::new(|| {
    Setup::new()
        .route("hello.test", "hello", "")
        .route("count.test", "echo", "")
        .route("service03.test", "service03", "")
        .route("smuggled.test", "report", "")
});

/// A request that must never be answered, because it was sent as part of a body.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: smuggled.test\r\n\r\n";

/// Sends the bytes and a hidden request. Fails unless there is at most one response and then the end. Returns its
/// status.
#[track_caller]
fn answers_at_most_once(bytes: &str) -> Option<u16> {
    let server = SERVER.get();
    let mut connection = server.connect();
    connection.try_send(bytes.as_bytes());
    let first = match connection.try_response("POST", PATIENCE) {
        Ok(first) => first,
        Err(Silence::Closed) => return None,
        Err(Silence::Waiting) => panic!("neither answered nor closed"),
    };
    assert!(!first.text().contains("/smuggled"), "{first:?}");
    connection.try_send(SMUGGLED.as_bytes());
    match connection.try_response("GET", PATIENCE) {
        Err(Silence::Closed) => Some(first.status),
        other => panic!("after {first:?}: {other:?}"),
    }
}

#[test]
fn a_length_and_a_coding_together_end_the_connection() {
    let _keep = SERVER.get();
    let bodies = ["0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"];
    let mut cases = Vec::new();
    for host in ["hello.test", "count.test", "service03.test"] {
        for body in bodies {
            let length = body.len() + SMUGGLED.len();
            for fields in [
                format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
                format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
                "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n".to_owned(),
                "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".to_owned(),
                "transfer-encoding: Chunked\r\nX: y\r\ncontent-length: 5\r\n".to_owned(),
            ] {
                cases.push(format!("POST /count HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n{body}{SMUGGLED}"));
            }
        }
    }
    each(&cases, |case| {
        let status = answers_at_most_once(case);
        assert!(matches!(status, Some(200 | 400)), "{status:?}");
    });
}

#[test]
fn lengths_that_do_not_agree_or_are_none() {
    let _keep = SERVER.get();
    let lengths = [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5a\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: \"5\"\r\n",
    ];
    each(&lengths, |length| {
        let request = format!("POST /count HTTP/1.1\r\nHost: count.test\r\n{length}\r\nhello{SMUGGLED}");
        assert_eq!(answers_at_most_once(&request), Some(400));
    });
}

#[test]
fn codings_that_are_not_chunked_alone() {
    let _keep = SERVER.get();
    let codings = [
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunkedx\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: \r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\r\n",
    ];
    each(&codings, |coding| {
        let request = format!("POST /count HTTP/1.1\r\nHost: count.test\r\n{coding}\r\n0\r\n\r\n{SMUGGLED}");
        let status = answers_at_most_once(&request);
        assert_eq!(status, Some(400));
    });
}

#[test]
fn http_1_0_has_no_codings() {
    let _keep = SERVER.get();
    let request =
        format!("POST /count HTTP/1.0\r\nHost: count.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
    assert_eq!(answers_at_most_once(&request), Some(400));
    let kept = request.replace("\r\nTransfer", "\r\nConnection: keep-alive\r\nTransfer");
    assert_eq!(answers_at_most_once(&kept), Some(400));
}

#[test]
fn chunks_that_are_none_end_the_connection() {
    let _keep = SERVER.get();
    let bodies = [
        "zz\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "0\r\nbad trailer\r\n\r\n",
        "0\r\n: empty\r\n\r\n",
        "0\r\n\n",
        "0\r\nX: a\n\r\n",
        "0\r\nX: a\n\n",
        "0\r\nX: a\r\n\n",
        "0\r\nX: a\r\n folded\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
    ];
    let request = |host: &str, body: &str| {
        format!("POST /count HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}")
    };
    each(&bodies, |body| {
        assert_eq!(answers_at_most_once(&request("count.test", body)), Some(400));
        // A guest that does not read the body.
        let status = answers_at_most_once(&request("hello.test", body));
        assert!(matches!(status, Some(200 | 400)), "{status:?}");
    });
}

/// The first byte over the limit is enough for the error response: input that could be endless is rejected there.
#[test]
fn framing_without_end_is_refused_at_its_limit() {
    let server = SERVER.get();
    let head = "POST /count HTTP/1.1\r\nHost: count.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = [
        ("chunk size", format!("{head}{}", "0".repeat(17))),
        ("later chunk size", format!("{head}1\r\nx\r\n{}", "0".repeat(17))),
        ("space before an extension", format!("{head}1{}", " ".repeat(16_384))),
        ("chunk extension", format!("{head}1;{}", "x".repeat(16_383))),
        ("chunk extensions", format!("{head}{}1;xxx", "1;123\r\nx\r\n".repeat(16_383 / 4))),
        ("trailer", format!("{head}0\r\nX:{}", "x".repeat(16_382))),
        ("trailers", format!("{head}0\r\n{}y", "x:\r\n".repeat(100))),
        ("empty lines before a request", "\r\n".repeat(17)),
    ];
    each(&cases, |(_, bytes)| {
        let mut connection = server.connect();
        // All bytes but the last are accepted.
        connection.send(&bytes.as_bytes()[..bytes.len() - 1]);
        assert!(connection.is_quiet_for(std::time::Duration::from_millis(20)));
        connection.send(&bytes.as_bytes()[bytes.len() - 1..]);
        connection.response("POST").expect_refusal(400, "malformed request");
        connection.expect_closed();
    });
}

/// The requests are the same however the connection's bytes are split.
#[test]
fn requests_in_pieces_of_any_size() {
    let server = SERVER.get();
    let requests = [
        Request::get("hello.test", "/"),
        Request::post("count.test", "/echo").body(b"with a length"),
        Request::post("count.test", "/count").chunked(&[b"in", b" chunks\r\n\r\n"]).trailer("x", "y"),
        Request::post("count.test", "/echo").body(b""),
        Request::post("count.test", "/echo").chunked(&[]),
        Request::get("hello.test", "/last"),
    ];
    let bytes: Vec<u8> = requests.iter().flat_map(|request| [b"\r\n", &request.bytes()[..]].concat()).collect();
    let bodies = ["Hello World\n", "with a length", "13 bytes\n", "", "", "Hello World\n"];
    each(&[1, 2, 3, 7, 50, bytes.len()], |&size| {
        let mut connection = server.connect();
        for piece in bytes.chunks(size) {
            connection.send(piece);
        }
        for (request, body) in requests.iter().zip(bodies) {
            connection.response(request.method()).expect(200, body);
        }
        connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    });
}

#[test]
fn a_body_that_is_no_body_cuts_a_response_that_was_begun() {
    let server = SERVER.get();
    for host in ["count.test", "service03.test"] {
        let mut connection = server.connect();
        connection.send(&Request::post(host, "/echo").header("Transfer-Encoding", "chunked").head_bytes());
        connection.send(b"2\r\nab\r\n");
        let mut response = connection.head();
        connection.read_chunk(b"ab");
        connection.try_send(b"nonsense\r\n");
        connection.finish(&mut response, "POST", &mut |_| {});
        assert_eq!(response.ending, crate::harness::Ending::Truncated, "{host}");
    }
}

#[test]
fn heads_that_are_none_are_400() {
    let _keep = SERVER.get();
    let heads = [
        "GET / HTTP/1.1\r\nHost: hello.test\r\nX: a\r\n folded\r\n",
        "GET / HTTP/1.1\r\nHost: hello.test\r\nX: a\r\n\tfolded\r\n",
        "GET / HTTP/1.1\r\n Host: hello.test\r\n",
        "GET / HTTP/1.1\r\nHost : hello.test\r\n",
        "GET / HTTP/1.1\r\nHost: hello.test\r\nX : a\r\n",
        "GET / HTTP/1.1\r\nHost: hello.test\r\nno colon\r\n",
        "GET / HTTP/1.1\r\nHost: hello.test\r\n: no name\r\n",
        "GET / HTTP/1.1\r\nHost: hello.test\r\nX(y): a\r\n",
        "GET / HTTP/1.1\r\nHost: hello.test\r\nX: a\rb\r\n",
        "GET / HTTP/1.1\r\nHost: hello.test\r\nX: a\0b\r\n",
        "GET / HTTP/1.1\r\nHost: hello.test\r\nX: a\x07b\r\n",
        "G(T / HTTP/1.1\r\nHost: hello.test\r\n",
        " GET / HTTP/1.1\r\nHost: hello.test\r\n",
        "GET  / HTTP/1.1\r\nHost: hello.test\r\n",
        "GET /  HTTP/1.1\r\nHost: hello.test\r\n",
        "GET / HTTP/1.1 \r\nHost: hello.test\r\n",
        "GET /\r\nHost: hello.test\r\n",
        "GET\r\nHost: hello.test\r\n",
        "GET / HTTP/1.2\r\nHost: hello.test\r\n",
        "GET / HTTP/2.0\r\nHost: hello.test\r\n",
        "GET / http/1.1\r\nHost: hello.test\r\n",
        "GET / HTTP/11\r\nHost: hello.test\r\n",
        "GET /a b HTTP/1.1\r\nHost: hello.test\r\n",
        "GET /a\x7fb HTTP/1.1\r\nHost: hello.test\r\n",
        "GET relative HTTP/1.1\r\nHost: hello.test\r\n",
        "GET * HTTP/1.1\r\nHost: hello.test\r\n",
        "GET /a#b HTTP/1.1\r\nHost: hello.test\r\n",
        "GET http://hello.test/#b HTTP/1.1\r\nHost: hello.test\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n",
    ];
    each(&heads, |head| {
        let status = answers_at_most_once(&format!("{head}\r\n"));
        assert_eq!(status, Some(400));
    });
}

#[test]
fn a_malformed_request_behind_good_ones_takes_nothing_from_them() {
    let server = SERVER.get();
    let good = Request::get("hello.test", "/").bytes();
    let posted = Request::post("count.test", "/echo").body(b"body").bytes();
    for bad in ["GET / HTTP/1.1\r\nHost : hello.test\r\n\r\n", "nonsense\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        let mut connection = server.connect();
        connection.send(&[&good[..], &posted, bad.as_bytes(), SMUGGLED.as_bytes()].concat());
        connection.response("GET").expect(200, "Hello World\n");
        connection.response("POST").expect(200, "body");
        connection.response("GET").expect_refusal(400, "malformed request");
        connection.expect_closed();
    }
}

#[test]
fn an_empty_line_before_a_request_is_forgiven() {
    let server = SERVER.get();
    let mut connection = server.connect();
    connection.send(b"\r\n").send(&Request::get("hello.test", "/").bytes());
    connection.response("GET").expect(200, "Hello World\n");
}
