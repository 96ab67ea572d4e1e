//! `wasi:http/types` of WASI 0.2: fields, incoming requests, and the responses to them.

use wasmtime::component::{LinkerInstance, Resource};
use wasmtime_wasi_http::p2::bindings::http::types::{
    self, DnsErrorPayload, ErrorCode, FieldSizePayload, FutureTrailers, HostFields, HostFutureTrailers,
    HostIncomingBody, HostIncomingRequest, HostOutgoingBody, HostOutgoingResponse, HostResponseOutparam, IncomingBody,
    IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam, Scheme, TlsAlertReceivedPayload,
};
use wasmtime_wasi_http::p2::{HeaderError, HttpError};
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::common::{MAX_TEXT_BYTES, common_fields, http_types};
use super::drop;
use crate::component_abi::{Borrow, Function, record, variant};
use crate::wasi::host_memory::{BODY_BYTES, field_bytes, map_bytes};
use crate::wasi::http::p2;
use crate::wasi::state::State;

pub(crate) const TYPES: &str = "wasi:http/types";

resources! { TYPES =>
    FieldMap = "fields",
    FutureTrailers = "future-trailers",
    IncomingBody = "incoming-body",
    IncomingRequest = "incoming-request",
    OutgoingBody = "outgoing-body",
    OutgoingResponse = "outgoing-response",
    ResponseOutparam = "response-outparam",
}

http_types!();

/// The parameters of the guest's handler.
pub(crate) type ParamsP2 = (Resource<IncomingRequest>, Resource<ResponseOutparam>);

type WitHeaderError = types::HeaderError;

variant!(WitHeaderError {
    "invalid-syntax" => InvalidSyntax,
    "forbidden" => Forbidden,
    "immutable" => Immutable,
});

fn told<T>(result: Result<T, HeaderError>) -> wasmtime::Result<Result<T, WitHeaderError>> {
    super::told(result, HeaderError::downcast)
}

pub(crate) fn http<T>(result: Result<T, HttpError>) -> wasmtime::Result<Result<T, ErrorCode>> {
    super::told(result, HttpError::downcast)
}

pub(crate) fn functions() -> Vec<Function<State>> {
    [fields(), incoming_request(), incoming_body(), outgoing_response(), outgoing_body()]
        .into_iter()
        .flatten()
        .collect()
}

common_fields!(WitHeaderError);

fn fields() -> Vec<Function<State>> {
    let entries = Function::new(TYPES, "[method]fields.entries", |state: &mut State, (fields,): (Fields,)| {
        HostFields::entries(&mut state.http(), fields.0)
    });
    common_fields().into_iter().chain([entries]).collect()
}

type Request = Borrow<IncomingRequest>;

fn incoming_request() -> Vec<Function<State>> {
    vec![
        drop(|state, request: Resource<IncomingRequest>| HostIncomingRequest::drop(&mut state.http(), request)),
        Function::new(TYPES, "[method]incoming-request.method", |state: &mut State, (request,): (Request,)| {
            HostIncomingRequest::method(&mut state.http(), request.0)
        }),
        Function::new(
            TYPES,
            "[method]incoming-request.path-with-query",
            |state: &mut State, (request,): (Request,)| {
                HostIncomingRequest::path_with_query(&mut state.http(), request.0)
            },
        ),
        Function::new(TYPES, "[method]incoming-request.scheme", |state: &mut State, (request,): (Request,)| {
            HostIncomingRequest::scheme(&mut state.http(), request.0)
        }),
        Function::new(TYPES, "[method]incoming-request.authority", |state: &mut State, (request,): (Request,)| {
            HostIncomingRequest::authority(&mut state.http(), request.0)
        }),
        Function::new(TYPES, "[method]incoming-request.headers", |state: &mut State, (request,): (Request,)| {
            HostIncomingRequest::headers(&mut state.http(), request.0)
        }),
        Function::new(TYPES, "[method]incoming-request.consume", |state: &mut State, (request,): (Request,)| {
            HostIncomingRequest::consume(&mut state.http(), request.0)
        }),
    ]
}

