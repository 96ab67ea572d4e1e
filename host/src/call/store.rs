//! The store of one call.

use std::sync::Arc;

use wasmtime::{Store, UpdateDeadline};

use crate::call::app::App;
use crate::component_abi::MAX_HANDLES;
use crate::engine::meter::{Meter, SLICE_TICKS, SliceEnd};
use crate::observe::diagnosis::CallDiagnosis;
use crate::observe::request_id::RequestId;
use crate::wasi::state::{Granted, MAX_HOSTCALL_BYTES, State, wasi_with_dirs};

/// Entries of wasmtime's component runtime for one instance's streams, futures, calls and waitable sets: each stream
/// takes three, for itself and for both ends.
const MAX_CONCURRENT_RESOURCES: usize = 3 * MAX_HANDLES;

/// The trap of a guest that exceeds its CPU time limit.
#[derive(Debug, thiserror::Error)]
#[error("CPU time limit exceeded")]
pub(crate) struct CpuTimeUsedUp;

/// Creates the store for one request. `granted` is the result of [`granted_dirs`], if directories are granted.
pub(crate) fn fresh(
    app: &Arc<App>,
    request: RequestId,
    diagnosis: Option<CallDiagnosis>,
    meter: Arc<Meter>,
    granted: Option<Granted>,
) -> Store<State> {
    let state = State::new(app.settings(), request, diagnosis, Arc::clone(&meter), granted);
    let mut store = Store::new(app.engine(), state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(MAX_HOSTCALL_BYTES);
    if !app.handler.is_direct() {
        store.set_max_component_handles(MAX_HANDLES);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(MAX_CONCURRENT_RESOURCES);
        }
    }
    store.set_epoch_deadline(meter.first_slice_ticks());
    store.epoch_deadline_callback(move |mut store| {
        match meter.end_slice() {
            SliceEnd::Spent => return Err(CpuTimeUsedUp.into()),
            SliceEnd::GoesOn => return Ok(UpdateDeadline::Continue(SLICE_TICKS)),
            SliceEnd::Yields => {}
        }
        // As in a component, where the host also makes progress while the guest waits in the CPU queue.
        store.data_mut().pass_answer();
        Ok(UpdateDeadline::Yield(SLICE_TICKS))
    });
    store
}

/// The WASI context with the granted directories, which must be created before the store. Opening them may block, and
/// is done on the route's threads. Cancel safe.
///
/// # Errors
///
/// If a directory cannot be opened, or the route's threads are blocked.
pub(crate) async fn granted_dirs(
    app: &Arc<App>,
    request: RequestId,
    diagnosis: Option<CallDiagnosis>,
) -> wasmtime::Result<Granted> {
    let opening = Arc::clone(app);
    app.settings().files.run(move || wasi_with_dirs(opening.settings(), request, diagnosis.as_ref())).await?
}
