//! Requests end with the instance that made them, and their number is limited.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::sync::mpsc;
use wasmtime_wasi_http::Error;

use super::harness::{Route, Server, begin, data, empty, fetch, get, guest_body, meter, read, request, send, soon};

/// Sends `response` to each request and reports two events: a request, and a closed connection.
async fn telling(response: &'static str) -> (Server, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer, _| {
        let tell = tell.clone();
        async move {
            while peer.head().await.is_some() {
                tell.send("request").unwrap();
                peer.send(response).await;
            }
            tell.send("closed").unwrap();
        }
    })
    .await;
    (server, told)
}

const PARTIAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";

#[tokio::test]
async fn a_request_nobody_waits_for_is_cut() {
    let (server, mut told) = telling("").await;
    let mut hooks = Route::loopback().hooks();
    let sending = tokio::spawn(begin(&mut hooks, request("GET", &server.url("/"), empty()), None));
    assert_eq!(soon(told.recv()).await, Some("request"));
    sending.abort();
    assert_eq!(soon(told.recv()).await, Some("closed"));
}

#[tokio::test]
async fn a_response_nobody_reads_is_cut() {
    let (server, mut told) = telling(PARTIAL).await;
    let mut hooks = Route::loopback().hooks();
    let mut response = get(&mut hooks, &server.url("/")).await.unwrap();
    assert_eq!(soon(told.recv()).await, Some("request"));
    soon(response.body_mut().frame()).await.unwrap().unwrap();
    drop(response);
    assert_eq!(soon(told.recv()).await, Some("closed"));
    // Nor is the rest of it taken for the response to the next request.
    get(&mut hooks, &server.url("/")).await.unwrap();
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn an_upload_nobody_waits_for_is_cut() {
    for sent_is_dropped in [true, false] {
        // The server has responded and reads no more, so the upload is blocked when the guest ends.
        let (tell, mut told) = mpsc::unbounded_channel();
        let (go_on, _) = tokio::sync::broadcast::channel::<()>(1);
        let waiting = go_on.clone();
        let server = Server::start(move |mut peer, _| {
            let (tell, mut go_on) = (tell.clone(), waiting.subscribe());
            async move {
                peer.head().await;
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                go_on.recv().await.unwrap();
                tell.send(peer.rest().await.ends_with("\r\n0\r\n\r\n")).unwrap();
            }
        })
        .await;
        let (sender, body) = guest_body();
        let mut hooks = Route::loopback().hooks();
        let (response, sent) = send(&mut hooks, request("POST", &server.url("/"), body)).await.unwrap();
        assert_eq!(read(response).await.unwrap().0, "ok");
        let block = "x".repeat(1 << 20).leak();
        while let Ok(permit) = tokio::time::timeout(Duration::from_millis(100), sender.reserve()).await {
            permit.unwrap().send(data(block));
        }
        let tasks = alive_tasks();
        let sent = (!sent_is_dropped).then(|| tokio::spawn(sent));
        drop((sender, hooks));
        if let Some(sent) = sent {
            assert!(soon(sent).await.unwrap().is_err());
        }
        // The task that transfers the connection's bytes ends, although the peer accepts none of them.
        soon(async {
            while alive_tasks() >= tasks {
                tokio::task::yield_now().await;
            }
        })
        .await;
        go_on.send(()).unwrap();
        assert_eq!(soon(told.recv()).await, Some(false));
    }
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn an_instance_has_only_so_many_requests_open() {
    let (server, _told) = telling(PARTIAL).await;
    let ok = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let mut route = Route::loopback();
    route.limits.max_outgoing = 2;
    let policy = route.policy();
    let mut hooks = crate::wasi::http::client::Hooks::new(policy.clone(), meter());

    let one = get(&mut hooks, &server.url("/")).await.unwrap();
    let two = begin(&mut hooks, request("GET", &server.url("/"), empty()), None);
    let three = send(&mut hooks, request("GET", &server.url("/"), empty())).await;
    assert!(matches!(three, Err(Error::ConnectionLimitReached)));
    // A denied request does not count, and another instance has its own limit.
    assert_eq!(fetch(&mut hooks, "http://name.test/").await, "HttpRequestDenied");
    assert_eq!(fetch(&mut crate::wasi::http::client::Hooks::new(policy, meter()), &ok.url("/")).await, "200 ok");

    drop(two);
    assert_eq!(fetch(&mut hooks, &ok.url("/")).await, "200 ok");
    assert_eq!(fetch(&mut hooks, "http://127.0.0.1:1/").await, "ConnectionRefused");
    // A response that was read to its end no longer counts, even if the guest keeps it.
    let mut ended = get(&mut hooks, &ok.url("/")).await.unwrap();
    soon(ended.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(fetch(&mut hooks, &ok.url("/")).await, "200 ok");
    drop(one);
    let _again = get(&mut hooks, &server.url("/")).await.unwrap();
    assert_eq!(fetch(&mut hooks, &ok.url("/")).await, "200 ok");
}

#[tokio::test]
async fn an_upload_counts_while_it_lasts() {
    let server = Server::start(|mut peer, _| async move {
        while let Some(head) = peer.head().await {
            peer.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            if head.starts_with("POST") {
                peer.through("0\r\n\r\n").await;
            }
        }
    })
    .await;
    let mut route = Route::loopback();
    route.limits.max_outgoing = 1;
    let mut hooks = route.hooks();
    let (sender, body) = guest_body();
    let (_, sent) = send(&mut hooks, request("POST", &server.url("/"), body)).await.unwrap();
    assert_eq!(fetch(&mut hooks, &server.url("/")).await, "ConnectionLimitReached");
    drop(sender);
    soon(sent).await.unwrap();
    assert_eq!(fetch(&mut hooks, &server.url("/")).await, "204 ");
}
