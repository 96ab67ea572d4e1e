//! The task of a P3 handler.

use wasmtime::{Store, Trap, TypedFunc, bail};

use crate::component_abi::{self, Allocation, Event};
use crate::wasi::state::State;

/// The call of a handler, whose callback is called after each wait.
pub(crate) struct Task {
    /// Takes the handle of the request.
    pub(crate) handle: TypedFunc<u32, u32>,
    /// Takes an event: its code, the waitable, and the result code.
    pub(crate) callback: TypedFunc<(u32, u32, u32), u32>,
    pub(crate) realloc: Option<TypedFunc<(u32, u32, u32, u32), u32>>,
}

/// The lowest bits of a return value are the callback code: what the task does next.
const WHAT_BITS: u32 = 4;
const EXIT: u32 = 0;
const YIELD: u32 = 1;
const WAIT: u32 = 2;

impl Task {
    /// Runs the handler's task to its end. The response is sent while the task runs.
    ///
    /// # Errors
    ///
    /// If the task traps, waits with no operation in progress, or ends without a response.
    pub(crate) async fn run(self, store: &mut Store<State>, request: u32) -> wasmtime::Result<()> {
        let mut next = self.handle.call_async(&mut *store, request).await?;
        loop {
            let (what, set) = (next & ((1 << WHAT_BITS) - 1), next >> WHAT_BITS);
            let event = match what {
                EXIT => break,
                YIELD => {
                    component_abi::yield_now(store).await?;
                    Event::NONE
                }
                WAIT => component_abi::next_event(store, set).await?,
                _ => bail!(Trap::UnsupportedCallbackCode),
            };
            // Not before the code is known to be valid: a component then traps before its response is passed on.
            store.data_mut().pass_answer();
            self.allocate(store).await?;
            let event = (event.code, event.waitable, event.status);
            next = self.callback.call_async(&mut *store, event).await?;
        }
        component_abi::ensure_returned(store.data_mut().guest())?;
        store.data_mut().pass_answer();
        component_abi::finish(store).await
    }

    /// Calls the guest's `realloc` for an event's result.
    async fn allocate(&self, store: &mut Store<State>) -> wasmtime::Result<()> {
        let mut pointer = 0;
        while let Some(Allocation { size, align }) = component_abi::allocated(store, pointer)? {
            let Some(realloc) = &self.realloc else { bail!("a result needs memory that nothing allocates") };
            pointer = realloc.call_async(&mut *store, (0, 0, align, size)).await?;
        }
        Ok(())
    }
}
