//! `wasi:http` 0.3: where daylily differs from wasmtime-wasi-http.

mod received_body;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::uri::{PathAndQuery, Scheme};
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Access, Accessor, FutureConsumer, FutureReader, Linker, Resource, ResourceType, Source, StreamReader,
};
use wasmtime_wasi_http::p3::bindings::http::client::HostWithStore as ClientHost;
use wasmtime_wasi_http::p3::bindings::http::types::{
    ErrorCode, Fields, HostRequest, HostRequestWithStore, Method, Request, RequestOptions, Response,
};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

use super::client::MAX_HEAD_BYTES;
use super::{MAX_AUTHORITY_BYTES, MAX_METHOD_BYTES, path_with_query};
use crate::wasi::direct::count_fields_p3;
use crate::wasi::state::State;

pub(crate) use received_body::ReceivedBodies;

/// The error text for a request that its guest dropped without sending it.
pub(crate) const UNSENT: &str = "the request was dropped without being sent";

type Transmission = FutureReader<Result<(), ErrorCode>>;
type Trailers = FutureReader<Result<Option<Resource<Fields>>, ErrorCode>>;
type NewArguments = (Resource<Fields>, Option<StreamReader<u8>>, Trailers, Option<Resource<RequestOptions>>);
type Sent = Result<Resource<Response>, ErrorCode>;

/// The requests that a guest has made and neither sent nor dropped, by handle. A reused handle overwrites its entry.
#[derive(Default)]
pub(crate) struct UnsentRequests(HashMap<u32, Arc<Untransmitted>>);

/// Why a request was not transmitted, once that is known.
#[derive(Default)]
struct Untransmitted(OnceLock<ErrorCode>);

impl Untransmitted {
    fn because(&self, code: ErrorCode) {
        // Only the first reason counts.
        let _ = self.0.set(code);
    }
}

/// Replaces the functions that differ. The linker must allow shadowing.
pub(crate) fn amend(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:http/types@0.3.0")?;
    types.func_wrap("[static]request.new", new_request)?;
    types.func_wrap("[static]response.new", received_body::new_response)?;
    types.func_wrap("[static]request.consume-body", received_body::consume_request)?;
    types.func_wrap("[static]response.consume-body", received_body::consume_response)?;
    types.func_wrap("[method]request.set-method", set_method)?;
    types.func_wrap("[method]request.set-authority", set_authority)?;
    types.func_wrap("[method]request.set-path-with-query", set_path)?;
    count_fields_p3(&mut types)?;
    types.resource("request", ResourceType::host::<Request>(), drop_request)?;
    linker.instance("wasi:http/client@0.3.0")?.func_wrap_concurrent("send", send)?;
    linker.instance("wasi:http/handler@0.3.0")?.func_wrap_concurrent("handle", send_to_next)
}

/// Makes a request. If it is dropped or cannot be sent, its transmission future resolves to an error, where
/// wasmtime-wasi-http reports success (wasmtime#14112).
fn new_request(
    mut store: StoreContextMut<'_, State>,
    (headers, contents, trailers, options): NewArguments,
) -> wasmtime::Result<((Resource<Request>, Transmission),)> {
    let (request, transmitted) = received_body::new_request(&mut store, headers, contents, trailers, options)?;

    let untransmitted = Arc::new(Untransmitted::default());
    store.data_mut().unsent_requests().0.insert(request.rep(), Arc::clone(&untransmitted));
    let (sender, receiver) = oneshot::channel();
    transmitted.pipe(&mut store, Forward(Some(sender)))?;
    let amended = async move {
        let result = receiver.await.unwrap_or(Ok(()));
        wasmtime::error::Ok(match (result, untransmitted.0.get()) {
            (Ok(()), Some(code)) => Err(code.clone()),
            (result, _) => result,
        })
    };
    Ok(((request, FutureReader::new(&mut store, amended)?),))
}

/// Forwards the value of a component-model future to a channel.
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

/// Sets the method, whose length is limited because no memory limit of the host covers it.
fn set_method(
    mut store: StoreContextMut<'_, State>,
    (request, method): (Resource<Request>, Method),
) -> wasmtime::Result<(Result<(), ()>,)> {
    match &method {
        Method::Other(name) if name.len() > MAX_METHOD_BYTES => Ok((Err(()),)),
        _ => Ok((HostRequest::set_method(&mut store.data_mut().http(), request, method)?,)),
    }
}

/// Sets the authority, whose length is limited for the same reason.
fn set_authority(
    mut store: StoreContextMut<'_, State>,
    (request, authority): (Resource<Request>, Option<String>),
) -> wasmtime::Result<(Result<(), ()>,)> {
    match &authority {
        Some(text) if text.len() > MAX_AUTHORITY_BYTES => Ok((Err(()),)),
        _ => Ok((HostRequest::set_authority(&mut store.data_mut().http(), request, authority)?,)),
    }
}

