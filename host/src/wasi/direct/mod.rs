//! The imports that a directly linked module may have: the interfaces of WASI 0.2 and 0.3 that ordinary guests of Rust
//! and C import. A function of WASI 0.2 calls the same function of wasmtime-wasi or wasmtime-wasi-http that components
//! get. The functions of draft interfaces are in the table [`INTERFACES`]. A guest that imports anything else (files,
//! sockets, `wasi:config`) is linked as a component.

use wasmparser::component_types::ComponentFuncType;
use wasmtime::component::Resource;
use wasmtime::{Engine, Linker};

use crate::component_abi::{self, Function, Guest, Host, HostResource, NEXT_ALLOCATION, WitTypes};
use crate::component_link::direct::{HandlerInterface, HandlerTypes};
use crate::wasi::INTERFACES;
use crate::wasi::state::State;

/// Declares the resources of an interface, with the names that the interface gives them.
macro_rules! resources {
    ($interface:expr => $($resource:ty = $name:literal,)+) => {
        $(impl $crate::component_abi::HostResource for $resource {
            const INTERFACE: &'static str = $interface;
            const NAME: &'static str = $name;
        })+
    };
}

mod common;
mod http;
mod io;
mod outgoing;
mod p3;
mod wasi;

pub(crate) use http::{ParamsP2, count_fields as count_fields_p2, describe as describe_p2, response_body};
pub(crate) use outgoing::request_body;
pub(crate) use p3::{
    Answer, ParamsP3, Request as RequestP3, Response as ResponseP3, count_fields as count_fields_p3,
    describe as describe_p3,
};
pub(in crate::wasi) use p3::{BodySource, Trailers, TrailersResult, error_code, lower_trailers};

impl HandlerTypes for State {
    fn is_handler(handler: HandlerInterface, types: &WitTypes<'_>, ty: &ComponentFuncType) -> bool {
        match handler {
            HandlerInterface::P2 => component_abi::is::<ParamsP2, ()>(types, ty),
            HandlerInterface::P3 => component_abi::is_async::<ParamsP3, Answer>(types, ty),
        }
    }
}

impl Host for State {
    fn guest(&mut self) -> &mut Guest<Self> {
        self.guest()
    }

    fn keep(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.keep(bytes)
    }

    fn guest_waits(&mut self) {
        self.pass_answer();
    }
}

/// All functions that a directly linked module may import.
pub(crate) fn functions() -> Vec<Function<State>> {
    let of_drafts = INTERFACES.iter().flat_map(|interface| {
        let functions = (interface.functions)();
        functions.into_iter().map(|function| function.of_draft(interface.version))
    });
    [http::functions(), outgoing::functions(), io::functions(), wasi::functions(), p3::functions()]
        .into_iter()
        .flatten()
        .chain(of_drafts)
        .collect()
}

/// The destructor of a resource, called when the guest drops its handle.
fn drop<T, F>(function: F) -> Function<State>
where
    T: HostResource,
    F: Fn(&mut State, Resource<T>) -> wasmtime::Result<()> + Copy + Send + Sync + 'static,
{
    Function::new_drop(function)
}

/// Converts an error into the error code that the guest receives, or into a trap.
fn told<V, E, W>(result: Result<V, E>, code: impl FnOnce(E) -> wasmtime::Result<W>) -> wasmtime::Result<Result<V, W>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => code(error).map(Err),
    }
}

/// A linker for the core modules of `engine`, with no WASI function defined yet.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let (module, name) = NEXT_ALLOCATION;
    linker.func_wrap(module, name, component_abi::next_allocation::<State>)?;
    Ok(linker)
}
