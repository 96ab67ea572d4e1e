//! One request and the head of its response.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version, request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

use super::connect::connect;
use super::download::{Held, ResponseBody};
use super::error;
use super::headers::remove_hop_by_hop;
use super::policy::{Destination, OutgoingPolicy, Timeouts};
use super::pool::{Connection, Lease};
use super::slot::{Alive, Slot};
use super::upload::{self, RequestBody, Upload};
use crate::runtime;

/// A request that the route may make.
pub(super) struct Exchange {
    pub(super) policy: Arc<OutgoingPolicy>,
    pub(super) destination: Destination,
    pub(super) timeouts: Timeouts,
    pub(super) request: Request<WasiBody>,
    pub(super) slot: Arc<Slot>,
}

/// Ends when the request's body has been sent.
type Sent = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Sends the request, on an idle connection if there is one, and waits for the response's head.
pub(super) async fn send(exchange: Exchange) -> Result<(Response<WasiBody>, Sent), Error> {
    let Exchange { policy, destination, timeouts, request, slot } = exchange;
    let result = exchange_on_any(&policy, &destination, timeouts, request, &slot).await;
    let (connection, response, upload) = result.inspect_err(|error| destination.origin.log_failed(error))?;
    let pool = Arc::clone(policy.pool());
    let lease = Arc::new(Lease::new(connection, destination.origin, pool));
    let sent = sent(upload, &lease, slot.instance());
    let held = Held { _lease: lease, _slot: slot };
    let response = response.map(|body| ResponseBody::new(body, timeouts.between_bytes, held).boxed_unsync());
    Ok((response, sent))
}

type Answer = (Connection, Response<Incoming>, Option<Upload>);

async fn exchange_on_any(
    policy: &OutgoingPolicy,
    destination: &Destination,
    timeouts: Timeouts,
    request: Request<WasiBody>,
    slot: &Arc<Slot>,
) -> Result<Answer, Error> {
    let (mut head, body) = request.into_parts();
    prepare(&mut head)?;
    let (body, mut upload) = upload::frame(&mut head, body, Arc::clone(slot)).await?;
    let is_replayable = body.is_empty() && head.method.is_idempotent();
    let mut request = Request::from_parts(head, body);

    let (pool, origin) = (policy.pool(), &destination.origin);
    if !is_replayable && pool.has(origin) {
        // This request can't be sent again, so first let the idle connections notice if the other
        // side has closed them.
        runtime::look_at_sockets().await;
    }
    while let Some(connection) = pool.take(origin) {
        // RFC 9110 §9.2.2: such a request may be repeated if its connection ends unanswered, which
        // is how the other side's idle time-out looks if it fires just now.
        let copy = is_replayable.then(|| copy_of(&request));
        match attempt(connection, request, timeouts.first_byte, &mut upload).await {
            Ok((connection, response)) => return Ok((connection, response, upload)),
            Err(Failed { unsent: Some(unsent), .. }) => request = unsent,
            Err(Failed { error, .. }) => match (error, copy) {
                (Error::ConnectionTerminated, Some(copy)) => request = copy,
                (error, _) => return Err(error),
            },
        }
    }
    let connection = connect(policy, destination, timeouts.connect).await?;
    match attempt(connection, request, timeouts.first_byte, &mut upload).await {
        Ok((connection, response)) => Ok((connection, response, upload)),
        Err(failed) => Err(failed.error),
    }
}

/// Makes the head one of HTTP/1.1: the target in origin-form, the authority in `Host` (RFC 9112
/// §3.2.1), and nothing about the connection, which is ours.
fn prepare(head: &mut request::Parts) -> Result<(), Error> {
    if head.method == Method::CONNECT {
        // A tunnel is not a request that can be answered.
        return Err(Error::HttpRequestMethodInvalid);
    }
    remove_hop_by_hop(&mut head.headers);
    let host = head
        .uri
        .authority()
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
        .ok_or(Error::HttpRequestUriInvalid)?;
    head.headers.insert(HOST, host);
    head.uri = match head.uri.path_and_query() {
        Some(path) => Uri::from(path.clone()),
        None => Uri::default(),
    };
    head.version = Version::HTTP_11;
    Ok(())
}

fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

struct Failed {
    error: Error,
    /// The request, if nothing of it was written.
    unsent: Option<Request<RequestBody>>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, unsent: None }
    }
}

async fn attempt(
    mut connection: Connection,
    request: Request<RequestBody>,
    first_byte: Duration,
    upload: &mut Option<Upload>,
) -> Result<(Connection, Response<Incoming>), Failed> {
    let began = Instant::now();
    let answer = connection.sender().try_send_request(request);
    let answer = tokio::select! {
        biased;
        answer = answer => answer,
        () = silence(began, first_byte, upload.as_ref()) => {
            return Err(Error::ConnectionReadTimeout.into());
        }
    };
    let mut response = answer.map_err(|mut failed| Failed {
        unsent: failed.take_message(),
        error: upload.as_mut().and_then(Upload::failure).unwrap_or_else(|| error::before_head(failed.error())),
    })?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for it, and there is no HTTP after it.
        return Err(Error::HttpProtocolError.into());
    }
    remove_hop_by_hop(response.headers_mut());
    response.extensions_mut().clear();
    Ok((connection, response))
}

/// Ends when nothing has happened for `limit`: neither a part of the request's body was sent, nor is
/// there a response.
async fn silence(began: Instant, limit: Duration, upload: Option<&Upload>) {
    let mut deadline = began + limit;
    loop {
        sleep_until(deadline).await;
        let progress = upload.map_or(began, Upload::last_progress);
        let later = progress.max(began) + limit;
        if later <= Instant::now() {
            return;
        }
        deadline = later;
    }
}

/// Keeps the connection for as long as the request's body is being sent, which may be longer than
/// the response takes, but no longer than the instance is there.
fn sent(upload: Option<Upload>, lease: &Arc<Lease>, instance: &Alive) -> Sent {
    let Some(upload) = upload.and_then(Upload::in_progress) else {
        return Box::new(future::ready(Ok(())));
    };
    let (lease, instance) = (Arc::clone(lease), instance.clone());
    Box::new(async move {
        // Does not end by itself if the other side neither reads nor closes.
        let result = tokio::select! {
            result = upload.finished() => result,
            () = instance.gone() => Err(Error::ConnectionTerminated),
        };
        drop(lease);
        result
    })
}
