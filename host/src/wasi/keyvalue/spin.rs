//! The key-value interfaces of Spin: 2.0.0, whose functions block, and 3.0.0, whose functions are asynchronous.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Access, Accessor, ComponentType, Destination, FutureReader, Lift, Linker, Lower, Resource, StreamProducer,
    StreamReader, StreamResult, VecBuffer,
};

use super::operations::{self, Call, Done, Failed, open_stores, told};
use super::{Listing, MAX_LISTINGS};
use crate::component_abi::{HostResource, variant};
use crate::storage::client::StoreClient;
use crate::storage::message::Page;
use crate::wasi::interfaces::{at_once, interfaces};
use crate::wasi::state::State;

open_stores! {
    Store2 = "fermyon:spin/key-value" "store";
    Store3 = "spin:key-value/key-value" "store";
}

/// `no-such-store` is never used: guests are not told which stores exist.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "store-table-full")]
    StoreTableFull,
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

variant!(Error {
    "store-table-full" => StoreTableFull,
    "no-such-store" => NoSuchStore,
    "access-denied" => AccessDenied,
    "other" => Other(String),
});

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NotGranted => Self::AccessDenied,
            Failed::TooManyOpen(_) => Self::StoreTableFull,
            Failed::Other(text) => Self::Other(text),
        }
    }
}

interfaces! { spin2 = "2.0.0", state:
    "fermyon:spin/key-value" {
        resource "store": Store2 => operations::close;
        fn "[static]store.open"(label: [String]) -> Result<Resource<Store2>, Error> = told(operations::open(state, &label));
        fn "[method]store.get"(store: [borrow Store2], key: [String]) -> Result<Option<Vec<u8>>, Error> =
            told(operations::get(state, store, key)?.wait(state).await);
        fn "[method]store.set"(store: [borrow Store2], key: [String], value: [Vec<u8>]) -> Result<(), Error> =
            told(operations::set_many(state, store, vec![(key, value)])?.wait(state).await);
        fn "[method]store.delete"(store: [borrow Store2], key: [String]) -> Result<(), Error> =
            told(operations::delete_many(state, store, vec![key])?.wait(state).await);
        fn "[method]store.exists"(store: [borrow Store2], key: [String]) -> Result<bool, Error> =
            told(operations::exists(state, store, key)?.wait(state).await);
        fn "[method]store.get-keys"(store: [borrow Store2]) -> Result<Vec<String>, Error> =
            told(operations::list_all(state, store).await);
    }
}

interfaces! { spin3_without_lists = "3.0.0", state:
    "spin:key-value/key-value" {
        resource "store": Store3 => operations::close;
        async fn "[static]store.open"(label: [String]) -> Result<Resource<Store3>, Error> =
            told::<_, Error>(operations::open::<Store3>(state, &label)).map(at_once);
        async fn "[method]store.get"(store: [borrow Store3], key: [String]) -> Result<Option<Vec<u8>>, Error> =
            operations::get(state, store, key).map(meanwhile);
        async fn "[method]store.set"(store: [borrow Store3], key: [String], value: [Vec<u8>]) -> Result<(), Error> =
            operations::set_many(state, store, vec![(key, value)]).map(meanwhile);
        async fn "[method]store.delete"(store: [borrow Store3], key: [String]) -> Result<(), Error> =
            operations::delete_many(state, store, vec![key]).map(meanwhile);
        async fn "[method]store.exists"(store: [borrow Store3], key: [String]) -> Result<bool, Error> =
            operations::exists(state, store, key).map(meanwhile);
    }
}

/// 3.0.0 as a whole. A guest that imports `get-keys`, whose result is a stream of texts, is linked as a component.
pub(in crate::wasi) mod spin3 {
    use super::*;

    pub(in crate::wasi) use super::spin3_without_lists::{VERSION, functions};

    pub(in crate::wasi) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
        super::spin3_without_lists::add_to_linker(linker)?;
        let mut instance = linker.instance(&format!("{}@{VERSION}", Store3::INTERFACE))?;
        instance.func_wrap_concurrent(
            "[method]store.get-keys",
            |store: &Accessor<State>, (of,): (Resource<Store3>,)| {
                Box::pin(async move { store.with(|store| get_keys(store, &of)).map(|lists| (lists,)) })
            },
        )
    }
}

/// Does an operation while the guest runs on.
async fn meanwhile<T>(call: Call<T>) -> impl FnOnce(&mut State) -> wasmtime::Result<Result<T, Error>> {
    let done = call.run_in_turn().await;
    move |state| told(done.finish(state))
}

/// The keys, and how the listing has ended.
type Lists = (StreamReader<String>, FutureReader<Result<(), Error>>);

fn get_keys(mut store: Access<'_, State>, of: &Resource<Store3>) -> wasmtime::Result<Lists> {
    let state = store.data_mut();
    let client = operations::store(state, of)?;
    let listing = state.store_use().begin_listing();
    let (end, ended) = oneshot::channel();
    let keys = match listing {
        Some(listing) => {
            let keys = Keys { store: client, cursor: None, page: None, end: Some(end), _listing: listing };
            StreamReader::new(&mut store, keys)?
        }
        None => {
            let _ = end.send(Err(Error::Other(format!("the instance has {MAX_LISTINGS} listings open"))));
            StreamReader::new(&mut store, std::iter::empty())?
        }
    };
    // The producer sends a result before it ends the stream. Without one, the guest has dropped the stream.
    let ended = FutureReader::new(&mut store, async { wasmtime::error::Ok(ended.await.unwrap_or(Ok(()))) })?;
    Ok((keys, ended))
}

/// Reads the keys page by page, as the guest reads the stream. It has at most one page in memory.
struct Keys {
    store: Arc<StoreClient>,
    cursor: Option<u64>,
    /// The page that is being read.
    page: Option<Pin<Box<dyn Future<Output = Done<Page>> + Send>>>,
    /// None after the last page.
    end: Option<oneshot::Sender<Result<(), Error>>>,
    _listing: Listing,
}

impl Keys {
    fn end(&mut self, result: Result<(), Error>) {
        if let Some(end) = self.end.take() {
            let _ = end.send(result);
        }
    }
}

impl StreamProducer<State> for Keys {
    type Item = String;
    type Buffer = VecBuffer<String>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        mut destination: Destination<'a, String, VecBuffer<String>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        if this.end.is_none() {
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        // Bounded by `max_store_operations`.
        loop {
            let page = match &mut this.page {
                Some(page) => page,
                None => {
                    let call = operations::list(store.data_mut(), Arc::clone(&this.store), this.cursor)?;
                    this.page.insert(Box::pin(call.run()))
                }
            };
            let done = match page.as_mut().poll(cx) {
                Poll::Ready(done) => done,
                // The page is kept for the next read.
                Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => return Poll::Pending,
            };
            this.page = None;
            let Page { keys, next } = match told(done.finish(store.data_mut()))? {
                Ok(page) => page,
                Err(error) => {
                    this.end(Err(error));
                    return Poll::Ready(Ok(StreamResult::Dropped));
                }
            };
            this.cursor = next;
            if next.is_none() {
                this.end(Ok(()));
            }
            if !keys.is_empty() {
                destination.set_buffer(keys.into());
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            if next.is_none() {
                return Poll::Ready(Ok(StreamResult::Dropped));
            }
            // A server finds the keys of others, too: its page may be empty and not the last one.
        }
    }
}
