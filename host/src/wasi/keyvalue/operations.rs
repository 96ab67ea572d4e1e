//! The operations of a guest on the stores that its route grants, whatever the interface that it calls.

use std::sync::Arc;

use bytes::Bytes;
use daylily_core::excerpt::Excerpt;
use daylily_core::log_target;
use wasmtime::component::Resource;

use crate::engine::meter::{WaitFor, WaitTimer};
use crate::storage::client::StoreClient;
use crate::storage::message::{Answer, Operation, Page};
use crate::wasi::host_memory::RESOURCE_BYTES;
use crate::wasi::state::State;

/// What the log says of the name of a store that is not granted.
const MAX_LOGGED_LABEL_BYTES: usize = 128;

/// Maximum length of all keys together, for interfaces that return them in one list.
const MAX_ALL_KEYS_BYTES: usize = 1 << 20;

/// A store that a guest has opened, by whatever interface.
pub(super) trait OpenStore: Send + 'static {
    fn new(store: Arc<StoreClient>) -> Self;
    fn store(&self) -> &Arc<StoreClient>;
}

/// Why an operation failed, for the error type of the interface.
#[derive(Debug)]
pub(super) enum Failed {
    /// The route does not grant the store.
    NotGranted,
    /// The instance has too many open.
    TooManyOpen(String),
    Other(String),
}

/// The result of a function: a trap, or what the guest gets.
pub(super) type Outcome<T> = wasmtime::Result<Result<T, Failed>>;

/// An unfinished compare-and-swap: the entry as it was.
pub(crate) struct Cas {
    store: Arc<StoreClient>,
    key: String,
    entry: Option<(Bytes, u64)>,
}

impl Cas {
    /// What it keeps in memory.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.key.len() + self.entry.as_ref().map_or(0, |(value, _)| value.len())
    }
}

pub(super) fn open<S: OpenStore>(state: &mut State, label: &str) -> Outcome<Resource<S>> {
    let stores = Arc::clone(state.stores());
    let Some(store) = stores.by_label.get(label) else {
        if stores.refusals.is_news() {
            let shown = Excerpt::within(label, MAX_LOGGED_LABEL_BYTES);
            let shown = state.mask().map_or(shown.as_str().into(), |mask| mask.text(shown.as_str()));
            tracing::warn!(
                target: log_target::STORAGE,
                route = %state.route(),
                "a guest opened the store {:?}, which the route does not grant; add it to `stores` of the route (--store)",
                shown
            );
        }
        return Ok(Err(Failed::NotGranted));
    };
    let max = state.limits().max_open_stores;
    if state.store_use().open >= max {
        return Ok(Err(Failed::TooManyOpen(format!("the instance has max_open_stores = {max} open"))));
    }
    state.charge(RESOURCE_BYTES)?;
    let opened = state.table().push(S::new(Arc::clone(store)))?;
    state.store_use().open += 1;
    Ok(Ok(opened))
}

pub(super) fn close<S: OpenStore>(state: &mut State, store: Resource<S>) -> wasmtime::Result<()> {
    state.table().delete(store)?;
    state.store_use().open -= 1;
    Ok(())
}

fn store<S: OpenStore>(state: &mut State, store: &Resource<S>) -> wasmtime::Result<Arc<StoreClient>> {
    Ok(Arc::clone(state.table().get(store)?.store()))
}

/// Does an operation, and charges what is passed to the store and back.
async fn call(state: &mut State, store: &StoreClient, operation: Operation) -> Outcome<Answer> {
    let limits = *state.limits();
    if state.store_use().operations >= limits.max_store_operations {
        let max = limits.max_store_operations;
        return Ok(Err(Failed::Other(format!("the request has done max_store_operations = {max}"))));
    }
    state.store_use().operations += 1;
    state.charge(bytes_of(&operation))?;
    let timer = WaitTimer::begin(state.limiter.shared_meter(), WaitFor::Store);
    let answer = match store.call(operation, limits.store_timeout).await {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(Failed::Other(error.to_string()))),
    };
    timer.succeed();
    let bytes = match &answer {
        Answer::Values(values) => values.iter().flatten().map(Bytes::len).sum(),
        Answer::Revision(Some((value, _))) => value.len(),
        Answer::Keys(page) => page.keys.iter().map(String::len).sum(),
        Answer::Revision(None) | Answer::Done | Answer::Exists(_) | Answer::Number(_) => 0,
    };
    state.charge(bytes)?;
    Ok(Ok(answer))
}

fn bytes_of(operation: &Operation) -> usize {
    match operation {
        Operation::Get(keys) | Operation::Delete(keys) => keys.iter().map(String::len).sum(),
        Operation::Set(entries) => entries.iter().map(|(key, value)| key.len() + value.len()).sum(),
        Operation::Swap(key, _, value) => key.len() + value.len(),
        Operation::Exists(key) | Operation::Read(key) | Operation::Increment(key, ..) => key.len(),
        Operation::List(_) => 0,
    }
}

/// The answer of an operation, which has one form only.
macro_rules! answer {
    ($called:expr, $form:pat => $value:expr) => {
        match $called {
            Ok($form) => Ok(Ok($value)),
            Ok(other) => Err(wasmtime::format_err!("the storage process has answered {other:?}")),
            Err(failed) => Ok(Err(failed)),
        }
    };
}

