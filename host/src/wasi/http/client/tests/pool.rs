//! Connections are reused, by the same route only and only while they are in a known state.

use tokio::sync::mpsc;

use super::harness::{Route, Server, empty, fetch, full, meter, outcome, request, soon};
use crate::wasi::http::client::Hooks;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn connections_are_used_again() {
    for (method, response, expected, connections) in [
        ("GET", OK, "200 ok", 1),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 ok", 1),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "204 ", 1),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", "304 ", 1),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", "200 ", 1),
        ("GET", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", "200 ok", 3),
        // The connection could not carry a request body of unknown length.
        ("GET", "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", "200 ok", 3),
        // Bytes follow the response, so the state of the connection is unknown.
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nforged", "200 ok", 3),
    ] {
        let server = Server::answering(response).await;
        let policy = Route::loopback().policy();
        for _ in 0..3 {
            // Another instance of the same route each time.
            let mut hooks = Hooks::new(policy.clone(), meter());
            let request = request(method, &server.url("/"), empty());
            assert_eq!(outcome(&mut hooks, request).await, expected, "{response:?}");
        }
        assert_eq!(server.accepted(), connections, "{method} {response:?}");
    }
}

/// Bytes that arrive after the response, without a request.
#[tokio::test]
async fn a_connection_on_which_something_came_unasked_is_not_used() {
    let (sent, mut forged) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer, number| {
        let sent = sent.clone();
        async move {
            while peer.head().await.is_some() {
                peer.send(OK).await;
                if number == 0 {
                    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged").await;
                    sent.send(()).unwrap();
                }
            }
        }
    })
    .await;
    for method in ["GET", "POST"] {
        let mut hooks = Route::loopback().hooks();
        assert_eq!(fetch(&mut hooks, &server.url("/")).await, "200 ok");
        if server.accepted() == 1 {
            soon(forged.recv()).await.unwrap();
        }
        // The client has no time to detect that before it sends the next request.
        assert_eq!(outcome(&mut hooks, request(method, &server.url("/"), empty())).await, "200 ok", "{method}");
    }
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn bodies_can_be_sent_on_used_connections() {
    let server = Server::start(|mut peer, _| async move {
        while peer.head().await.is_some() && peer.through("0\r\n\r\n").await.is_some() {
            peer.send(OK).await;
        }
    })
    .await;
    let mut hooks = Route::loopback().hooks();
    for _ in 0..3 {
        assert_eq!(outcome(&mut hooks, request("POST", &server.url("/"), full("abc"))).await, "200 ok");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn routes_do_not_share_connections() {
    let server = Server::answering(OK).await;
    for _ in 0..2 {
        assert_eq!(fetch(&mut Route::loopback().hooks(), &server.url("/")).await, "200 ok");
    }
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let (closed, mut closings) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer, _| {
        let closed = closed.clone();
        async move {
            peer.head().await;
            peer.send(OK).await;
            closed.send(peer.rest().await).unwrap();
        }
    })
    .await;
    let mut route = Route::loopback();
    route.idle_timeout = std::time::Duration::from_millis(50);
    let mut hooks = route.hooks();
    for accepted in 1..=2 {
        assert_eq!(fetch(&mut hooks, &server.url("/")).await, "200 ok");
        assert_eq!(soon(closings.recv()).await.unwrap(), "");
        assert_eq!(server.accepted(), accepted);
    }
}

#[tokio::test]
async fn connections_that_the_other_side_has_closed_are_not_used() {
    let (give, mut used) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer, number| {
        let give = give.clone();
        async move {
            peer.head().await;
            if number > 0 {
                peer.through("0\r\n\r\n").await;
            }
            peer.send(OK).await;
            give.send(peer).unwrap();
        }
    })
    .await;
    let mut hooks = Route::loopback().hooks();
    assert_eq!(fetch(&mut hooks, &server.url("/")).await, "200 ok");
    // Closed with no time for the client to detect it before it gets a request that it cannot repeat.
    drop(soon(used.recv()).await.unwrap());
    assert_eq!(outcome(&mut hooks, request("POST", &server.url("/"), full("abc"))).await, "200 ok");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_request_that_can_be_repeated_is() {
    for (method, body, expected) in [
        ("GET", "", "200 ok"),
        ("DELETE", "", "200 ok"),
        // A POST may have changed something, so it is not repeated.
        ("POST", "", "ConnectionTerminated"),
        // A body that was sent in part cannot be sent again.
        ("PUT", "abc", "ConnectionTerminated"),
    ] {
        // Closes the first connection only after the second request has arrived.
        let server = Server::start(|mut peer, number| async move {
            peer.head().await;
            peer.send(OK).await;
            if number > 0 || peer.head().await.is_none() {
                peer.rest().await;
            }
        })
        .await;
        let mut hooks = Route::loopback().hooks();
        assert_eq!(fetch(&mut hooks, &server.url("/")).await, "200 ok");
        let body = if body.is_empty() { empty() } else { full(body) };
        assert_eq!(outcome(&mut hooks, request(method, &server.url("/"), body)).await, expected, "{method}");
    }
}
