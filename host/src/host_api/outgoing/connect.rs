//! From an origin to a connection that a request can be sent on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::allow_http::Scheme;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime_wasi_http::Error;

use super::error;
use super::policy::{Destination, Origin, OutgoingPolicy};
use super::pool::Connection;
use super::watched::{Expected, Watched};

/// What a connection may buffer of a response; its head has to fit.
pub(crate) const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Fields in the head of a response, and in its trailers. hyper allocates 64 bytes for each, for every response, and
/// gives them back when the head has been read.
pub(super) const MAX_FIELDS: u32 = 1024;

/// Connects to one of the addresses of `destination` that the route may reach, within `limit`.
///
/// Only addresses that were checked are connected to: the name is not resolved again, so it cannot
/// come to mean another address in between.
pub(super) async fn connect(
    policy: &OutgoingPolicy,
    destination: &Destination,
    limit: Duration,
) -> Result<Connection, Error> {
    let deadline = Instant::now() + limit;
    let addresses =
        timeout_at(deadline, checked_addresses(policy, destination)).await.map_err(|_| Error::DnsTimeout)??;
    let stream = connect_tcp(&addresses, deadline).await?;
    let origin = &destination.origin;
    match origin.scheme {
        Scheme::Http => start(stream, origin).await,
        Scheme::Https => {
            let trust = &policy.client().shared.trust;
            let handshake = trust.handshake(&origin.host, stream);
            let stream = timeout_at(deadline, handshake).await.map_err(|_| Error::ConnectionTimeout)??;
            start(stream, origin).await
        }
    }
}

async fn checked_addresses(policy: &OutgoingPolicy, destination: &Destination) -> Result<Vec<SocketAddr>, Error> {
    let origin = &destination.origin;
    let mut addresses = policy.client().shared.resolver.addresses(&origin.host, origin.port, policy.lookups()).await?;
    addresses.retain(|address| destination.allows_address(address.ip()));
    if addresses.is_empty() {
        return Err(Error::DestinationIpProhibited);
    }
    Ok(addresses)
}

/// Tries one address after the other, each with its share of the time that is left, so that one
/// which does not answer leaves some for the rest.
async fn connect_tcp(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Error> {
    let mut last = Error::ConnectionTimeout;
    let mut untried = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / untried.max(1);
        untried = untried.saturating_sub(1);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small requests are not to wait for the acknowledgement of the last ones.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::trace!(%error, "failed to set TCP_NODELAY");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => last = error::tcp_connect(&error),
            Err(_) => last = Error::ConnectionTimeout,
        }
    }
    Err(last)
}

async fn start<T>(stream: T, origin: &Origin) -> Result<Connection, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let expected = Arc::<Expected>::default();
    let stream = Watched::new(stream, origin.clone(), Arc::clone(&expected));
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_BUFFER_BYTES)
        .max_headers(MAX_FIELDS as usize)
        // RFC 9112 §5.2: a folded value is joined with spaces.
        .allow_obsolete_multiline_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error::before_head(&error))?;
    // Why it ended is told to whoever waits for its response.
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok(Connection::new(sender, driver, expected))
}
