//! `wasi:http/types` and `wasi:http/outgoing-handler` of WASI 0.2: requests that guests send.

use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::{
    FutureIncomingResponse, HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostRequestOptions,
    IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::drop;
use super::http::TYPES;
use crate::component_abi::{Borrow, Function};
use crate::wasi::host_memory::BODY_BYTES;
use crate::wasi::http::p2;
use crate::wasi::state::State;

resources! { TYPES =>
    FutureIncomingResponse = "future-incoming-response",
    IncomingResponse = "incoming-response",
    OutgoingRequest = "outgoing-request",
    RequestOptions = "request-options",
}

pub(crate) fn functions() -> Vec<Function<State>> {
    let handle = Function::new(
        "wasi:http/outgoing-handler",
        "handle",
        |state: &mut State, (request, options): (Resource<OutgoingRequest>, Option<Resource<RequestOptions>>)| {
            p2::handle(state, request, options)
        },
    );
    [vec![handle], request(), options(), response()].into_iter().flatten().collect()
}

type Request = Borrow<OutgoingRequest>;

fn request() -> Vec<Function<State>> {
    vec![
        drop(|state, request: Resource<OutgoingRequest>| HostOutgoingRequest::drop(&mut state.http(), request)),
        Function::new(
            TYPES,
            "[constructor]outgoing-request",
            |state: &mut State, (headers,): (Resource<FieldMap>,)| HostOutgoingRequest::new(&mut state.http(), headers),
        ),
        Function::new(TYPES, "[method]outgoing-request.body", |state: &mut State, (request,): (Request,)| {
            request_body(state, request.0)
        }),
        Function::new(TYPES, "[method]outgoing-request.method", |state: &mut State, (request,): (Request,)| {
            HostOutgoingRequest::method(&mut state.http(), request.0)
        }),
        Function::new(
            TYPES,
            "[method]outgoing-request.set-method",
            |state: &mut State, (request, method): (Request, Method)| p2::set_method(state, request.0, method),
        ),
        Function::new(
            TYPES,
            "[method]outgoing-request.path-with-query",
            |state: &mut State, (request,): (Request,)| {
                HostOutgoingRequest::path_with_query(&mut state.http(), request.0)
            },
        ),
        Function::new(
            TYPES,
            "[method]outgoing-request.set-path-with-query",
            |state: &mut State, (request, path): (Request, Option<String>)| p2::set_path(state, &request.0, path),
        ),
        Function::new(TYPES, "[method]outgoing-request.scheme", |state: &mut State, (request,): (Request,)| {
            HostOutgoingRequest::scheme(&mut state.http(), request.0)
        }),
        Function::new(
            TYPES,
            "[method]outgoing-request.set-scheme",
            |state: &mut State, (request, scheme): (Request, Option<Scheme>)| {
                HostOutgoingRequest::set_scheme(&mut state.http(), request.0, scheme)
            },
        ),
        Function::new(TYPES, "[method]outgoing-request.authority", |state: &mut State, (request,): (Request,)| {
            HostOutgoingRequest::authority(&mut state.http(), request.0)
        }),
        Function::new(
            TYPES,
            "[method]outgoing-request.set-authority",
            |state: &mut State, (request, authority): (Request, Option<String>)| {
                p2::set_authority(state, request.0, authority)
            },
        ),
        Function::new(TYPES, "[method]outgoing-request.headers", |state: &mut State, (request,): (Request,)| {
            HostOutgoingRequest::headers(&mut state.http(), request.0)
        }),
    ]
}

/// Opens the body of `request`. The host buffers what the guest writes to it, so this accounts for [`BODY_BYTES`].
pub(crate) fn request_body(
    state: &mut State,
    request: Resource<OutgoingRequest>,
) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
    state.keep(BODY_BYTES)?;
    HostOutgoingRequest::body(&mut state.http(), request)
}

type Options = Borrow<RequestOptions>;

fn options() -> Vec<Function<State>> {
    vec![
        drop(|state, options: Resource<RequestOptions>| HostRequestOptions::drop(&mut state.http(), options)),
        Function::new(TYPES, "[constructor]request-options", |state: &mut State, ()| {
            HostRequestOptions::new(&mut state.http())
        }),
        Function::new(TYPES, "[method]request-options.connect-timeout", |state: &mut State, (options,): (Options,)| {
            HostRequestOptions::connect_timeout(&mut state.http(), options.0)
        }),
        Function::new(
            TYPES,
            "[method]request-options.set-connect-timeout",
            |state: &mut State, (options, timeout): (Options, Option<u64>)| {
                HostRequestOptions::set_connect_timeout(&mut state.http(), options.0, timeout)
            },
        ),
        Function::new(
            TYPES,
            "[method]request-options.first-byte-timeout",
            |state: &mut State, (options,): (Options,)| {
                HostRequestOptions::first_byte_timeout(&mut state.http(), options.0)
            },
        ),
        Function::new(
            TYPES,
            "[method]request-options.set-first-byte-timeout",
            |state: &mut State, (options, timeout): (Options, Option<u64>)| {
                HostRequestOptions::set_first_byte_timeout(&mut state.http(), options.0, timeout)
            },
        ),
        Function::new(
            TYPES,
            "[method]request-options.between-bytes-timeout",
            |state: &mut State, (options,): (Options,)| {
                HostRequestOptions::between_bytes_timeout(&mut state.http(), options.0)
            },
        ),
        Function::new(
            TYPES,
            "[method]request-options.set-between-bytes-timeout",
            |state: &mut State, (options, timeout): (Options, Option<u64>)| {
                HostRequestOptions::set_between_bytes_timeout(&mut state.http(), options.0, timeout)
            },
        ),
    ]
}

type Future = Borrow<FutureIncomingResponse>;
type Response = Borrow<IncomingResponse>;

fn response() -> Vec<Function<State>> {
    vec![
        drop(|state, future: Resource<FutureIncomingResponse>| {
            HostFutureIncomingResponse::drop(&mut state.http(), future)
        }),
        drop(|state, response: Resource<IncomingResponse>| HostIncomingResponse::drop(&mut state.http(), response)),
        Function::new(
            TYPES,
            "[method]future-incoming-response.subscribe",
            |state: &mut State, (future,): (Future,)| {
                HostFutureIncomingResponse::subscribe(&mut state.http(), future.0)
            },
        ),
        Function::new(TYPES, "[method]future-incoming-response.get", |state: &mut State, (future,): (Future,)| {
            HostFutureIncomingResponse::get(&mut state.http(), future.0)
        }),
        Function::new(TYPES, "[method]incoming-response.status", |state: &mut State, (response,): (Response,)| {
            HostIncomingResponse::status(&mut state.http(), response.0)
        }),
        Function::new(TYPES, "[method]incoming-response.headers", |state: &mut State, (response,): (Response,)| {
            HostIncomingResponse::headers(&mut state.http(), response.0)
        }),
        Function::new(TYPES, "[method]incoming-response.consume", |state: &mut State, (response,): (Response,)| {
            HostIncomingResponse::consume(&mut state.http(), response.0)
        }),
    ]
}
