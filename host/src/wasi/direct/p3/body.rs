//! Bodies of requests and responses.

use std::any::Any;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::error::{error_code, shortened};
use super::pipe::{Limit, pipe};
use super::source::{BodySource, Nothing, Passed, Trailers};
use super::{MESSAGE_BYTES, SentResult, TrailersResult};
use crate::component_abi::{self, FutureReader, Guest, StreamReader, later};
use crate::sys::lock::lock;
use crate::wasi::http::GuestBody;
use crate::wasi::http::content_length;
use crate::wasi::state::State;

/// The body of a request or a response.
pub(crate) enum Body {
    /// The guest writes the body.
    Guest { contents: Option<StreamReader>, trailers: FutureReader<TrailersResult>, sent: Transmission },
    /// The body was received from a client or an origin.
    Host {
        /// Bytes that were already read from `body`.
        first: Bytes,
        body: GuestBody,
        /// None when no guest waits for the result of the transmission.
        sent: Option<Transmission>,
    },
}

/// Reports to the guest how the transmission of a body that it made has ended. Only the first result counts.
#[derive(Clone)]
pub(crate) struct Transmission(Arc<Mutex<Option<oneshot::Sender<SentResult>>>>);

impl Transmission {
    /// Also returns the future that resolves to the result, or to `unsent` when no result is ever reported.
    fn new(guest: &mut Guest<State>, unsent: SentResult) -> (Self, FutureReader<SentResult>) {
        let (sender, receiver) = oneshot::channel();
        let result = async move {
            let result = receiver.await.unwrap_or(unsent);
            move |_: &mut State| wasmtime::error::Ok(result)
        };
        (Self(Arc::new(Mutex::new(Some(sender)))), guest.future(later(result)))
    }

    /// Reports `result` unless one was reported through `sent` before.
    pub(super) fn tell(sent: &mut Option<Self>, result: SentResult) {
        if let Some(sent) = sent.take() {
            sent.resolve(result);
        }
    }

    pub(super) fn resolve(&self, result: SentResult) {
        let result = result.map_err(shortened);
        if let Some(sender) = lock(&self.0).take() {
            let _ = sender.send(result);
        }
    }
}

impl Body {
    /// The body of a message that was received.
    pub(super) fn incoming(body: GuestBody) -> Self {
        Self::Host { first: Bytes::new(), body, sent: None }
    }

    /// A body that the guest has made, and the future that reports its transmission; it resolves to `unsent` when the
    /// body is dropped unsent.
    pub(super) fn new(
        state: &mut State,
        contents: Option<StreamReader>,
        trailers: FutureReader<TrailersResult>,
        unsent: SentResult,
    ) -> (Self, FutureReader<SentResult>) {
        let guest = state.guest();
        let (sent, transmitted) = Transmission::new(guest, unsent);
        let contents = match contents.map(|contents| guest.take_source(contents)) {
            Some(Ok(source)) => {
                let source: Box<dyn Any> = source;
                match source.downcast::<BodySource>() {
                    Ok(source) => {
                        // The guest passes on a body that it received, whose own trailers follow it.
                        guest.close_future(&trailers);
                        let (first, body) = source.into_parts();
                        return (Self::Host { first, body, sent: Some(sent) }, transmitted);
                    }
                    // Every other stream of the host's ends at once. Its end, unlike a missing stream, is compared with
                    // the content-length before the trailers arrive.
                    Err(_) => Some(guest.stream(Nothing)),
                }
            }
            Some(Err(contents)) => Some(contents),
            None => None,
        };
        (Self::Guest { contents, trailers, sent }, transmitted)
    }

    /// Gives the guest the body to read. `result` is the guest's verdict on the body, and is reported to the sender.
    pub(super) fn consume(
        self,
        state: &mut State,
        result: &FutureReader<SentResult>,
    ) -> wasmtime::Result<(StreamReader, FutureReader<TrailersResult>)> {
        state.charge(MESSAGE_BYTES)?;
        let sent = match &self {
            Self::Guest { sent, .. } => Some(sent.clone()),
            Self::Host { sent, .. } => sent.clone(),
        };
        // As in a component, an instance is not kept for this result, which may be that of this very body.
        component_abi::when_ready(state, result, false, move |_, result| {
            if let Some(sent) = sent {
                sent.resolve(result);
            }
            Ok(())
        })?;
        Ok(match self {
            Self::Guest { contents, trailers, .. } => {
                let guest = state.guest();
                let contents = contents.unwrap_or_else(|| guest.stream(Nothing));
                guest.take_back(&contents, &trailers);
                (contents, trailers)
            }
            Self::Host { first, body, .. } => {
                let (contents, trailers) = BodySource::new(first, body);
                let trailers = async move {
                    let trailers = trailers.await.unwrap_or(Ok(None));
                    move |state: &mut State| lower_trailers(state, trailers)
                };
                (state.guest().stream(contents), state.guest().future(later(trailers)))
            }
        })
    }

    /// Turns the body into one that the host sends. `code` makes the error for a body whose length is not the
    /// content-length in `headers`.
    pub(super) fn into_http(
        self,
        state: &mut State,
        headers: &HeaderMap,
        code: fn(Option<u64>) -> ErrorCode,
        tells: Tells,
    ) -> wasmtime::Result<GuestBody> {
        let length = content_length(headers);
        let (contents, trailers, sent) = match self {
            Self::Guest { contents, trailers, sent } => (contents, trailers, sent),
            Self::Host { first, body, sent } => {
                let limit = length.map(|bytes| Limit { bytes, code, sent: sent.clone() });
                let tells = tells == Tells::Body;
                let passed = tells.then(|| state.pass_on());
                return Ok(Passed::new(first, body, sent.filter(|_| tells), passed, limit).boxed_unsync());
            }
        };
        let limit = length.map(|bytes| Limit { bytes, code, sent: Some(sent.clone()) });
        let is_answer = tells == Tells::Body;
        let (sink, ending, body) = pipe(contents.is_some(), limit, is_answer.then_some(sent));
        component_abi::when_ready(state, &trailers, true, move |state, trailers| {
            if is_answer {
                // As in a component, where the guest waits until the host reads its response.
                state.pass_answer();
            }
            ending.end(state, trailers)
        })?;
        if let Some(contents) = contents {
            component_abi::pipe(state, contents, Box::new(sink))?;
        }
        Ok(body.boxed_unsync())
    }

    /// The guest has dropped the message: closes the streams and futures of its body.
    pub(super) fn close(self, state: &mut State) {
        if let Self::Guest { contents, trailers, .. } = self {
            let guest = state.guest();
            if let Some(contents) = contents {
                guest.close(&contents);
            }
            guest.close_future(&trailers);
        }
    }

    pub(super) fn transmission(&self) -> Option<Transmission> {
        match self {
            Self::Guest { sent, .. } => Some(sent.clone()),
            Self::Host { sent, .. } => sent.clone(),
        }
    }
}

/// Which side reports that a body was transmitted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    /// The body itself, when its end has been read.
    Body,
    /// The code that sends the body.
    Sender,
}

pub(in crate::wasi) fn lower_trailers(state: &mut State, trailers: Trailers) -> wasmtime::Result<TrailersResult> {
    Ok(match trailers {
        Ok(Some(trailers)) => {
            let trailers = FieldMap::new_immutable(state.http().hooks, trailers);
            Ok(Some(state.table().push(trailers)?))
        }
        Ok(None) => Ok(None),
        Err(error) => Err(error_code(&error)),
    })
}
