//! Sends one request and receives the head of its response.

use std::future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

use super::connect::connect;
use super::download::{Held, ResponseBody};
use super::error;
use super::policy::{Destination, OutgoingPolicy, Timeouts};
use super::pool::{Connection, Lease};
use super::slot::{Alive, OutgoingPermit};
use super::upload::{self, RequestBody, Upload};
use crate::message::fields::{has_connection_option, remove_hop_by_hop};
use crate::message::transfer_coding;
use crate::sys::runtime;

/// A request that the route may send.
pub(super) struct Exchange {
    pub(super) policy: Arc<OutgoingPolicy>,
    pub(super) destination: Destination,
    pub(super) timeouts: Timeouts,
    pub(super) request: Request<WasiBody>,
    pub(super) slot: Arc<OutgoingPermit>,
}

/// Resolves when the request's body has been sent.
pub(super) type Sent = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Sends the request, on an idle connection if there is one, and waits for the response's head.
pub(super) async fn send(exchange: Exchange) -> Result<(Response<WasiBody>, Sent), Error> {
    let Exchange { policy, destination, timeouts, request, slot } = exchange;
    let result = exchange_on_any(&policy, &destination, timeouts, request, &slot).await;
    let (connection, response, upload) = result.inspect_err(|error| destination.origin.log_failed(error))?;
    let pool = Arc::clone(policy.pool());
    let lease = Arc::new(Lease::new(connection, destination.origin, pool));
    let sent = transmitted(upload, Some(&lease), &slot);
    let held = Held { _lease: Some(lease), _slot: slot };
    let response = response.map(|body| ResponseBody::new(body, timeouts.between_bytes, held).boxed_unsync());
    Ok((response, sent))
}

type Answer = (Connection, Response<Incoming>, Option<Upload>);

