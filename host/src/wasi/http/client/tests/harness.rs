//! Test servers, guest bodies and requests.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use daylily_core::allow_http::AllowHttp;
use daylily_core::config::RouteLimits;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use rustls::RootCertStore;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::engine::meter::Meter;
use crate::wasi::http::client::resolve::Resolver;
use crate::wasi::http::client::tls::Trust;
use crate::wasi::http::client::{Hooks, OutgoingClient, OutgoingPolicy};
use crate::wasi::http::received;

/// How long a test waits for something that should happen at once.
const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for something that should happen at once.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it should have happened by now")
}

/// A listener on loopback and the number of connections that it has accepted.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Runs `serve` for each connection; connections are numbered from 0.
    pub(super) async fn start<S, F>(serve: S) -> Self
    where
        S: Fn(Peer<TcpStream>, usize) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(Peer::new(stream), number));
            }
        });
        Self { address, accepted }
    }

    /// Responds to every request on every connection with `response`.
    pub(super) async fn answering(response: &'static str) -> Self {
        Self::start(move |mut peer, _| async move {
            while peer.head().await.is_some() {
                peer.send(response).await;
            }
        })
        .await
    }

    /// Responds to the first request with `response` and closes the connection.
    pub(super) async fn answering_once(response: &'static str) -> Self {
        Self::start(move |mut peer, _| async move {
            peer.head().await;
            peer.send(response).await;
        })
        .await
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// The server's end of a connection.
pub(super) struct Peer<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(super) fn new(stream: S) -> Self {
        let buffer = Vec::new();
        Self { stream, buffer }
    }

    /// The head of the next request, or None if there is none.
    pub(super) async fn head(&mut self) -> Option<String> {
        self.through("\r\n\r\n").await
    }

    /// What is received up to and including `end`.
    pub(super) async fn through(&mut self, end: &str) -> Option<String> {
        loop {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            if let Some(at) = text.find(end) {
                let length = at + end.len();
                self.buffer.drain(..length);
                return Some(text[..length].to_owned());
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// What is received until the client closes the connection.
    pub(super) async fn rest(&mut self) -> String {
        while self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) > 0 {}
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// Sends `text`, unless the connection is closed.
    pub(super) async fn send(&mut self, text: &str) {
        if self.stream.write_all(text.as_bytes()).await.is_ok() {
            drop(self.stream.flush().await);
        }
    }
}

/// A route under test.
pub(super) struct Route {
    pub(super) allow: Vec<String>,
    pub(super) limits: RouteLimits,
    pub(super) resolver: Resolver,
    pub(super) roots: RootCertStore,
    pub(super) idle_timeout: Duration,
}

impl Route {
    pub(super) fn allowing(origins: &[&str]) -> Self {
        Self {
            allow: origins.iter().map(ToString::to_string).collect(),
            limits: RouteLimits::default(),
            resolver: Resolver::default(),
            roots: RootCertStore::empty(),
            idle_timeout: DEADLINE,
        }
    }

    /// May reach every port of 127.0.0.1.
    pub(super) fn loopback() -> Self {
        Self::allowing(&["http://127.0.0.1:*"])
    }

    pub(super) fn policy(self) -> Arc<OutgoingPolicy> {
        let client = OutgoingClient::for_test(self.resolver, Trust::only(self.roots));
        let origins = self.allow.iter().map(|origin| origin.parse().unwrap()).collect();
        let allow = AllowHttp::new(origins);
        OutgoingPolicy::with_idle_timeout(&client, allow, &self.limits, self.idle_timeout)
    }

    pub(super) fn hooks(self) -> Hooks {
        Hooks::new(self.policy(), meter())
    }
}

/// What a guest receives: the response, and the future that resolves when its request has been sent.
pub(super) type Answer = (Response<WasiBody>, Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>);

pub(super) fn begin(
    hooks: &mut Hooks,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>> {
    let sending = Box::into_pin(hooks.send_request(request, options, Box::new(async { Ok(()) })));
    Box::pin(async { sending.await.map(|(response, sent)| (response, Box::into_pin(sent))) })
}

pub(super) async fn send(hooks: &mut Hooks, request: Request<WasiBody>) -> Result<Answer, Error> {
    soon(begin(hooks, request, None)).await
}

pub(super) async fn get(hooks: &mut Hooks, url: &str) -> Result<Response<WasiBody>, Error> {
    let (response, _) = send(hooks, request("GET", url, empty())).await?;
    Ok(response)
}

/// The response's body as text, and its trailers.
pub(super) async fn read(response: Response<WasiBody>) -> Result<(String, HeaderMap), Error> {
    let collected = soon(response.into_body().collect()).await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok((String::from_utf8(collected.to_bytes().into()).unwrap(), trailers))
}

/// Sends a GET and reads its response: the status and the body, or the error code of either.
pub(super) async fn fetch(hooks: &mut Hooks, url: &str) -> String {
    outcome(hooks, request("GET", url, empty())).await
}

pub(super) async fn outcome(hooks: &mut Hooks, request: Request<WasiBody>) -> String {
    let result = async {
        let (response, _sent) = send(hooks, request).await?;
        let status = response.status().as_u16();
        let (body, _) = read(response).await?;
        Ok::<_, Error>(format!("{status} {body}"))
    };
    result.await.unwrap_or_else(|error| format!("{error:?}"))
}

pub(super) fn request(method: &str, url: &str, body: WasiBody) -> Request<WasiBody> {
    Request::builder().method(method).uri(url).body(body).unwrap()
}

pub(super) fn empty() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn full(text: &'static str) -> WasiBody {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

/// A body as guests make them: it has no known length, reports no end in advance, and ends when its sender is dropped,
/// by the guest or by the host.
pub(super) struct GuestBody(mpsc::Receiver<Result<Frame<Bytes>, Error>>);

pub(super) type GuestSender = mpsc::Sender<Result<Frame<Bytes>, Error>>;

pub(super) fn guest_body() -> (GuestSender, WasiBody) {
    let (sender, receiver) = mpsc::channel(8);
    (sender, GuestBody(receiver).boxed_unsync())
}

/// A body that turns out to be empty when it is first polled.
pub(super) fn ended() -> WasiBody {
    let (_, body) = guest_body();
    body
}

pub(super) fn data(text: &'static str) -> Result<Frame<Bytes>, Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(cx)
    }
}

/// A client's body that a guest passes on.
pub(super) fn from_outside(body: WasiBody) -> WasiBody {
    Outside(body).boxed_unsync()
}

struct Outside(WasiBody);

impl Body for Outside {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        received::note_polled();
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

/// A meter for an instance that no guest runs in.
pub(super) fn meter() -> Arc<Meter> {
    Arc::new(Meter::new(Duration::from_secs(1), Arc::default()))
}
