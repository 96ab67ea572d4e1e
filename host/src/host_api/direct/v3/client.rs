//! wasi:http/client: requests that guests send.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error as HttpError, FieldMap, WasiHttpHooks, WasiHttpView};

use super::body::{Tells, Transmission};
use super::error::error_code;
use super::response::Answer;
use super::{Body, Request, Response, SentResult};
use crate::canonical::{Function, Later, later};
use crate::engine::{GuestBody, State};
use crate::host_api::http03;
use crate::host_api::outgoing::MAX_HEAD_BYTES;

pub(super) fn functions() -> Vec<Function<State>> {
    Function::new_concurrent::<(Resource<Request>,), Answer, _>("wasi:http/client", "send", |state, (request,)| {
        send(state, request)
    })
    .into()
}

/// Sends a request. One without a path goes out as `/` (WebAssembly/WASI#949).
fn send(state: &mut State, request: Resource<Request>) -> wasmtime::Result<Later<State>> {
    state.keep(MAX_HEAD_BYTES)?;
    let request = state.table().delete(request)?;
    let Request { method, scheme, authority, path_with_query, headers, options, body } = request;
    let transmission = Tell(body.transmission());
    let headers = headers.into();
    let (keeps, kept) = oneshot::channel();
    let body = body.into_http(state, &headers, ErrorCode::HttpRequestBodySize, Tells::Sender)?;
    let mut request = http::Request::new(With { body, _with: kept }.boxed_unsync());
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    let exchange = match target(scheme, authority, path_with_query) {
        Ok(uri) => {
            *request.uri_mut() = uri;
            let processed = Box::new(std::future::ready(Ok(())));
            Ok(Box::into_pin(state.hooks().send_request(request, options.as_deref().copied(), processed)))
        }
        Err(code) => Err(code),
    };
    Ok(later(async move {
        let received = match exchange {
            Ok(exchange) => match exchange.await {
                Ok((response, sent)) => received(response, Box::into_pin(sent), keeps, transmission),
                Err(error) => Err(error_code(&error)),
            },
            Err(code) => Err(code),
        };
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

/// Where a request goes, if that can be anywhere.
fn target(scheme: Option<Scheme>, authority: Option<Authority>, path: Option<PathAndQuery>) -> Result<Uri, ErrorCode> {
    let scheme = scheme.unwrap_or(Scheme::HTTPS);
    if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
        return Err(ErrorCode::HttpProtocolError);
    }
    let mut uri = Uri::builder().scheme(scheme).path_and_query(http03::rooted(path));
    if let Some(authority) = authority {
        uri = uri.authority(authority);
    }
    uri.build().map_err(|_| ErrorCode::HttpRequestUriInvalid)
}

/// Tells the guest what became of the body that it sends: nothing but good when nobody knows of anything else, as with
/// wasmtime-wasi-http. What became of the request, it hears from its response.
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
        self.tell(Ok(()));
    }
}

/// What is left to do for a request whose response is there.
type Sent = Pin<Box<dyn Future<Output = Result<(), HttpError>> + Send>>;

/// The task that does it; it ends with the last of those who keep it: the bodies of both.
struct Sending(tokio::task::JoinHandle<()>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn received(
    response: http::Response<GuestBody>,
    mut sent: Sent,
    keeps: oneshot::Sender<Arc<Sending>>,
    transmission: Tell,
) -> Result<http::Response<GuestBody>, ErrorCode> {
    match sent.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => Ok(response),
        Poll::Ready(Err(error)) => Err(error_code(&error)),
        Poll::Pending => {
            let sending = tokio::spawn(async move {
                let result = sent.await.map_err(|error| error_code(&error));
                transmission.tell(result);
            });
            let sending = Arc::new(Sending(sending));
            let _ = keeps.send(Arc::clone(&sending));
            Ok(response.map(|body| With { body, _with: sending }.boxed_unsync()))
        }
    }
}

/// A body that keeps something for as long as it is there.
struct With<W> {
    body: GuestBody,
    _with: W,
}

impl<W: Unpin> http_body::Body for With<W> {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