pub(super) async fn get<S: OpenStore>(state: &mut State, of: Resource<S>, key: String) -> Outcome<Option<Vec<u8>>> {
    let values = get_many(state, of, vec![key]).await?;
    Ok(values.map(|values| values.into_iter().next().flatten()))
}

pub(super) async fn get_many<S: OpenStore>(
    state: &mut State,
    of: Resource<S>,
    keys: Vec<String>,
) -> Outcome<Vec<Option<Vec<u8>>>> {
    let store = store(state, &of)?;
    let called = call(state, &store, Operation::Get(keys)).await?;
    answer!(called, Answer::Values(values) => values.into_iter().map(|value| value.map(Vec::from)).collect())
}

pub(super) async fn exists<S: OpenStore>(state: &mut State, of: Resource<S>, key: String) -> Outcome<bool> {
    let store = store(state, &of)?;
    let called = call(state, &store, Operation::Exists(key)).await?;
    answer!(called, Answer::Exists(exists) => exists)
}

pub(super) async fn set_many<S: OpenStore>(
    state: &mut State,
    of: Resource<S>,
    entries: Vec<(String, Vec<u8>)>,
) -> Outcome<()> {
    let store = store(state, &of)?;
    let entries = entries.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect();
    let called = call(state, &store, Operation::Set(entries)).await?;
    answer!(called, Answer::Done => ())
}

pub(super) async fn delete_many<S: OpenStore>(state: &mut State, of: Resource<S>, keys: Vec<String>) -> Outcome<()> {
    let store = store(state, &of)?;
    let called = call(state, &store, Operation::Delete(keys)).await?;
    answer!(called, Answer::Done => ())
}

/// Adds to a number, unless the sum is less than `least`.
pub(super) async fn increment<S: OpenStore>(
    state: &mut State,
    of: Resource<S>,
    key: String,
    delta: i64,
    least: i64,
) -> Outcome<i64> {
    let store = store(state, &of)?;
    let called = call(state, &store, Operation::Increment(key, delta, least)).await?;
    answer!(called, Answer::Number(number) => number)
}

/// Some of the keys, those after `cursor`.
pub(super) async fn list<S: OpenStore>(state: &mut State, of: Resource<S>, cursor: Option<u64>) -> Outcome<Page> {
    let store = store(state, &of)?;
    let called = call(state, &store, Operation::List(cursor)).await?;
    answer!(called, Answer::Keys(page) => page)
}

/// All keys, for an interface without pages.
pub(super) async fn list_all<S: OpenStore>(state: &mut State, of: Resource<S>) -> Outcome<Vec<String>> {
    let store = store(state, &of)?;
    let (mut keys, mut bytes, mut cursor) = (Vec::new(), 0_usize, None);
    loop {
        let called = call(state, &store, Operation::List(cursor)).await?;
        let page: Outcome<Page> = answer!(called, Answer::Keys(page) => page);
        let page = match page? {
            Ok(page) => page,
            Err(failed) => return Ok(Err(failed)),
        };
        bytes += page.keys.iter().map(String::len).sum::<usize>();
        if bytes > MAX_ALL_KEYS_BYTES {
            let error = "the keys are more than 1 MiB together; list them in pages, with wasi:keyvalue";
            return Ok(Err(Failed::Other(error.to_owned())));
        }
        keys.extend(page.keys);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(Ok(keys));
        }
    }
}

pub(super) async fn cas<S: OpenStore>(state: &mut State, of: Resource<S>, key: String) -> Outcome<Resource<Cas>> {
    let store = store(state, &of)?;
    let called = call(state, &store, Operation::Read(key.clone())).await?;
    let entry: Outcome<_> = answer!(called, Answer::Revision(entry) => entry);
    match entry? {
        Ok(entry) => push(state, Cas { store, key, entry }).map(Ok),
        Err(failed) => Ok(Err(failed)),
    }
}

fn push(state: &mut State, cas: Cas) -> wasmtime::Result<Resource<Cas>> {
    state.charge(RESOURCE_BYTES + cas.kept_bytes())?;
    Ok(state.table().push(cas)?)
}

/// The value as it was.
pub(super) fn current(state: &mut State, cas: &Resource<Cas>) -> wasmtime::Result<Option<Vec<u8>>> {
    let value = state.table().get(cas)?.entry.as_ref().map(|(value, _)| value.clone());
    state.charge(value.as_ref().map_or(0, Bytes::len))?;
    Ok(value.map(Vec::from))
}

pub(super) fn drop_cas(state: &mut State, cas: Resource<Cas>) -> wasmtime::Result<()> {
    state.table().delete(cas)?;
    Ok(())
}

/// Sets the value if the entry is as it was; else returns the entry as it is now.
pub(super) async fn swap(state: &mut State, cas: Resource<Cas>, value: Vec<u8>) -> Outcome<Option<Resource<Cas>>> {
    let Cas { store, key, entry } = state.table().delete(cas)?;
    let revision = entry.map(|(_, revision)| revision);
    let called = call(state, &store, Operation::Swap(key.clone(), revision, value.into())).await?;
    match called {
        Ok(Answer::Done) => Ok(Ok(None)),
        Ok(Answer::Revision(entry)) => push(state, Cas { store, key, entry }).map(|cas| Ok(Some(cas))),
        Ok(other) => Err(wasmtime::format_err!("the storage process has answered {other:?}")),
        Err(failed) => Ok(Err(failed)),
    }
}
