//! Requests of a guest that another guest of the same worker answers: no socket, no HTTP/1.1, the same rules.

use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, WasiBody};

use super::download::{Held, ResponseBody};
use super::policy::Timeouts;
use super::send::{Sent, prepare, silence, transmitted};
use super::slot::{Alive, OutgoingPermit};
use super::upload::{self, RequestBody, Upload};
use crate::observe::trace_context::TraceContext;

/// What the requests of one call have in common.
pub(crate) struct Outgoing {
    /// The trace that they are part of, unless the guest sets another one.
    pub(crate) trace: TraceContext,
    /// The authority of the request that the call answers, if something follows the guest in its chain.
    pub(crate) authority: Option<Authority>,
    /// Something follows the guest in its chain.
    pub(crate) is_link: bool,
    /// The other guests of the worker. None in a process that serves no requests.
    pub(crate) inner: Option<Arc<dyn Inner>>,
}

/// Where a request goes that another guest of the worker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// The route with this index among the worker's.
    Route(usize),
    /// What follows the guest in the chain of its route.
    Next,
}

/// The response to such a request. Dropping the future, or the body of the response, ends the guest that answers.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<WasiBody>, Error>> + Send>>;

/// The other guests of the worker, as one call reaches them.
pub(crate) trait Inner: Send + Sync {
    /// Sends a request, which is in origin-form and has a `Host`. `caller` is the instance that sends it.
    fn send(&self, to: To, request: Request<RequestBody>, caller: Alive) -> Answering;
}

/// An outgoing request that is answered in this worker.
pub(super) struct InnerExchange {
    pub(super) inner: Arc<dyn Inner>,
    pub(super) to: To,
    pub(super) timeouts: Timeouts,
    pub(super) request: Request<WasiBody>,
    pub(super) slot: Arc<OutgoingPermit>,
}

/// Sends the request and waits for the response's head.
pub(super) async fn send(exchange: InnerExchange) -> Result<(Response<WasiBody>, Sent), Error> {
    let InnerExchange { inner, to, timeouts, request, slot } = exchange;
    let (mut head, body) = request.into_parts();
    prepare(&mut head)?;
    let (body, mut upload) = upload::pass_on(&head, body, Arc::clone(&slot)).await?;
    let began = Instant::now();
    let answering = inner.send(to, Request::from_parts(head, body), slot.instance().clone());
    let answer = tokio::select! {
        biased;
        answer = answering => answer,
        () = silence(began, timeouts.first_byte, upload.as_ref()) => return Err(Error::ConnectionReadTimeout),
    };
    let response = answer.map_err(|error| upload.as_mut().and_then(Upload::failure).unwrap_or(error))?;
    let sent: Sent = match upload.as_mut().and_then(Upload::end) {
        Some(Ok(())) => Box::new(future::ready(Ok(()))),
        Some(Err(error)) => untransmitted(error),
        None => transmitted(upload, None, &slot),
    };
    let held = Held { _lease: None, _slot: slot };
    let body = |body| received(body, timeouts.between_bytes, held);
    Ok((response.map(body), sent))
}

/// The end of a request whose body was not read to its end. At the first poll it is pending: a request that has failed
/// by then has no response for wasmtime-wasi-http.
fn untransmitted(error: Error) -> Sent {
    Box::new(async move {
        tokio::task::yield_now().await;
        Err(error)
    })
}

fn received(body: WasiBody, between_bytes: Duration, held: Held) -> WasiBody {
    ResponseBody::new(body, between_bytes, held).boxed_unsync()
}
