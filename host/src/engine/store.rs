//! What one instance's store holds.

use std::sync::Arc;

use daylily_core::config::RouteLimits;
use tokio::sync::oneshot;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::call::Head;
use super::component::{App, AppSettings};
use super::host_memory::{HostMemory, Look};
use super::limiter::{Limiter, Refused};
use super::meter::{Meter, SLICE_TICKS};
use crate::canonical::{Guest, MAX_HANDLES};
use crate::host_api::files::RouteFiles;
use crate::host_api::http03::UnsentRequests;
use crate::host_api::outgoing::Hooks;
use crate::host_api::output::{GuestOutput, Stream};
use crate::request_id::RequestId;

/// Handles that one instance may hold of the host's resources (requests, bodies, streams, fields …),
/// so that a guest cannot make the host keep more for it than it may have memory of its own.
const MAX_HOST_RESOURCES: usize = 1_000;

/// What wasmtime's component runtime keeps for streams, futures, calls and sets of one instance: each stream takes three
/// places, for itself and both ends.
const MAX_CONCURRENT_RESOURCES: usize = 3 * MAX_HANDLES;

/// What one call into the host may copy, which the event loop waits for.
const MAX_HOSTCALL_BYTES: usize = 2 << 20;

/// Random bytes in one call, which the event loop waits for: a fraction of a millisecond.
const MAX_RANDOM_BYTES: u64 = 256 << 10;

/// Memory of one set of header fields, as wasmtime-wasi-http counts it.
const MAX_FIELDS_BYTES: usize = 64 << 10;

/// Room in the resource table of a new store: what an ordinary request needs at a time.
const EXPECTED_HOST_RESOURCES: usize = 16;

/// The data of one store.
pub(crate) struct State {
    app: Arc<App>,
    request: RequestId,
    /// Made when the guest asks for anything of WASI but HTTP; many never do.
    wasi: Option<Box<WasiCtx>>,
    http: WasiHttpCtx,
    hooks: Hooks,
    table: ResourceTable,
    limiter: Limiter,
    host_memory: HostMemory,
    unsent_requests: UnsentRequests,
    guest: Guest<Self>,
    /// Where a guest of 0.3 that is linked directly gives its answer.
    answer: Option<oneshot::Sender<Head>>,
    /// Its answer, until it waits, returns or has run for a slice. One that traps or exits before that has given none, as in
    /// a component.
    answered: Option<Head>,
    /// Closed when the body of its response, which it has only passed on, has ended.
    passed: Option<oneshot::Receiver<()>>,
}

/// The error of a guest whose CPU time is used up.
#[derive(Debug, thiserror::Error)]
#[error("CPU time limit exceeded")]
pub(super) struct CpuTimeUsedUp;

/// Makes a fresh store for one request, with what [`granted_dirs`] gave where there are any.
pub(super) fn fresh(app: &Arc<App>, request: RequestId, meter: Arc<Meter>, wasi: Option<Box<WasiCtx>>) -> Store<State> {
    let settings = app.settings();
    let mut table = ResourceTable::with_capacity(EXPECTED_HOST_RESOURCES);
    table.set_max_capacity(MAX_HOST_RESOURCES);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(MAX_FIELDS_BYTES);
    let state = State {
        app: Arc::clone(app),
        request,
        wasi,
        http,
        hooks: Hooks::new(Arc::clone(&settings.outgoing)),
        table,
        limiter: Limiter::new(settings.limits),
        host_memory: HostMemory::new(settings.limits.max_host_memory_bytes),
        unsent_requests: UnsentRequests::default(),
        guest: Guest::new(MAX_HOSTCALL_BYTES),
        answer: None,
        answered: None,
        passed: None,
    };
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
        if meter.end_slice() {
            return Err(CpuTimeUsedUp.into());
        }
        // As in a component, where the host goes on, too, while others have their turn.
        store.data_mut().pass_answer();
        Ok(UpdateDeadline::Yield(SLICE_TICKS))
    });
    store
}

