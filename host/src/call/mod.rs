//! One call: a new instance answers one request, and is dropped.

pub(crate) mod app;
pub(crate) mod direct;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod handler;
#[cfg(test)]
mod residue;
mod steps;
mod store;
#[cfg(test)]
mod testing;
mod trapped;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use daylily_core::excerpt::Excerpt;
use daylily_core::log_target;
use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{Accessor, Resource};
use wasmtime_wasi_http::p2::bindings::http::types::{IncomingRequest, ResponseOutparam};
use wasmtime_wasi_http::{Error as HttpError, FieldMap, WasiHttpView};

use self::app::App;
use self::direct::handler::{Direct, Handle};
use self::handler::{HandleP2, HandleP3, Handler};
use self::trapped::Failure;
use crate::component_abi;
use crate::engine::call_outcome::{CallOutcome, EndedStore};
use crate::engine::meter::{Meter, Metered};
use crate::observe::diagnosis::CallDiagnosis;
use crate::observe::request_id::RequestId;
use crate::observe::trace_context::RequestIds;
use crate::wasi::direct::{RequestP2, RequestP3, describe_p2, describe_p3, scheme_p2};
use crate::wasi::http::client::Outgoing;
use crate::wasi::http::{GuestBody, GuestResponse};
use crate::wasi::state::State;

/// The running call of a guest for one request.
pub(crate) struct Call {
    /// Instantiates the guest and runs it to its end. Dropping this future ends the guest at once.
    pub(crate) run: Metered,
    /// Receives the guest's response while `run` is polled. Closed without a value if the guest ends without a
    /// response.
    pub(crate) head: oneshot::Receiver<GuestResponse>,
    /// What the call uses.
    pub(crate) meter: Arc<Meter>,
    /// What the call records for its developer, if anything.
    pub(crate) diagnosis: Option<CallDiagnosis>,
}

/// A request, and the scheme of the connection that it was received on.
pub(crate) struct Received<B> {
    pub(crate) scheme: Scheme,
    /// The ids that the guest gets with the request, in place of what the client sent.
    pub(crate) ids: RequestIds,
    /// For the requests that the guest sends; None if it may send none.
    pub(crate) outgoing: Option<Box<Outgoing>>,
    /// It must have a path, and an authority in its target or its `Host` field.
    pub(crate) request: http::Request<B>,
}

impl<B> Received<B> {
    /// A request over HTTP without ids from outside, of a guest that sends no requests itself.
    pub(crate) fn plain(id: RequestId, request: http::Request<B>) -> Self {
        Self { scheme: Scheme::HTTP, ids: RequestIds::new(id, None), outgoing: None, request }
    }
}

impl App {
    /// Prepares a call. Nothing runs until [`Call::run`] is polled.
    pub(crate) fn call<B>(self: &Arc<Self>, id: RequestId, received: Received<B>) -> Call
    where
        B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
    {
        let app = Arc::clone(self);
        let meter = Arc::new(Meter::new(self.settings().limits.cpu_time, Arc::clone(&self.habit)));
        let cpu_queue = self.engines.cpu_queue.clone();
        let (sender, head) = oneshot::channel();
        let settings = self.settings();
        let diagnosis = CallDiagnosis::begin(settings.dev, settings.mask.as_ref(), settings.bundle.as_ref());
        let guest = run(app, id, diagnosis.clone(), Arc::clone(&meter), received, sender);
        Call { run: Metered::new(guest, Arc::clone(&meter), cpu_queue), head, meter, diagnosis }
    }
}

/// The authority that a request was sent to.
fn own_authority<B>(request: &http::Request<B>) -> Option<Authority> {
    let target = request.uri().authority();
    target.cloned().or_else(|| Authority::try_from(request.headers().get(HOST)?.as_bytes()).ok())
}

