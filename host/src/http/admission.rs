//! Limits the requests in progress, and the number and waiting time of queued ones.

use std::iter::once;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use daylily_core::config::ServerLimits;
use daylily_core::error_response::ErrorResponse;
use daylily_core::limits::route_share;
use daylily_core::log_target;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::http::stall::{Stalls, ask_to_give_way};
use crate::observe::log::OncePerSecond;

/// How often the requests that wait for their clients are checked while other requests wait for a permit.
const LOOK: Duration = Duration::from_millis(50);

/// Gives out permits, first come, first served.
pub(crate) struct Admission {
    turns: Arc<Semaphore>,
    /// Number of requests in the queue.
    waiting: AtomicU32,
    /// How many of those need only a permit of the server, because they have their route's.
    waiting_for_server: AtomicU32,
    max_waiting: u32,
    max_wait: Duration,
    /// How many permits guests may have that work for one request of a client, beside those that it was admitted with.
    max_inner: u32,
    routes: Vec<RouteShare>,
    /// Notified when a request begins to wait, which ends the pause of `relieve`.
    pressure: Notify,
    gave_way: OncePerSecond,
}

/// A route's share of the server's permits. Without a maximum, the route may use all of them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RouteShare(Arc<Share>);

struct Share {
    /// The permits of the server that each request takes: one for each of its guests.
    guests: u32,
    permits: Option<Arc<Semaphore>>,
    /// Number of requests that wait for one of these permits.
    waiting: AtomicU32,
    /// The route's requests whose guests wait for their clients.
    stalls: Stalls,
}

/// The right of one request to be in progress, until it is dropped.
pub(crate) struct Permit {
    _server: Option<OwnedSemaphorePermit>,
    _route: Option<OwnedSemaphorePermit>,
    /// Instead of both, for one of several guests of a request.
    _part: Option<Part>,
    /// Of those that guests may have that work for one request of a client.
    _inner: Option<OwnedSemaphorePermit>,
    share: RouteShare,
}

/// The permits that guests may have that work for one request of a client, beside those that it was admitted with. Cheap
/// to clone; all clones are of the same request.
#[derive(Clone)]
pub(crate) struct InnerShare(Arc<Semaphore>);

impl InnerShare {
    fn take(&self, guests: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(guests).ok()
    }
}

/// The part of one guest in the permits of its request.
struct Part {
    _of: Arc<Permit>,
    /// Set while the guest has it.
    taken: Option<Arc<AtomicBool>>,
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(taken) = &self.taken {
            taken.store(false, Relaxed);
        }
    }
}

/// A counted place in the queue. Dropping it decrements the count, so cancellation cannot leak it.
struct QueuedRequest<'a>(&'a AtomicU32);

impl RouteShare {
    /// Each request takes `guests` permits of the server.
    pub(crate) fn new(max_concurrency: Option<u32>, guests: u32) -> Self {
        let permits = max_concurrency.map(|share| Arc::new(Semaphore::new(share as usize)));
        Self(Arc::new(Share { guests, permits, waiting: AtomicU32::new(0), stalls: Stalls::default() }))
    }

    /// The route's requests whose guests wait for their clients.
    pub(crate) fn stalls(&self) -> &Stalls {
        &self.0.stalls
    }
}

impl Permit {
    /// The part of one guest. `taken` is set until it is dropped.
    pub(crate) fn part(of: &Arc<Self>, taken: Option<Arc<AtomicBool>>) -> Self {
        let (part, share) = (Some(Part { _of: Arc::clone(of), taken }), of.share.clone());
        Self { _server: None, _route: None, _part: part, _inner: None, share }
    }

    pub(crate) fn share(&self) -> &RouteShare {
        &self.share
    }
}

