//! The operations of a guest on the stores that its route grants, whatever the interface that it calls.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daylily_core::excerpt::Excerpt;
use daylily_core::log_target;
use wasmtime::component::Resource;

use super::in_progress::{Held, OPERATION_BYTES};
use crate::engine::meter::{WaitFor, WaitTimer};
use crate::storage::client::StoreClient;
use crate::storage::message::{Answer, MAX_ANSWER_BYTES, MAX_PAGE_BYTES, Operation, PAGE_KEYS, Page, Seen};
use crate::wasi::host_memory::RESOURCE_BYTES;
use crate::wasi::state::State;

/// What the log says of the name of a store that is not granted.
const MAX_LOGGED_LABEL_BYTES: usize = 128;

/// Maximum length of all keys together, for interfaces that return them in one list.
const MAX_ALL_KEYS_BYTES: usize = 1 << 20;

/// Maximum number of them. Short keys take more for their places in the list than for themselves.
const MAX_ALL_KEYS: usize = 32_768;

/// What is charged for each of several texts or values besides its bytes: its place in a list, and the allocator's.
const TEXT_BYTES: usize = 64;

/// What a page of keys takes at most.
const MAX_KEPT_PAGE_BYTES: usize = MAX_PAGE_BYTES + PAGE_KEYS as usize * TEXT_BYTES;

/// A store that a guest has opened, by whatever interface.
pub(super) trait OpenStore: Send + 'static {
    fn new(store: Arc<StoreClient>) -> Self;
    fn store(&self) -> &Arc<StoreClient>;
}

/// Declares what `open` of an interface returns, with the interface and the name of the resource.
macro_rules! open_stores {
    ($($store:ident = $interface:literal $name:literal;)+) => {$(
        pub(super) struct $store(std::sync::Arc<$crate::storage::client::StoreClient>);

        impl $crate::wasi::keyvalue::operations::OpenStore for $store {
            fn new(store: std::sync::Arc<$crate::storage::client::StoreClient>) -> Self {
                Self(store)
            }

            fn store(&self) -> &std::sync::Arc<$crate::storage::client::StoreClient> {
                &self.0
            }
        }

        impl $crate::component_abi::HostResource for $store {
            const INTERFACE: &'static str = $interface;
            const NAME: &'static str = $name;
        }
    )+};
}

pub(super) use open_stores;

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
    entry: Option<(Bytes, Option<u64>)>,
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

pub(super) fn store<S: OpenStore>(state: &mut State, store: &Resource<S>) -> wasmtime::Result<Arc<StoreClient>> {
    Ok(Arc::clone(state.table().get(store)?.store()))
}

/// An operation that the guest may do, or why it may not.
pub(super) struct Call<T> {
    operation: Result<Begun, Failed>,
    result: fn(Answer) -> Result<T, Answer>,
}

/// An operation that is counted and charged.
struct Begun {
    store: Arc<StoreClient>,
    operation: Operation,
    within: Duration,
    timer: WaitTimer,
    held: Held,
}

/// An operation that was done.
pub(super) struct Done<T> {
    answer: Result<(Answer, Held), Failed>,
    result: fn(Answer) -> Result<T, Answer>,
}

impl<T> Call<T> {
    /// Counts the operation, and charges what is passed to the store, and the largest possible answer.
    fn new(
        state: &mut State,
        store: Arc<StoreClient>,
        operation: Operation,
        result: fn(Answer) -> Result<T, Answer>,
    ) -> wasmtime::Result<Self> {
        let limits = *state.limits();
        if state.store_use().operations >= limits.max_store_operations {
            let max = limits.max_store_operations;
            let refused = Failed::Other(format!("the request has done max_store_operations = {max}"));
            return Ok(Self { operation: Err(refused), result });
        }
        state.store_use().operations += 1;
        let all = state.store_use().in_progress(limits.max_host_memory_bytes);
        let mut passed = OPERATION_BYTES + bytes_of(&operation);
        let mut answer = all.within_room(largest_answer(&store, &operation));
        if let Operation::List(_) = operation {
            // A stream of keys keeps its page while others need room for theirs, so a page waits for nothing.
            passed += std::mem::take(&mut answer);
        }
        state.charge(all.growth(passed, answer))?;
        let held = all.begin(passed, answer);
        let timer = WaitTimer::begin(state.limiter.shared_meter(), WaitFor::Store);
        Ok(Self { operation: Ok(Begun { store, operation, within: limits.store_timeout, timer, held }), result })
    }

