//! `wasi:http/types` and `wasi:http/outgoing-handler` of WASI 0.2: requests that guests send.

use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::{
    FutureIncomingResponse, HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostRequestOptions,
    IncomingResponse, Method, OutgoingRequest, RequestOptions, Scheme,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::http::TYPES;
use crate::component_abi::{Borrow, Function};
use crate::wasi::http::p2;
use crate::wasi::state::State;

resources! { TYPES =>
    FutureIncomingResponse = "future-incoming-response",
    IncomingResponse = "incoming-response",
    OutgoingRequest = "outgoing-request",
    RequestOptions = "request-options",
}

pub(crate) fn functions() -> Vec<Function<State>> {
    [handle(), request(), options(), response()].into_iter().flatten().collect()
}

fn handle() -> Vec<Function<State>> {
    functions! { state =>
        "wasi:http/outgoing-handler" {
            fn "handle"(request: Resource<OutgoingRequest>, options: Option<Resource<RequestOptions>>) =>
                p2::handle(state, request, options);
        }
    }
}

type Request = Borrow<OutgoingRequest>;

fn request() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            drop(request: OutgoingRequest) => HostOutgoingRequest::drop(&mut state.http(), request);
            fn "[constructor]outgoing-request"(headers: Resource<FieldMap>) =>
                HostOutgoingRequest::new(&mut state.http(), headers);
            fn "[method]outgoing-request.body"(request: Request) => p2::request_body(state, request.0);
            fn "[method]outgoing-request.method"(request: Request) =>
                HostOutgoingRequest::method(&mut state.http(), request.0);
            fn "[method]outgoing-request.set-method"(request: Request, method: Method) =>
                p2::set_method(state, request.0, method);
            fn "[method]outgoing-request.path-with-query"(request: Request) =>
                HostOutgoingRequest::path_with_query(&mut state.http(), request.0);
            fn "[method]outgoing-request.set-path-with-query"(request: Request, path: Option<String>) =>
                p2::set_path(state, &request.0, path);
            fn "[method]outgoing-request.scheme"(request: Request) =>
                HostOutgoingRequest::scheme(&mut state.http(), request.0);
            fn "[method]outgoing-request.set-scheme"(request: Request, scheme: Option<Scheme>) =>
                HostOutgoingRequest::set_scheme(&mut state.http(), request.0, scheme);
            fn "[method]outgoing-request.authority"(request: Request) =>
                HostOutgoingRequest::authority(&mut state.http(), request.0);
            fn "[method]outgoing-request.set-authority"(request: Request, authority: Option<String>) =>
                p2::set_authority(state, request.0, authority);
            fn "[method]outgoing-request.headers"(request: Request) =>
                HostOutgoingRequest::headers(&mut state.http(), request.0);
        }
    }
}

type Options = Borrow<RequestOptions>;

fn options() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            drop(options: RequestOptions) => HostRequestOptions::drop(&mut state.http(), options);
            fn "[constructor]request-options"() => HostRequestOptions::new(&mut state.http());
            fn "[method]request-options.connect-timeout"(options: Options) =>
                HostRequestOptions::connect_timeout(&mut state.http(), options.0);
            fn "[method]request-options.set-connect-timeout"(options: Options, timeout: Option<u64>) =>
                HostRequestOptions::set_connect_timeout(&mut state.http(), options.0, timeout);
            fn "[method]request-options.first-byte-timeout"(options: Options) =>
                HostRequestOptions::first_byte_timeout(&mut state.http(), options.0);
            fn "[method]request-options.set-first-byte-timeout"(options: Options, timeout: Option<u64>) =>
                HostRequestOptions::set_first_byte_timeout(&mut state.http(), options.0, timeout);
            fn "[method]request-options.between-bytes-timeout"(options: Options) =>
                HostRequestOptions::between_bytes_timeout(&mut state.http(), options.0);
            fn "[method]request-options.set-between-bytes-timeout"(options: Options, timeout: Option<u64>) =>
                HostRequestOptions::set_between_bytes_timeout(&mut state.http(), options.0, timeout);
        }
    }
}

type Future = Borrow<FutureIncomingResponse>;
type Response = Borrow<IncomingResponse>;

fn response() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            drop(future: FutureIncomingResponse) => HostFutureIncomingResponse::drop(&mut state.http(), future);
            drop(response: IncomingResponse) => HostIncomingResponse::drop(&mut state.http(), response);
            fn "[method]future-incoming-response.subscribe"(future: Future) =>
                HostFutureIncomingResponse::subscribe(&mut state.http(), future.0);
            fn "[method]future-incoming-response.get"(future: Future) =>
                HostFutureIncomingResponse::get(&mut state.http(), future.0);
            fn "[method]incoming-response.status"(response: Response) =>
                HostIncomingResponse::status(&mut state.http(), response.0);
            fn "[method]incoming-response.headers"(response: Response) =>
                HostIncomingResponse::headers(&mut state.http(), response.0);
            fn "[method]incoming-response.consume"(response: Response) =>
                HostIncomingResponse::consume(&mut state.http(), response.0);
        }
    }
}
