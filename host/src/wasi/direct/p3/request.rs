//! `wasi:http/types`: requests, and the options of outgoing requests.

use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use wasmtime::component::Resource;
use wasmtime_wasi_http::p3::MaybeMutable;
use wasmtime_wasi_http::p3::bindings::http::types::{
    ErrorCode, HostRequestOptions, Method, RequestOptions as OptionsResource, Scheme,
};
use wasmtime_wasi_http::{FieldMap, RequestOptions, WasiHttpView};

use super::error::code_or_trap;
use super::{Body, MESSAGE_BYTES, SentResult, TYPES, TrailersResult, fields};
use crate::component_abi::{Borrow, Function, FutureReader, StreamReader};
use crate::observe::trace_context::RequestIds;
use crate::wasi::http::GuestBody;
use crate::wasi::http::p3::UNSENT;
use crate::wasi::http::received_fields::ReceivedFields;
use crate::wasi::http::{MAX_AUTHORITY_BYTES, MAX_METHOD_BYTES, path_with_query};
use crate::wasi::state::State;

/// A request that was received or that the guest makes.
pub(crate) struct Request {
    pub(super) method: http::Method,
    pub(super) scheme: Option<http::uri::Scheme>,
    pub(super) authority: Option<Authority>,
    pub(super) path_with_query: Option<PathAndQuery>,
    pub(super) fields: ReceivedFields,
    pub(super) options: Option<Arc<RequestOptions>>,
    pub(super) body: Body,
}

/// The parameters of the guest's handler.
pub(crate) type ParamsP3 = (Resource<Request>,);

resources! { TYPES => Request = "request", OptionsResource = "request-options", }

impl Request {
    /// A request that was received with `scheme`. A request in origin-form gets a scheme and an authority, too (wasmtime#11571).
    pub(crate) fn incoming(scheme: http::uri::Scheme, ids: RequestIds, request: http::Request<GuestBody>) -> Self {
        let (Parts { method, uri, headers, .. }, body) = request.into_parts();
        let uri = uri.into_parts();
        let authority = uri.authority.or_else(|| headers.get(http::header::HOST)?.as_bytes().try_into().ok());
        Self {
            method,
            scheme: Some(scheme),
            authority,
            path_with_query: uri.path_and_query,
            fields: ReceivedFields::new(headers, ids),
            options: None,
            body: Body::incoming(body),
        }
    }
}

impl Request {
    /// Its fields by now, for measuring them.
    pub(crate) fn fields(&self) -> &HeaderMap {
        self.fields.map()
    }

    /// The bytes that the host keeps for the request beside its fields.
    pub(crate) fn kept_bytes(&self) -> usize {
        let path = self.path_with_query.as_ref().map_or(0, |path| path.as_str().len());
        path + self.authority.as_ref().map_or(0, |authority| authority.as_str().len())
    }
}

type ToRequest = Borrow<Request>;

fn get<'a>(state: &'a mut State, request: &ToRequest) -> wasmtime::Result<&'a mut Request> {
    Ok(state.table().get_mut(&request.0)?)
}

pub(super) fn functions() -> Vec<Function<State>> {
    [bodies(), heads()].into_iter().flatten().collect()
}

fn bodies() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            drop(request: Request) => close(state, request);
            fn "[static]request.new"(
                headers: Resource<FieldMap>,
                contents: Option<StreamReader>,
                trailers: FutureReader<TrailersResult>,
                options: Option<Resource<OptionsResource>>
            ) =>
                new(state, headers, contents, trailers, options);
            fn "[static]request.consume-body"(request: Resource<Request>, result: FutureReader<SentResult>) =>
                state.table().delete(request)?.body.consume(state, &result);
        }
    }
}

fn close(state: &mut State, request: Resource<Request>) -> wasmtime::Result<()> {
    let request = state.table().delete(request)?;
    request.body.close(state);
    Ok(())
}

fn new(
    state: &mut State,
    headers: Resource<FieldMap>,
    contents: Option<StreamReader>,
    trailers: FutureReader<TrailersResult>,
    options: Option<Resource<OptionsResource>>,
) -> wasmtime::Result<(Resource<Request>, FutureReader<SentResult>)> {
    // wasmtime-wasi-http reports success for an unsent request (wasmtime#14112).
    let unsent = Err(ErrorCode::InternalError(Some(UNSENT.to_owned())));
    state.charge(MESSAGE_BYTES)?;
    let (body, sent) = Body::new(state, contents, trailers, unsent);
    let fields = ReceivedFields::made(fields::take(state, headers)?);
    let options = match options {
        Some(options) => Some(state.table().delete(options)?.into_arc()),
        None => None,
    };
    let request = Request {
        method: http::Method::GET,
        scheme: None,
        authority: None,
        path_with_query: None,
        fields,
        options,
        body,
    };
    Ok((state.table().push(request)?, sent))
}

