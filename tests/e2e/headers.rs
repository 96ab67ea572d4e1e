//! Hop-by-hop fields: the guest neither sees nor sends them. All other fields pass.

use crate::harness::{Ending, Request, Setup, Shared, without_ids};

static SERVER: Shared = Shared::new(|| {
    Setup::new().route("report.test", "report", "").route("headers.test", "headers", "").route(
        "service03.test",
        "service03",
        "",
    )
});

/// The `header: name=value` lines of a report, except those that daylily adds to each request.
fn told(text: &str) -> Vec<String> {
    without_ids(text).lines().filter_map(|line| line.strip_prefix("header: ").map(str::to_owned)).collect()
}

#[test]
fn the_guest_never_sees_fields_of_the_connection() {
    let server = SERVER.get();
    for (host, target) in [("report.test", "/"), ("service03.test", "/report")] {
        let request = Request::post(host, target)
            .header("Connection", "keep-alive, X-Nominated, TE")
            .header("Keep-Alive", "timeout=5")
            .header("X-Nominated", "by connection")
            .header("TE", "trailers")
            .header("Upgrade", "websocket")
            .header("Proxy-Connection", "keep-alive")
            .header("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")
            .header("X-Kept", "yes")
            .chunked(&[b"body"]);
        let response = server.exchange(&request);
        assert_eq!((response.status, response.ending.clone()), (200, Ending::Complete), "{response:?}");
        assert_eq!(told(&response.text()), ["x-kept=yes"], "{host}");
    }
}

#[test]
fn a_second_connection_field_counts_too() {
    let server = SERVER.get();
    for (host, target) in [("report.test", "/"), ("service03.test", "/report")] {
        let request = Request::get(host, target)
            .header("Connection", "x-one")
            .header("connection", " , X-TWO ,, x-three")
            .header("X-One", "1")
            .header("X-Two", "2")
            .header("X-Three", "3")
            .header("X-Four", "4");
        assert_eq!(told(&server.exchange(&request).text()), ["x-four=4"], "{host}");
    }
}

#[test]
fn other_fields_pass_as_they_are() {
    let server = SERVER.get();
    for (host, target) in [("report.test", "/"), ("service03.test", "/report")] {
        let request = Request::get(host, target)
            .header("Accept", "*/*")
            .header("Authorization", "Basic abc==")
            .header("Cookie", "a=b; c=d")
            .header("X-Empty", "")
            .header("X-Twice", "first")
            .header("X-Twice", "second")
            .header("X-Spaces", "  in  between  ");
        let expected = [
            "accept=*/*",
            "authorization=Basic abc==",
            "cookie=a=b; c=d",
            "x-empty=",
            "x-spaces=in  between",
            "x-twice=first",
            "x-twice=second",
        ];
        assert_eq!(told(&server.exchange(&request).text()), expected, "{host}");
    }
}

#[test]
fn the_guest_cannot_send_fields_of_the_connection() {
    let server = SERVER.get();
    let mut connection = server.connect();
    let names = ["connection", "transfer-encoding", "host", "keep-alive", "te", "upgrade", "proxy-connection"];
    for _ in 0..2 {
        let response = connection.exchange(&Request::get("headers.test", "/forbidden"));
        assert_eq!((response.status, response.ending.clone()), (200, Ending::Complete), "{response:?}");
        for name in names {
            assert!(response.text().contains(&format!("{name}: forbidden\n")), "{}", response.text());
            // The host adds its own framing to the response.
            assert!(name == "transfer-encoding" || !response.has(name), "{name} in {:?}", response.headers);
        }
    }
}

#[test]
fn other_response_fields_pass_as_they_are() {
    let server = SERVER.get();
    let response = server.get("headers.test", "/?x-a=1&x-b=2&x-a=3&set-cookie=a=b&set-cookie=c=d&server=mine");
    assert_eq!((response.status, response.ending.clone()), (200, Ending::Complete));
    assert_eq!(response.values("x-a"), ["1", "3"]);
    assert_eq!(response.values("x-b"), ["2"]);
    assert_eq!(response.values("set-cookie"), ["a=b", "c=d"]);
    assert_eq!(response.values("server"), ["mine"]);
    assert_eq!(response.values("date").len(), 1);
}

/// RFC 9110 §6.5.1 and §7.6.1. The guest sends back the trailers that it gets, and those that the client's `Trailer`
/// names.
#[test]
fn trailers_have_no_fields_of_the_connection() {
    let server = Setup::new().route("echo.test", "echo", "").start();
    let names = ["x-kept", "x-nominated", "connection", "transfer-encoding", "content-length", "te", "upgrade"];
    let request = Request::post("echo.test", "/")
        .header("TE", "trailers")
        .header("Connection", "TE, X-Nominated")
        .header("Trailer", &names.join(", "))
        .chunked(&[b"text"]);
    let request = names.iter().fold(request, |request, name| request.trailer(name, "7"));
    let mut connection = server.connect();
    for _ in 0..2 {
        let response = connection.exchange(&request);
        response.expect(200, "text");
        assert_eq!(response.trailers, [("x-kept".to_owned(), "7".to_owned())]);
    }
}
