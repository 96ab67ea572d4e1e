//! The interfaces of WASI 0.3. Fields, request options, clocks, random numbers and the environment are those of
//! wasmtime-wasi and wasmtime-wasi-http. Requests, responses and their bodies are implemented here, because theirs
//! require the streams of wasmtime's component runtime.

mod body;
mod client;
mod error;
mod fields;
mod pipe;
mod request;
mod response;
mod source;
pub(crate) mod wasi;

use wasmtime::component::Resource;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

use body::Body;
pub(in crate::wasi) use body::lower_trailers;
pub(crate) use error::describe;
pub(in crate::wasi) use error::error_code;
pub(crate) use request::{ParamsP3, Request};
pub(crate) use response::{Answer, Response};
pub(in crate::wasi) use source::{BodySource, Trailers};

use crate::component_abi::{Function, of_futures, of_streams, of_tasks, task_return};
use crate::wasi::state::State;

pub(crate) const TYPES: &str = super::http::TYPES;

/// The host memory accounted for a request, a response or a standard stream that a guest makes, with its futures and
/// streams.
const MESSAGE_BYTES: usize = 2 << 10;

/// The result of the future for a body's trailers.
pub(in crate::wasi) type TrailersResult = Result<Option<Resource<FieldMap>>, ErrorCode>;

/// The result of the future for a body's transmission.
type SentResult = Result<(), ErrorCode>;

/// `wasi:http`.
pub(crate) fn http() -> Vec<Function<State>> {
    let functions =
        [fields::functions(), request::functions(), request::options(), response::functions(), client::functions()];
    functions.into_iter().flatten().collect()
}

/// The built-ins for tasks, streams and futures.
pub(crate) fn built_in() -> Vec<Function<State>> {
    let functions = [
        vec![task_return::<State, Answer>(response::answer)],
        of_tasks(),
        of_streams(),
        of_futures::<State, TrailersResult>("trailers"),
        of_futures::<State, SentResult>("sent"),
        of_futures::<State, wasi::Written>("written"),
    ];
    functions.into_iter().flatten().collect()
}