impl Admission {
    pub(crate) fn new(limits: &ServerLimits, routes: Vec<RouteShare>) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(limits.max_concurrency as usize)),
            waiting: AtomicU32::new(0),
            waiting_for_server: AtomicU32::new(0),
            max_waiting: limits.max_queue,
            max_wait: limits.queue_timeout,
            max_inner: route_share(limits.max_concurrency),
            routes,
            pressure: Notify::new(),
            gave_way: OncePerSecond::new(),
        }
    }

    /// Waits for a permit. Cancel safe: dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// `QueueFull` at once, or `QueueTimeout` after `queue_timeout`.
    pub(crate) async fn admit(&self, share: &RouteShare) -> Result<Permit, ErrorResponse> {
        if let Some(permit) = self.try_admit(share, share.0.guests, None) {
            return Ok(permit);
        }
        let _place = self.take_place().ok_or(ErrorResponse::QueueFull)?;
        self.pressure.notify_one();
        match tokio::time::timeout(self.max_wait, self.wait(share)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(closed)) => Err(ErrorResponse::Internal { detail: closed.to_string().into() }),
            Err(_elapsed) => Err(ErrorResponse::QueueTimeout),
        }
    }

    /// A permit for a request of a guest, which has one already: it gets one at once, or none. If such requests waited,
    /// those that they wait for could be each other.
    ///
    /// # Errors
    ///
    /// `NoPermit`.
    pub(crate) fn admit_now(&self, share: &RouteShare, inner: &InnerShare) -> Result<Permit, ErrorResponse> {
        self.try_admit(share, share.0.guests, Some(inner)).ok_or(ErrorResponse::NoPermit)
    }

    /// Permits for so many more guests of a request of the route. They count as one more request of it.
    ///
    /// # Errors
    ///
    /// `NoPermit`.
    pub(crate) fn admit_more(
        &self,
        share: &RouteShare,
        guests: u32,
        inner: &InnerShare,
    ) -> Result<Permit, ErrorResponse> {
        self.try_admit(share, guests, Some(inner)).ok_or(ErrorResponse::NoPermit)
    }

    /// For one request of a client: no more than a route can have by default, so that no request takes all permits.
    pub(crate) fn inner_share(&self) -> InnerShare {
        InnerShare(Arc::new(Semaphore::new(self.max_inner as usize)))
    }

    fn try_admit(&self, share: &RouteShare, guests: u32, inner: Option<&InnerShare>) -> Option<Permit> {
        let inner = match inner {
            Some(inner) => Some(inner.take(guests)?),
            None => None,
        };
        let route = match &share.0.permits {
            Some(permits) => Some(Arc::clone(permits).try_acquire_owned().ok()?),
            None => None,
        };
        let server = Arc::clone(&self.turns).try_acquire_many_owned(guests).ok()?;
        Some(Permit { _server: Some(server), _route: route, _part: None, _inner: inner, share: share.clone() })
    }

    /// Takes the route's permit first: a route over its share must not hold a server permit that others could use.
    async fn wait(&self, share: &RouteShare) -> Result<Permit, AcquireError> {
        let route = match &share.0.permits {
            Some(permits) => {
                let (_place, _) = QueuedRequest::take(&share.0.waiting);
                Some(Arc::clone(permits).acquire_owned().await?)
            }
            None => None,
        };
        let (_place, _) = QueuedRequest::take(&self.waiting_for_server);
        let server = Arc::clone(&self.turns).acquire_many_owned(share.0.guests).await?;
        Ok(Permit { _server: Some(server), _route: route, _part: None, _inner: None, share: share.clone() })
    }

    fn take_place(&self) -> Option<QueuedRequest<'_>> {
        let (place, before) = QueuedRequest::take(&self.waiting);
        (before < self.max_waiting).then_some(place)
    }

    /// Frees permits that other requests wait for: requests whose guests have waited too long for their clients are
    /// asked to give way. Never returns; does nothing while no request waits.
    pub(crate) async fn relieve(&self) {
        loop {
            if self.waiting.load(Relaxed) == 0 {
                self.pressure.notified().await;
            }
            tokio::time::sleep(LOOK).await;
            let giving_way = self.look();
            if giving_way > 0 && self.gave_way.is_news() {
                tracing::warn!(
                    target: log_target::REQUEST,
                    "{giving_way} requests of stalled clients aborted, because other requests were queued (logged \
                     once a second)"
                );
            }
        }
    }

    /// A route's requests give way to other requests of the route. Requests that wait only for a server permit can make
    /// requests of any route give way.
    fn look(&self) -> usize {
        let now = Instant::now();
        let of_routes = self
            .routes
            .iter()
            .map(|RouteShare(share)| ask_to_give_way(once(&share.stalls), share.waiting.load(Relaxed) as usize, now));
        let of_routes: usize = of_routes.sum();
        let stalls = self.routes.iter().map(RouteShare::stalls);
        of_routes + ask_to_give_way(stalls, self.waiting_for_server.load(Relaxed) as usize, now)
    }
}

impl<'a> QueuedRequest<'a> {
    /// Increments `count`, and returns the previous value.
    fn take(count: &'a AtomicU32) -> (Self, u32) {
        let before = count.fetch_add(1, Relaxed);
        (Self(count), before)
    }
}

impl Drop for QueuedRequest<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max_concurrency: u32) -> Admission {
        Admission::new(&ServerLimits { max_concurrency, ..ServerLimits::default() }, Vec::new())
    }

    /// Otherwise a guest before it could have guests for which there is no permit.
    #[test]
    fn what_follows_is_taken_until_all_of_it_has_ended() {
        let admission = admission(3);
        let route = RouteShare::new(None, 3);
        let whole = admission.try_admit(&route, 3, None).map(Arc::new).expect("free permits");
        let taken = Arc::new(AtomicBool::new(true));
        let step = Arc::new(Permit::part(&whole, Some(Arc::clone(&taken))));
        let (guest, next) = (Permit::part(&step, None), Permit::part(&step, Some(Arc::default())));
        drop((step, guest));
        assert!(taken.load(Relaxed), "what follows the guest works on");
        drop(next);
        assert!(!taken.load(Relaxed));
    }

    #[test]
    fn more_guests_count_in_their_route() {
        let admission = admission(100);
        let (route, inner) = (RouteShare::new(Some(2), 2), admission.inner_share());
        let first = admission.try_admit(&route, 2, None).expect("free permits");
        let more = admission.admit_more(&route, 1, &inner).map_err(|_| "no permit").unwrap();
        assert!(admission.admit_more(&route, 1, &inner).is_err(), "the route's share is exceeded");
        drop(first);
        assert!(admission.admit_more(&route, 1, &inner).is_ok());
        drop(more);
    }

    #[test]
    fn the_guests_of_one_request_do_not_take_all_permits() {
        let admission = admission(8);
        let (one, other) = (RouteShare::new(None, 1), RouteShare::new(None, 1));
        let inner = admission.inner_share();
        let taken: Vec<_> =
            (0..8).map_while(|at| admission.admit_now(if at % 2 == 0 { &one } else { &other }, &inner).ok()).collect();
        assert_eq!(taken.len(), 6);
        assert!(admission.admit_now(&one, &admission.inner_share()).is_ok(), "of another request");
        drop(taken);
        assert!(admission.admit_now(&one, &inner).is_ok());
    }
}
