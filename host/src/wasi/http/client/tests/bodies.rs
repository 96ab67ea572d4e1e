//! Request bodies: their framing, and that an incomplete body is never sent as complete.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request};
use http_body::Frame;
use tokio::sync::{mpsc, oneshot};
use wasmtime_wasi_http::{Error, WasiBody};

use super::harness::{
    GuestSender, Peer, Route, Server, begin, data, empty, from_outside, full, guest_body, outcome, read, request, send,
    soon,
};
use crate::wasi::http::client::Hooks;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn post(server: &Server, length: Option<&str>, body: WasiBody) -> Request<WasiBody> {
    let mut request = request("POST", &server.url("/"), body);
    if let Some(length) = length {
        request.headers_mut().insert(CONTENT_LENGTH, length.parse().unwrap());
    }
    request
}

/// A body of several parts, all available at once.
fn parts(parts: &[&'static str]) -> WasiBody {
    let (sender, body) = guest_body();
    for part in parts {
        sender.try_send(data(part)).unwrap();
    }
    body
}

/// A server that reports what it receives after the head of its first request, up to `end`, and then responds.
async fn recording(end: &'static str) -> (Server, oneshot::Receiver<String>) {
    let (tell, told) = oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let server = Server::start(move |mut peer, _| {
        let tell = tell.lock().unwrap().take();
        async move {
            peer.head().await;
            tell.unwrap().send(peer.through(end).await.unwrap()).unwrap();
            peer.send(OK).await;
        }
    })
    .await;
    (server, told)
}

#[tokio::test]
async fn whole_bodies() {
    for (length, parts, expected) in [
        (None, &["abc", "de"][..], "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        (Some("5"), &["abc", "de"], "abcde"),
        (None, &[], "0\r\n\r\n"),
    ] {
        let (server, got) = recording(expected).await;
        let (sender, body) = guest_body();
        let mut hooks = Route::loopback().hooks();
        let sending = begin(&mut hooks, post(&server, length, body), None);
        let sending = tokio::spawn(sending);
        // So that the length is not known before the request is sent.
        tokio::task::yield_now().await;
        for part in parts {
            sender.send(data(part)).await.unwrap();
        }
        drop(sender);
        assert_eq!(soon(got).await.unwrap(), expected, "{parts:?}");
        let (response, sent) = soon(sending).await.unwrap().unwrap();
        soon(sent).await.unwrap();
        assert_eq!(read(response).await.unwrap().0, "ok");
    }
}

#[tokio::test]
async fn trailers_are_sent() {
    let (server, got) = recording("x-sum: 6\r\n\r\n").await;
    let (sender, body) = guest_body();
    let mut request = post(&server, None, body);
    request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
    sender.send(data("abc")).await.unwrap();
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "6".parse().unwrap())]);
    sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    assert_eq!(outcome(&mut Route::loopback().hooks(), request).await, "200 ok");
    assert_eq!(soon(got).await.unwrap(), "3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n");
}

#[tokio::test]
async fn lengths_that_are_not_the_bodys() {
    for (length, body, expected) in [
        // Would take the next request on the connection for its body.
        ("5", empty(), "HttpRequestBodySize(Some(0))"),
        ("5", full("abc"), "HttpRequestBodySize(Some(3))"),
        ("2", full("abc"), "HttpRequestBodySize(Some(3))"),
        ("0", full("abc"), "HttpRequestBodySize(Some(3))"),
        // The end of a part is not the end of the body.
        ("2", parts(&["ab", "c"]), "HttpRequestBodySize(Some(3))"),
        ("3", parts(&["ab", "c"]), "200 ok"),
        ("3", parts(&["ab", "c", ""]), "200 ok"),
        ("+3", full("abc"), "HttpProtocolError"),
        ("3, 3", full("abc"), "HttpProtocolError"),
        ("3", full("abc"), "200 ok"),
        ("0", empty(), "200 ok"),
    ] {
        let server = Server::answering_once(OK).await;
        let got = outcome(&mut Route::loopback().hooks(), post(&server, Some(length), body)).await;
        assert_eq!(got, expected, "{length}");
    }
}

/// RFC 9110 §9.3.8.
#[tokio::test]
async fn a_trace_has_no_body() {
    for (body, expected) in [(empty(), "200 ok"), (full("abc"), "HttpRequestMethodInvalid")] {
        let server = Server::answering_once(OK).await;
        let request = request("TRACE", &server.url("/"), body);
        assert_eq!(outcome(&mut Route::loopback().hooks(), request).await, expected);
    }
}

/// Starts a chunked upload, lets `cut` end it once the server has received a part of it, and returns what else the
/// server received.
async fn cut_off(cut: impl FnOnce(Hooks, GuestSender)) -> (String, Result<(), Error>) {
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer, _| {
        let tell = tell.clone();
        async move {
            peer.head().await;
            tell.send(peer.through("abc\r\n").await.unwrap()).unwrap();
            tell.send(peer.rest().await).unwrap();
        }
    })
    .await;
    let (sender, body) = guest_body();
    let mut hooks = Route::loopback().hooks();
    let sending = tokio::spawn(begin(&mut hooks, post(&server, None, body), None));
    sender.send(data("abc")).await.unwrap();
    assert_eq!(soon(told.recv()).await.unwrap(), "3\r\nabc\r\n");
    cut(hooks, sender);
    let result = soon(sending).await.unwrap().map(drop);
    (soon(told.recv()).await.unwrap(), result)
}