async fn run<B>(
    app: Arc<App>,
    id: RequestId,
    diagnosis: Option<CallDiagnosis>,
    meter: Arc<Meter>,
    mut received: Received<B>,
    head: oneshot::Sender<GuestResponse>,
) -> (CallOutcome, EndedStore)
where
    B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
{
    let _running = app.engines.ticker.keep_running();
    let dirs = match app.settings().grants.dirs.is_empty() {
        true => Ok(None),
        // Boxed, so that the future of a call stays small: most calls have no directories.
        false => Box::pin(store::granted_dirs(&app, id, diagnosis.clone())).await.map(Some),
    };
    let mut store = match dirs {
        Ok(dirs) => store::fresh(&app, id, diagnosis, meter, dirs),
        Err(error) => return (CallOutcome::NoInstance(Excerpt::display(format_args!("{error:#}"))), EndedStore::NONE),
    };
    if let Some(mut outgoing) = received.outgoing.take() {
        if outgoing.is_link {
            outgoing.authority = own_authority(&received.request);
        }
        store.data_mut().hooks().set_outgoing(outgoing);
    }
    let result = match &*app.handler {
        Handler::Direct(direct) => run_direct(direct, &mut store, received, head).await,
        // Boxed, so that the future of a call stays small: most guests are linked directly.
        Handler::P2(handle) => Box::pin(run_p2(handle, &mut store, received, head)).await,
        Handler::P3(handle) => Box::pin(run_p3(handle, &mut store, received, head)).await,
    };
    let outcome = match result {
        Ok(()) => {
            // The guest has returned. Its store is kept until the bodies of its outgoing requests are sent.
            let uploads = store.data().finish_uploads();
            if let Some(uploads) = uploads {
                uploads.await;
            }
            if let Some(refused) = store.data().refused() {
                // The guest ended well in spite of it, but the operator may want to know the cause of a poor response.
                tracing::warn!(
                    target: log_target::REQUEST,
                    request = %id, route = %app.settings().route, "guest was refused memory: {refused}"
                );
            }
            CallOutcome::Done
        }
        Err(failure) => failure.into_outcome(store.data()),
    };
    (outcome, EndedStore::new(store))
}

async fn run_p2<B>(
    handle: &HandleP2,
    store: &mut Store<State>,
    received: Received<B>,
    head: oneshot::Sender<GuestResponse>,
) -> Result<(), Failure>
where
    B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
{
    let handle = handle.instantiate(store).await.map_err(Failure::Instantiating)?;
    store.data().limiter.meter().note_instantiated();
    let arguments = arguments_p2(store.data_mut(), received, head).map_err(Failure::Running)?;
    handle.call_async(store, arguments).await.map_err(Failure::Running)
}

async fn run_direct<B>(
    direct: &Direct,
    store: &mut Store<State>,
    received: Received<B>,
    head: oneshot::Sender<GuestResponse>,
) -> Result<(), Failure>
where
    B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
{
    let handle = direct.instantiate(store).await.map_err(Failure::Instantiating)?;
    store.data().limiter.meter().note_instantiated();
    match handle {
        Handle::P2(handle) => {
            let give = |state: &mut State| {
                let Received { scheme, ids, request, .. } = received;
                let request = RequestP2::incoming(scheme, ids, request.map(BodyExt::boxed_unsync));
                let request = state.table().push(request)?;
                let answer = outparam_p2(state, head)?;
                wasmtime::error::Ok((state.guest().give(&request)?, state.guest().give(&answer)?))
            };
            let arguments = give(store.data_mut()).map_err(Failure::Running)?;
            handle.call_async(store, arguments).await.map_err(Failure::Running)
        }
        Handle::P3(handle) => {
            let give = |state: &mut State| {
                let Received { scheme, ids, request, .. } = received;
                let request = RequestP3::incoming(scheme, ids, request.map(BodyExt::boxed_unsync));
                let request = state.table().push(request)?;
                state.answer_to(head);
                state.guest().give(&request)
            };
            let request = give(store.data_mut()).map_err(Failure::Running)?;
            let result = handle.run(store, request).await;
            if result.is_err() && store.data().has_passed_answer() {
                component_abi::take_values(store);
            }
            result.map_err(Failure::Running)?;
            if let Some(passed) = store.data_mut().passed() {
                let _ = passed.await;
            }
            Ok(())
        }
    }
}

/// The guest's arguments: the request, and the outparam that it sets its response with.
fn arguments_p2<B>(
    state: &mut State,
    mut received: Received<B>,
    head: oneshot::Sender<GuestResponse>,
) -> wasmtime::Result<(Resource<IncomingRequest>, Resource<ResponseOutparam>)>
where
    B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
{
    let mut http = state.http();
    let scheme = scheme_p2(&received.scheme);
    received.ids.put_into_request(received.request.headers_mut());
    let request = http.new_incoming_request(scheme, received.request)?;
    Ok((request, outparam_p2(state, head)?))
}

