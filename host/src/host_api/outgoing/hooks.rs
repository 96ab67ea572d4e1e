//! What wasmtime-wasi-http asks of its host.

use std::future;
use std::sync::{Arc, LazyLock};

use http::HeaderName;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use super::connect::MAX_BUFFER_BYTES;
use super::headers::is_forbidden_header;
use super::policy::OutgoingPolicy;
use super::send::{self, Exchange};
use super::slot::Instance;

/// Asked for once per request, so the one allocation is shared.
static FORBIDDEN: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(is_forbidden_header));

/// One instance's access to outgoing HTTP. Belongs into the store's data.
///
/// Making one costs no allocation: that is left to the first outgoing request. Dropping it cuts
/// whatever the instance still sends.
pub(crate) struct Hooks {
    policy: Arc<OutgoingPolicy>,
    instance: Option<Instance>,
}

impl Hooks {
    /// For one instance of the route that `policy` belongs to.
    pub(crate) fn new(policy: Arc<OutgoingPolicy>) -> Self {
        Self { policy, instance: None }
    }

    /// What the host keeps for requests that are on their way.
    pub(crate) fn kept_bytes(&self) -> usize {
        let open = self.instance.as_ref().map_or(0, Instance::count);
        usize::try_from(open).unwrap_or(usize::MAX).saturating_mul(EXCHANGE_BYTES)
    }

    /// Whether the route may send requests to `uri`; a refusal is logged.
    pub(crate) fn check(&self, uri: &http::Uri) -> Result<(), Error> {
        self.policy.admit(uri).map(drop)
    }

    /// The guest has returned. A body that it has written to its end, or passed on from outside, is sent on although
    /// its origin has answered early (RFC 9112 §9.5): gives what resolves when that has ended. Cancel safe.
    pub(crate) fn finish_uploads(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.instance.as_ref().map(Instance::finish_uploads)
    }
}

/// What a request that is on its way counts: what its connection may have read of the response, and what waits of its
/// own body.
const EXCHANGE_BYTES: usize = MAX_BUFFER_BYTES + 2 * BODY_CHUNK_BYTES;

/// What a guest can write at once to a body that it sends. The host keeps up to two such pieces for each
/// body, outside the guest's memory limit.
pub(crate) const BODY_CHUNK_BYTES: usize = 64 << 10;

/// The result of a request: the response's head and body, and a future that ends when the request's
/// body has been sent.
type Response = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

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

    /// Sends `request` if the route may, within the time-outs of `options` and of the route,
    /// whichever is shorter.
    ///
    /// Needs tokio's runtime once polled. Dropping the future, or the response's body, closes the
    /// connection.
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Response, Error>> + Send> {
        let destination = match self.policy.admit(request.uri()) {
            Ok(destination) => destination,
            Err(error) => return Box::new(future::ready(Err(error))),
        };
        let instance = self.instance.get_or_insert_with(Instance::new);
        let Some(slot) = instance.open(self.policy.max_open()) else {
            destination.log_denied("the limit of open requests, max_outgoing, is reached");
            return Box::new(future::ready(Err(Error::ConnectionLimitReached)));
        };
        Box::new(send::send(Exchange {
            timeouts: self.policy.timeouts(options),
            policy: Arc::clone(&self.policy),
            destination,
            request,
            slot,
        }))
    }
}