#[tokio::test]
async fn a_body_the_guest_gives_up_is_not_complete() {
    let (got, result) = cut_off(|_hooks, sender| {
        sender.try_send(Err(Error::HttpRequestBodySize(Some(7)))).unwrap();
    })
    .await;
    assert_eq!(got, "");
    assert!(matches!(result, Err(Error::HttpRequestBodySize(Some(7)))), "{result:?}");
}

#[tokio::test]
async fn a_body_whose_guest_is_gone_is_not_complete() {
    // Dropping a store drops the body's sender, as a guest that has finished does.
    let (got, result) = cut_off(|hooks, sender| {
        drop(sender);
        drop(hooks);
    })
    .await;
    assert_eq!(got, "");
    assert!(matches!(result, Err(Error::ConnectionTerminated)), "{result:?}");
}

/// Responds at once, then reports whether the rest of the body arrived.
async fn early(mut peer: Peer<tokio::net::TcpStream>, tell: oneshot::Sender<bool>) {
    peer.head().await;
    peer.send(OK).await;
    tell.send(peer.through("0\r\n\r\n").await.is_some()).unwrap();
    peer.rest().await;
}

#[tokio::test]
async fn an_early_answer_does_not_end_the_upload() {
    for guest_stays in [true, false] {
        let (tell, whole) = oneshot::channel();
        let tell = std::sync::Mutex::new(Some(tell));
        let server = Server::start(move |peer, _| early(peer, tell.lock().unwrap().take().unwrap())).await;
        let (sender, body) = guest_body();
        let mut hooks = Route::loopback().hooks();
        let (response, sent) = send(&mut hooks, post(&server, None, body)).await.unwrap();
        assert_eq!(read(response).await.unwrap().0, "ok");
        let sent = tokio::spawn(sent);
        if guest_stays {
            sender.send(data("abc")).await.unwrap();
        } else {
            drop(hooks);
        }
        drop(sender);
        assert_eq!(soon(whole).await.unwrap(), guest_stays);
        assert_eq!(soon(sent).await.unwrap().is_ok(), guest_stays);
    }
}

/// Which uploads continue after their guest has returned.
#[tokio::test]
async fn a_guest_that_has_returned_leaves_what_it_has_finished_or_passed_on() {
    for (is_from_outside, is_ended, is_whole) in
        [(true, false, true), (true, true, true), (false, true, true), (false, false, false)]
    {
        let (tell, whole) = oneshot::channel();
        let tell = std::sync::Mutex::new(Some(tell));
        let server = Server::start(move |peer, _| early(peer, tell.lock().unwrap().take().unwrap())).await;
        let (sender, body) = guest_body();
        let body = if is_from_outside { from_outside(body) } else { body };
        let mut hooks = Route::loopback().hooks();
        let (response, _) = send(&mut hooks, post(&server, None, body)).await.unwrap();
        assert_eq!(read(response).await.unwrap().0, "ok");
        sender.send(data("abc")).await.unwrap();
        let sender = (!is_ended).then_some(sender);
        let finished = tokio::spawn(hooks.finish_uploads().expect("there is one"));
        if is_from_outside && let Some(sender) = sender {
            sender.send(data("de")).await.unwrap();
        }
        assert_eq!(soon(whole).await.unwrap(), is_whole, "from outside: {is_from_outside}, ended: {is_ended}");
        soon(finished).await.unwrap();
    }
}

/// RFC 9112 §9.5: an error response that ends the connection ends the upload; no other response does.
#[tokio::test]
async fn an_origin_may_refuse_the_rest() {
    for (head, ceases) in [
        ("HTTP/1.1 413 Content Too Large\r\nconnection: close", true),
        ("HTTP/1.1 503 Service Unavailable\r\nconnection: x, Close", true),
        ("HTTP/1.0 413 Content Too Large", true),
        ("HTTP/1.1 413 Content Too Large", false),
        ("HTTP/1.0 413 Content Too Large\r\nconnection: keep-alive", false),
        ("HTTP/1.1 200 OK\r\nconnection: close", false),
    ] {
        let (tell, rest) = oneshot::channel();
        let (go_on, wait) = oneshot::channel::<()>();
        let held = std::sync::Mutex::new(Some((tell, wait)));
        let server = Server::start(move |mut peer, _| {
            let (tell, wait) = held.lock().unwrap().take().unwrap();
            async move {
                peer.head().await;
                peer.send(&format!("{head}\r\ncontent-length: 4\r\n\r\nno")).await;
                wait.await.unwrap();
                peer.send("no").await;
                tell.send(peer.rest().await).unwrap();
            }
        })
        .await;
        let (sender, body) = guest_body();
        let mut hooks = Route::loopback().hooks();
        let (response, sent) = send(&mut hooks, post(&server, None, body)).await.unwrap();
        // What the guest writes now is not sent, but the whole response is received.
        let _ = sender.send(data("abc")).await;
        drop(sender);
        if !ceases {
            soon(sent).await.unwrap();
            go_on.send(()).unwrap();
            assert_eq!(read(response).await.unwrap().0, "nono", "{head}");
        } else {
            let result = soon(sent).await;
            assert!(matches!(result, Err(Error::ConnectionTerminated)), "{head}: {result:?}");
            go_on.send(()).unwrap();
            assert_eq!(read(response).await.unwrap().0, "nono", "{head}");
        }
        drop(hooks);
        let rest = soon(rest).await.unwrap();
        assert_eq!(rest.is_empty(), ceases, "{head}: {rest:?}");
    }
}
