//! `wasi:http` 0.2: where daylily differs from wasmtime-wasi-http.

use http::Uri;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, FutureIncomingResponse, HostOutgoingRequest as OutgoingRequestHost, HostOutgoingResponse, IoError,
    Method, OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions, Scheme,
};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;
use wasmtime_wasi_http::{Error as HttpError, WasiHttpView};

use super::client::MAX_HEAD_BYTES;
use super::{MAX_AUTHORITY_BYTES, MAX_METHOD_BYTES, fields, path_with_query};
use crate::wasi::host_memory::BODY_BYTES;
use crate::wasi::state::State;

type Store<'a> = StoreContextMut<'a, State>;

/// Replaces the functions that differ. The linker must allow shadowing.
pub(crate) fn amend(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let handle = |mut store: Store<'_>,
                  (request, options): (Resource<OutgoingRequest>, Option<Resource<RequestOptions>>)| {
        Ok((handle(store.data_mut(), request, options)?,))
    };
    linker.instance("wasi:http/outgoing-handler@0.2.12")?.func_wrap("handle", handle)?;
    let mut types = linker.instance("wasi:http/types@0.2.12")?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: Store<'_>, (request, method): (Resource<OutgoingRequest>, Method)| {
            Ok((set_method(store.data_mut(), request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: Store<'_>, (request, authority): (Resource<OutgoingRequest>, Option<String>)| {
            Ok((set_authority(store.data_mut(), request, authority)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: Store<'_>, (request, path): (Resource<OutgoingRequest>, Option<String>)| {
            Ok((set_path(store.data_mut(), &request, path)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.body",
        |mut store: Store<'_>, (request,): (Resource<OutgoingRequest>,)| {
            Ok((request_body(store.data_mut(), request)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-response.body",
        |mut store: Store<'_>, (response,): (Resource<OutgoingResponse>,)| {
            Ok((response_body(store.data_mut(), response)?,))
        },
    )?;
    fields::p2::count_fields(&mut types)?;
    types.func_wrap("http-error-code", |mut store: Store<'_>, (error,): (Resource<IoError>,)| {
        Ok((http_error_code(store.data_mut(), &error)?,))
    })
}

/// Sets the method, whose length is limited because no memory limit of the host covers it.
pub(crate) fn set_method(
    state: &mut State,
    request: Resource<OutgoingRequest>,
    method: Method,
) -> wasmtime::Result<Result<(), ()>> {
    match &method {
        Method::Other(name) if name.len() > MAX_METHOD_BYTES => Ok(Err(())),
        _ => OutgoingRequestHost::set_method(&mut state.http(), request, method),
    }
}

/// Sets the authority, whose length is limited for the same reason.
pub(crate) fn set_authority(
    state: &mut State,
    request: Resource<OutgoingRequest>,
    authority: Option<String>,
) -> wasmtime::Result<Result<(), ()>> {
    match &authority {
        Some(text) if text.len() > MAX_AUTHORITY_BYTES => Ok(Err(())),
        _ => OutgoingRequestHost::set_authority(&mut state.http(), request, authority),
    }
}

/// Sets the path, which may be up to 64 KiB long. Fails for a path with a fragment, which wasmtime-wasi-http cuts off
/// instead. An empty path is valid.
pub(crate) fn set_path(
    state: &mut State,
    request: &Resource<OutgoingRequest>,
    path: Option<String>,
) -> wasmtime::Result<Result<(), ()>> {
    state.charge(path.as_ref().map_or(0, String::len))?;
    let request = state.http().table.get_mut(request)?;
    if path.as_deref().is_some_and(|path| path_with_query(path).is_none()) {
        return Ok(Err(()));
    }
    request.path_with_query = path;
    Ok(Ok(()))
}

/// Opens the body of `request`. The host buffers what the guest writes to it, so this accounts for [`BODY_BYTES`].
pub(crate) fn request_body(
    state: &mut State,
    request: Resource<OutgoingRequest>,
) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
    state.charge(BODY_BYTES)?;
    OutgoingRequestHost::body(&mut state.http(), request)
}

/// Opens the body of `response`. The host buffers what the guest writes to it, so this accounts for [`BODY_BYTES`].
pub(crate) fn response_body(
    state: &mut State,
    response: Resource<OutgoingResponse>,
) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
    state.charge(BODY_BYTES)?;
    HostOutgoingResponse::body(&mut state.http(), response)
}

/// The error code behind a stream's error. wasmtime-wasi-http looks for only one of the two types that it stores errors
/// in.
pub(crate) fn http_error_code(state: &mut State, error: &Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
    let error = state.http().table.get(error)?;
    Ok(match error.downcast_ref::<ErrorCode>() {
        Some(code) => Some(code.clone()),
        None => error.downcast_ref::<HttpError>().map(error_code),
    })
}

/// The error code for a failure to read a body.
fn error_code(error: &HttpError) -> ErrorCode {
    match error {
        HttpError::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        HttpError::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        HttpError::HttpProtocolError => ErrorCode::HttpProtocolError,
        HttpError::HttpRequestBodySize(bytes) => ErrorCode::HttpRequestBodySize(*bytes),
        HttpError::HttpResponseBodySize(bytes) => ErrorCode::HttpResponseBodySize(*bytes),
        HttpError::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        HttpError::HttpResponseTrailerSectionSize(bytes) => ErrorCode::HttpResponseTrailerSectionSize(*bytes),
        HttpError::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        HttpError::TlsCertificateError => ErrorCode::TlsCertificateError,
        HttpError::TlsProtocolError => ErrorCode::TlsProtocolError,
        other => ErrorCode::InternalError(Some(other.to_string())),
    }
}

/// Sends a request. A request without a path is sent with `/` (WebAssembly/WASI#949), which wasmtime-wasi-http rejects.
/// A request that the route does not allow fails here: if its response future failed instead, guests would first meet
/// the closed stream of its body.
pub(crate) fn handle(
    state: &mut State,
    request: Resource<OutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<Result<Resource<FutureIncomingResponse>, ErrorCode>> {
    state.charge(MAX_HEAD_BYTES)?;
    let origin = state.http().table.get(&request).ok().and_then(origin);
    if origin.is_some_and(|origin| matches!(state.hooks().check(&origin), Err(HttpError::HttpRequestDenied))) {
        state.http().table.delete(request)?;
        return Ok(Err(ErrorCode::HttpRequestDenied));
    }
    let mut view = state.http();
    if let Ok(request) = view.table.get_mut(&request) {
        request.path_with_query = Some(match request.path_with_query.take().unwrap_or_default() {
            path if path.starts_with('/') => path,
            rest => format!("/{rest}"),
        });
    }
    match view.handle(request, options) {
        Ok(future) => Ok(Ok(future)),
        Err(error) => error.downcast().map(Err),
    }
}

/// The URI that a request is sent to, if it has a valid form.
fn origin(request: &HostOutgoingRequest) -> Option<Uri> {
    let scheme = match &request.scheme {
        None | Some(Scheme::Https) => "https",
        Some(Scheme::Http) => "http",
        Some(Scheme::Other(other)) => other,
    };
    Uri::builder().scheme(scheme).authority(request.authority.as_deref()?).path_and_query("/").build().ok()
}
