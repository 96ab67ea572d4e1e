//! Tests of https origins.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::harness::{Peer, Route, Server, fetch, meter};
use crate::wasi::http::client::resolve::Resolver;
use crate::wasi::http::client::tls::Trust;
use crate::wasi::http::client::{Hooks, OutgoingClient, OutgoingPolicy};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// Serves https as `name`: responds to each request with `response`. Returns the port.
    async fn serve(&self, name: &str, response: &'static str) -> u16 {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let mut peer = Peer::new(stream);
                    peer.head().await;
                    peer.send(response).await;
                }
            }
        });
        port
    }
}

fn hooks(roots: RootCertStore) -> Hooks {
    let mut route = Route::allowing(&["https://localhost:*", "https://127.0.0.1:*"]);
    route.roots = roots;
    route.resolver = Resolver::Fixed(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    route.hooks()
}

#[tokio::test]
async fn certificates_are_checked() {
    let (ours, another) = (Authority::new(), Authority::new());
    for (name, host, roots, expected) in [
        ("localhost", "localhost", ours.roots(), "200 ok"),
        ("127.0.0.1", "127.0.0.1", ours.roots(), "200 ok"),
        ("localhost", "localhost", another.roots(), "TlsCertificateError"),
        ("localhost", "localhost", RootCertStore::empty(), "TlsCertificateError"),
        ("other.test", "localhost", ours.roots(), "TlsCertificateError"),
        ("localhost", "127.0.0.1", ours.roots(), "TlsCertificateError"),
    ] {
        let port = ours.serve(name, OK).await;
        let got = fetch(&mut hooks(roots), &format!("https://{host}:{port}/")).await;
        assert_eq!(got, expected, "{name} as {host}");
    }
}

#[tokio::test]
async fn a_server_without_tls() {
    for (answer, expected) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "TlsProtocolError"),
        ("", "ConnectionTerminated"),
        // A fatal alert: handshake failure.
        (
            "\x15\x03\x03\x00\x02\x02\x28",
            r#"TlsAlertReceived { alert_id: Some(40), alert_message: Some("HandshakeFailure") }"#,
        ),
    ] {
        let server = Server::start(move |mut peer, _| async move {
            // The first bytes of a handshake message.
            peer.through("\x16\x03").await;
            peer.send(answer).await;
        })
        .await;
        let url = server.url("/").replace("http:", "https:");
        assert_eq!(fetch(&mut hooks(RootCertStore::empty()), &url).await, expected, "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_may_have_been_cut_is_not_complete() {
    // The body ends with the connection, and the connection ends without close_notify.
    let authority = Authority::new();
    let port = authority.serve("localhost", "HTTP/1.1 200 OK\r\n\r\ncut").await;
    let got = fetch(&mut hooks(authority.roots()), &format!("https://localhost:{port}/")).await;
    assert_eq!(got, "HttpResponseIncomplete");
}

#[tokio::test]
async fn without_certificates_there_is_no_https() {
    let authority = Authority::new();
    let port = authority.serve("localhost", OK).await;
    let resolver = Resolver::Fixed(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let client = OutgoingClient::for_test(resolver, Trust::none());
    let route = Route::allowing(&["https://localhost:*"]);
    let allow = daylily_core::allow_http::AllowHttp::new(vec![route.allow[0].parse().unwrap()]);
    let mut hooks = Hooks::new(OutgoingPolicy::new(&client, allow, &route.limits, Vec::new()), meter());
    let got = fetch(&mut hooks, &format!("https://localhost:{port}/")).await;
    assert_eq!(got, "ConfigurationError");
}
