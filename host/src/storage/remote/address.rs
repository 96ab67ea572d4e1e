//! Where a server is, and connections to it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use daylily_core::config::StoreServer;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::link::CONNECT_TIMEOUT;
use crate::sys::certificates;

/// How long a connection may be idle until the kernel asks whether the server is still there, and the interval between
/// two questions.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// A byte stream, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Where a server is.
pub(super) struct Address {
    host: String,
    port: u16,
    /// For TLS.
    trust: Option<Trust>,
}

/// The certificates that are trusted, read once.
#[derive(Default)]
pub(super) struct Trust(OnceCell<Arc<ClientConfig>>);

impl Trust {
    /// How to connect with TLS. Waits until the certificates are read.
    pub(super) async fn config(&self) -> Result<&Arc<ClientConfig>, String> {
        self.0.get_or_try_init(load).await
    }
}

impl Address {
    pub(super) fn of(server: &StoreServer) -> Self {
        let trust = server.is_tls.then(Trust::default);
        Self { host: server.host.clone(), port: server.port, trust }
    }

    /// Connects. Also returns the number of bytes that are received, which grows.
    pub(super) async fn connect(&self) -> Result<(Box<dyn Stream>, Arc<AtomicU64>), String> {
        let received = Arc::new(AtomicU64::new(0));
        let stream = self.connect_tcp().await.map_err(|error| error.to_string())?;
        let stream = Counted { stream, received: Arc::clone(&received) };
        let Some(trust) = &self.trust else { return Ok((Box::new(stream), received)) };
        let config = trust.config().await?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        Ok((Box::new(stream.map_err(|error| format!("TLS: {error}"))?), received))
    }

    /// Tries one address after the other. The last one has all of the time that is left, and each other one a part.
    async fn connect_tcp(&self) -> io::Result<TcpStream> {
        let mut addresses = addresses(&self.host, self.port).await?;
        let last = addresses.pop().ok_or_else(|| io::Error::other("the name has no address"))?;
        let part = part_for(addresses.len() + 2);
        for address in addresses {
            if let Ok(Ok(stream)) = timeout(part, TcpStream::connect(address)).await {
                return settled(stream);
            }
        }
        settled(TcpStream::connect(last).await?)
    }
}

/// The addresses of a name that are tried.
pub(super) async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(lookup_host((host, port)).await?.take(MAX_ADDRESSES).collect())
}

/// One of so many parts of the time that connecting may take.
pub(super) fn part_for(parts: usize) -> Duration {
    CONNECT_TIMEOUT / u32::try_from(parts.max(1)).unwrap_or(u32::MAX)
}

fn settled(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
    // When it is given up, the kernel does not send what it still has.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

/// A connection that counts what it receives.
struct Counted {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, to))?;
        self.received.fetch_add((to.filled().len() - before) as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// In a thread: it reads over a hundred files.
async fn load() -> Result<Arc<ClientConfig>, String> {
    let loaded = tokio::task::spawn_blocking(|| {
        let trusted = certificates::trusted()?;
        certificates::client_config(trusted.roots).map_err(|error| error.to_string())
    });
    Ok(Arc::new(loaded.await.map_err(|error| error.to_string())??))
}
