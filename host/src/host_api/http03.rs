//! `wasi:http` 0.3: where daylily departs from wasmtime-wasi-http.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use tokio::sync::oneshot;
use wasmtime::component::{
    Access, Accessor, FutureConsumer, FutureReader, Linker, Resource, ResourceType, Source, StreamReader,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi_http::p3::bindings::http::client::HostWithStore as ClientHost;
use wasmtime_wasi_http::p3::bindings::http::types::{
    ErrorCode, Fields, HostRequest, HostRequestWithStore, Method, Request, RequestOptions, Response,
};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

use super::direct::count_fields_v3;
use super::outgoing::MAX_HEAD_BYTES;
use super::{MAX_AUTHORITY_BYTES, MAX_METHOD_BYTES};
use crate::engine::State;

type Transmission = FutureReader<Result<(), ErrorCode>>;
type NewArguments = (
    Resource<Fields>,
    Option<StreamReader<u8>>,
    FutureReader<Result<Option<Resource<Fields>>, ErrorCode>>,
    Option<Resource<RequestOptions>>,
);
type Sent = Result<Resource<Response>, ErrorCode>;

/// The requests a guest has made and neither sent nor dropped, by their handle. A handle that is used
/// again overwrites its entry.
#[derive(Default)]
pub(crate) struct UnsentRequests(HashMap<u32, Arc<AtomicBool>>);

/// Replaces what differs. The linker must allow shadowing.
pub(super) fn amend(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:http/types@0.3.0")?;
    types.func_wrap("[static]request.new", new_request)?;
    types.func_wrap("[method]request.set-method", set_method)?;
    types.func_wrap("[method]request.set-authority", set_authority)?;
    types.func_wrap("[method]request.set-path-with-query", set_path)?;
    count_fields_v3(&mut types)?;
    types.resource("request", ResourceType::host::<Request>(), drop_request)?;
    linker.instance("wasi:http/client@0.3.0")?.func_wrap_concurrent("send", send)
}

/// The transmission future of a request that is dropped unsent resolves to an error, where
/// wasmtime-wasi-http reports success (wasmtime#14112).
fn new_request(
    mut store: StoreContextMut<'_, State>,
    (headers, contents, trailers, options): NewArguments,
) -> wasmtime::Result<((Resource<Request>, Transmission),)> {
    let access = Access::<State, WasiHttp>::new(store.as_context_mut(), State::http);
    let (request, transmitted) = HostRequestWithStore::new(access, headers, contents, trailers, options)?;

    let dropped = Arc::new(AtomicBool::new(false));
    store.data_mut().unsent_requests().0.insert(request.rep(), Arc::clone(&dropped));
    let (sender, receiver) = oneshot::channel();
    transmitted.pipe(&mut store, Forward(Some(sender)))?;
    let amended = async move {
        let result = receiver.await.unwrap_or(Ok(()));
        let unsent = dropped.load(Relaxed);
        wasmtime::error::Ok(match result {
            Ok(()) if unsent => {
                Err(ErrorCode::InternalError(Some("the request was dropped without being sent".into())))
            }
            result => result,
        })
    };
    Ok(((request, FutureReader::new(&mut store, amended)?),))
}

/// Takes what a future of the component model resolves to.
struct Forward(Option<oneshot::Sender<Result<(), ErrorCode>>>);

impl FutureConsumer<State> for Forward {
    type Item = Result<(), ErrorCode>;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        store: StoreContextMut<'_, State>,
        mut source: Source<'_, Self::Item>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut result = None;
        source.read(store, &mut result)?;
        if let (Some(sender), Some(result)) = (self.0.take(), result) {
            let _ = sender.send(result);
        }
        Poll::Ready(Ok(()))
    }
}

/// A method of any length would be memory of the host's that no limit covers.
fn set_method(
    mut store: StoreContextMut<'_, State>,
    (request, method): (Resource<Request>, Method),
) -> wasmtime::Result<(Result<(), ()>,)> {
    match &method {
        Method::Other(name) if name.len() > MAX_METHOD_BYTES => Ok((Err(()),)),
        _ => Ok((HostRequest::set_method(&mut store.data_mut().http(), request, method)?,)),
    }
}

/// The same of an authority.
fn set_authority(
    mut store: StoreContextMut<'_, State>,
    (request, authority): (Resource<Request>, Option<String>),
) -> wasmtime::Result<(Result<(), ()>,)> {
    match &authority {
        Some(text) if text.len() > MAX_AUTHORITY_BYTES => Ok((Err(()),)),
        _ => Ok((HostRequest::set_authority(&mut store.data_mut().http(), request, authority)?,)),
    }
}

/// A path is as long as the guest likes, up to 64 KiB.
fn set_path(
    mut store: StoreContextMut<'_, State>,
    (request, path): (Resource<Request>, Option<String>),
) -> wasmtime::Result<(Result<(), ()>,)> {
    store.data_mut().keep(path.as_ref().map_or(0, String::len))?;
    Ok((HostRequest::set_path_with_query(&mut store.data_mut().http(), request, path)?,))
}

fn drop_request(mut store: StoreContextMut<'_, State>, rep: u32) -> wasmtime::Result<()> {
    if let Some(dropped) = store.data_mut().unsent_requests().0.remove(&rep) {
        dropped.store(true, Relaxed);
    }
    let access = Access::<State, WasiHttp>::new(store, State::http);
    HostRequestWithStore::drop(access, Resource::new_own(rep))
}

/// A request without a path goes out as `/` (WebAssembly/WASI#949), where wasmtime-wasi-http refuses it.
fn send<'a>(
    accessor: &'a Accessor<State>,
    (request,): (Resource<Request>,),
) -> Pin<Box<dyn Future<Output = wasmtime::Result<(Sent,)>> + Send + 'a>> {
    Box::pin(async move {
        accessor.with(|mut store| {
            store.data_mut().keep(MAX_HEAD_BYTES)?;
            store.data_mut().unsent_requests().0.remove(&request.rep());
            if let Ok(request) = store.data_mut().http().table.get_mut(&request) {
                request.path_with_query = Some(rooted(request.path_with_query.take()));
            }
            wasmtime::error::Ok(())
        })?;
        let accessor = &accessor.with_getter::<WasiHttp>(State::http);
        match <WasiHttp as ClientHost<State>>::send(accessor, request).await {
            Ok(response) => Ok((Ok(response),)),
            Err(error) => Ok((Err(error.downcast()?),)),
        }
    })
}

pub(super) fn rooted(path: Option<PathAndQuery>) -> PathAndQuery {
    let root = PathAndQuery::from_static("/");
    match path {
        None => root,
        Some(path) if path.as_str().starts_with('/') => path,
        Some(path) => PathAndQuery::try_from(format!("/{path}")).unwrap_or(root),
    }
}
