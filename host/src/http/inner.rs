//! Requests that guests of a worker send to each other: to other routes, and to what follows them in the chain of their
//! route. They stay in the process, from the caller's request to the response.
//!
//! The guest that answers runs in a task of its own, so what it uses is not counted as its caller's. The task ends when
//! the caller drops what it waits for: the response, or the rest of its body. One that has responded and works on ends
//! with its caller's instance, but for what follows in the chain of a client's request (`watchdog.rs`).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use daylily_core::error_response::ErrorResponse;
use http::header::CONTENT_LENGTH;
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::call::Received;
use crate::call::app::App;
use crate::http::admission::{InnerShare, Permit};
use crate::http::body::Body;
use crate::http::exchange::{Abort, Exchange};
use crate::http::files::Asked;
use crate::http::requester::Requester;
use crate::http::server::{self, Worker, WorkerRoute};
use crate::http::{inbound, request, response};
use crate::observe::record::Parts;
use crate::observe::trace_context::{ReceivedIds, RequestIds};
use crate::wasi::http::client::{Alive, Answering, Inner, Outgoing, RequestBody, To};

/// By how much sooner than the guest before it a guest of a chain ends at the latest, so that a time that is over is named
/// after the guest that used it up, and the one before it can pass on the response. At most a tenth of what is left.
const MARGIN: Duration = Duration::from_millis(50);

/// How often the other tasks of the worker are run before a guest counts as one that sends several requests on at a time,
/// for each guest that may have to end first.
const TURNS: usize = 4;

/// A call whose guest may send requests.
struct Caller {
    worker: Arc<Worker>,
    ids: RequestIds,
    /// The number of its request in its chain, from 1.
    depth: u32,
    /// The permits of all guests that work for the client's request; made for its first request.
    inner: OnceLock<InnerShare>,
    /// What follows it in its route, if it is middleware.
    chain: Option<Arc<Chain>>,
}

/// The place of a guest's request among those that are made for one request of a client.
pub(crate) struct Place {
    /// Its number in its chain, in which the client's request is number 1.
    depth: u32,
    inner: InnerShare,
}

/// What follows a guest in the chain of its route.
pub(crate) struct Chain {
    /// The route's index.
    route: usize,
    /// The index of what comes next: of a middleware, or the number of these for the end of the chain.
    next: usize,
    /// The scheme of the client's request.
    scheme: Scheme,
    /// Of this guest and of all that follow it. What follows is freed for another request only when all of it has ended.
    permit: Arc<Permit>,
    /// Whether what follows has its part of them.
    taken: Arc<AtomicBool>,
    parts: Arc<Parts>,
    /// The exchange of the first guest, whose store may have this chain.
    whole: Weak<Exchange>,
    /// When the guest before what follows must have ended.
    deadline: Instant,
}

/// One request to what follows in a chain.
struct Step {
    ids: RequestIds,
    chain: Chain,
    /// Its own part; an error if there is none.
    permit: Result<Permit, ErrorResponse>,
}

/// Where a request goes.
enum Destination {
    /// The route with this index.
    Route(usize),
    /// What follows in this chain, for a request with these ids.
    Next(Arc<Chain>, RequestIds),
}

impl Chain {
    /// Begins the chain of a route that has middleware: with the permit of the first one.
    pub(crate) fn begin(
        index: usize,
        route: &WorkerRoute,
        permit: Permit,
        exchange: &Arc<Exchange>,
        scheme: &Scheme,
    ) -> (Permit, Option<Self>) {
        let Some(first) = route.links.all().first() else { return (permit, None) };
        exchange.record().set_name(first.name);
        let permit = Arc::new(permit);
        let chain = Self {
            route: index,
            next: 1,
            scheme: scheme.clone(),
            permit: Arc::clone(&permit),
            taken: Arc::default(),
            parts: exchange.record().has_parts(),
            whole: Arc::downgrade(exchange),
            deadline: Instant::now() + first.app.settings().limits.wall_time,
        };
        (Permit::part(&permit, None), Some(chain))
    }

    /// The next step of a request with these ids. A guest that sends several requests on at a time needs more permits
    /// than its request has.
    async fn step(&self, worker: &Worker, ids: RequestIds, inner: &InnerShare) -> Step {
        let route = worker.routes.get(self.route);
        let guests = route.map_or(0, |route| (route.links.all().len() + 1).saturating_sub(self.next));
        // Guests whose response was dropped end when their tasks are run next, one after the other.
        for _ in 0..guests.saturating_mul(TURNS) {
            if !self.taken.load(Relaxed) {
                break;
            }
            tokio::task::yield_now().await;
        }
        let permit = if self.taken.swap(true, Relaxed) {
            let guests = u32::try_from(guests).unwrap_or(u32::MAX);
            let route = route.ok_or(ErrorResponse::NoRoute);
            route.and_then(|route| worker.admission.admit_more(&route.share, guests, inner))
        } else {
            Ok(Permit::part(&self.permit, Some(Arc::clone(&self.taken))))
        };
        match permit.map(Arc::new) {
            Ok(permit) => Step { ids, permit: Ok(Permit::part(&permit, None)), chain: self.rest(permit) },
            Err(refused) => Step { ids, permit: Err(refused), chain: self.rest(Arc::clone(&self.permit)) },
        }
    }