    /// Does it, without the instance.
    pub(super) async fn run(self) -> Done<T> {
        let answer = match self.operation {
            Ok(Begun { store, operation, within, timer, held }) => match store.call(operation, within).await {
                Ok(answer) => {
                    timer.succeed();
                    Ok((answer, held))
                }
                Err(error) => Err(Failed::Other(error.to_string())),
            },
            Err(refused) => Err(refused),
        };
        Done { answer, result: self.result }
    }

    /// Does it as soon as there is room for its answer, beside others.
    pub(super) async fn run_in_turn(mut self) -> Done<T> {
        if let Ok(begun) = &mut self.operation {
            begun.held.wait_for_room().await;
        }
        self.run().await
    }

    /// Does it while the guest waits. Those in progress do not go on meanwhile, so it waits for none of them.
    pub(super) async fn wait(self, state: &mut State) -> Outcome<T> {
        self.run().await.finish(state)
    }
}

impl<T> Done<T> {
    /// Charges what is passed back.
    pub(super) fn finish(self, state: &mut State) -> Outcome<T> {
        let (answer, held) = match self.answer {
            Ok(answered) => answered,
            Err(failed) => return Ok(Err(failed)),
        };
        drop(held);
        let bytes = match &answer {
            Answer::Values(values) => values.iter().flatten().map(|value| TEXT_BYTES + value.len()).sum(),
            Answer::Entry(Some((value, _))) => value.len(),
            Answer::Keys(page) => page.keys.iter().map(|key| TEXT_BYTES + key.len()).sum(),
            Answer::Entry(None) | Answer::Done | Answer::Exists(_) | Answer::Number(_) => 0,
        };
        state.charge(bytes)?;
        match (self.result)(answer) {
            Ok(result) => Ok(Ok(result)),
            Err(other) => Err(wasmtime::format_err!("the storage process has answered {other:?}")),
        }
    }
}

/// An outcome with the error type of the interface.
pub(super) fn told<T, E: From<Failed>>(outcome: Outcome<T>) -> wasmtime::Result<Result<T, E>> {
    Ok(outcome?.map_err(E::from))
}

fn bytes_of(operation: &Operation) -> usize {
    match operation {
        Operation::Get(keys) | Operation::Delete(keys) => keys.iter().map(|key| TEXT_BYTES + key.len()).sum(),
        Operation::Set(entries) => entries.iter().map(|(key, value)| 2 * TEXT_BYTES + key.len() + value.len()).sum(),
        Operation::Swap(key, seen, value) => {
            let seen = if let Seen::Value(value) = seen { value.len() } else { 0 };
            key.len() + seen + value.len()
        }
        Operation::Exists(key) | Operation::Read(key) | Operation::Increment(key, ..) => key.len(),
        Operation::List(_) => 0,
    }
}

/// The largest possible answer to an operation, in bytes.
fn largest_answer(store: &StoreClient, operation: &Operation) -> usize {
    match operation {
        Operation::Get(keys) => keys.len().saturating_mul(store.max_value_bytes()).min(MAX_ANSWER_BYTES),
        Operation::Read(_) | Operation::Swap(..) => store.max_value_bytes(),
        Operation::List(_) => MAX_KEPT_PAGE_BYTES,
        Operation::Exists(_) | Operation::Set(_) | Operation::Delete(_) | Operation::Increment(..) => 0,
    }
}

/// The result of an operation from its answer, which has one form only.
macro_rules! answer {
    ($($form:pat => $value:expr),+) => {
        |answer| match answer {
            $($form => Ok($value),)+
            other => Err(other),
        }
    };
}

pub(super) fn get<S: OpenStore>(
    state: &mut State,
    of: Resource<S>,
    key: String,
) -> wasmtime::Result<Call<Option<Vec<u8>>>> {
    let store = store(state, &of)?;
    let value = answer!(Answer::Values(values) => values.into_iter().next().flatten().map(Vec::from));
    Call::new(state, store, Operation::Get(vec![key]), value)
}

