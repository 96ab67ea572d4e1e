//! `wasi:http` 0.2: where daylily departs from wasmtime-wasi-http.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, FutureIncomingResponse, OutgoingRequest, RequestOptions};

use crate::engine::State;

type Handled = Result<Resource<FutureIncomingResponse>, ErrorCode>;
type HandleArguments = (Resource<OutgoingRequest>, Option<Resource<RequestOptions>>);

/// Replaces what differs. The linker must allow shadowing.
pub(super) fn amend(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance("wasi:http/outgoing-handler@0.2.12")?.func_wrap("handle", handle)
}

/// A request without a path goes out as `/` (WebAssembly/WASI#949), where wasmtime-wasi-http refuses it.
fn handle(mut store: StoreContextMut<'_, State>, (request, options): HandleArguments) -> wasmtime::Result<(Handled,)> {
    let mut view = store.data_mut().http();
    if let Ok(request) = view.table.get_mut(&request) {
        request.path_with_query = Some(match request.path_with_query.take().unwrap_or_default() {
            path if path.starts_with('/') => path,
            rest => format!("/{rest}"),
        });
    }
    match view.handle(request, options) {
        Ok(future) => Ok((Ok(future),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}
