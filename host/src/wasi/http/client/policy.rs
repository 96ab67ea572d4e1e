//! What one route may reach, and its time-outs.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use daylily_core::allow_http::{AllowHttp, Permit, Scheme};
use daylily_core::authority;
use daylily_core::config::RouteLimits;
use daylily_core::excerpt::Excerpt;
use daylily_core::internal;
use daylily_core::log_target;
use http::Uri;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, RequestOptions};

use super::OutgoingClient;
use super::framing::Violation;
use super::pool::Pool;
use crate::observe::log::OncePerSecond;

/// Name lookups that a route may have in progress. They run on the threads of the blocking pool, which all routes
/// share.
const MAX_LOOKUPS_PER_ROUTE: usize = 16;

/// The longest part of a host that is logged: no DNS name is longer.
const MAX_HOST_BYTES: usize = 255;

/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longer than any request takes.
const UNLIMITED: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What one route may do: the origins that it may reach, its time-outs and its connection pool.
pub(crate) struct OutgoingPolicy {
    client: OutgoingClient,
    allow: AllowHttp,
    timeouts: Timeouts,
    max_open: u32,
    lookups: Arc<Semaphore>,
    pool: Arc<Pool>,
    callees: Box<[Callee]>,
}

/// A route that may be called: its name, and its index among the worker's.
pub(crate) struct Callee {
    pub(crate) name: Box<str>,
    pub(crate) index: usize,
}

/// What a request is allowed to reach.
pub(super) enum Admitted {
    Origin(Destination),
    /// The route with this index.
    Route(usize),
}

/// The time-outs for the phases of one request.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    /// For resolving the name, connecting and the TLS handshake together.
    pub(super) connect: Duration,
    /// From the last part of the request to the response's head.
    pub(super) first_byte: Duration,
    /// For each part of the response's body.
    pub(super) between_bytes: Duration,
}

impl OutgoingPolicy {
    /// For a route that may reach what `allow` lists, within `limits`. `callees` are the routes in `allow`.
    pub(crate) fn new(
        client: &OutgoingClient,
        allow: AllowHttp,
        limits: &RouteLimits,
        callees: Vec<Callee>,
    ) -> Arc<Self> {
        Arc::new(Self { callees: callees.into(), ..Self::of(client, allow, limits, IDLE_TIMEOUT) })
    }

    #[cfg(test)]
    pub(super) fn with_idle_timeout(
        client: &OutgoingClient,
        allow: AllowHttp,
        limits: &RouteLimits,
        idle_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self::of(client, allow, limits, idle_timeout))
    }

    fn of(client: &OutgoingClient, allow: AllowHttp, limits: &RouteLimits, idle_timeout: Duration) -> Self {
        Self {
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
            callees: Box::default(),
        }
    }

    /// Where a request to `uri` goes, if the route may reach it.
    pub(super) fn admit(&self, uri: &Uri) -> Result<Admitted, Error> {
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
        if let Some(permit) = self.allow.find(scheme, &origin.host, origin.port) {
            return Ok(Admitted::Origin(Destination { origin, permit }));
        }
        match self.callee(&origin) {
            Some(index) => Ok(Admitted::Route(index)),
            None => {
                origin.log_denied("not in the route's allow_http");
                Err(Error::HttpRequestDenied)
            }
        }
    }

    /// The index of the route that has this origin, if it may be called.
    fn callee(&self, origin: &Origin) -> Option<usize> {
        let name = internal::route_of(&origin.host)?;
        let is_default = origin.scheme == Scheme::Http && origin.port == Scheme::Http.default_port();
        self.callees.iter().find(|callee| is_default && *callee.name == *name).map(|callee| callee.index)
    }

    /// The route's time-outs, shortened to those of the guest.
    pub(super) fn timeouts(&self, options: Option<RequestOptions>) -> Timeouts {
        let options = options.unwrap_or_default();
        let shorter = |ours: Duration, guests: Option<Duration>| guests.map_or(ours, |guests| guests.min(ours));
        Timeouts {
            connect: shorter(self.timeouts.connect, options.connect_timeout),
            first_byte: shorter(self.timeouts.first_byte, options.first_byte_timeout),
            between_bytes: shorter(self.timeouts.between_bytes, options.between_bytes_timeout),
        }
    }

    /// Those for what follows the guest in its chain, which its `wall_time` bounds: only those of the guest.
    pub(super) fn timeouts_of_next(&self, options: Option<RequestOptions>) -> Timeouts {
        let options = options.unwrap_or_default();
        Timeouts {
            connect: self.timeouts.connect,
            first_byte: options.first_byte_timeout.map_or(UNLIMITED, |guests| guests.min(UNLIMITED)),
            between_bytes: options.between_bytes_timeout.map_or(UNLIMITED, |guests| guests.min(UNLIMITED)),
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

/// A guest that sends many denied requests cannot flood the log.
static DENIALS: LazyLock<OncePerSecond> = LazyLock::new(OncePerSecond::new);

/// Nor can an origin that sends many invalid responses.
static VIOLATIONS: LazyLock<OncePerSecond> = LazyLock::new(OncePerSecond::new);

/// Scheme, host (lower case, an IPv6 address without its brackets) and port.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

/// An origin whose name the route allows. Its addresses are still to be checked.
pub(super) struct Destination {
    pub(super) origin: Origin,
    permit: Permit,
}

impl Destination {
    /// Whether the route also allows an address that the name resolved to.
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
            tracing::warn!(
                target: log_target::OUTGOING,
                "outgoing request to {scheme}://{host}:{port} denied: {reason} (logged once a second)"
            );
        } else {
            tracing::debug!(
                target: log_target::OUTGOING,
                "outgoing request to {scheme}://{host}:{port} denied: {reason}"
            );
        }
    }

    /// Logs that a response was rejected.
    pub(super) fn log_violation(&self, violation: Violation) {
        let (scheme, host, port) = (self.scheme.as_str(), &self.host, self.port);
        if VIOLATIONS.is_news() {
            tracing::warn!(
                target: log_target::OUTGOING,
                "outgoing request to {scheme}://{host}:{port} failed: {violation} (logged once a second)"
            );
        } else {
            tracing::debug!(
                target: log_target::OUTGOING,
                "outgoing request to {scheme}://{host}:{port} failed: {violation}"
            );
        }
    }

    pub(super) fn log_failed(&self, error: &Error) {
        if matches!(error, Error::DestinationIpProhibited) {
            return self.log_denied("its addresses are not permitted");
        }
        tracing::debug!(
            target: log_target::OUTGOING,
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
