//! `wasi:http/client`: requests that guests send; and `wasi:http/handler` as middleware imports it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use wasmtime::component::Resource;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error as HttpError, FieldMap, WasiHttpHooks, WasiHttpView};

use super::body::{Tells, Transmission};
use super::error::error_code;
use super::response::Answer;
use super::{Body, Request, Response, SentResult};
use crate::component_abi::{Function, Later, later};
use crate::wasi::http::GuestBody;
use crate::wasi::http::client::MAX_HEAD_BYTES;
use crate::wasi::http::p3;
use crate::wasi::state::State;

pub(super) fn functions() -> Vec<Function<State>> {
    [
        Function::new_concurrent::<(Resource<Request>,), Answer, _>("wasi:http/client", "send", |state, (request,)| {
            send(state, request, false)
        }),
        Function::new_concurrent::<(Resource<Request>,), Answer, _>(
            "wasi:http/handler",
            "handle",
            |state, (request,)| send(state, request, true),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Sends a request. A request without a path is sent with `/` (WebAssembly/WASI#949).
///
/// `is_for_next`: it goes to what follows in the chain.
fn send(state: &mut State, request: Resource<Request>, is_for_next: bool) -> wasmtime::Result<Later<State>> {
    state.charge(MAX_HEAD_BYTES)?;
    let request = state.table().delete(request)?;
    let Request { method, mut scheme, mut authority, path_with_query, fields, options, body } = request;
    let transmission = Arc::new(Tell(body.transmission()));
    let headers = fields.into_map(state.http().hooks);
    if is_for_next {
        scheme.get_or_insert(Scheme::HTTP);
        authority.get_or_insert_with(|| state.hooks().own_authority());
    }
    let body = body.into_http(state, &headers, ErrorCode::HttpRequestBodySize, Tells::Sender)?;
    let mut request = http::Request::new(body);
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    let exchange = match target(scheme, authority, path_with_query) {
        Ok(uri) => {
            *request.uri_mut() = uri;
            let processed = Box::new(std::future::ready(Ok(())));
            state.hooks().set_for_next(is_for_next);
            Ok(Box::into_pin(state.hooks().send_request(request, options.as_deref().copied(), processed)))
        }
        Err(code) => Err(code),
    };
    Ok(later(async move {
        let received = match exchange {
            Ok(exchange) => match exchange.await {
                Ok((response, sent)) => received(response, Box::into_pin(sent), &transmission),
                Err(error) => Err(error_code(&error)),
            },
            Err(code) => Err(code),
        };
        if let Err(code) = &received {
            transmission.tell(Err(code.clone()));
        }
        move |state: &mut State| -> wasmtime::Result<Answer> {
            Ok(match received {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let headers = FieldMap::new_immutable(state.http().hooks, head.headers);
                    let body = Body::incoming(body);
                    Ok(state.table().push(Response { status: head.status, headers, body })?)
                }
                Err(code) => Err(code),
            })
        }
    }))
}

/// The URI that a request is sent to, or the error code when these parts make no valid URI.
fn target(scheme: Option<Scheme>, authority: Option<Authority>, path: Option<PathAndQuery>) -> Result<Uri, ErrorCode> {
    let scheme = scheme.unwrap_or(Scheme::HTTPS);
    if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
        return Err(ErrorCode::HttpProtocolError);
    }
    let mut uri = Uri::builder().scheme(scheme).path_and_query(p3::rooted(path));
    if let Some(authority) = authority {
        uri = uri.authority(authority);
    }
    uri.build().map_err(|_| ErrorCode::HttpRequestUriInvalid)
}

/// Reports to the guest how the transmission of its request has ended. Dropped without a result, it reports that the
/// connection was terminated.
struct Tell(Option<Transmission>);

impl Tell {
    fn tell(&self, result: SentResult) {
        if let Some(transmission) = &self.0 {
            transmission.resolve(result);
        }
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        // Has no effect when a result was reported before.
        self.tell(Err(ErrorCode::ConnectionTerminated));
    }
}

/// Sends the rest of a request whose response head has arrived. Ends with the instance at the latest.
type Sent = Pin<Box<dyn Future<Output = Result<(), HttpError>> + Send>>;

fn received(
    response: http::Response<GuestBody>,
    mut sent: Sent,
    transmission: &Arc<Tell>,
) -> Result<http::Response<GuestBody>, ErrorCode> {
    match sent.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => transmission.tell(Ok(())),
        Poll::Ready(Err(error)) => return Err(error_code(&error)),
        Poll::Pending => {
            let transmission = Arc::clone(transmission);
            tokio::spawn(async move {
                let result = sent.await.map_err(|error| error_code(&error));
                transmission.tell(result);
            });
        }
    }
    Ok(response)
}
