//! Requests as the origin receives them, and responses as the guest receives them.

use http::{Request, Response};
use tokio::sync::mpsc;
use wasmtime_wasi_http::{Error, WasiBody};

use super::harness::{Route, Server, empty, ended, fetch, full, get, outcome, read, request, soon};

/// The request head that the server receives.
async fn head_of(build: impl FnOnce(&str) -> Request<WasiBody>) -> String {
    let (seen, mut heads) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer, _| {
        let seen = seen.clone();
        async move {
            seen.send(peer.head().await.unwrap()).unwrap();
            peer.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            peer.rest().await;
        }
    })
    .await;
    let request = build(&server.address.to_string());
    assert_eq!(outcome(&mut Route::loopback().hooks(), request).await, "204 ");
    let head = soon(heads.recv()).await.unwrap();
    head.replace(&server.address.to_string(), "SERVER")
}

#[tokio::test]
async fn heads_of_requests() {
    for (method, path, body, expected) in [
        ("GET", "/a?b=c", empty(), "GET /a?b=c HTTP/1.1\r\nhost: SERVER\r\n\r\n"),
        ("GET", "", empty(), "GET / HTTP/1.1\r\nhost: SERVER\r\n\r\n"),
        ("GET", "?b#c", empty(), "GET /?b HTTP/1.1\r\nhost: SERVER\r\n\r\n"),
        ("GET", "?b", empty(), "GET /?b HTTP/1.1\r\nhost: SERVER\r\n\r\n"),
        ("GET", "//evil.test/", empty(), "GET //evil.test/ HTTP/1.1\r\nhost: SERVER\r\n\r\n"),
        ("DELETE", "/", ended(), "DELETE / HTTP/1.1\r\nhost: SERVER\r\n\r\n"),
        ("GET", "/", ended(), "GET / HTTP/1.1\r\nhost: SERVER\r\n\r\n"),
        ("POST", "/", empty(), "POST / HTTP/1.1\r\nhost: SERVER\r\ncontent-length: 0\r\n\r\n"),
        ("POST", "/", full("x"), "POST / HTTP/1.1\r\nhost: SERVER\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("GET", "/", full("x"), "GET / HTTP/1.1\r\nhost: SERVER\r\ntransfer-encoding: chunked\r\n\r\n"),
    ] {
        let build = |to: &str| request(method, &format!("http://{to}{path}"), body);
        assert_eq!(head_of(build).await, expected);
    }
}

#[tokio::test]
async fn the_head_is_ours_where_it_is_about_the_connection() {
    let head = head_of(|to| {
        let mut request = request("GET", &format!("http://{to}/"), empty());
        for (name, value) in [
            ("host", "evil.test"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("x-end", "2"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    });
    assert_eq!(head.await, "GET / HTTP/1.1\r\nhost: SERVER\r\nx-end: 2\r\n\r\n");
}

/// RFC 9110 §10.1.1: no expectation without content.
#[tokio::test]
async fn an_expectation_needs_a_body() {
    for (body, expected) in [(empty(), ""), (full("x"), "expect: 100-continue\r\ntransfer-encoding: chunked\r\n")] {
        let head = head_of(|to| {
            let mut request = request("DELETE", &format!("http://{to}/"), body);
            request.headers_mut().insert("expect", "100-continue".parse().unwrap());
            request
        });
        let head = head.await.replace("host: SERVER\r\n", "");
        assert_eq!(head, format!("DELETE / HTTP/1.1\r\n{expected}\r\n"));
    }
}

#[tokio::test]
async fn guests_do_not_see_the_connection() {
    let server = Server::answering_once(
        "HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: x\r\n\
         transfer-encoding: chunked\r\ntrailer: x-sum\r\nx-end: 2\r\n\r\n\
         3\r\nabc\r\n0\r\ncontent-length: 3\r\nx-sum: 6\r\nte: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    let response = get(&mut Route::loopback().hooks(), &server.url("/")).await.unwrap();
    assert_eq!(names(&response), ["trailer", "x-end"]);
    let (body, trailers) = read(response).await.unwrap();
    assert_eq!((body.as_str(), &trailers["x-sum"]), ("abc", &"6".parse().unwrap()));
    assert_eq!(trailers.len(), 1, "{trailers:?}");
}

fn names(response: &Response<WasiBody>) -> Vec<&str> {
    response.headers().keys().map(http::HeaderName::as_str).collect()
}

#[tokio::test]
async fn responses_and_what_is_wrong_with_them() {
    for (response, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "200 ok"),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", "200 until the end"),
        ("HTTP/1.0 200 OK\r\n\r\nold", "200 old"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "204 "),
        ("HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n", "302 "),
        // Truncated.
        ("", "ConnectionTerminated"),
        ("HTTP/1.1 200 OK\r\ncontent-le", "ConnectionTerminated"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "HttpResponseIncomplete"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", "HttpResponseIncomplete"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "HttpResponseIncomplete"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok", "HttpResponseIncomplete"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", "HttpResponseIncomplete"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", "HttpResponseIncomplete"),
        // Not HTTP.
        ("SSH-2.0-OpenSSH_9.9\r\n", "HttpProtocolError"),
        ("HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "HttpProtocolError"),
        ("HTTP/1.1 200 OK\r\n x: y\r\n\r\nok", "HttpProtocolError"),
        ("HTTP/1.1 200 OK\r\nx : y\r\n\r\nok", "HttpProtocolError"),
        ("HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\nok", "HttpProtocolError"),
        ("HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\nok", "HttpProtocolError"),
        ("HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok", "HttpProtocolError"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551618\r\n\r\nok", "HttpProtocolError"),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HttpProtocolError"),
        ("HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok", "HttpProtocolError"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok", "HttpProtocolError"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "HttpProtocolError"),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "HttpProtocolError"),
    ] {
        let server = Server::answering_once(response).await;
        assert_eq!(fetch(&mut Route::loopback().hooks(), &server.url("/")).await, expected, "{response:?}");
    }
}

#[tokio::test]
async fn heads_of_responses_have_a_limit() {
    let server = Server::start(|mut peer, _| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\n").await;
        for _ in 0..100 {
            peer.send(&format!("x: {}\r\n", "x".repeat(1024))).await;
        }
    })
    .await;
    let got = get(&mut Route::loopback().hooks(), &server.url("/")).await;
    assert!(matches!(got, Err(Error::HttpResponseHeaderSectionSize(None))), "{got:?}");
}
