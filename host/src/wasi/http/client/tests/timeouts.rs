//! Every wait has a time-out.

use std::time::Duration;

use daylily_core::config::RouteLimits;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use wasmtime_wasi_http::{Error, RequestOptions};

use super::harness::{Route, Server, begin, data, empty, fetch, get, guest_body, read, request, soon};
use crate::wasi::http::client::resolve::Resolver;

const SHORT: Duration = Duration::from_millis(50);
const HOUR: Duration = Duration::from_secs(3600);

/// Reads a request, sends `response` and then nothing more. Reports when the client closes the connection.
async fn silent_after(response: &'static str) -> (Server, mpsc::UnboundedReceiver<()>) {
    let (closed, closings) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer, _| {
        let closed = closed.clone();
        async move {
            peer.head().await;
            peer.send(response).await;
            peer.rest().await;
            closed.send(()).unwrap();
        }
    })
    .await;
    (server, closings)
}

fn route_with(set: impl FnOnce(&mut RouteLimits)) -> Route {
    let mut route = Route::loopback();
    set(&mut route.limits);
    route
}

#[tokio::test]
async fn a_response_that_does_not_begin() {
    let (server, mut closings) = silent_after("").await;
    let mut hooks = route_with(|limits| limits.first_byte_timeout = SHORT).hooks();
    assert_eq!(fetch(&mut hooks, &server.url("/")).await, "ConnectionReadTimeout");
    soon(closings.recv()).await.unwrap();
}

#[tokio::test]
async fn a_response_that_does_not_go_on() {
    let (server, mut closings) = silent_after("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
    let mut hooks = route_with(|limits| limits.between_bytes_timeout = SHORT).hooks();
    assert_eq!(fetch(&mut hooks, &server.url("/")).await, "ConnectionReadTimeout");
    soon(closings.recv()).await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_not_resolved() {
    let mut route = Route::allowing(&["http://name.test"]);
    route.limits.connect_timeout = SHORT;
    route.resolver = Resolver::Silent;
    assert_eq!(fetch(&mut route.hooks(), "http://name.test/").await, "DnsTimeout");
}

#[tokio::test]
async fn a_handshake_that_is_not_answered() {
    let server = Server::start(|mut peer, _| async move { drop(peer.rest().await) }).await;
    let mut route = Route::allowing(&["https://127.0.0.1:*"]);
    route.limits.connect_timeout = SHORT;
    let url = server.url("/").replace("http:", "https:");
    assert_eq!(fetch(&mut route.hooks(), &url).await, "ConnectionTimeout");
}

#[tokio::test]
async fn guests_can_shorten_time_outs_but_not_extend_them() {
    for (ours, guests) in [(SHORT, HOUR), (HOUR, SHORT), (HOUR, Duration::ZERO)] {
        let options = RequestOptions {
            connect_timeout: Some(HOUR),
            first_byte_timeout: Some(guests),
            between_bytes_timeout: Some(guests),
        };
        let mut hooks = route_with(|limits| {
            limits.first_byte_timeout = ours;
            limits.between_bytes_timeout = ours;
        })
        .hooks();

        let (server, _closings) = silent_after("").await;
        let got = soon(begin(&mut hooks, request("GET", &server.url("/"), empty()), Some(options))).await;
        assert!(matches!(got, Err(Error::ConnectionReadTimeout)), "{ours:?} {guests:?}");

        if guests > Duration::ZERO {
            let (server, _closings) = silent_after("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
            let sending = begin(&mut hooks, request("GET", &server.url("/"), empty()), Some(options));
            let got = read(soon(sending).await.unwrap().0).await;
            assert!(matches!(got, Err(Error::ConnectionReadTimeout)), "{ours:?} {guests:?}");
        }
    }
}

#[tokio::test]
async fn a_guest_that_pauses_is_not_the_origins_fault() {
    let (go_on, parts) = mpsc::unbounded_channel();
    let parts = std::sync::Mutex::new(Some(parts));
    let server = Server::start(move |mut peer, _| {
        let mut parts = parts.lock().unwrap().take().unwrap();
        async move {
            peer.head().await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n").await;
            while let Some(part) = parts.recv().await {
                peer.send(part).await;
            }
        }
    })
    .await;
    let limit = Duration::from_millis(500);
    let mut hooks = route_with(|limits| limits.between_bytes_timeout = limit).hooks();
    let mut response = get(&mut hooks, &server.url("/")).await.unwrap();
    for part in ["ab", "cd", "ef"] {
        let waiting = async {
            tokio::task::yield_now().await;
            go_on.send(part).unwrap();
        };
        let (frame, ()) = soon(async { tokio::join!(response.body_mut().frame(), waiting) }).await;
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), part);
        tokio::time::sleep(limit + SHORT).await;
    }
}

#[tokio::test]
async fn a_long_upload_is_not_a_late_response() {
    let server = Server::start(|mut peer, _| async move {
        peer.head().await;
        peer.through("0\r\n\r\n").await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        peer.rest().await;
    })
    .await;
    let mut hooks = route_with(|limits| limits.first_byte_timeout = Duration::from_secs(1)).hooks();
    let (sender, body) = guest_body();
    let sending = tokio::spawn(begin(&mut hooks, request("POST", &server.url("/"), body), None));
    for _ in 0..4 {
        sender.send(data("abc")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    drop(sender);
    let (response, _) = soon(sending).await.unwrap().unwrap();
    assert_eq!(read(response).await.unwrap().0, "ok");
}
