//! `wasi:keyvalue` in both of its drafts.

use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use super::operations::{self, Cas, Failed, open_stores, told};
use crate::component_abi::{HostResource, record, variant};
use crate::storage::message::StoreError;
use crate::wasi::interfaces::interfaces;
use crate::wasi::state::State;

open_stores! {
    Bucket = "wasi:keyvalue/store" "bucket";
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
                    told(operations::get($state, bucket, key)?.wait($state).await);
                fn "[method]bucket.set"(bucket: [borrow Bucket], key: [String], value: [Vec<u8>]) -> Result<(), Error> =
                    told(operations::set_many($state, bucket, vec![(key, value)])?.wait($state).await);
                fn "[method]bucket.delete"(bucket: [borrow Bucket], key: [String]) -> Result<(), Error> =
                    told(operations::delete_many($state, bucket, vec![key])?.wait($state).await);
                fn "[method]bucket.exists"(bucket: [borrow Bucket], key: [String]) -> Result<bool, Error> =
                    told(operations::exists($state, bucket, key)?.wait($state).await);
                fn "[method]bucket.list-keys"(bucket: [borrow Bucket], cursor: [Option<$cursor>]) -> Result<$page, Error> =
                    $list($state, bucket, cursor).await;
            }
            "wasi:keyvalue/atomics" { $($atomics)+ }
            "wasi:keyvalue/batch" {
                fn "get-many"(bucket: [borrow Bucket], keys: [Vec<String>]) -> Result<Vec<$found>, Error> =
                    $get_many($state, bucket, keys).await;
                fn "set-many"(bucket: [borrow Bucket], entries: [Vec<(String, Vec<u8>)>]) -> Result<(), Error> =
                    told(operations::set_many($state, bucket, entries)?.wait($state).await);
                fn "delete-many"(bucket: [borrow Bucket], keys: [Vec<String>]) -> Result<(), Error> =
                    told(operations::delete_many($state, bucket, keys)?.wait($state).await);
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
            told(operations::increment(state, bucket, key, delta, i64::MIN)?.wait(state).await);
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

type Listed<T> = wasmtime::Result<Result<T, Error>>;

async fn list_by_text(state: &mut State, bucket: Resource<Bucket>, cursor: Option<String>) -> Listed<KeyResponse> {
    let Ok(cursor) = cursor.map(|cursor| cursor.parse()).transpose() else {
        return Ok(Err(Error::Other("the cursor is not one that `list-keys` has returned".to_owned())));
    };
    let store = operations::store(state, &bucket)?;
    let page = told(operations::list(state, store, cursor)?.wait(state).await)?;
    Ok(page.map(|page| KeyResponse { keys: page.keys, cursor: page.next.map(|next| next.to_string()) }))
}

async fn list_by_number(
    state: &mut State,
    bucket: Resource<Bucket>,
    cursor: Option<u64>,
) -> Listed<NumberedKeyResponse> {
    let store = operations::store(state, &bucket)?;
    let page = told(operations::list(state, store, cursor)?.wait(state).await)?;
    Ok(page.map(|page| NumberedKeyResponse { keys: page.keys, cursor: page.next }))
}

async fn get_many(
    state: &mut State,
    bucket: Resource<Bucket>,
    keys: Vec<String>,
) -> Listed<Vec<(String, Option<Vec<u8>>)>> {
    let values = told(operations::get_many(state, bucket, keys.clone())?.wait(state).await)?;
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
    let sum = told::<_, Error>(operations::increment(state, bucket, key, delta, 0)?.wait(state).await)?;
    Ok(sum.and_then(|sum| u64::try_from(sum).map_err(|_| out_of_range())))
}

async fn swap(state: &mut State, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), CasError>> {
    Ok(match operations::swap(state, cas, value).await? {
        Ok(None) => Ok(()),
        Ok(Some(cas)) => Err(CasError::CasFailed(cas)),
        Err(failed) => Err(CasError::StoreError(failed.into())),
    })
}
