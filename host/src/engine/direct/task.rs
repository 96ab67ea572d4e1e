//! The task of a handler of 0.3.

use wasmtime::{Store, Trap, TypedFunc, bail};

use crate::canonical::{self, Allocation, Event};
use crate::engine::store::State;

/// The call of a handler: it is called again as often as it waits.
pub(in crate::engine) struct Task {
    /// With the handle of the request.
    pub(super) handle: TypedFunc<u32, u32>,
    /// With an event's kind, what it happened to, and what came of it.
    pub(super) callback: TypedFunc<(u32, u32, u32), u32>,
    pub(super) realloc: Option<TypedFunc<(u32, u32, u32, u32), u32>>,
}

/// What a task does next, in the lowest bits of what it returns.
const WHAT_BITS: u32 = 4;
const EXIT: u32 = 0;
const YIELD: u32 = 1;
const WAIT: u32 = 2;

impl Task {
    /// Runs the handler's task to its end. It gives its answer in between.
    ///
    /// # Errors
    ///
    /// When it traps, waits for nothing, or ends without an answer.
    pub(in crate::engine) async fn run(self, store: &mut Store<State>, request: u32) -> wasmtime::Result<()> {
        let mut next = self.handle.call_async(&mut *store, request).await?;
        loop {
            store.data_mut().pass_answer();
            let (what, set) = (next & ((1 << WHAT_BITS) - 1), next >> WHAT_BITS);
            let event = match what {
                EXIT => break,
                YIELD => {
                    canonical::yield_now(store).await?;
                    Event::NONE
                }
                WAIT => canonical::next_event(store, set).await?,
                _ => bail!(Trap::UnsupportedCallbackCode),
            };
            self.allocate(store).await?;
            let event = (event.code, event.waitable, event.status);
            next = self.callback.call_async(&mut *store, event).await?;
        }
        canonical::ensure_returned(store.data_mut().guest())?;
        canonical::finish(store).await
    }

    /// Has the guest allocate what an event's result needs.
    async fn allocate(&self, store: &mut Store<State>) -> wasmtime::Result<()> {
        let mut pointer = 0;
        while let Some(Allocation { size, align }) = canonical::allocated(store, pointer)? {
            let Some(realloc) = &self.realloc else { bail!("a result needs memory that nothing allocates") };
            pointer = realloc.call_async(&mut *store, (0, 0, align, size)).await?;
        }
        Ok(())
    }
}