fn incoming_body() -> Vec<Function<State>> {
    vec![
        drop(|state, body: Resource<IncomingBody>| HostIncomingBody::drop(&mut state.http(), body)),
        drop(|state, trailers: Resource<FutureTrailers>| HostFutureTrailers::drop(&mut state.http(), trailers)),
        Function::new(TYPES, "[method]incoming-body.stream", |state: &mut State, (body,): (Borrow<IncomingBody>,)| {
            HostIncomingBody::stream(&mut state.http(), body.0)
        }),
        Function::new(
            TYPES,
            "[static]incoming-body.finish",
            |state: &mut State, (body,): (Resource<IncomingBody>,)| HostIncomingBody::finish(&mut state.http(), body),
        ),
        Function::new(
            TYPES,
            "[method]future-trailers.subscribe",
            |state: &mut State, (trailers,): (Borrow<FutureTrailers>,)| {
                HostFutureTrailers::subscribe(&mut state.http(), trailers.0)
            },
        ),
        Function::new(
            TYPES,
            "[method]future-trailers.get",
            |state: &mut State, (trailers,): (Borrow<FutureTrailers>,)| {
                HostFutureTrailers::get(&mut state.http(), trailers.0)
            },
        ),
        Function::new(TYPES, "http-error-code", |state: &mut State, (error,): (Borrow<types::IoError>,)| {
            p2::http_error_code(state, &error.0)
        }),
    ]
}

type Response = Borrow<OutgoingResponse>;

fn outgoing_response() -> Vec<Function<State>> {
    vec![
        drop(|state, response: Resource<OutgoingResponse>| HostOutgoingResponse::drop(&mut state.http(), response)),
        drop(|state, out: Resource<ResponseOutparam>| HostResponseOutparam::drop(&mut state.http(), out)),
        Function::new(
            TYPES,
            "[constructor]outgoing-response",
            |state: &mut State, (headers,): (Resource<FieldMap>,)| {
                HostOutgoingResponse::new(&mut state.http(), headers)
            },
        ),
        Function::new(TYPES, "[method]outgoing-response.status-code", |state: &mut State, (response,): (Response,)| {
            HostOutgoingResponse::status_code(&mut state.http(), response.0)
        }),
        Function::new(
            TYPES,
            "[method]outgoing-response.set-status-code",
            |state: &mut State, (response, status): (Response, u16)| {
                HostOutgoingResponse::set_status_code(&mut state.http(), response.0, status)
            },
        ),
        Function::new(TYPES, "[method]outgoing-response.headers", |state: &mut State, (response,): (Response,)| {
            HostOutgoingResponse::headers(&mut state.http(), response.0)
        }),
        Function::new(TYPES, "[method]outgoing-response.body", |state: &mut State, (response,): (Response,)| {
            response_body(state, response.0)
        }),
        Function::new(
            TYPES,
            "[static]response-outparam.set",
            |state: &mut State,
             (out, answer): (Resource<ResponseOutparam>, Result<Resource<OutgoingResponse>, ErrorCode>)| {
                HostResponseOutparam::set(&mut state.http(), out, answer)
            },
        ),
    ]
}

/// Opens the body of `response`. The host buffers what the guest writes to it, so this accounts for [`BODY_BYTES`].
pub(crate) fn response_body(
    state: &mut State,
    response: Resource<OutgoingResponse>,
) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
    state.keep(BODY_BYTES)?;
    HostOutgoingResponse::body(&mut state.http(), response)
}

fn outgoing_body() -> Vec<Function<State>> {
    vec![
        drop(|state, body: Resource<OutgoingBody>| HostOutgoingBody::drop(&mut state.http(), body)),
        Function::new(TYPES, "[method]outgoing-body.write", |state: &mut State, (body,): (Borrow<OutgoingBody>,)| {
            HostOutgoingBody::write(&mut state.http(), body.0)
        }),
        Function::new(
            TYPES,
            "[static]outgoing-body.finish",
            |state: &mut State, (body, trailers): (Resource<OutgoingBody>, Option<Resource<FieldMap>>)| {
                http(HostOutgoingBody::finish(&mut state.http(), body, trailers))
            },
        ),
    ]
}