    /// What follows the next guest, for which `permit` is.
    fn rest(&self, permit: Arc<Permit>) -> Self {
        Self {
            route: self.route,
            next: self.next + 1,
            scheme: self.scheme.clone(),
            permit,
            taken: Arc::default(),
            parts: Arc::clone(&self.parts),
            whole: Weak::clone(&self.whole),
            deadline: self.deadline,
        }
    }

    /// When the next guest must have ended.
    fn deadline_of_next(&self, now: Instant) -> Instant {
        let margin = (self.deadline.saturating_duration_since(now) / 10).min(MARGIN);
        self.deadline.checked_sub(margin).unwrap_or(self.deadline)
    }
}

/// What the requests of a call have in common, if it may send any. `ids` are those of its request; `place` is None for
/// the request of a client.
pub(crate) fn outgoing(
    worker: &Worker,
    ids: &RequestIds,
    app: &App,
    place: Option<Place>,
    chain: Option<Chain>,
) -> Option<Box<Outgoing>> {
    if app.settings().grants.allow_http.is_empty() && chain.is_none() {
        return None;
    }
    let (depth, inner) = place.map_or_else(|| (1, OnceLock::new()), |place| (place.depth, place.inner.into()));
    let chain = chain.map(Arc::new);
    let is_link = chain.is_some();
    let caller = worker.shared().map(|worker| Caller { worker, ids: ids.clone(), depth, inner, chain });
    let inner = caller.map(|caller| Arc::new(caller) as Arc<dyn Inner>);
    Some(Box::new(Outgoing { trace: ids.trace(), authority: None, is_link, inner }))
}

impl Inner for Caller {
    fn send(&self, to: To, mut request: Request<RequestBody>, caller: Alive) -> Answering {
        let to = match (to, &self.chain) {
            (To::Route(index), _) => {
                // The record of the request has the trace and the id of its caller's.
                self.ids.put_into_response(request.headers_mut());
                Destination::Route(index)
            }
            (To::Next, Some(chain)) => Destination::Next(Arc::clone(chain), self.ids.clone()),
            (To::Next, None) => return Box::pin(std::future::ready(Err(Error::HttpRequestDenied))),
        };
        let worker = Arc::clone(&self.worker);
        let inner = self.inner.get_or_init(|| worker.admission.inner_share()).clone();
        let place = Place { depth: self.depth.saturating_add(1), inner };
        let task = tokio::spawn(handle(worker, to, place, request, Requester::Guest(caller)));
        let task = AbortOnDropHandle::new(task);
        Box::pin(async { task.await.unwrap_or(Err(Error::ConnectionTerminated)) })
    }
}

/// Responds to a request of a guest. Cancel safe: dropping the future ends the guest that answers at once.
async fn handle(
    worker: Arc<Worker>,
    to: Destination,
    place: Place,
    request: Request<RequestBody>,
    requester: Requester,
) -> Result<Response<WasiBody>, Error> {
    let is_head = request.method() == Method::HEAD;
    let (exchange, is_new) = match &to {
        Destination::Route(_) => (begin(&worker, &request), true),
        Destination::Next(chain, ids) => (begin_step(&worker, chain, ids, &request), false),
    };
    let answered = match to {
        Destination::Route(index) => answer(&worker, index, place, &exchange, request, requester).await,
        Destination::Next(chain, ids) => follow(&worker, (chain, ids), place, &exchange, request, requester).await,
    };
    let mut response = match answered {
        Err(Abort::Refused(refusal)) => {
            let refused = request::refuse(&worker, &refusal, &exchange);
            // For a client, hyper removes it.
            if is_head { refused.map(|_text| Body::empty()) } else { refused }
        }
        Err(Abort::ClientGone) => return Err(Error::ConnectionTerminated),
        Ok(response) => response,
    };
    if is_new {
        finish_head(&mut response, &exchange, is_head);
    }
    Ok(response.map(|body: Body| body.map_err(|_cut| Error::HttpResponseIncomplete).boxed_unsync()))
}

