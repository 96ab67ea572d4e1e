//! Requests that guests of a worker send to each other: to other routes, and to what follows them in the chain of their
//! route. They stay in the process, from the caller's request to the response.
//!
//! The guest that answers runs in a task of its own, so what it uses is not counted as its caller's. The task ends when
//! the caller drops what it waits for: the response, or the rest of its body.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use daylily_core::error_response::ErrorResponse;
use http::header::CONTENT_LENGTH;
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::call::Received;
use crate::call::app::App;
use crate::http::admission::Permit;
use crate::http::body::Body;
use crate::http::exchange::{Abort, Exchange};
use crate::http::files::Asked;
use crate::http::requester::Requester;
use crate::http::server::{self, Worker, WorkerRoute};
use crate::http::{inbound, request, response};
use crate::observe::record::Parts;
use crate::observe::trace_context::{ReceivedIds, RequestIds};
use crate::wasi::http::client::{Alive, Answering, Inner, Outgoing, RequestBody, To};

/// A call whose guest may send requests.
struct Caller {
    worker: Arc<Worker>,
    ids: RequestIds,
    /// The number of its request in its chain, from 1.
    depth: u32,
    /// What follows it in its route, if it is middleware.
    chain: Option<Chain>,
}

/// What follows a guest in the chain of its route.
pub(crate) struct Chain {
    /// The route's index.
    route: usize,
    /// The index of what comes next: of a middleware, or the number of these for the end of the chain.
    next: usize,
    /// The scheme of the client's request.
    scheme: Scheme,
    /// Those of all guests of the request.
    permit: Arc<Permit>,
    /// Whether what follows has its part of them.
    taken: Arc<AtomicBool>,
    parts: Arc<Parts>,
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
    Next(Box<Step>),
}

impl Chain {
    /// Begins the chain of a route that has middleware: with the permit of the first one.
    pub(crate) fn begin(
        index: usize,
        route: &WorkerRoute,
        permit: Permit,
        exchange: &Exchange,
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
        };
        (Permit::part(&permit, None), Some(chain))
    }

    /// The next step of a request with these ids. A guest that sends several requests on at a time needs more permits
    /// than its request has.
    fn step(&self, worker: &Worker, ids: &RequestIds) -> Step {
        let Self { route, next, ref scheme, ref parts, .. } = *self;
        let rest = |permit| Self {
            route,
            next: next + 1,
            scheme: scheme.clone(),
            permit,
            taken: Arc::default(),
            parts: Arc::clone(parts),
        };
        let ids = ids.clone();
        if !self.taken.swap(true, Relaxed) {
            let permit = Ok(Permit::part(&self.permit, Some(Arc::clone(&self.taken))));
            return Step { ids, chain: rest(Arc::clone(&self.permit)), permit };
        }
        let more = worker.routes.get(route).ok_or(ErrorResponse::NoRoute).and_then(|route| {
            let guests = (route.links.all().len() + 1).saturating_sub(next);
            worker.admission.admit_more(&route.share, u32::try_from(guests).unwrap_or(u32::MAX))
        });
        match more.map(Arc::new) {
            Ok(more) => Step { ids, permit: Ok(Permit::part(&more, None)), chain: rest(more) },
            Err(refused) => Step { ids, chain: rest(Arc::clone(&self.permit)), permit: Err(refused) },
        }
    }
}

/// What the requests of a call have in common, if it may send any. `ids` are those of its request, which is number
/// `depth` in its chain.
pub(crate) fn outgoing(
    worker: &Worker,
    ids: &RequestIds,
    app: &App,
    depth: u32,
    chain: Option<Chain>,
) -> Option<Box<Outgoing>> {
    if app.settings().grants.allow_http.is_empty() && chain.is_none() {
        return None;
    }
    let caller = worker.shared().map(|worker| Caller { worker, ids: ids.clone(), depth, chain });
    let inner = caller.map(|caller| Arc::new(caller) as Arc<dyn Inner>);
    Some(Box::new(Outgoing { trace: ids.trace(), inner }))
}

impl Inner for Caller {
    fn send(&self, to: To, mut request: Request<RequestBody>, caller: Alive) -> Answering {
        let to = match (to, &self.chain) {
            (To::Route(index), _) => {
                // The record of the request has the trace and the id of its caller's.
                self.ids.put_into_response(request.headers_mut());
                Destination::Route(index)
            }
            (To::Next, Some(chain)) => Destination::Next(Box::new(chain.step(&self.worker, &self.ids))),
            (To::Next, None) => return Box::pin(std::future::ready(Err(Error::HttpRequestDenied))),
        };
        let (worker, depth) = (Arc::clone(&self.worker), self.depth.saturating_add(1));
        let task = tokio::spawn(handle(worker, to, depth, request, Requester::Guest(caller)));
        let task = AbortOnDropHandle::new(task);
        Box::pin(async { task.await.unwrap_or(Err(Error::ConnectionTerminated)) })
    }
}