/// What the guest sets its response with.
fn outparam_p2(
    state: &mut State,
    head: oneshot::Sender<GuestResponse>,
) -> wasmtime::Result<Resource<ResponseOutparam>> {
    let mask = state.mask().cloned();
    state.http().new_response_outparam_from_callback(move |answer| {
        let _ = head.send(answer.map_err(|code| describe_p2(code, mask.as_deref())));
    })
}

async fn run_p3<B>(
    handle: &HandleP3,
    store: &mut Store<State>,
    received: Received<B>,
    head: oneshot::Sender<GuestResponse>,
) -> Result<(), Failure>
where
    B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
{
    let handle = handle.instantiate(store).await.map_err(Failure::Instantiating)?;
    store.data().limiter.meter().note_instantiated();
    let run = async |accessor: &Accessor<State>| {
        let request = accessor.with(|mut store| {
            let state = store.data_mut();
            let request = new_request_p3(state, received);
            let request = state.table().push(request)?;
            state.received_bodies().add(request.rep());
            wasmtime::error::Ok(request)
        })?;
        match handle.call_concurrent(accessor, (request,)).await?.0 {
            Err(code) => {
                let mask = accessor.with(|mut store| store.data_mut().mask().cloned());
                let _ = head.send(Err(describe_p3(code, mask.as_deref())));
            }
            Ok(response) => {
                // The guest learns from its transmission future whether the whole response was sent.
                let (sent, transmitted) = oneshot::channel();
                let transmitted = async { transmitted.await.unwrap_or(Err(HttpError::ConnectionTerminated)) };
                let response = accessor
                    .with(|mut store| store.data_mut().table().delete(response)?.into_http(store, transmitted))?;
                // While the body is being sent, the store's event loop must be polled.
                let (ended, body_ended) = oneshot::channel();
                let _ = head.send(Ok(response.map(|body| SentBody::new(body, sent, ended).boxed_unsync())));
                let _ = body_ended.await;
            }
        }
        std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
        wasmtime::error::Ok(())
    };
    store.run_concurrent(run).await.and_then(|result| result).map_err(Failure::Running)
}

/// A P3 request. Scheme and authority are set for origin-form requests, too (wasmtime#11571).
fn new_request_p3<B>(state: &mut State, received: Received<B>) -> wasmtime_wasi_http::p3::Request
where
    B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
{
    let Received { scheme, ids, request, .. } = received;
    let (Parts { method, uri, mut headers, .. }, body) = request.into_parts();
    ids.put_into_request(&mut headers);
    let uri = uri.into_parts();
    let authority = uri.authority.or_else(|| headers.get(http::header::HOST)?.as_bytes().try_into().ok());
    let headers = FieldMap::new_immutable(state.http().hooks, headers);
    wasmtime_wasi_http::p3::Request::new(method, Some(scheme), authority, uri.path_and_query, headers, None, body).0
}

/// A P3 response body that reports its end to the store's event loop, and the result of the transmission to the guest.
struct SentBody {
    body: GuestBody,
    /// Both are Some until the end of the body has been read. After that the guest may end, and its store be dropped.
    sent: Option<oneshot::Sender<Result<(), HttpError>>>,
    ended: Option<oneshot::Sender<()>>,
}

impl SentBody {
    fn new(body: GuestBody, sent: oneshot::Sender<Result<(), HttpError>>, ended: oneshot::Sender<()>) -> Self {
        Self { body, sent: Some(sent), ended: Some(ended) }
    }

    fn finish(&mut self) {
        if let Some(sent) = self.sent.take() {
            let _ = sent.send(Ok(()));
        }
        self.ended = None;
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(poll, Poll::Ready(None)) {
            self.finish();
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for SentBody {
    fn drop(&mut self) {
        // With a content-length, hyper does not poll for the end of the body after its last byte.
        if self.body.is_end_stream() || self.body.size_hint().exact() == Some(0) {
            self.finish();
        }
    }
}