pub(super) fn get_many<S: OpenStore>(
    state: &mut State,
    of: Resource<S>,
    keys: Vec<String>,
) -> wasmtime::Result<Call<Vec<Option<Vec<u8>>>>> {
    let store = store(state, &of)?;
    let values = answer!(Answer::Values(values) => values.into_iter().map(|value| value.map(Vec::from)).collect());
    Call::new(state, store, Operation::Get(keys), values)
}

pub(super) fn exists<S: OpenStore>(state: &mut State, of: Resource<S>, key: String) -> wasmtime::Result<Call<bool>> {
    let store = store(state, &of)?;
    Call::new(state, store, Operation::Exists(key), answer!(Answer::Exists(exists) => exists))
}

pub(super) fn set_many<S: OpenStore>(
    state: &mut State,
    of: Resource<S>,
    entries: Vec<(String, Vec<u8>)>,
) -> wasmtime::Result<Call<()>> {
    let store = store(state, &of)?;
    let entries = entries.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect();
    Call::new(state, store, Operation::Set(entries), answer!(Answer::Done => ()))
}

pub(super) fn delete_many<S: OpenStore>(
    state: &mut State,
    of: Resource<S>,
    keys: Vec<String>,
) -> wasmtime::Result<Call<()>> {
    let store = store(state, &of)?;
    Call::new(state, store, Operation::Delete(keys), answer!(Answer::Done => ()))
}

/// Adds to a number, unless the sum is less than `least`.
pub(super) fn increment<S: OpenStore>(
    state: &mut State,
    of: Resource<S>,
    key: String,
    delta: i64,
    least: i64,
) -> wasmtime::Result<Call<i64>> {
    let store = store(state, &of)?;
    Call::new(state, store, Operation::Increment(key, delta, least), answer!(Answer::Number(number) => number))
}

/// Some of the keys, those after `cursor`.
pub(super) fn list(state: &mut State, store: Arc<StoreClient>, cursor: Option<u64>) -> wasmtime::Result<Call<Page>> {
    Call::new(state, store, Operation::List(cursor), answer!(Answer::Keys(page) => page))
}

/// All keys, for an interface without pages.
pub(super) async fn list_all<S: OpenStore>(state: &mut State, of: Resource<S>) -> Outcome<Vec<String>> {
    let store = store(state, &of)?;
    let (mut keys, mut seen, mut bytes, mut cursor) = (Vec::new(), HashSet::new(), 0_usize, None);
    loop {
        let page = match list(state, Arc::clone(&store), cursor)?.wait(state).await? {
            Ok(page) => page,
            Err(failed) => return Ok(Err(failed)),
        };
        bytes += page.keys.iter().map(String::len).sum::<usize>();
        if bytes > MAX_ALL_KEYS_BYTES || keys.len() + page.keys.len() > MAX_ALL_KEYS {
            return Ok(Err(Failed::Other(format!(
                "the keys are more than 1 MiB together, or more than {MAX_ALL_KEYS}; list them in pages, with wasi:keyvalue"
            ))));
        }
        // A server may list a key twice.
        keys.extend(page.keys.into_iter().filter(|key| seen.insert(key.clone())));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(Ok(keys));
        }
    }
}

pub(super) async fn cas<S: OpenStore>(state: &mut State, of: Resource<S>, key: String) -> Outcome<Resource<Cas>> {
    let store = store(state, &of)?;
    let entry = answer!(Answer::Entry(entry) => entry);
    match Call::new(state, Arc::clone(&store), Operation::Read(key.clone()), entry)?.wait(state).await? {
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
    let operation = Operation::Swap(key.clone(), Seen::of(entry), value.into());
    let result = answer!(Answer::Done => None, Answer::Entry(entry) => Some(entry));
    match Call::new(state, Arc::clone(&store), operation, result)?.wait(state).await? {
        Ok(None) => Ok(Ok(None)),
        Ok(Some(entry)) => push(state, Cas { store, key, entry }).map(|cas| Ok(Some(cas))),
        Err(failed) => Ok(Err(failed)),
    }
}
