//! Interfaces as tables of functions, of which both ways of linking are made.

use std::future::{Ready, ready};

use super::state::State;

/// A parameter of a component's function, of a directly linked module's, and what the implementation gets of that.
macro_rules! of_component {
    ([borrow $of:ty]) => { wasmtime::component::Resource<$of> };
    ([$of:ty]) => { $of };
}
macro_rules! of_module {
    ([borrow $of:ty]) => { $crate::component_abi::Borrow<$of> };
    ([$of:ty]) => { $of };
}
macro_rules! from_module {
    ([borrow $of:ty] $value:ident) => {
        $value.0
    };
    ([$of:ty] $value:ident) => {
        $value
    };
}

/// Makes a module with the functions for both ways of linking. A row has the name of a function, its parameters, each as
/// `[type]` or `[borrow resource]`, and an expression for its result. `state` is that of the instance.
///
/// The result of a row with `fn` may be awaited with the state; the guest waits meanwhile. The result of a row with
/// `async fn` is a future without the state, whose output is a closure that makes the result with it; the guest runs on.
macro_rules! interfaces {
    ($module:ident = $version:literal, $state:ident: $(
        $interface:literal {
            $(resource $resource:literal: $type:ty => $close:path;)*
            $(fn $name:literal($($parameter:ident: $of:tt),*) -> $result:ty = $value:expr;)*
            $(async fn $async_name:literal($($async_parameter:ident: $async_of:tt),*) -> $async_result:ty = $begun:expr;)*
        }
    )+) => {
        pub(in crate::wasi) mod $module {
            use super::*;
            use $crate::component_abi::Function;
            use $crate::wasi::state::State;

            pub(in crate::wasi) const VERSION: &str = $version;

            pub(in crate::wasi) fn add_to_linker(linker: &mut wasmtime::component::Linker<State>) -> wasmtime::Result<()> {
                $(
                    let mut instance = linker.instance(concat!($interface, "@", $version))?;
                    $(instance.resource($resource, wasmtime::component::ResourceType::host::<$type>(), |mut store, rep| {
                        $close(store.data_mut(), wasmtime::component::Resource::<$type>::new_own(rep))
                    })?;)*
                    $(instance.func_wrap_async(
                        $name,
                        |mut store: wasmtime::StoreContextMut<'_, State>, ($($parameter,)*): ($($crate::wasi::interfaces::of_component!($of),)*)| {
                            Box::new(async move {
                                let $state = store.data_mut();
                                let result: wasmtime::Result<$result> = $value;
                                Ok((result?,))
                            })
                        },
                    )?;)*
                    $(instance.func_wrap_concurrent(
                        $async_name,
                        |store: &wasmtime::component::Accessor<State>, ($($async_parameter,)*): ($($crate::wasi::interfaces::of_component!($async_of),)*)| {
                            Box::pin(async move {
                                let begun = store.with(|mut access| {
                                    let $state = access.data_mut();
                                    $begun
                                })?;
                                let finish = begun.await;
                                let result: wasmtime::Result<$async_result> =
                                    store.with(|mut access| finish(access.data_mut()));
                                Ok((result?,))
                            })
                        },
                    )?;)*
                )+
                Ok(())
            }

            pub(in crate::wasi) fn functions() -> Vec<Function<State>> {
                let mut functions = Vec::new();
                $(
                    functions.extend([
                        $(Function::new_drop(|state: &mut State, closed: wasmtime::component::Resource<$type>| $close(state, closed)),)*
                        $(Function::new_async(
                            $interface,
                            $name,
                            |$state: &mut State, ($($parameter,)*): ($($crate::wasi::interfaces::of_module!($of),)*)| Box::pin(async move {
                                $(let $parameter = $crate::wasi::interfaces::from_module!($of $parameter);)*
                                let result: wasmtime::Result<$result> = $value;
                                result
                            }),
                        ),)*
                    ]);
                    $(functions.extend(Function::new_concurrent::<($($crate::wasi::interfaces::of_module!($async_of),)*), $async_result, _>(
                        $interface,
                        $async_name,
                        |$state: &mut State, ($($async_parameter,)*)| {
                            $(let $async_parameter = $crate::wasi::interfaces::from_module!($async_of $async_parameter);)*
                            Ok($crate::component_abi::later($begun?))
                        },
                    ));)*
                )+
                functions
            }
        }
    };
}

pub(super) use {from_module, interfaces, of_component, of_module};

/// The call of an asynchronous function whose result is there already.
pub(super) fn at_once<R: Send + 'static>(result: R) -> Ready<impl FnOnce(&mut State) -> wasmtime::Result<R>> {
    ready(move |_: &mut State| Ok(result))
}
