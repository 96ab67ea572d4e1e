//! ← Start here. The life of one request, from its head to its response.

use std::sync::Arc;

use daylily_core::error_response::{Blame, ErrorResponse};
use daylily_core::trusted::trusts;
use http::header::{CONNECTION, DATE};
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::call::Received;
use crate::call::app::App;
use crate::http::admission::{Permit, RouteShare};
use crate::http::body::Body;
use crate::http::connection::{Connection, InRequest};
use crate::http::dev_server::{Asked as DevAsked, DevServer};
use crate::http::exchange::{Abort, Exchange, RequestGuard};
use crate::http::files::Asked;
use crate::http::inbound::InboundBody;
use crate::http::inner::Chain;
use crate::http::requester::Requester;
use crate::http::response::InFlight;
use crate::http::server::{self, Worker};
use crate::http::watchdog::{self, Deadline};
use crate::http::{inbound, inner, response};
use crate::observe::record::log_request;
use crate::observe::trace_context::{ReceivedIds, RequestIds};

/// Responds to the request of `in_request`. Cancel safe: dropping the future ends the guest at once.
///
/// # Errors
///
/// [`Abort::ClientGone`], which makes hyper close the connection.
pub(crate) async fn handle(
    worker: &Worker,
    connection: &Connection,
    in_request: InRequest,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Abort> {
    let version = request.version();
    let exchange = begin(worker, connection, &request);
    let dev = worker.dev_server.as_ref().map(|dev| (dev, DevServer::asked(&mut request)));
    let mut response = match answer(worker, connection, &in_request, &exchange, request, dev).await {
        Err(Abort::Refused(refusal)) => refuse(worker, &refusal, &exchange),
        outcome => outcome?,
    };
    if let Some((dev, asked)) = dev {
        response = dev.finish(asked, response);
    }
    exchange.ids().put_into_response(response.headers_mut());
    if let Some(timing) = exchange.timing() {
        timing.append_to(response.headers_mut());
    }
    // hyper would announce `keep-alive` although the body ends with the connection.
    let ends_with_body = version < Version::HTTP_11 && response.body().is_open_ended();
    if worker.drain.closes_connections() || ends_with_body {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        // Otherwise hyper adds `keep-alive` for an HTTP/1.0 client that requested it.
        *response.version_mut() = version;
    }
    if let Some(date) = worker.date.correction() {
        response.headers_mut().entry(DATE).or_insert(date);
    }
    Ok(response.map(|body| body.during(in_request)))
}

/// The exchange of a request whose head was read: with its ids, and its record.
fn begin(worker: &Worker, connection: &Connection, request: &Request<Incoming>) -> Arc<Exchange> {
    let client = connection.peer().address();
    let is_trusted = trusts(&worker.limits.trusted, client.map(|client| client.ip().to_canonical()));
    let received = is_trusted.then(|| Arc::new(ReceivedIds::of(request.headers())));
    let record = worker.recorder.begin(request, client, received.as_deref());
    let ids = RequestIds::new(record.id, received);
    let exchange = Exchange::begin(record, ids, worker.drain.begin_task());
    if worker.dev {
        exchange.tell_timing();
    }
    Arc::new(exchange)
}

async fn answer(
    worker: &Worker,
    connection: &Connection,
    in_request: &InRequest,
    exchange: &Arc<Exchange>,
    mut request: Request<Incoming>,
    dev: Option<(&DevServer, DevAsked)>,
) -> Result<Response<Body>, Abort> {
    inbound::check_framing(&request, in_request)?;
    let target = inbound::target(&request)?;
    if let Some((dev, asked)) = dev
        && let Some(response) =
            dev.answer(worker, &target, (&request, asked), exchange, connection.peer().address().is_some())?
    {
        return Ok(response);
    }
    let (index, route) = worker.route(&target).ok_or(ErrorResponse::NoRoute)?;
    let limits = &route.limits;
    exchange.record().set_route(index);
    if route.is_special {
        if limits.server_timing {
            exchange.tell_timing();
        }
        if route.has_schedule {
            server::remove_schedule(request.headers_mut());
        }
    }

    let requester = Requester::Client(connection.clone());
    // Middleware stands before the files, too.
    if let Some(files) = route.files.as_ref().filter(|_| route.links.all().is_empty()) {
        let asked = Asked { method: request.method(), uri: request.uri(), headers: request.headers() };
        // On the heap, so that requests of guests take no memory for it.
        if let Some(response) = Box::pin(files.answer(&asked, &requester, exchange, &worker.drain)).await? {
            return Ok(response);
        }
    }
    let app = route.first().ok_or(ErrorResponse::NoFile)?;

    let method = request.method().clone();
    let request = inbound::prepare(request, limits, &route.share, exchange, &requester)?;
    let permit = admit(worker, &route.share, &requester).await?;

    let (scheme, ids) = (connection.peer().scheme(), exchange.ids().clone());
    let (permit, chain) = Chain::begin(index, route, permit, exchange, &scheme);
    let outgoing = inner::outgoing(worker, &ids, app, None, chain);
    let received = Received { scheme, ids, outgoing, request };
    let guest = start(worker, exchange, requester, app, received, permit, None);
    response::begin(guest, &method).await
}

/// Waits for the permit of a request. Cancel safe.
pub(crate) async fn admit(worker: &Worker, share: &RouteShare, requester: &Requester) -> Result<Permit, Abort> {
    let permit = tokio::select! {
        biased;
        permit = worker.admission.admit(share) => permit?,
        () = requester.gone() => return Err(Abort::ClientGone),
        () = worker.drain.cut_off() => return Err(ErrorResponse::ShuttingDown.into()),
    };
    check_drain(worker)?;
    Ok(permit)
}

/// Once the drain cuts off requests, none begins.
pub(crate) fn check_drain(worker: &Worker) -> Result<(), ErrorResponse> {
    if worker.drain.is_cut() { Err(ErrorResponse::ShuttingDown) } else { Ok(()) }
}

/// Starts the call of a request that has its permit. The guest runs when it is polled, and ends at its `wall_time` or at
/// `not_after`.
pub(crate) fn start(
    worker: &Worker,
    exchange: &Arc<Exchange>,
    requester: Requester,
    app: &Arc<App>,
    received: Received<InboundBody>,
    permit: Permit,
    not_after: Option<Instant>,
) -> InFlight {
    let now = Instant::now();
    let limits = &app.settings().limits;
    requester.bound_writes(now, limits.wall_time, limits.body_timeout);
    let deadline = Deadline::new(now, limits.wall_time, not_after);
    let call = app.call(exchange.record().id, received);
    exchange.set_diagnosis(&call.diagnosis, app.settings().mask.as_ref());
    let (exchange, drain, pulse) = (Arc::clone(exchange), worker.drain.clone(), worker.pulse.clone());
    let (guest, head) = watchdog::watch(call, now, deadline, requester, Arc::clone(&exchange), drain, pulse);
    InFlight { guest, head, hold: RequestGuard::new(exchange, permit) }
}

/// Makes the error response for a request that no guest answered, and logs it once, at the level of who is to blame.
pub(crate) fn refuse(worker: &Worker, refusal: &ErrorResponse, exchange: &Exchange) -> Response<Body> {
    let record = exchange.record();
    exchange.refuse(refusal.outcome());
    record.set_status(refusal.status());
    match refusal.blame() {
        Blame::Client => log_request!(debug, record, "request refused: {refusal}"),
        Blame::Guest => log_request!(warn, record, "guest failed: {refusal}"),
        Blame::Overload if worker.overload.is_news() => {
            log_request!(warn, record, "request refused: {refusal} (logged once a second)");
        }
        Blame::Overload => log_request!(debug, record, "request refused: {refusal}"),
        Blame::Host => log_request!(error, record, "request failed: {refusal}"),
    }
    exchange.log_stack(true);
    let response = response::refusal(refusal, exchange, worker.dev);
    if !record.is_head() {
        record.add_bytes_out(response.body().len());
    }
    response
}
