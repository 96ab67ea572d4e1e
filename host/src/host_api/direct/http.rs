//! wasi:http/types: fields, requests that come in, and the responses to them.

use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::{
    self, DnsErrorPayload, ErrorCode, FieldSizePayload, FutureTrailers, HostFields, HostFutureTrailers,
    HostIncomingBody, HostIncomingRequest, HostOutgoingBody, HostOutgoingResponse, HostResponseOutparam, IncomingBody,
    IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam, Scheme, TlsAlertReceivedPayload,
};
use wasmtime_wasi_http::p2::{HeaderError, HttpError};
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::drop;
use super::http_types::http_types;
use crate::canonical::{Borrow, Function, record, variant};
use crate::engine::State;
use crate::host_api::http02;

pub(super) const TYPES: &str = "wasi:http/types";

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

/// What the handler is called with.
pub(crate) type ParamsV2 = (Resource<IncomingRequest>, Resource<ResponseOutparam>);

type WitHeaderError = types::HeaderError;

variant!(WitHeaderError {
    "invalid-syntax" => InvalidSyntax,
    "forbidden" => Forbidden,
    "immutable" => Immutable,
});

/// An error that the guest is told of, or one that ends it.
fn header<T>(result: Result<T, HeaderError>) -> wasmtime::Result<Result<T, WitHeaderError>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => error.downcast().map(Err),
    }
}

pub(super) fn http<T>(result: Result<T, HttpError>) -> wasmtime::Result<Result<T, ErrorCode>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => error.downcast().map(Err),
    }
}

pub(super) fn functions() -> Vec<Function<State>> {
    [fields(), incoming_request(), incoming_body(), outgoing_response(), outgoing_body()]
        .into_iter()
        .flatten()
        .collect()
}

type Fields = Borrow<FieldMap>;

fn fields() -> Vec<Function<State>> {
    vec![
        drop(|state, fields: Resource<FieldMap>| HostFields::drop(&mut state.http(), fields)),
        Function::new(TYPES, "[constructor]fields", |state: &mut State, ()| HostFields::new(&mut state.http())),
        Function::new(TYPES, "[static]fields.from-list", |state: &mut State, (list,): (Vec<(String, Vec<u8>)>,)| {
            header(HostFields::from_list(&mut state.http(), list))
        }),
        Function::new(TYPES, "[method]fields.get", |state: &mut State, (fields, name): (Fields, String)| {
            HostFields::get(&mut state.http(), fields.0, name)
        }),
        Function::new(TYPES, "[method]fields.has", |state: &mut State, (fields, name): (Fields, String)| {
            HostFields::has(&mut state.http(), fields.0, name)
        }),
        Function::new(
            TYPES,
            "[method]fields.set",
            |state: &mut State, (fields, name, values): (Fields, String, Vec<Vec<u8>>)| {
                header(HostFields::set(&mut state.http(), fields.0, name, values))
            },
        ),
        Function::new(TYPES, "[method]fields.delete", |state: &mut State, (fields, name): (Fields, String)| {
            header(HostFields::delete(&mut state.http(), fields.0, name))
        }),
        Function::new(
            TYPES,
            "[method]fields.append",
            |state: &mut State, (fields, name, value): (Fields, String, Vec<u8>)| {
                header(HostFields::append(&mut state.http(), fields.0, name, value))
            },
        ),
        Function::new(TYPES, "[method]fields.entries", |state: &mut State, (fields,): (Fields,)| {
            HostFields::entries(&mut state.http(), fields.0)
        }),
        Function::new(TYPES, "[method]fields.clone", |state: &mut State, (fields,): (Fields,)| {
            HostFields::clone(&mut state.http(), fields.0)
        }),
    ]
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
            http02::http_error_code(state, &error.0)
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
            HostOutgoingResponse::body(&mut state.http(), response.0)
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