/// Adds what a client gets of a route's response.
fn finish_head(response: &mut Response<Body>, exchange: &Exchange, is_head: bool) {
    exchange.ids().put_into_response(response.headers_mut());
    if let Some(timing) = exchange.timing() {
        timing.append_to(response.headers_mut());
    }
    // As hyper does.
    if let Some(length) = response.body().size_hint().exact()
        && !is_head
        && response::may_have_body(response.status())
    {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
}

fn begin(worker: &Worker, request: &Request<RequestBody>) -> Arc<Exchange> {
    let received = Arc::new(ReceivedIds::of(request.headers()));
    let record = worker.recorder.begin(request, None, Some(&received));
    let ids = RequestIds::new(record.id, Some(received));
    Arc::new(Exchange::begin(record, ids, worker.drain.begin_task()).of_call())
}

fn begin_step(worker: &Worker, chain: &Chain, ids: &RequestIds, request: &Request<RequestBody>) -> Arc<Exchange> {
    let record = worker.recorder.part(ids.id(), request, Arc::clone(&chain.parts));
    let exchange = Exchange::begin(record, ids.clone(), worker.drain.begin_task());
    Arc::new(exchange.part_of(chain.whole.upgrade()))
}

/// Answers a request to another route.
async fn answer(
    worker: &Worker,
    index: usize,
    place: Place,
    exchange: &Arc<Exchange>,
    mut request: Request<RequestBody>,
    requester: Requester,
) -> Result<Response<Body>, Abort> {
    let route = worker.routes.get(index).ok_or(ErrorResponse::NoRoute)?;
    exchange.record().set_route(index);
    if route.has_schedule {
        server::remove_schedule(request.headers_mut());
    }
    check_depth(worker, &place)?;
    if !route.path.matches(request.uri().path()) {
        return Err(ErrorResponse::NoRoute.into());
    }
    if route.limits.server_timing {
        exchange.tell_timing();
    }
    if route.links.all().is_empty()
        && let Some(response) = file(worker, route, exchange, asked(&request), &requester).await?
    {
        return Ok(response);
    }
    let app = route.first().ok_or(ErrorResponse::NoFile)?;

    let method = request.method().clone();
    let request = inbound::prepare_inner(request, &route.limits, &route.share, exchange, &requester)?;
    let permit = worker.admission.admit_now(&route.share, &place.inner)?;
    request::check_drain(worker)?;
    let ids = exchange.ids().clone();
    let (permit, chain) = Chain::begin(index, route, permit, exchange, &Scheme::HTTP);
    let outgoing = outgoing(worker, &ids, app, Some(place), chain);
    let received = Received { scheme: Scheme::HTTP, ids, outgoing, request };
    let guest = request::start(worker, exchange, requester, app, received, permit, None);
    response::begin(guest, &method).await
}

/// Answers a request to what follows in a chain.
async fn follow(
    worker: &Worker,
    (chain, ids): (Arc<Chain>, RequestIds),
    place: Place,
    exchange: &Arc<Exchange>,
    request: Request<RequestBody>,
    requester: Requester,
) -> Result<Response<Body>, Abort> {
    let Step { ids, chain: mut rest, permit } = chain.step(worker, ids, &place.inner).await;
    drop(chain);
    let route = worker.routes.get(rest.route).ok_or(ErrorResponse::NoRoute)?;
    // `next` is the index of what comes after it.
    let link = rest.next.checked_sub(1).and_then(|at| route.links.all().get(at));
    exchange.record().set_name(link.map_or(rest.route, |link| link.name));
    check_depth(worker, &place)?;
    if link.is_none()
        && let Some(response) = file(worker, route, exchange, asked(&request), &requester).await?
    {
        return Ok(response);
    }
    let app = link.map(|link| &link.app).or(route.app.as_ref()).ok_or(ErrorResponse::NoFile)?;

    let method = request.method().clone();
    let request = inbound::prepare_inner(request, &route.limits, &route.share, exchange, &requester)?;
    let permit = permit?;
    request::check_drain(worker)?;
    let scheme = rest.scheme.clone();
    let now = Instant::now();
    let not_after = rest.deadline_of_next(now);
    rest.deadline = not_after.min(now + app.settings().limits.wall_time);
    let outgoing = outgoing(worker, &ids, app, Some(place), link.map(|_| rest));
    let received = Received { scheme, ids, outgoing, request };
    let guest = request::start(worker, exchange, requester, app, received, permit, Some(not_after));
    response::begin(guest, &method).await
}

fn check_depth(worker: &Worker, place: &Place) -> Result<(), ErrorResponse> {
    if place.depth > worker.limits.max_chain { Err(ErrorResponse::LoopDetected) } else { Ok(()) }
}

/// The file of the route that answers a request, if there is one.
async fn file(
    worker: &Worker,
    route: &WorkerRoute,
    exchange: &Arc<Exchange>,
    asked: Asked<'_>,
    requester: &Requester,
) -> Result<Option<Response<Body>>, Abort> {
    let Some(files) = &route.files else { return Ok(None) };
    files.answer(&asked, requester, exchange, &worker.drain).await
}

fn asked(request: &Request<RequestBody>) -> Asked<'_> {
    Asked { method: request.method(), uri: request.uri(), headers: request.headers() }
}
