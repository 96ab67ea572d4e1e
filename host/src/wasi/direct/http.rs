//! `wasi:http/types` of WASI 0.2: fields, incoming requests, and the responses to them.

use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::HttpError;
use wasmtime_wasi_http::p2::bindings::http::types::{
    self, DnsErrorPayload, ErrorCode, FieldSizePayload, FutureTrailers, HeaderError, HostFields, HostFutureTrailers,
    HostIncomingBody, HostOutgoingBody, HostOutgoingResponse, HostResponseOutparam, IncomingBody, Method, OutgoingBody,
    OutgoingResponse, ResponseOutparam, Scheme, TlsAlertReceivedPayload,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::common::{MAX_TEXT_BYTES, common_fields, http_types};
use super::incoming_request::{self, IncomingRequest};
use crate::component_abi::{Borrow, Function, record, variant};
use crate::wasi::error_codes;
use crate::wasi::http::p2;
use crate::wasi::state::State;

pub(crate) const TYPES: &str = "wasi:http/types";

resources! { TYPES =>
    FieldMap = "fields",
    FutureTrailers = "future-trailers",
    IncomingBody = "incoming-body",
    OutgoingBody = "outgoing-body",
    OutgoingResponse = "outgoing-response",
    ResponseOutparam = "response-outparam",
}

http_types!();

/// The parameters of the guest's handler.
pub(crate) type ParamsP2 = (Resource<IncomingRequest>, Resource<ResponseOutparam>);

variant!(HeaderError {
    "invalid-syntax" => InvalidSyntax,
    "forbidden" => Forbidden,
    "immutable" => Immutable,
});

fn http<T>(result: Result<T, HttpError>) -> wasmtime::Result<Result<T, ErrorCode>> {
    error_codes::code_or_trap(result, HttpError::downcast)
}

pub(crate) fn functions() -> Vec<Function<State>> {
    [fields(), incoming_request::functions(), incoming_body(), outgoing_response(), outgoing_body()]
        .into_iter()
        .flatten()
        .collect()
}

fn fields() -> Vec<Function<State>> {
    let entries = functions! { state =>
        TYPES {
            fn "[method]fields.entries"(fields: Borrow<FieldMap>) =>
                HostFields::entries(&mut state.http(), fields.0);
        }
    };
    common_fields!(p2).into_iter().chain(entries).collect()
}

fn incoming_body() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            drop(body: IncomingBody) => HostIncomingBody::drop(&mut state.http(), body);
            drop(trailers: FutureTrailers) => HostFutureTrailers::drop(&mut state.http(), trailers);
            fn "[method]incoming-body.stream"(body: Borrow<IncomingBody>) =>
                HostIncomingBody::stream(&mut state.http(), body.0);
            fn "[static]incoming-body.finish"(body: Resource<IncomingBody>) =>
                HostIncomingBody::finish(&mut state.http(), body);
            fn "[method]future-trailers.subscribe"(trailers: Borrow<FutureTrailers>) =>
                HostFutureTrailers::subscribe(&mut state.http(), trailers.0);
            fn "[method]future-trailers.get"(trailers: Borrow<FutureTrailers>) =>
                HostFutureTrailers::get(&mut state.http(), trailers.0);
            fn "http-error-code"(error: Borrow<types::IoError>) => p2::http_error_code(state, &error.0);
        }
    }
}

type Response = Borrow<OutgoingResponse>;

fn outgoing_response() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            drop(response: OutgoingResponse) => HostOutgoingResponse::drop(&mut state.http(), response);
            drop(out: ResponseOutparam) => HostResponseOutparam::drop(&mut state.http(), out);
            fn "[constructor]outgoing-response"(headers: Resource<FieldMap>) =>
                HostOutgoingResponse::new(&mut state.http(), headers);
            fn "[method]outgoing-response.status-code"(response: Response) =>
                HostOutgoingResponse::status_code(&mut state.http(), response.0);
            fn "[method]outgoing-response.set-status-code"(response: Response, status: u16) =>
                HostOutgoingResponse::set_status_code(&mut state.http(), response.0, status);
            fn "[method]outgoing-response.headers"(response: Response) =>
                HostOutgoingResponse::headers(&mut state.http(), response.0);
            fn "[method]outgoing-response.body"(response: Response) => p2::response_body(state, response.0);
            fn "[static]response-outparam.set"(
                out: Resource<ResponseOutparam>,
                answer: Result<Resource<OutgoingResponse>, ErrorCode>
            ) =>
                HostResponseOutparam::set(&mut state.http(), out, answer);
        }
    }
}

fn outgoing_body() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            drop(body: OutgoingBody) => HostOutgoingBody::drop(&mut state.http(), body);
            fn "[method]outgoing-body.write"(body: Borrow<OutgoingBody>) =>
                HostOutgoingBody::write(&mut state.http(), body.0);
            fn "[static]outgoing-body.finish"(body: Resource<OutgoingBody>, trailers: Option<Resource<FieldMap>>) =>
                http(HostOutgoingBody::finish(&mut state.http(), body, trailers));
        }
    }
}
