//! The interfaces through which guests use stores. Each is a table of functions, of which both ways of linking are made.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceType};

use super::operations::{self, Cas, Failed, OpenStore, Outcome};
use crate::component_abi::{Borrow, Function, HostResource, record, variant};
use crate::storage::client::StoreClient;
use crate::storage::message::StoreError;
use crate::wasi::state::State;

/// What `open` of `wasi:keyvalue/store` returns.
pub(super) struct Bucket(Arc<StoreClient>);

/// What `open` of Spin's interface returns.
pub(super) struct SpinStore(Arc<StoreClient>);

macro_rules! open_stores {
    ($($store:ident = $interface:literal $name:literal;)+) => {$(
        impl OpenStore for $store {
            fn new(store: Arc<StoreClient>) -> Self {
                Self(store)
            }

            fn store(&self) -> &Arc<StoreClient> {
                &self.0
            }
        }

        impl HostResource for $store {
            const INTERFACE: &'static str = $interface;
            const NAME: &'static str = $name;
        }
    )+};
}

open_stores! {
    Bucket = "wasi:keyvalue/store" "bucket";
    SpinStore = "fermyon:spin/key-value" "store";
}

impl HostResource for Cas {
    const INTERFACE: &'static str = "wasi:keyvalue/atomics";
    const NAME: &'static str = "cas";
}

/// `no-such-store` is never used: guests are not told which stores exist.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

variant!(Error { "no-such-store" => NoSuchStore, "access-denied" => AccessDenied, "other" => Other(String), });

/// As [`Error`].
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum SpinError {
    #[component(name = "store-table-full")]
    StoreTableFull,
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

variant!(SpinError {
    "store-table-full" => StoreTableFull,
    "no-such-store" => NoSuchStore,
    "access-denied" => AccessDenied,
    "other" => Other(String),
});

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    StoreError(Error),
    #[component(name = "cas-failed")]
    CasFailed(Resource<Cas>),
}

variant!(CasError { "store-error" => StoreError(Error), "cas-failed" => CasFailed(Resource<Cas>), });

/// A page of keys.
#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<String>,
}

record!(KeyResponse { keys: Vec<String> = "keys", cursor: Option<String> = "cursor" });

/// The same in the earlier draft.
#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct NumberedKeyResponse {
    keys: Vec<String>,
    cursor: Option<u64>,
}

record!(NumberedKeyResponse { keys: Vec<String> = "keys", cursor: Option<u64> = "cursor" });

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NotGranted => Self::AccessDenied,
            Failed::TooManyOpen(text) | Failed::Other(text) => Self::Other(text),
        }
    }
}

impl From<Failed> for SpinError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NotGranted => Self::AccessDenied,
            Failed::TooManyOpen(_) => Self::StoreTableFull,
            Failed::Other(text) => Self::Other(text),
        }
    }
}

fn told<T, E: From<Failed>>(outcome: Outcome<T>) -> wasmtime::Result<Result<T, E>> {
    Ok(outcome?.map_err(E::from))
}

/// A parameter of a component's function, of a directly linked module's, and what the implementation gets of that.
macro_rules! of_component {
    ([borrow $of:ty]) => { Resource<$of> };
    ([$of:ty]) => { $of };
}
macro_rules! of_module {
    ([borrow $of:ty]) => { Borrow<$of> };
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
macro_rules! interfaces {
    ($module:ident = $version:literal, $state:ident: $(
        $interface:literal {
            $(resource $resource:literal: $type:ty => $close:path;)*
            $(fn $name:literal($($parameter:ident: $of:tt),*) -> $result:ty = $value:expr;)+
        }
    )+) => {
        pub(in crate::wasi) mod $module {
            use super::*;

            pub(in crate::wasi) const VERSION: &str = $version;

            pub(in crate::wasi) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
                $(
                    let mut instance = linker.instance(concat!($interface, "@", $version))?;
                    $(instance.resource($resource, ResourceType::host::<$type>(), |mut store, rep| {
                        $close(store.data_mut(), Resource::<$type>::new_own(rep))
                    })?;)*
                    $(instance.func_wrap_async(
                        $name,
                        |mut store: StoreContextMut<'_, State>, ($($parameter,)*): ($(of_component!($of),)*)| {
                            Box::new(async move {
                                let $state = store.data_mut();
                                let result: wasmtime::Result<$result> = $value;
                                Ok((result?,))
                            })
                        },
                    )?;)+
                )+
                Ok(())
            }

            pub(in crate::wasi) fn functions() -> Vec<Function<State>> {
                vec![$(
                    $(Function::new_drop(|state: &mut State, closed: Resource<$type>| $close(state, closed)),)*
                    $(Function::new_async(
                        $interface,
                        $name,
                        |$state: &mut State, ($($parameter,)*): ($(of_module!($of),)*)| Box::pin(async move {
                            $(let $parameter = from_module!($of $parameter);)*
                            let result: wasmtime::Result<$result> = $value;
                            result
                        }),
                    ),)+
                )+]
            }
        }
    };
}