async fn exchange_on_any(
    policy: &OutgoingPolicy,
    destination: &Destination,
    timeouts: Timeouts,
    request: Request<WasiBody>,
    slot: &Arc<OutgoingPermit>,
) -> Result<Answer, Error> {
    let (mut head, body) = request.into_parts();
    prepare(&mut head)?;
    let (body, mut upload) = upload::frame(&mut head, body, Arc::clone(slot)).await?;
    let is_replayable = body.is_empty() && head.method.is_idempotent();
    let mut request = Request::from_parts(head, body);

    let (pool, origin) = (policy.pool(), &destination.origin);
    if !is_replayable && pool.has(origin) {
        // This request cannot be repeated, so first let the idle connections detect whether the peer has closed them.
        runtime::poll_sockets().await;
    }
    while let Some(connection) = pool.take(origin) {
        // RFC 9110 §9.2.2: an idempotent request may be repeated if its connection ends without a response. That
        // happens when the peer's idle time-out fires while the request is sent.
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

/// Turns the head into one of HTTP/1.1: the target in origin-form, the authority in `Host` (RFC 9112 §3.2.1), and
/// without the guest's fields about the connection.
pub(super) fn prepare(head: &mut request::Parts) -> Result<(), Error> {
    if head.method == Method::CONNECT {
        // A tunnel has no response that could be returned to the guest.
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
        // `path_and_query` of an empty path returns `/`, but hyper would write an empty target.
        Some(path) if path.as_str() != "/" => Uri::from(path.clone()),
        _ => Uri::default(),
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
    /// The request, if no byte of it was written.
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
    let answer = connection.sender_for(request.method()).try_send_request(request);
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
        // The request did not ask for an upgrade, and no HTTP follows this response.
        return Err(Error::HttpProtocolError.into());
    }
    if let Some(upload) = upload.as_ref().filter(|_| refuses_the_rest(&response)) {
        upload.cease();
    }
    // hyper would send the next request to an HTTP/1.0 server without its body, if that body has no length.
    if check_framing(&mut response)? == Framing::Doubtful || response.version() < Version::HTTP_11 {
        connection.retire();
    }
    remove_hop_by_hop(response.headers_mut());
    response.extensions_mut().clear();
    Ok((connection, response))
}

/// Whether another recipient could see the end of the response somewhere else, and read its rest as another response.
#[derive(PartialEq, Eq)]
enum Framing {
    Clear,
    Doubtful,
}

/// Checks a response's framing fields. RFC 9112 §6.1: the only coding is chunked, since no other was requested; it
/// overrides a content-length (§6.3), which is removed. RFC 9110 §8.6: a repeated content-length is reduced to one.
fn check_framing(response: &mut Response<Incoming>) -> Result<Framing, Error> {
    if response.body().is_end_stream() {
        return Ok(Framing::Clear);
    }
    let length = response.body().size_hint().exact();
    let headers = response.headers_mut();
    if headers.contains_key(TRANSFER_ENCODING) {
        let codings = headers.get_all(TRANSFER_ENCODING);
        if transfer_coding::judge(codings.iter().map(HeaderValue::as_bytes)).is_err() {
            let other = codings.iter().find(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
            let name = other.map_or_else(|| Some("chunked, chunked".to_owned()), coding_name);
            return Err(Error::HttpResponseTransferCoding(name));
        }
        let has_length = headers.remove(CONTENT_LENGTH).is_some();
        return Ok(if has_length { Framing::Doubtful } else { Framing::Clear });
    }
    let is_plain = |value: &HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_single = lengths.next().is_none_or(is_plain) && lengths.next().is_none();
    if let (false, Some(length)) = (is_single, length) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(Framing::Clear)
}

/// The name of an unknown coding, for the error code.
fn coding_name(value: &HeaderValue) -> Option<String> {
    const MAX_CHARS: usize = 64;
    Some(value.to_str().ok()?.chars().take(MAX_CHARS).collect())
}

/// Resolves when neither a part of the request's body was sent nor a response head arrived for `limit`.
pub(super) async fn silence(began: Instant, limit: Duration, upload: Option<&Upload>) {
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

/// Lets the upload continue until the request's body has been sent, even after the end of the response and even if the
/// guest does not wait for it, but ends it with the instance.
pub(super) fn transmitted(upload: Option<Upload>, lease: Option<&Arc<Lease>>, slot: &Arc<OutgoingPermit>) -> Sent {
    let Some(upload) = upload.and_then(Upload::in_progress) else {
        return Box::new(future::ready(Ok(())));
    };
    let (tell, told) = oneshot::channel();
    let (lease, instance) = (lease.map(Arc::clone), slot.instance().clone());
    slot.spawn_upload(async move {
        let result = transmit(upload, instance).await;
        drop(lease);
        // The guest may have dropped the receiver.
        let _ = tell.send(result);
    });
    Box::new(async { told.await.unwrap_or(Err(Error::ConnectionTerminated)) })
}

async fn transmit(upload: Upload, instance: Alive) -> Result<(), Error> {
    if upload.has_ceased() {
        return Err(Error::ConnectionTerminated);
    }
    let progress = upload.progress();
    let mut finished = pin!(upload.finished());
    tokio::select! {
        biased;
        result = &mut finished => return result,
        () = instance.clone().returned() => {}
    }
    progress.go_on();
    tokio::select! {
        biased;
        result = finished => result,
        // The upload alone would never end if the peer neither reads nor closes.
        () = instance.gone() => Err(Error::ConnectionTerminated),
    }
}

/// Whether the origin does not want the rest of the request: it has responded with an error and closes the connection
/// (RFC 9112 §9.5).
fn refuses_the_rest(response: &Response<Incoming>) -> bool {
    let status = response.status();
    let closes = || {
        let has = |option: &str| has_connection_option(response.headers(), option);
        has("close") || response.version() < Version::HTTP_11 && !has("keep-alive")
    };
    (status.is_client_error() || status.is_server_error()) && closes()
}
