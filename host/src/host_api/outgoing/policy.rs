//! What one route may reach, and how long it may take.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use daylily_core::allow_http::{AllowHttp, Permit, Scheme};
use daylily_core::authority;
use daylily_core::config::RouteLimits;
use daylily_core::excerpt::Excerpt;
use http::Uri;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, RequestOptions};

use super::OutgoingClient;
use super::framing::Violation;
use super::pool::Pool;
use crate::log::OncePerSecond;

/// Name lookups a route may have in progress. They run on the blocking pool's threads, which all
/// routes share.
const MAX_LOOKUPS_PER_ROUTE: usize = 16;

/// Of a host, in the log: a name of DNS is no longer.
const MAX_HOST_BYTES: usize = 255;

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What one route may do: the origins it may reach, its time-outs and its connection pool.
pub(crate) struct OutgoingPolicy {
    client: OutgoingClient,
    allow: AllowHttp,
    timeouts: Timeouts,
    max_open: u32,
    lookups: Arc<Semaphore>,
    pool: Arc<Pool>,
}

/// How long the parts of one request may take.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    /// Resolving the name, connecting and the TLS handshake together.
    pub(super) connect: Duration,
    /// From the last part of the request to the response's head.
    pub(super) first_byte: Duration,
    /// The longest wait for each part of the response's body.
    pub(super) between_bytes: Duration,
}

impl OutgoingPolicy {
    /// For a route that may reach what `allow` lists, within `limits`.
    pub(crate) fn new(client: &OutgoingClient, allow: AllowHttp, limits: &RouteLimits) -> Arc<Self> {
        Self::with_idle_timeout(client, allow, limits, IDLE_TIMEOUT)
    }

    pub(super) fn with_idle_timeout(
        client: &OutgoingClient,
        allow: AllowHttp,
        limits: &RouteLimits,
        idle_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            client: client.clone(),
            allow,
            timeouts: Timeouts {
                connect: limits.connect_timeout,
                first_byte: limits.first_byte_timeout,
                between_bytes: limits.between_bytes_timeout,
            },
            max_open: limits.max_outgoing,
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS_PER_ROUTE)),
            pool: Pool::new(idle_timeout),
        })
    }

    /// Where a request to `uri` goes, if the route may go there.
    pub(super) fn admit(&self, uri: &Uri) -> Result<Destination, Error> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(Error::HttpProtocolError),
        };
        let authority = uri
            .authority()
            .and_then(|authority| authority::parse(authority.as_str()).ok())
            .ok_or(Error::HttpRequestUriInvalid)?;
        let origin = Origin {
            scheme,
            host: unbracketed(authority.host).to_ascii_lowercase().into(),
            port: authority.port.unwrap_or(scheme.default_port()),
        };
        match self.allow.find(scheme, &origin.host, origin.port) {
            Some(permit) => Ok(Destination { origin, permit }),
            None => {
                origin.log_denied("not in the route's allow_http");
                Err(Error::HttpRequestDenied)
            }
        }
    }

    /// The guest's time-outs as far as they are shorter than the route's.
    pub(super) fn timeouts(&self, options: Option<RequestOptions>) -> Timeouts {
        let options = options.unwrap_or_default();
        let shorter = |ours: Duration, guests: Option<Duration>| guests.map_or(ours, |guests| guests.min(ours));
        Timeouts {
            connect: shorter(self.timeouts.connect, options.connect_timeout),
            first_byte: shorter(self.timeouts.first_byte, options.first_byte_timeout),
            between_bytes: shorter(self.timeouts.between_bytes, options.between_bytes_timeout),
        }
    }

    /// How many outgoing requests one instance may have open.
    pub(super) fn max_open(&self) -> u32 {
        self.max_open
    }

    pub(super) fn client(&self) -> &OutgoingClient {
        &self.client
    }

    pub(super) fn lookups(&self) -> &Arc<Semaphore> {
        &self.lookups
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

/// A guest's flood of denied requests is not to be the log's.
static DENIALS: LazyLock<OncePerSecond> = LazyLock::new(OncePerSecond::new);

/// Nor is an origin's flood of broken responses.
static VIOLATIONS: LazyLock<OncePerSecond> = LazyLock::new(OncePerSecond::new);

/// Scheme, host (lower-case, an IPv6 address without its brackets) and port.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

/// An origin that the route may reach, as far as its name goes.
pub(super) struct Destination {
    pub(super) origin: Origin,
    permit: Permit,
}

impl Destination {
    /// Whether the route may also reach the address that the name stands for.
    pub(super) fn allows_address(&self, address: IpAddr) -> bool {
        self.permit.allows_address(address)
    }

    pub(super) fn log_denied(&self, reason: &str) {
        self.origin.log_denied(reason);
    }
}

impl Origin {
    pub(super) fn log_denied(&self, reason: &str) {
        let (scheme, host, port) = (self.scheme.as_str(), Excerpt::within(&self.host, MAX_HOST_BYTES), self.port);
        if DENIALS.is_news() {
            tracing::warn!("outgoing request to {scheme}://{host}:{port} denied: {reason} (logged once a second)");
        } else {
            tracing::debug!("outgoing request to {scheme}://{host}:{port} denied: {reason}");
        }
    }

    /// What it sends is not read any further.
    pub(super) fn log_violation(&self, violation: Violation) {
        let (scheme, host, port) = (self.scheme.as_str(), &self.host, self.port);
        if VIOLATIONS.is_news() {
            tracing::warn!("outgoing request to {scheme}://{host}:{port} failed: {violation} (logged once a second)");
        } else {
            tracing::debug!("outgoing request to {scheme}://{host}:{port} failed: {violation}");
        }
    }

    pub(super) fn log_failed(&self, error: &Error) {
        if matches!(error, Error::DestinationIpProhibited) {
            return self.log_denied("its addresses are not permitted");
        }
        tracing::debug!(
            scheme = self.scheme.as_str(),
            host = Excerpt::within(&self.host, MAX_HOST_BYTES).as_str(),
            port = self.port,
            error = Excerpt::display(error).as_str(),
            "outgoing request failed"
        );
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