/// Both drafts of `wasi:keyvalue`: what they have in common, with what differs as parameters.
macro_rules! keyvalue {
    (
        $module:ident = $version:literal, $state:ident:
        list_keys($cursor:ty) -> $page:ty = $list:path,
        get_many -> $found:ty = $get_many:path,
        atomics { $($atomics:tt)+ }
    ) => {
        interfaces! { $module = $version, $state:
            "wasi:keyvalue/store" {
                resource "bucket": Bucket => operations::close;
                fn "open"(label: [String]) -> Result<Resource<Bucket>, Error> = told(operations::open($state, &label));
                fn "[method]bucket.get"(bucket: [borrow Bucket], key: [String]) -> Result<Option<Vec<u8>>, Error> =
                    told(operations::get($state, bucket, key).await);
                fn "[method]bucket.set"(bucket: [borrow Bucket], key: [String], value: [Vec<u8>]) -> Result<(), Error> =
                    told(operations::set_many($state, bucket, vec![(key, value)]).await);
                fn "[method]bucket.delete"(bucket: [borrow Bucket], key: [String]) -> Result<(), Error> =
                    told(operations::delete_many($state, bucket, vec![key]).await);
                fn "[method]bucket.exists"(bucket: [borrow Bucket], key: [String]) -> Result<bool, Error> =
                    told(operations::exists($state, bucket, key).await);
                fn "[method]bucket.list-keys"(bucket: [borrow Bucket], cursor: [Option<$cursor>]) -> Result<$page, Error> =
                    $list($state, bucket, cursor).await;
            }
            "wasi:keyvalue/atomics" { $($atomics)+ }
            "wasi:keyvalue/batch" {
                fn "get-many"(bucket: [borrow Bucket], keys: [Vec<String>]) -> Result<Vec<$found>, Error> =
                    $get_many($state, bucket, keys).await;
                fn "set-many"(bucket: [borrow Bucket], entries: [Vec<(String, Vec<u8>)>]) -> Result<(), Error> =
                    told(operations::set_many($state, bucket, entries).await);
                fn "delete-many"(bucket: [borrow Bucket], keys: [Vec<String>]) -> Result<(), Error> =
                    told(operations::delete_many($state, bucket, keys).await);
            }
        }
    };
}

keyvalue! { draft2 = "0.2.0-draft2", state:
    list_keys(String) -> KeyResponse = list_by_text,
    get_many -> (String, Option<Vec<u8>>) = get_many,
    atomics {
        resource "cas": Cas => operations::drop_cas;
        fn "[static]cas.new"(bucket: [borrow Bucket], key: [String]) -> Result<Resource<Cas>, Error> =
            told(operations::cas(state, bucket, key).await);
        fn "[method]cas.current"(cas: [borrow Cas]) -> Result<Option<Vec<u8>>, Error> =
            Ok(Ok(operations::current(state, &cas)?));
        fn "increment"(bucket: [borrow Bucket], key: [String], delta: [i64]) -> Result<i64, Error> =
            told(operations::increment(state, bucket, key, delta, i64::MIN).await);
        fn "swap"(cas: [Resource<Cas>], value: [Vec<u8>]) -> Result<(), CasError> = swap(state, cas, value).await;
    }
}