fn heads() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            fn "[method]request.get-method"(request: ToRequest) => Ok(Method::from(&get(state, &request)?.method));
            fn "[method]request.get-path-with-query"(request: ToRequest) =>
                Ok(get(state, &request)?.path_with_query.as_ref().map(|path| path.as_str().to_owned()));
            fn "[method]request.get-scheme"(request: ToRequest) =>
                Ok(get(state, &request)?.scheme.as_ref().map(Scheme::from));
            fn "[method]request.get-authority"(request: ToRequest) =>
                Ok(get(state, &request)?.authority.as_ref().map(|authority| authority.as_str().to_owned()));
            fn "[method]request.get-options"(request: ToRequest) => get_options(state, &request);
            fn "[method]request.get-headers"(request: ToRequest) => get_headers(state, &request);
            fn "[method]request.set-method"(request: ToRequest, method: Method) =>
                Ok(set_method(get(state, &request)?, &method));
            fn "[method]request.set-path-with-query"(request: ToRequest, path: Option<String>) =>
                set_path(state, &request, path);
            fn "[method]request.set-scheme"(request: ToRequest, scheme: Option<Scheme>) =>
                Ok(set_option(&mut get(state, &request)?.scheme, scheme, |scheme| (&scheme).try_into().ok()));
            fn "[method]request.set-authority"(request: ToRequest, authority: Option<String>) =>
                Ok(set_option(&mut get(state, &request)?.authority, authority, parse_authority));
        }
    }
}

fn get_options(state: &mut State, request: &ToRequest) -> wasmtime::Result<Option<Resource<OptionsResource>>> {
    let options = get(state, request)?.options.clone();
    options.map(|options| state.table().push(MaybeMutable::new_immutable(options))).transpose().map_err(Into::into)
}

fn get_headers(state: &mut State, request: &ToRequest) -> wasmtime::Result<Resource<FieldMap>> {
    let http = state.http();
    let fields = http.table.get_mut(&request.0)?.fields.see(http.hooks);
    Ok(http.table.push(fields)?)
}

/// Whether the value that a guest set was accepted.
type Set = Result<(), ()>;

fn set_method(request: &mut Request, method: &Method) -> Set {
    // No memory limit covers a method of the host, so its length is limited.
    let is_too_long = matches!(method, Method::Other(name) if name.len() > MAX_METHOD_BYTES);
    request.method = http::Method::try_from(method).ok().filter(|_| !is_too_long).ok_or(())?;
    Ok(())
}

fn set_path(state: &mut State, request: &ToRequest, path: Option<String>) -> wasmtime::Result<Set> {
    state.charge(path.as_ref().map_or(0, String::len))?;
    let request = get(state, request)?;
    Ok(set_option(&mut request.path_with_query, path, |path| path_with_query(&path)))
}

fn set_option<V, W>(place: &mut Option<V>, value: Option<W>, parse: impl FnOnce(W) -> Option<V>) -> Set {
    *place = match value {
        Some(value) => Some(parse(value).ok_or(())?),
        None => None,
    };
    Ok(())
}

/// Parses an authority of at most [`MAX_AUTHORITY_BYTES`]. A port must be a number.
fn parse_authority(authority: String) -> Option<Authority> {
    if authority.len() > MAX_AUTHORITY_BYTES {
        return None;
    }
    let host_end = authority.rfind(']').unwrap_or(0);
    let has_port = authority.get(host_end..).is_some_and(|rest| rest.contains(':'));
    Authority::try_from(authority).ok().filter(|authority| !has_port || authority.port_u16().is_some())
}

type Options = Borrow<OptionsResource>;

pub(super) fn options() -> Vec<Function<State>> {
    functions! { state =>
        TYPES {
            drop(options: OptionsResource) => HostRequestOptions::drop(&mut state.http(), options);
            fn "[constructor]request-options"() => HostRequestOptions::new(&mut state.http());
            fn "[method]request-options.clone"(options: Options) =>
                HostRequestOptions::clone(&mut state.http(), options.0);
            fn "[method]request-options.get-connect-timeout"(options: Options) =>
                HostRequestOptions::get_connect_timeout(&mut state.http(), options.0);
            fn "[method]request-options.set-connect-timeout"(options: Options, timeout: Option<u64>) =>
                code_or_trap(HostRequestOptions::set_connect_timeout(&mut state.http(), options.0, timeout));
            fn "[method]request-options.get-first-byte-timeout"(options: Options) =>
                HostRequestOptions::get_first_byte_timeout(&mut state.http(), options.0);
            fn "[method]request-options.set-first-byte-timeout"(options: Options, timeout: Option<u64>) =>
                code_or_trap(HostRequestOptions::set_first_byte_timeout(&mut state.http(), options.0, timeout));
            fn "[method]request-options.get-between-bytes-timeout"(options: Options) =>
                HostRequestOptions::get_between_bytes_timeout(&mut state.http(), options.0);
            fn "[method]request-options.set-between-bytes-timeout"(options: Options, timeout: Option<u64>) =>
                code_or_trap(HostRequestOptions::set_between_bytes_timeout(&mut state.http(), options.0, timeout));
        }
    }
}
