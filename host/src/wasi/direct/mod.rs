//! The imports that a directly linked module may have: the interfaces of WASI 0.2 and 0.3 that ordinary guests of Rust
//! and C import. A function of WASI 0.2 calls the same function of wasmtime-wasi or wasmtime-wasi-http that components
//! get. A guest that imports anything else (files, sockets, `wasi:config`) is linked as a component.

use wasmparser::component_types::ComponentFuncType;

use crate::component_abi::{self, Function, Guest, Host, WitTypes};
use crate::component_link::direct::{HandlerInterface, HandlerTypes};
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

/// A table of host functions: a block for each interface, and in it a row for each function, with its name, its
/// parameters and the expression that it returns, a `wasmtime::Result`. `$state` is the name that the rows use for the
/// store's [`State`].
///
/// A row begins with `fn`, with `async` for a function that may block the guest, or with `drop` or `async_drop` for the
/// destructor of a resource, which runs when the guest drops its handle.
macro_rules! functions {
    ($state:ident => $($interface:tt {
        $($kind:ident $($name:literal)? ($($parameter:ident: $type:ty),*) => $value:expr;)+
    })+) => {
        vec![$($(functions!(@$kind $state $interface $($name)? ($($parameter: $type),*) $value),)+)+]
    };
    (@fn $state:ident $interface:tt $name:literal ($($parameter:ident: $type:ty),*) $value:expr) => {
        $crate::component_abi::Function::new(
            $interface,
            $name,
            |$state: &mut $crate::wasi::state::State, ($($parameter,)*): ($($type,)*)| $value,
        )
    };
    (@async $state:ident $interface:tt $name:literal ($($parameter:ident: $type:ty),*) $value:expr) => {
        $crate::component_abi::Function::new_async(
            $interface,
            $name,
            |$state: &mut $crate::wasi::state::State, ($($parameter,)*): ($($type,)*)| Box::pin(async move { $value }),
        )
    };
    (@drop $state:ident $interface:tt ($parameter:ident: $type:ty) $value:expr) => {
        $crate::component_abi::Function::new_drop(
            |$state: &mut $crate::wasi::state::State, $parameter: wasmtime::component::Resource<$type>| $value,
        )
    };
    (@async_drop $state:ident $interface:tt ($parameter:ident: $type:ty) $value:expr) => {
        $crate::component_abi::Function::new_async_drop(
            |$state: &mut $crate::wasi::state::State, $parameter: wasmtime::component::Resource<$type>| {
                Box::pin(async move { $value })
            },
        )
    };
}

mod common;
mod http;
mod incoming_request;
pub(super) mod io;
mod outgoing;
pub(super) mod p3;
pub(super) mod wasi;

pub(in crate::wasi) use common::MAX_TEXT_BYTES;
pub(crate) use http::{ParamsP2, describe as describe_p2};
pub(crate) use incoming_request::{IncomingRequest as RequestP2, scheme as scheme_p2};
pub(crate) use p3::{Answer, ParamsP3, Request as RequestP3, Response as ResponseP3, describe as describe_p3};
pub(in crate::wasi) use p3::{BodySource, Trailers, TrailersResult, error_code, lower_trailers};

pub(crate) use super::http::fields::p3::count_fields as count_fields_p3;

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

    fn charge(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.charge(bytes)
    }

    fn guest_waits(&mut self) {
        self.pass_answer();
    }
}

/// `wasi:http` of WASI 0.2.
pub(super) fn http_p2() -> Vec<Function<State>> {
    [http::functions(), outgoing::functions()].into_iter().flatten().collect()
}
