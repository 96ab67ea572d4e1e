//! The single steps of a call, for `benches/steps.rs`. A request executes all of them, in `call.rs`.

use std::sync::Arc;

use wasmtime::Store;

use super::handler::Handler;
use super::store;
use crate::call::app::App;
use crate::engine::meter::Meter;
use crate::observe::request_id::RequestId;
use crate::wasi::state::State;

impl App {
    /// A new store, like that of a call of a route without directories.
    pub(crate) fn store(self: &Arc<Self>) -> Store<State> {
        let meter = Arc::new(Meter::new(self.settings().limits.cpu_time, Arc::clone(&self.habit)));
        store::fresh(self, RequestId::next(), None, meter, None)
    }

    /// Creates an instance in a new store.
    ///
    /// # Errors
    ///
    /// If the pool has no free slot, or the component cannot be instantiated.
    pub(crate) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<()> {
        match &*self.handler {
            Handler::Direct(direct) => direct.instantiate(store).await.map(drop),
            Handler::P2(handle) => handle.instantiate(store).await.map(drop),
            Handler::P3(handle) => handle.instantiate(store).await.map(drop),
        }
    }
}