/// Sets the path, which may be up to 64 KiB long. Fails for a path with a fragment, which wasmtime-wasi-http cuts off
/// instead. An empty path is valid.
fn set_path(
    mut store: StoreContextMut<'_, State>,
    (request, path): (Resource<Request>, Option<String>),
) -> wasmtime::Result<(Result<(), ()>,)> {
    store.data_mut().charge(path.as_ref().map_or(0, String::len))?;
    let place = &mut store.data_mut().http().table.get_mut(&request)?.path_with_query;
    *place = match path.as_deref().map(path_with_query) {
        Some(None) => return Ok((Err(()),)),
        Some(path) => path,
        None => None,
    };
    Ok((Ok(()),))
}

fn drop_request(mut store: StoreContextMut<'_, State>, rep: u32) -> wasmtime::Result<()> {
    if let Some(untransmitted) = store.data_mut().unsent_requests().0.remove(&rep) {
        untransmitted.because(ErrorCode::InternalError(Some(UNSENT.to_owned())));
    }
    let access = Access::<State, WasiHttp>::new(store, State::http);
    HostRequestWithStore::drop(access, Resource::new_own(rep))
}

type SendingTo<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<(Sent,)>> + Send + 'a>>;

/// Sends a request. A request without a path is sent with `/` (WebAssembly/WASI#949), which wasmtime-wasi-http rejects.
fn send<'a>(accessor: &'a Accessor<State>, (request,): (Resource<Request>,)) -> SendingTo<'a> {
    send_to(accessor, request, false)
}

/// Sends a request to what follows in the chain.
fn send_to_next<'a>(accessor: &'a Accessor<State>, (request,): (Resource<Request>,)) -> SendingTo<'a> {
    send_to(accessor, request, true)
}

fn send_to<'a>(accessor: &'a Accessor<State>, request: Resource<Request>, is_for_next: bool) -> SendingTo<'a> {
    Box::pin(async move {
        let sending = accessor.with(|mut store| {
            store.data_mut().charge(MAX_HEAD_BYTES)?;
            let untransmitted = store.data_mut().unsent_requests().0.remove(&request.rep());
            let own_authority = is_for_next.then(|| store.data_mut().hooks().own_authority());
            if let Ok(request) = store.data_mut().http().table.get_mut(&request) {
                request.path_with_query = Some(rooted(request.path_with_query.take()));
                if let Some(own) = own_authority {
                    request.scheme.get_or_insert(Scheme::HTTP);
                    request.authority.get_or_insert(own);
                }
            }
            // The hook reads it before this future waits for the first time.
            store.data_mut().hooks().set_for_next(is_for_next);
            wasmtime::error::Ok(Sending(untransmitted))
        })?;
        let accessor = &accessor.with_getter::<WasiHttp>(State::http);
        match <WasiHttp as ClientHost<State>>::send(accessor, request).await {
            Ok(response) => {
                sending.answered();
                accessor.with(|mut store| store.data_mut().received_bodies().add(response.rep()));
                Ok((Ok(response),))
            }
            Err(error) => {
                // It may have failed before the hook was called.
                accessor.with(|mut store| store.data_mut().hooks().set_for_next(false));
                let code: ErrorCode = error.downcast()?;
                sending.failed(code.clone());
                Ok((Err(code),))
            }
        }
    })
}

/// A request that is being sent. Dropped before its response head arrives, it counts as cut off.
struct Sending(Option<Arc<Untransmitted>>);

impl Sending {
    /// From here on, the code that sends the body reports its transmission.
    fn answered(mut self) {
        self.0 = None;
    }

    fn failed(mut self, code: ErrorCode) {
        if let Some(untransmitted) = self.0.take() {
            untransmitted.because(code);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(untransmitted) = &self.0 {
            untransmitted.because(ErrorCode::ConnectionTerminated);
        }
    }
}

/// The path of an origin-form target: absolute, `/` if the guest gave none (RFC 9112 §3.2.1).
pub(crate) fn rooted(path: Option<PathAndQuery>) -> PathAndQuery {
    let root = PathAndQuery::from_static("/");
    match path.as_ref().map(PathAndQuery::as_str) {
        // `as_str` of an empty path returns `/`, but hyper would write an empty target.
        None | Some("/") => root,
        Some(text) if text.starts_with('/') => path.unwrap_or(root),
        Some(query) => PathAndQuery::try_from(format!("/{query}")).unwrap_or(root),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasi::http::path_with_query;

    /// Checks the target that is sent when a guest sets this path; None if setting it fails.
    fn check(set: Option<&str>, written: Option<&str>) {
        let path = set.map(path_with_query);
        let target = match path {
            Some(None) => None,
            Some(path) => Some(rooted(path)),
            None => Some(rooted(None)),
        };
        assert_eq!(target.as_ref().map(PathAndQuery::as_str), written, "{set:?}");
    }

    #[test]
    fn targets_of_outgoing_requests() {
        check(None, Some("/"));
        check(Some(""), Some("/"));
        check(Some("/"), Some("/"));
        check(Some("?"), Some("/?"));
        check(Some("?x"), Some("/?x"));
        check(Some("?/x"), Some("/?/x"));
        check(Some("//a"), Some("//a"));
        check(Some("/a?b=%20"), Some("/a?b=%20"));
        for refused in ["a", "*", "http://a/", "a:80", "/a b", "/a\r\nb: c", "/a\0", "/a#b", "/?a#b", "#b", " /"] {
            check(Some(refused), None);
        }
    }
}