/// What a store has of WASI from the start where directories are granted. Opening them may block. Cancel safe.
///
/// # Errors
///
/// When a directory cannot be opened, or the route's threads are blocked.
pub(super) async fn granted_dirs(app: &Arc<App>, request: RequestId) -> wasmtime::Result<Box<WasiCtx>> {
    let opening = Arc::clone(app);
    let opened = app.settings().files.run(move || wasi_with_dirs(opening.settings(), request)).await??;
    Ok(Box::new(opened))
}

/// Deny by default: clocks and random numbers, output into the log, and what is granted by name.
fn wasi(settings: &AppSettings, request: RequestId) -> WasiCtxBuilder {
    let output = GuestOutput::new(Arc::clone(&settings.route), request, settings.limits.max_output_bytes);
    let mut wasi = WasiCtx::builder();
    wasi.stdout(output.stream(Stream::Stdout))
        .stderr(output.stream(Stream::Stderr))
        .max_random_size(MAX_RANDOM_BYTES)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    for (key, value) in &settings.grants.env {
        wasi.env(key, value);
    }
    wasi
}

fn wasi_with_dirs(settings: &AppSettings, request: RequestId) -> wasmtime::Result<WasiCtx> {
    let mut wasi = wasi(settings, request);
    for dir in &settings.grants.dirs {
        let permissions = if dir.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        wasi.preopened_dir(&dir.host, &dir.guest, permissions)?;
    }
    Ok(wasi.build())
}

impl State {
    pub(crate) fn vars(&self) -> &WasiConfigVariables {
        &self.app.settings().vars
    }

    /// To be called before the host allocates what it keeps for the guest: so many bytes at the most.
    ///
    /// # Errors
    ///
    /// When more is there than `max_host_memory`; the guest is to trap.
    pub(crate) fn keep(&mut self, bytes: usize) -> wasmtime::Result<()> {
        if self.host_memory.count(bytes) { self.look(bytes) } else { Ok(()) }
    }

    /// Looks at everything that is there.
    #[cold]
    fn look(&mut self, about_to: usize) -> wasmtime::Result<()> {
        let kept = Look::at_all(self.table.iter_mut()) + self.guest.kept_bytes() + self.hooks.kept_bytes();
        Ok(self.host_memory.looked(kept, about_to)?)
    }

    /// The threads for its files.
    pub(crate) fn files(&self) -> &Arc<RouteFiles> {
        &self.app.settings().files
    }

    /// The host's resources that the guest has handles of.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(crate) fn hooks(&mut self) -> &mut Hooks {
        &mut self.hooks
    }

    /// The guest has returned: what resolves when no body of its requests is being sent any more.
    pub(super) fn finish_uploads(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.hooks.finish_uploads()
    }

    pub(crate) fn unsent_requests(&mut self) -> &mut UnsentRequests {
        &mut self.unsent_requests
    }

    /// A guest whose module is linked directly.
    pub(crate) fn guest(&mut self) -> &mut Guest<Self> {
        &mut self.guest
    }

    pub(super) fn answer_to(&mut self, head: oneshot::Sender<Head>) {
        self.answer = Some(head);
    }

    /// The guest's answer.
    pub(crate) fn answer(&mut self, head: Head) {
        self.answered = Some(head);
    }

    /// Passes the guest's answer on, if it has given one.
    pub(crate) fn pass_answer(&mut self) {
        if self.answered.is_some()
            && let (Some(head), Some(answer)) = (self.answered.take(), self.answer.take())
        {
            let _ = answer.send(head);
        }
    }

    /// The body of the response is not the guest's own: until its end, what is returned is to be kept.
    pub(crate) fn pass_on(&mut self) -> oneshot::Sender<()> {
        let (sender, passed) = oneshot::channel();
        self.passed = Some(passed);
        sender
    }

    pub(super) fn passed(&mut self) -> Option<oneshot::Receiver<()>> {
        self.passed.take()
    }

    pub(super) fn limits(&self) -> &RouteLimits {
        self.limiter.limits()
    }

    pub(super) fn refused(&self) -> Option<Refused> {
        self.limiter.refused()
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let make = || Box::new(wasi(self.app.settings(), self.request).build());
        WasiCtxView { ctx: self.wasi.get_or_insert_with(make), table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}
