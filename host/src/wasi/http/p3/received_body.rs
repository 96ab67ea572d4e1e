//! Bodies that a P3 component receives, and may pass on.
//!
//! When a guest gives the stream of a received body back to the host, as the body of its response or of a request,
//! wasmtime-wasi-http (48.0.8) takes the body out of the stream and drops the bytes that the stream has read and the
//! guest has not: what is left passes for the complete body. Therefore these streams are [`BodySource`]s, as for guests
//! that are linked directly, which lose nothing. When wasmtime-wasi-http keeps these bytes, this file can be removed.

use std::any::{Any, TypeId};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use tokio::sync::oneshot;
use wasmtime::component::{
    Access, Destination, FutureProducer, FutureReader, Resource, StreamProducer, StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi_http::p3::bindings::http::types::{
    ErrorCode, Fields, HostRequestWithStore, HostResponseWithStore, Request, RequestOptions, Response,
};
use wasmtime_wasi_http::{Error as HttpError, FieldMap, WasiHttp, WasiHttpView};

use super::{Forward, Trailers, Transmission};
use crate::wasi::direct::{self, BodySource, TrailersResult, error_code, lower_trailers};
use crate::wasi::http::GuestBody;
use crate::wasi::state::State;

/// The requests and responses whose bodies the guest has received and not made, by handle. A message that was dropped
/// stays here until its handle is used again.
#[derive(Default)]
pub(crate) struct ReceivedBodies(Vec<u32>);

impl ReceivedBodies {
    pub(crate) fn add(&mut self, message: u32) {
        if !self.0.contains(&message) {
            self.0.push(message);
        }
    }

    /// Whether `message` was one of them.
    fn remove(&mut self, message: u32) -> bool {
        let at = self.0.iter().position(|received| *received == message);
        at.map(|at| self.0.swap_remove(at)).is_some()
    }
}

type Contents = Option<StreamReader<u8>>;
type Consumed = ((StreamReader<u8>, Trailers),);

/// The body of a stream that the guest passes on, or the stream if it is another one.
fn passed_on(store: &mut StoreContextMut<'_, State>, contents: Contents) -> Result<GuestBody, Contents> {
    contents.ok_or(None)?.try_into::<BodySource>(store).map(GuestBody::from).map_err(Some)
}

/// Makes a request, like `[static]request.new` of wasmtime-wasi-http.
pub(super) fn new_request(
    store: &mut StoreContextMut<'_, State>,
    headers: Resource<Fields>,
    contents: Contents,
    mut trailers: Trailers,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<(Resource<Request>, Transmission)> {
    match passed_on(store, contents) {
        Err(contents) => {
            let access = Access::<State, WasiHttp>::new(store.as_context_mut(), State::http);
            let made = HostRequestWithStore::new(access, headers, contents, trailers, options)?;
            store.data_mut().received_bodies().remove(made.0.rep());
            Ok(made)
        }
        Ok(body) => {
            trailers.close(&mut *store)?;
            let table = store.data_mut().table();
            let headers = table.delete(headers)?;
            let options = options.map(|options| table.delete(options)).transpose()?.map(Into::into);
            let (request, sent) = Request::new(http::Method::GET, None, None, None, headers, options, body);
            let request = table.push(request)?;
            store.data_mut().received_bodies().add(request.rep());
            Ok((request, transmission(store, sent)?))
        }
    }
}

/// Makes a response.
pub(super) fn new_response(
    mut store: StoreContextMut<'_, State>,
    (headers, contents, mut trailers): (Resource<Fields>, Contents, Trailers),
) -> wasmtime::Result<((Resource<Response>, Transmission),)> {
    match passed_on(&mut store, contents) {
        Err(contents) => {
            let access = Access::<State, WasiHttp>::new(store.as_context_mut(), State::http);
            let made = HostResponseWithStore::new(access, headers, contents, trailers)?;
            store.data_mut().received_bodies().remove(made.0.rep());
            Ok((made,))
        }
        Ok(body) => {
            trailers.close(&mut store)?;
            let state = store.data_mut();
            let mut response = http::Response::new(body);
            *response.headers_mut() = state.table().delete(headers)?.into();
            let (response, sent) = Response::from_http(state.http().hooks, response);
            let response = state.table().push(response)?;
            state.received_bodies().add(response.rep());
            Ok(((response, transmission(&mut store, sent)?),))
        }
    }
}

/// The future that tells the guest how the transmission of a body has ended.
fn transmission(
    store: &mut StoreContextMut<'_, State>,
    sent: impl Future<Output = Result<(), HttpError>> + Send + 'static,
) -> wasmtime::Result<Transmission> {
    FutureReader::new(store, async { wasmtime::error::Ok(sent.await.map_err(|error| error_code(&error))) })
}

/// Gives the guest the body of a request to read.
pub(super) fn consume_request(
    mut store: StoreContextMut<'_, State>,
    (request, result): (Resource<Request>, FutureReader<Result<(), ErrorCode>>),
) -> wasmtime::Result<Consumed> {
    if !store.data_mut().received_bodies().remove(request.rep()) {
        let access = Access::<State, WasiHttp>::new(store, State::http);
        return Ok((HostRequestWithStore::consume_body(access, request, result)?,));
    }
    let mut request = store.data_mut().table().delete(request)?;
    // `into_http`, which alone gives access to the body, fails without these.
    request.scheme = Some(Scheme::HTTP);
    request.authority = Some(Authority::from_static("localhost"));
    request.path_with_query = Some(PathAndQuery::from_static("/"));
    request.headers = FieldMap::default();
    let verdict = verdict(&mut store, result)?;
    let (request, _) = request.into_http(&mut store, verdict).map_err(|error| match error.downcast() {
        Ok(code) => wasmtime::Error::from(code),
        Err(error) => error,
    })?;
    consume(&mut store, request.into_body())
}

/// Gives the guest the body of a response to read.
pub(super) fn consume_response(
    mut store: StoreContextMut<'_, State>,
    (response, result): (Resource<Response>, FutureReader<Result<(), ErrorCode>>),
) -> wasmtime::Result<Consumed> {
    if !store.data_mut().received_bodies().remove(response.rep()) {
        let access = Access::<State, WasiHttp>::new(store, State::http);
        return Ok((HostResponseWithStore::consume_body(access, response, result)?,));
    }
    let mut response = store.data_mut().table().delete(response)?;
    // Without a content-length: the response to HEAD has one that is not the length of its body.
    response.headers = FieldMap::default();
    let verdict = verdict(&mut store, result)?;
    let response = response.into_http(&mut store, verdict)?;
    consume(&mut store, response.into_body())
}

/// The guest's verdict on a body that it has received, which is reported to the sender.
fn verdict(
    store: &mut StoreContextMut<'_, State>,
    result: FutureReader<Result<(), ErrorCode>>,
) -> wasmtime::Result<impl Future<Output = Result<(), HttpError>> + Send + 'static + use<>> {
    let (sender, verdict) = oneshot::channel();
    result.pipe(store, Forward(Some(sender)))?;
    Ok(async { verdict.await.unwrap_or(Ok(())).map_err(HttpError::from) })
}

fn consume(store: &mut StoreContextMut<'_, State>, body: GuestBody) -> wasmtime::Result<Consumed> {
    let (contents, trailers) = BodySource::new(Bytes::new(), body);
    let contents = StreamReader::new(&mut *store, contents)?;
    Ok(((contents, FutureReader::new(&mut *store, ReceivedTrailers(trailers))?),))
}

/// The trailers after a received body.
struct ReceivedTrailers(oneshot::Receiver<direct::Trailers>);

impl FutureProducer<State> for ReceivedTrailers {
    type Item = TrailersResult;

    fn poll_produce(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'_, State>,
        finish: bool,
    ) -> Poll<wasmtime::Result<Option<TrailersResult>>> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Pending if finish => Poll::Ready(Ok(None)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(trailers) => {
                Poll::Ready(lower_trailers(store.data_mut(), trailers.unwrap_or(Ok(None))).map(Some))
            }
        }
    }
}

impl StreamProducer<State> for BodySource {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        mut destination: Destination<'a, u8, Bytes>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let room = destination.remaining(&mut store);
        let filled = match self.poll_fill(cx) {
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            filled => ready!(filled),
        };
        match room {
            _ if !filled => return Poll::Ready(Ok(StreamResult::Dropped)),
            // A reader in the host keeps what it gets: nothing of it can be lost.
            None => destination.set_buffer(self.take_rest()),
            // The guest asked whether there are bytes: there are.
            Some(0) => {}
            Some(room) => {
                let mut destination = destination.as_direct(store, room);
                let count = self.copy_to(destination.remaining());
                destination.mark_written(count);
            }
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }

    fn try_into(me: Pin<Box<Self>>, ty: TypeId) -> Result<Box<dyn Any>, Pin<Box<Self>>> {
        if ty != TypeId::of::<Self>() {
            return Err(me);
        }
        let me: Box<Self> = Pin::into_inner(me);
        Ok(me)
    }
}