keyvalue! { draft = "0.2.0-draft", state:
    list_keys(u64) -> NumberedKeyResponse = list_by_number,
    get_many -> Option<(String, Vec<u8>)> = get_many_found,
    atomics {
        fn "increment"(bucket: [borrow Bucket], key: [String], delta: [u64]) -> Result<u64, Error> =
            increment_unsigned(state, bucket, key, delta).await;
    }
}

interfaces! { spin = "2.0.0", state:
    "fermyon:spin/key-value" {
        resource "store": SpinStore => operations::close;
        fn "[static]store.open"(label: [String]) -> Result<Resource<SpinStore>, SpinError> =
            told(operations::open(state, &label));
        fn "[method]store.get"(store: [borrow SpinStore], key: [String]) -> Result<Option<Vec<u8>>, SpinError> =
            told(operations::get(state, store, key).await);
        fn "[method]store.set"(store: [borrow SpinStore], key: [String], value: [Vec<u8>]) -> Result<(), SpinError> =
            told(operations::set_many(state, store, vec![(key, value)]).await);
        fn "[method]store.delete"(store: [borrow SpinStore], key: [String]) -> Result<(), SpinError> =
            told(operations::delete_many(state, store, vec![key]).await);
        fn "[method]store.exists"(store: [borrow SpinStore], key: [String]) -> Result<bool, SpinError> =
            told(operations::exists(state, store, key).await);
        fn "[method]store.get-keys"(store: [borrow SpinStore]) -> Result<Vec<String>, SpinError> =
            told(operations::list_all(state, store).await);
    }
}

type Listed<T> = wasmtime::Result<Result<T, Error>>;

async fn list_by_text(state: &mut State, bucket: Resource<Bucket>, cursor: Option<String>) -> Listed<KeyResponse> {
    let Ok(cursor) = cursor.map(|cursor| cursor.parse()).transpose() else {
        return Ok(Err(Error::Other("the cursor is not one that `list-keys` has returned".to_owned())));
    };
    let page = told(operations::list(state, bucket, cursor).await)?;
    Ok(page.map(|page| KeyResponse { keys: page.keys, cursor: page.next.map(|next| next.to_string()) }))
}

async fn list_by_number(
    state: &mut State,
    bucket: Resource<Bucket>,
    cursor: Option<u64>,
) -> Listed<NumberedKeyResponse> {
    let page = told(operations::list(state, bucket, cursor).await)?;
    Ok(page.map(|page| NumberedKeyResponse { keys: page.keys, cursor: page.next }))
}

async fn get_many(
    state: &mut State,
    bucket: Resource<Bucket>,
    keys: Vec<String>,
) -> Listed<Vec<(String, Option<Vec<u8>>)>> {
    let values = told(operations::get_many(state, bucket, keys.clone()).await)?;
    Ok(values.map(|values| keys.into_iter().zip(values).collect()))
}

async fn get_many_found(
    state: &mut State,
    bucket: Resource<Bucket>,
    keys: Vec<String>,
) -> Listed<Vec<Option<(String, Vec<u8>)>>> {
    let entries = get_many(state, bucket, keys).await?;
    let found = |(key, value): (String, Option<Vec<u8>>)| value.map(|value| (key, value));
    Ok(entries.map(|entries| entries.into_iter().map(found).collect()))
}

/// The earlier draft has no negative numbers.
async fn increment_unsigned(state: &mut State, bucket: Resource<Bucket>, key: String, delta: u64) -> Listed<u64> {
    let out_of_range = || Error::Other(StoreError::Overflow.to_string());
    let Ok(delta) = i64::try_from(delta) else { return Ok(Err(out_of_range())) };
    let sum = told::<_, Error>(operations::increment(state, bucket, key, delta, 0).await)?;
    Ok(sum.and_then(|sum| u64::try_from(sum).map_err(|_| out_of_range())))
}

async fn swap(state: &mut State, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), CasError>> {
    Ok(match operations::swap(state, cas, value).await? {
        Ok(None) => Ok(()),
        Ok(Some(cas)) => Err(CasError::CasFailed(cas)),
        Err(failed) => Err(CasError::StoreError(failed.into())),
    })
}
