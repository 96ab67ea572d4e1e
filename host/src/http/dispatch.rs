//! A request from inside the worker to a route: without a client, a connection and a socket, and otherwise on the way of
//! a client's request.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use daylily_core::error_response::ErrorResponse;
use http::uri::Scheme;
use http::{Request, Response};
use http_body::Body as _;

use crate::call::Received;
use crate::http::body::Body;
use crate::http::exchange::{Abort, Exchange};
use crate::http::inner::Chain;
use crate::http::requester::Requester;
use crate::http::server::Worker;
use crate::http::{inbound, inner, request, response};
use crate::observe::trace_context::RequestIds;
use crate::wasi::http::client::RequestBody;

/// How a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A complete response, with this status.
    Complete(u16),
    /// A response that was cut.
    Cut(u16),
    /// The drain has ended the request.
    ShutDown,
}

/// Sends the request of a schedule to a route, and reads its response to the end. It has no body, and must have a `Host`.
/// It passes the middleware of the route first. Static files of the route are passed by. Cancel safe: dropping the future
/// ends the guest at once.
pub(crate) async fn dispatch(worker: &Worker, route: usize, schedule: &str, request: Request<()>) -> Answer {
    let record = worker.recorder.begin_scheduled(&request, schedule);
    let ids = RequestIds::new(record.id, None);
    let exchange = Arc::new(Exchange::begin(record, ids, worker.drain.begin_task()));
    let response = match answer(worker, route, &exchange, request).await {
        Ok(response) => response,
        Err(Abort::Refused(refusal)) => {
            let response = request::refuse(worker, &refusal, &exchange);
            return match refusal {
                ErrorResponse::ShuttingDown => Answer::ShutDown,
                _ => Answer::Complete(response.status().as_u16()),
            };
        }
        Err(Abort::ClientGone) => return Answer::ShutDown,
    };
    let status = response.status().as_u16();
    let mut body = pin!(response.into_body());
    loop {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(_)) => {}
            None => return Answer::Complete(status),
            Some(Err(_)) if worker.drain.is_cut() => return Answer::ShutDown,
            Some(Err(_)) => return Answer::Cut(status),
        }
    }
}

async fn answer(
    worker: &Worker,
    index: usize,
    exchange: &Arc<Exchange>,
    request: Request<()>,
) -> Result<Response<Body>, Abort> {
    let route = worker.routes.get(index).ok_or(ErrorResponse::NoRoute)?;
    exchange.record().set_route(index);
    let app = route.first().ok_or(ErrorResponse::NoFile)?;

    let method = request.method().clone();
    let request = request.map(|()| RequestBody::empty());
    let request = inbound::prepare_inner(request, &route.limits, &route.share, exchange, &Requester::Schedule)?;
    let permit = request::admit(worker, &route.share, &Requester::Schedule).await?;
    let ids = exchange.ids().clone();
    let (permit, chain) = Chain::begin(index, route, permit, exchange, &Scheme::HTTP);
    let outgoing = inner::outgoing(worker, &ids, app, None, chain);
    let received = Received { scheme: Scheme::HTTP, ids, outgoing, request };
    let guest = request::start(worker, exchange, Requester::Schedule, app, received, permit, None);
    response::begin(guest, &method).await
}
