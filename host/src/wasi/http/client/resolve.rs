//! Resolves names to addresses.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use daylily_core::log_target;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::Error;

use super::error;

/// Name lookups that the process may have in progress, of the 512 threads of tokio's blocking pool.
const MAX_LOOKUPS: usize = 64;

/// The most addresses of one name that are used.
const MAX_ADDRESSES: usize = 16;

/// The source of addresses.
pub(super) enum Resolver {
    /// The system's resolver, with one permit for each lookup in progress.
    System(Arc<Semaphore>),
    /// Resolves every name to these addresses.
    #[cfg(test)]
    Fixed(Vec<IpAddr>),
    /// Never returns.
    #[cfg(test)]
    Silent,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::System(Arc::new(Semaphore::new(MAX_LOOKUPS)))
    }
}

impl Resolver {
    /// The addresses of `host`, at most 16 of them; never empty.
    ///
    /// If the future is dropped, the system's lookup continues; until it ends it counts towards the limits of `route`
    /// and of the process.
    pub(super) async fn addresses(
        &self,
        host: &str,
        port: u16,
        route: &Arc<Semaphore>,
    ) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = match self {
            Self::System(process) => system(host, port, route, process).await?,
            #[cfg(test)]
            Self::Fixed(addresses) => addresses.iter().map(|address| SocketAddr::new(*address, port)).collect(),
            #[cfg(test)]
            Self::Silent => std::future::pending().await,
        };
        if found.is_empty() {
            return Err(error::dns());
        }
        Ok(found)
    }
}

async fn system(
    host: &str,
    port: u16,
    route: &Arc<Semaphore>,
    process: &Arc<Semaphore>,
) -> Result<Vec<SocketAddr>, Error> {
    // The route's permit first, so that slow lookups of one route do not occupy the permits of the others.
    let closed = |_| Error::InternalError(None);
    let route = Arc::clone(route).acquire_owned().await.map_err(closed)?;
    let process = Arc::clone(process).acquire_owned().await.map_err(closed)?;
    let host = host.to_owned();
    let lookup = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs();
        drop((route, process));
        found.map(|addresses| addresses.take(MAX_ADDRESSES).collect())
    });
    match lookup.await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => {
            tracing::trace!(target: log_target::OUTGOING, %error, "name lookup failed");
            Err(error::dns())
        }
        Err(_) => Err(Error::InternalError(None)),
    }
}
