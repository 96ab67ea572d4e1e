//! Which origins and addresses a request may reach.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use wasmtime_wasi_http::WasiHttpHooks;

use super::harness::{Route, Server, empty, fetch, outcome, request};
use crate::wasi::http::client::resolve::Resolver;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn denies_what_is_not_listed() {
    let listed = &["http://127.0.0.1:1", "https://listed.test"];
    for (allow, url, expected) in [
        (&[][..], "http://127.0.0.1:1/", "HttpRequestDenied"),
        (&[], "https://listed.test/", "HttpRequestDenied"),
        (listed, "http://127.0.0.1:2/", "HttpRequestDenied"),
        (listed, "https://127.0.0.1:1/", "HttpRequestDenied"),
        (listed, "http://127.0.0.2:1/", "HttpRequestDenied"),
        (listed, "http://[::1]:1/", "HttpRequestDenied"),
        (listed, "http://listed.test/", "HttpRequestDenied"),
        (listed, "https://listed.test:444/", "HttpRequestDenied"),
        (listed, "https://not.listed.test/", "HttpRequestDenied"),
        (listed, "https://listed.test.evil.test/", "HttpRequestDenied"),
        (listed, "https://listed.test@evil.test/", "HttpRequestUriInvalid"),
        (listed, "https://evil.test@listed.test/", "HttpRequestUriInvalid"),
        (listed, "ftp://127.0.0.1:1/", "HttpProtocolError"),
        // Listed, but no server listens.
        (listed, "http://127.0.0.1:1/", "ConnectionRefused"),
    ] {
        assert_eq!(fetch(&mut Route::allowing(allow).hooks(), url).await, expected, "{url}");
    }
}

#[tokio::test]
async fn connects_to_permitted_addresses_only() {
    let name = &["http://name.test:*"][..];
    let name_and_address = &["http://name.test:*", "http://127.0.0.1:*"][..];
    let localhost = &["http://localhost:*"][..];
    for (allow, host, addresses, expected) in [
        (name, "name.test", &["127.0.0.1"][..], "DestinationIpProhibited"),
        (name, "name.test", &["10.0.0.1", "::1", "::ffff:127.0.0.1"], "DestinationIpProhibited"),
        (name, "name.test", &["169.254.169.254"], "DestinationIpProhibited"),
        // Listing `localhost` allows loopback addresses, and no other address that is not public.
        (localhost, "localhost", &["10.0.0.1"], "DestinationIpProhibited"),
        (localhost, "localhost", &["127.0.0.1"], "200 ok"),
        (localhost, "LOCALHOST", &["127.0.0.1"], "200 ok"),
        (name_and_address, "name.test", &["127.0.0.1"], "200 ok"),
        // Denied addresses are left out …
        (name_and_address, "name.test", &["10.0.0.1", "127.0.0.1"], "200 ok"),
        // … and unresponsive ones are skipped.
        (localhost, "localhost", &["127.0.0.2", "127.0.0.1"], "200 ok"),
        (localhost, "localhost", &["127.0.0.2", "127.0.0.3"], "ConnectionRefused"),
    ] {
        let server = Server::answering(OK).await;
        let mut route = Route::allowing(allow);
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        route.resolver = Resolver::Fixed(addresses.clone());
        let url = format!("http://{host}:{}/", server.address.port());
        let got = fetch(&mut route.hooks(), &url).await;
        assert_eq!(got, expected, "{allow:?} {host} {addresses:?}");
        assert_eq!(server.accepted(), usize::from(expected == "200 ok"), "{allow:?} {addresses:?}");
    }
}

/// A listener on 127.0.0.2 whose backlog is full: the next connection attempt gets no reply.
async fn full_listener(port: u16) -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], port).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    (listener, waiting)
}

#[tokio::test]
async fn an_address_that_does_not_answer_leaves_time_for_the_next() {
    let server = Server::answering(OK).await;
    let port = server.address.port();
    let _full = full_listener(port).await;
    for (addresses, expected) in [(&[2][..], "ConnectionTimeout"), (&[2, 2], "ConnectionTimeout"), (&[2, 1], "200 ok")]
    {
        let mut route = Route::allowing(&["http://localhost:*"]);
        route.limits.connect_timeout = Duration::from_secs(1);
        route.resolver = Resolver::Fixed(addresses.iter().map(|last| [127, 0, 0, *last].into()).collect());
        assert_eq!(fetch(&mut route.hooks(), &format!("http://localhost:{port}/")).await, expected);
    }
}

#[tokio::test]
async fn names_that_do_not_resolve() {
    let mut route = Route::allowing(&["http://name.test"]);
    route.resolver = Resolver::Fixed(Vec::new());
    let got = fetch(&mut route.hooks(), "http://name.test/").await;
    let expected = r#"DnsError { rcode: Some("address not available"), info_code: None }"#;
    assert_eq!(got, expected);
}

#[tokio::test]
async fn asks_the_system_for_names() {
    let server = Server::answering(OK).await;
    let mut hooks = Route::allowing(&["http://localhost:*"]).hooks();
    let url = format!("http://localhost:{}/", server.address.port());
    assert_eq!(fetch(&mut hooks, &url).await, "200 ok");
}

#[tokio::test]
async fn makes_no_tunnels() {
    let server = Server::answering(OK).await;
    let connect = request("CONNECT", &server.url("/"), empty());
    assert_eq!(outcome(&mut Route::loopback().hooks(), connect).await, "HttpRequestMethodInvalid");
    assert_eq!(server.accepted(), 0);
}

#[test]
fn assumes_https() {
    assert_eq!(Route::loopback().hooks().default_scheme(), Some(http::uri::Scheme::HTTPS));
}
