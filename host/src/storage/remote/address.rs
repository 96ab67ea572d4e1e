//! Where a server is, and connections to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::config::StoreServer;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use crate::sys::certificates;

/// How long a connection may be idle until the kernel asks whether the server is still there, and the interval between
/// two questions.
const KEEPALIVE: Duration = Duration::from_secs(15);

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

    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let stream = self.connect_tcp().await.map_err(|error| error.to_string())?;
        let Some(trust) = &self.trust else { return Ok(Box::new(stream)) };
        let config = trust.config().await?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| format!("TLS: {error}"))?))
    }

    async fn connect_tcp(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        Ok(stream)
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
