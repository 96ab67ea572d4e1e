//! Opens a connection to an origin, on which a request can be sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::allow_http::Scheme;
use daylily_core::log_target;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime_wasi_http::Error;

use super::error;
use super::policy::{Destination, Origin, OutgoingPolicy};
use super::pool::Connection;
use super::watched::{Expected, Watched};

/// The most that a connection buffers of a response. The head must fit.
pub(crate) const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// The most fields in the head of a response, and in its trailers. hyper allocates 64 bytes for each field of this
/// limit for every response, and frees them when the head has been read.
pub(super) const MAX_FIELDS: u32 = 1024;

/// Connects to one of the addresses of `destination` that the route may reach, within `limit`.
///
/// Connects only to addresses that were checked. The name is not resolved a second time, so it cannot resolve to
/// another address after the check.
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

/// Tries the addresses one after the other, each with its share of the remaining time, so that an unresponsive address
/// leaves time for the others.
async fn connect_tcp(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Error> {
    let mut last = Error::ConnectionTimeout;
    let mut untried = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / untried.max(1);
        untried = untried.saturating_sub(1);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Otherwise a small request would wait for the acknowledgement of earlier data.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::trace!(target: log_target::OUTGOING, %error, "failed to set TCP_NODELAY");
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
        // RFC 9112 §5.2: a folded field value is joined with spaces.
        .allow_obsolete_multiline_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error::before_head(&error))?;
    // The result is dropped: the task that waits for the response receives the error.
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok(Connection::new(sender, driver, expected))
}
