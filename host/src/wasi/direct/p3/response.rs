//! `wasi:http/types`: responses, and how the handler returns one.

use http::StatusCode;
use wasmtime::component::Resource;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

use super::body::Tells;
use super::error::describe;
use super::{Body, MESSAGE_BYTES, SentResult, TYPES, TrailersResult, fields};
use crate::component_abi::{Borrow, Function, FutureReader, StreamReader};
use crate::wasi::state::State;

/// A response that the guest makes or has received.
pub(crate) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: FieldMap,
    pub(super) body: Body,
}

impl Response {
    pub(crate) fn headers(&self) -> &FieldMap {
        &self.headers
    }
}

/// The return value of the handler.
pub(crate) type Answer = Result<Resource<Response>, ErrorCode>;

resources! { TYPES => Response = "response", }

type ToResponse = Borrow<Response>;

fn get<'a>(state: &'a mut State, response: &ToResponse) -> wasmtime::Result<&'a mut Response> {
    Ok(state.table().get_mut(&response.0)?)
}

pub(super) fn functions() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            drop(response: Response) => close(state, response);
            fn "[static]response.new"(
                headers: Resource<FieldMap>,
                contents: Option<StreamReader>,
                trailers: FutureReader<TrailersResult>
            ) =>
                new(state, headers, contents, trailers);
            fn "[method]response.get-status-code"(response: ToResponse) => Ok(get(state, &response)?.status.as_u16());
            fn "[method]response.set-status-code"(response: ToResponse, status: u16) =>
                Ok(set_status(get(state, &response)?, status));
            fn "[method]response.get-headers"(response: ToResponse) => get_headers(state, &response);
            fn "[static]response.consume-body"(response: Resource<Response>, result: FutureReader<SentResult>) =>
                state.table().delete(response)?.body.consume(state, &result);
        }
    }
}

fn close(state: &mut State, response: Resource<Response>) -> wasmtime::Result<()> {
    let response = state.table().delete(response)?;
    response.body.close(state);
    Ok(())
}

fn new(
    state: &mut State,
    headers: Resource<FieldMap>,
    contents: Option<StreamReader>,
    trailers: FutureReader<TrailersResult>,
) -> wasmtime::Result<(Resource<Response>, FutureReader<SentResult>)> {
    state.charge(MESSAGE_BYTES)?;
    let (body, sent) = Body::new(state, contents, trailers, Ok(()));
    let headers = fields::take(state, headers)?;
    let response = Response { status: StatusCode::OK, headers, body };
    Ok((state.table().push(response)?, sent))
}

fn set_status(response: &mut Response, status: u16) -> Result<(), ()> {
    response.status = StatusCode::from_u16(status).ok().filter(|_| status < 600).ok_or(())?;
    Ok(())
}

fn get_headers(state: &mut State, response: &ToResponse) -> wasmtime::Result<Resource<FieldMap>> {
    let headers = get(state, response)?.headers.clone();
    Ok(state.table().push(headers)?)
}

/// The handler has returned: sends the response. The body is sent while the guest continues to run.
pub(super) fn answer(state: &mut State, answer: Answer) -> wasmtime::Result<()> {
    let head = match answer {
        Ok(response) => {
            let Response { status, headers, body } = state.table().delete(response)?;
            let headers = headers.into();
            let body = body.into_http(state, &headers, ErrorCode::HttpResponseBodySize, Tells::Body)?;
            let mut response = http::Response::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok(response)
        }
        Err(code) => Err(describe(code, state.mask().map(|mask| &**mask))),
    };
    state.answer(head);
    Ok(())
}
