//! TLS to https origins.

use std::sync::{Arc, OnceLock};

use daylily_core::log_target;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

use super::error;
use crate::sys::certificates;

/// The certificates that https origins are verified against. Read once, on first use.
#[derive(Clone, Default)]
pub(super) struct Trust {
    /// Unset until the certificates are read. None inside means that there are none, which has been logged.
    config: Arc<OnceLock<Option<Arc<ClientConfig>>>>,
    /// Held while the certificates are being read.
    loading: Arc<Mutex<()>>,
}

impl Trust {
    /// Trusts `roots` and nothing else.
    #[cfg(test)]
    pub(super) fn only(roots: RootCertStore) -> Self {
        Self { config: Arc::new(OnceLock::from(client_config(roots).ok())), ..Self::default() }
    }

    /// In the state after a search that found no certificates.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { config: Arc::new(OnceLock::from(None)), ..Self::default() }
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        if self.config.get().is_none() {
            // Occupies one thread only, however many requests wait, even if the read never returns.
            let loading_alone = Arc::clone(&self.loading).lock_owned().await;
            let trust = self.clone();
            // Reads over a hundred files, or one of 300 KB, which would block the event loop.
            let loading = tokio::task::spawn_blocking(move || {
                trust.config.get_or_init(load);
                drop(loading_alone);
            });
            loading.await.map_err(|_| Error::InternalError(None))?;
        }
        self.config.get().cloned().flatten().ok_or(Error::ConfigurationError)
    }

    /// Makes `stream` a TLS connection to `host`, a name or an IP address without brackets.
    pub(super) async fn handshake(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
        let name = ServerName::try_from(host).map_err(|_| error::dns())?.to_owned();
        TlsConnector::from(self.config().await?)
            .connect(name, stream)
            .await
            .map_err(|error| error::tls_handshake(&error))
    }
}

fn load() -> Option<Arc<ClientConfig>> {
    let trusted = certificates::trusted()
        .inspect_err(|error| tracing::error!(target: log_target::OUTGOING, "outgoing https: {error}"))
        .ok()?;
    for error in &trusted.errors {
        tracing::warn!(target: log_target::OUTGOING, %error, "failed to read some of the trusted certificates");
    }
    client_config(trusted.roots)
        .inspect_err(|error| {
            tracing::error!(target: log_target::OUTGOING, %error, "failed to set up outgoing https");
        })
        .ok()
}

fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = certificates::client_config(roots)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
