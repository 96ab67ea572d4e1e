//! The hooks that wasmtime-wasi-http calls in its host.

use std::future;
use std::sync::{Arc, LazyLock};

use daylily_core::authority;
use http::HeaderName;
use http::uri::Authority;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use super::connect::MAX_BUFFER_BYTES;
use super::inner::{self, InnerExchange, Outgoing, To};
use super::policy::{Admitted, OutgoingPolicy};
use super::send::{self, Exchange};
use super::slot::Instance;
use crate::engine::meter::{Meter, WaitFor, WaitTimer};
use crate::message::fields::is_forbidden_header;

/// Shared, because wasmtime-wasi-http requests an `Arc` for every request.
static FORBIDDEN: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(is_forbidden_header));

/// One instance's access to outgoing HTTP, part of its store's data.
///
/// Creating it does not allocate; the first outgoing request does. Dropping it aborts all transfers of the instance.
pub(crate) struct Hooks {
    policy: Arc<OutgoingPolicy>,
    instance: Option<Instance>,
    /// Counts the requests of the instance.
    meter: Arc<Meter>,
    /// What the requests have in common; None if the route may send none.
    outgoing: Option<Box<Outgoing>>,
    /// The next request that is sent goes to what follows the guest in its chain.
    is_for_next: bool,
}

impl Hooks {
    /// For one instance of the route that `policy` belongs to, whose requests `meter` counts.
    pub(crate) fn new(policy: Arc<OutgoingPolicy>, meter: Arc<Meter>) -> Self {
        Self { policy, instance: None, meter, outgoing: None, is_for_next: false }
    }

    /// Sets what the requests of this call have in common.
    pub(crate) fn set_outgoing(&mut self, outgoing: Box<Outgoing>) {
        self.outgoing = Some(outgoing);
    }

    /// Whether the next request that is sent goes to what follows the guest in its chain. wasmtime-wasi-http has one
    /// hook for all requests.
    pub(crate) fn set_for_next(&mut self, is_for_next: bool) {
        self.is_for_next = is_for_next;
    }

    /// The authority of a request to what follows in the chain, for which the guest set none: that of the request that it
    /// answers.
    pub(crate) fn own_authority(&self) -> Authority {
        let own = self.outgoing.as_ref().and_then(|outgoing| outgoing.authority.clone());
        own.unwrap_or_else(|| Authority::from_static("localhost"))
    }

    /// The host memory accounted for the open requests.
    pub(crate) fn kept_bytes(&self) -> usize {
        let open = self.instance.as_ref().map_or(0, Instance::count);
        usize::try_from(open).unwrap_or(usize::MAX).saturating_mul(EXCHANGE_BYTES)
    }

    /// Checks whether the route may send requests to `uri`. A denial is logged.
    pub(crate) fn check(&self, uri: &http::Uri) -> Result<(), Error> {
        self.policy.admit(uri).map(drop)
    }

    /// To be called when the guest has returned. Uploads continue even if their origin has responded early (RFC 9112
    /// §9.5), provided that the guest has written the body to its end or passes on a received body. Returns a future
    /// that resolves when they have ended; cancel safe.
    pub(crate) fn finish_uploads(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.instance.as_ref().map(Instance::finish_uploads)
    }
}

impl Hooks {
    /// Sends `request` to another guest of this worker.
    fn send_inner(&mut self, to: To, mut request: http::Request<WasiBody>, options: Option<RequestOptions>) -> Sending {
        let Some((outgoing, inner)) =
            self.outgoing.as_ref().and_then(|outgoing| Some((outgoing, Arc::clone(outgoing.inner.as_ref()?))))
        else {
            return Box::new(future::ready(Err(Error::HttpRequestDenied)));
        };
        // What follows takes it for valid.
        let authority = request.uri().authority();
        let is_valid = |authority: &Authority| authority::parse(authority.as_str()).is_ok();
        if to == To::Next && !authority.is_some_and(is_valid) {
            return Box::new(future::ready(Err(Error::HttpRequestUriInvalid)));
        }
        let instance = self.instance.get_or_insert_with(Instance::new);
        let Some(slot) = instance.open(self.policy.max_open()) else {
            return Box::new(future::ready(Err(Error::ConnectionLimitReached)));
        };
        // What follows in a chain works on the same request.
        let is_new = to != To::Next;
        if is_new {
            outgoing.trace.put_into_outgoing(request.headers_mut());
        }
        let timer = is_new.then(|| WaitTimer::begin(Arc::clone(&self.meter), WaitFor::Outgoing));
        let timeouts = if is_new { self.policy.timeouts(options) } else { self.policy.timeouts_of_next(options) };
        let exchange = InnerExchange { inner, to, timeouts, request, slot };
        Box::new(async move {
            let response = inner::send(exchange).await?;
            if let Some(timer) = timer {
                timer.succeed();
            }
            Ok(response)
        })
    }
}

/// The host memory accounted for an open request: what its connection may buffer of the response, and what may be
/// buffered of the request's body.
const EXCHANGE_BYTES: usize = MAX_BUFFER_BYTES + 2 * BODY_CHUNK_BYTES;

/// The most that a guest can write at once to a request body. The host buffers up to two such pieces for each body,
/// outside the guest's memory limit.
pub(crate) const BODY_CHUNK_BYTES: usize = 64 << 10;

/// The result of a request: the response's head and body, and a future that resolves when the request's body has been
/// sent.
type Response = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// A request in progress.
type Sending = Box<dyn Future<Output = Result<Response, Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden_header(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&FORBIDDEN)
    }

    /// Sends `request` if the route allows it. Each time-out is the shorter one of `options` and of the route.
    ///
    /// Needs a tokio runtime when it is polled. Dropping the future, or the response's body, closes the connection.
    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sending {
        if std::mem::take(&mut self.is_for_next) {
            return self.send_inner(To::Next, request, options);
        }
        let destination = match self.policy.admit(request.uri()) {
            Ok(Admitted::Origin(destination)) => destination,
            Ok(Admitted::Route(index)) => return self.send_inner(To::Route(index), request, options),
            Err(error) => return Box::new(future::ready(Err(error))),
        };
        let instance = self.instance.get_or_insert_with(Instance::new);
        let Some(slot) = instance.open(self.policy.max_open()) else {
            destination.log_denied("the limit of open requests, max_outgoing, is reached");
            return Box::new(future::ready(Err(Error::ConnectionLimitReached)));
        };
        if let Some(outgoing) = &self.outgoing {
            outgoing.trace.put_into_outgoing(request.headers_mut());
        }
        let timer = WaitTimer::begin(Arc::clone(&self.meter), WaitFor::Outgoing);
        let exchange = Exchange {
            timeouts: self.policy.timeouts(options),
            policy: Arc::clone(&self.policy),
            destination,
            request,
            slot,
        };
        Box::new(async move {
            let response = send::send(exchange).await?;
            timer.succeed();
            Ok(response)
        })
    }
}
