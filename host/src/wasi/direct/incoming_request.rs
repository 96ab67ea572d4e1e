//! The request that a guest of WASI 0.2 handles.

use http::Uri;
use http::uri::Scheme;
use wasmtime::component::Resource;
use wasmtime::error::Context as _;
use wasmtime_wasi_http::p2::bindings::http::types::{self, IncomingBody, Method};
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::http::TYPES;
use crate::component_abi::{Borrow, Function};
use crate::observe::trace_context::RequestIds;
use crate::wasi::http::GuestBody;
use crate::wasi::http::received_fields::ReceivedFields;
use crate::wasi::state::State;

/// A request that was received. Its parts become values of the guest's when it asks for them: wasmtime-wasi-http makes
/// all of them at once.
pub(crate) struct IncomingRequest {
    method: http::Method,
    uri: Uri,
    scheme: Scheme,
    fields: ReceivedFields,
    /// Until the guest takes it.
    body: Option<IncomingBody>,
}

resources! { TYPES => IncomingRequest = "incoming-request", }

type ToRequest = Borrow<IncomingRequest>;

impl IncomingRequest {
    /// It has an authority in its target, or `Host`.
    pub(crate) fn incoming(scheme: Scheme, ids: RequestIds, request: http::Request<GuestBody>) -> Self {
        let (http::request::Parts { method, uri, headers, .. }, body) = request.into_parts();
        let (fields, body) = (ReceivedFields::new(headers, ids), Some(IncomingBody::new(body)));
        Self { method, uri, scheme, fields, body }
    }

    fn authority(&self) -> wasmtime::Result<String> {
        if let Some(authority) = self.uri.authority() {
            return Ok(authority.as_str().to_owned());
        }
        let host = self.fields.host().context("the request has neither an authority nor a Host field")?;
        Ok(host.to_str()?.to_owned())
    }
}

pub(super) fn functions() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            drop(request: IncomingRequest) => close(state, request);
            fn "[method]incoming-request.method"(request: ToRequest) =>
                Ok(Method::from(get(state, &request)?.method.clone()));
            fn "[method]incoming-request.path-with-query"(request: ToRequest) =>
                Ok(get(state, &request)?.uri.path_and_query().map(|path| path.as_str().to_owned()));
            fn "[method]incoming-request.scheme"(request: ToRequest) => Ok(Some(scheme(&get(state, &request)?.scheme)));
            fn "[method]incoming-request.authority"(request: ToRequest) =>
                Ok(Some(get(state, &request)?.authority()?));
            fn "[method]incoming-request.headers"(request: ToRequest) => headers(state, &request);
            fn "[method]incoming-request.consume"(request: ToRequest) => consume(state, &request);
        }
    }
}

fn close(state: &mut State, request: Resource<IncomingRequest>) -> wasmtime::Result<()> {
    state.table().delete(request)?;
    Ok(())
}

fn get<'a>(state: &'a mut State, request: &ToRequest) -> wasmtime::Result<&'a mut IncomingRequest> {
    Ok(state.table().get_mut(&request.0)?)
}

fn headers(state: &mut State, request: &ToRequest) -> wasmtime::Result<Resource<FieldMap>> {
    let http = state.http();
    let fields = http.table.get_mut(&request.0)?.fields.see(http.hooks);
    Ok(http.table.push(fields)?)
}

fn consume(state: &mut State, request: &ToRequest) -> wasmtime::Result<Result<Resource<IncomingBody>, ()>> {
    match get(state, request)?.body.take() {
        Some(body) => Ok(Ok(state.table().push(body)?)),
        None => Ok(Err(())),
    }
}

pub(crate) fn scheme(scheme: &Scheme) -> types::Scheme {
    match scheme.as_str() {
        "http" => types::Scheme::Http,
        "https" => types::Scheme::Https,
        other => types::Scheme::Other(other.to_owned()),
    }
}