/// Responds to a request of a guest. Cancel safe: dropping the future ends the guest that answers at once.
async fn handle(
    worker: Arc<Worker>,
    to: Destination,
    depth: u32,
    request: Request<RequestBody>,
    requester: Requester,
) -> Result<Response<WasiBody>, Error> {
    let is_head = request.method() == Method::HEAD;
    let (exchange, is_new) = match &to {
        Destination::Route(_) => (begin(&worker, &request), true),
        Destination::Next(step) => (begin_step(&worker, step, &request), false),
    };
    let answered = match to {
        Destination::Route(index) => answer(&worker, index, depth, &exchange, request, requester).await,
        Destination::Next(step) => follow(&worker, *step, depth, &exchange, request, requester).await,
    };
    let mut response = match answered {
        Err(Abort::Refused(refusal)) => request::refuse(&worker, &refusal, &exchange),
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
    Arc::new(Exchange::begin(record, ids, worker.drain.begin_task()))
}

fn begin_step(worker: &Worker, step: &Step, request: &Request<RequestBody>) -> Arc<Exchange> {
    let record = worker.recorder.part(step.ids.id(), request, Arc::clone(&step.chain.parts));
    Arc::new(Exchange::begin(record, step.ids.clone(), worker.drain.begin_task()))
}

/// Answers a request to another route.
async fn answer(
    worker: &Worker,
    index: usize,
    depth: u32,
    exchange: &Arc<Exchange>,
    mut request: Request<RequestBody>,
    requester: Requester,
) -> Result<Response<Body>, Abort> {
    let route = worker.routes.get(index).ok_or(ErrorResponse::NoRoute)?;
    exchange.record().set_route(index);
    if route.has_schedule {
        server::remove_schedule(request.headers_mut());
    }
    check_depth(worker, depth)?;
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
    let permit = worker.admission.admit_now(&route.share)?;
    check_drain(worker)?;
    let ids = exchange.ids().clone();
    let (permit, chain) = Chain::begin(index, route, permit, exchange, &Scheme::HTTP);
    let outgoing = outgoing(worker, &ids, app, depth, chain);
    let received = Received { scheme: Scheme::HTTP, ids, outgoing, request };
    let guest = request::start(worker, exchange, requester, app, received, permit);
    response::begin(guest, &method).await
}

/// Answers a request to what follows in a chain.
async fn follow(
    worker: &Worker,
    step: Step,
    depth: u32,
    exchange: &Arc<Exchange>,
    request: Request<RequestBody>,
    requester: Requester,
) -> Result<Response<Body>, Abort> {
    let Step { ids, chain, permit } = step;
    let route = worker.routes.get(chain.route).ok_or(ErrorResponse::NoRoute)?;
    let link = chain.next.checked_sub(1).and_then(|at| route.links.all().get(at));
    exchange.record().set_name(link.map_or(chain.route, |link| link.name));
    check_depth(worker, depth)?;
    if link.is_none()
        && let Some(response) = file(worker, route, exchange, asked(&request), &requester).await?
    {
        return Ok(response);
    }
    let app = link.map(|link| &link.app).or(route.app.as_ref()).ok_or(ErrorResponse::NoFile)?;

    let method = request.method().clone();
    let request = inbound::prepare_inner(request, &route.limits, &route.share, exchange, &requester)?;
    let permit = permit?;
    check_drain(worker)?;
    let scheme = chain.scheme.clone();
    let outgoing = outgoing(worker, &ids, app, depth, link.map(|_| chain));
    let received = Received { scheme, ids, outgoing, request };
    let guest = request::start(worker, exchange, requester, app, received, permit);
    response::begin(guest, &method).await
}

fn check_depth(worker: &Worker, depth: u32) -> Result<(), ErrorResponse> {
    if depth > worker.limits.max_chain { Err(ErrorResponse::LoopDetected) } else { Ok(()) }
}

fn check_drain(worker: &Worker) -> Result<(), ErrorResponse> {
    if worker.drain.is_cut() { Err(ErrorResponse::ShuttingDown) } else { Ok(()) }
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
