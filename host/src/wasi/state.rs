//! The data of one instance's store.

use std::collections::BTreeMap;
use std::sync::Arc;

use daylily_core::config::{RouteLimits, Value};
use tokio::sync::oneshot;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::host_memory::{HostMemory, Measurement};
use crate::component_abi::Guest;
use crate::engine::limiter::{Limiter, Refused};
use crate::engine::meter::Meter;
use crate::observe::diagnosis::CallDiagnosis;
use crate::observe::mask::Mask;
use crate::observe::request_id::RequestId;
use crate::wasi::file_threads::RouteFiles;
use crate::wasi::http::GuestResponse;
use crate::wasi::http::client::Hooks;
use crate::wasi::http::p3::{ReceivedBodies, UnsentRequests};
use crate::wasi::keyvalue::{GrantedStores, StoreUse};
use crate::wasi::output::{GuestOutput, Stream};
use crate::wasi::settings::AppSettings;

/// Host resources (requests, bodies, streams, fields …) that one instance may have handles of, so that the host does
/// not keep more memory for a guest than the guest may have itself.
const MAX_HOST_RESOURCES: usize = 1_000;

/// Bytes that one call into the host may copy. The copy blocks the event loop.
pub(crate) const MAX_HOSTCALL_BYTES: usize = 2 << 20;

/// Random bytes in one call. Generating them blocks the event loop for a fraction of a millisecond.
const MAX_RANDOM_BYTES: u64 = 256 << 10;

/// Memory of one set of header fields, as wasmtime-wasi-http counts it.
const MAX_FIELDS_BYTES: usize = 64 << 10;

/// Initial capacity of a store's resource table: what an ordinary request needs.
const EXPECTED_HOST_RESOURCES: usize = 16;

/// The data of one store.
pub(crate) struct State {
    settings: Arc<AppSettings>,
    request: RequestId,
    diagnosis: Option<CallDiagnosis>,
    /// Created at the guest's first use of a WASI interface other than HTTP; many guests never use any.
    wasi: Option<Box<WasiCtx>>,
    /// Created at the guest's first use of the WASI context or of `wasi:logging`, which share it.
    output: Option<GuestOutput>,
    http: WasiHttpCtx,
    hooks: Hooks,
    table: ResourceTable,
    pub(crate) limiter: Limiter,
    host_memory: HostMemory,
    store_use: StoreUse,
    unsent_requests: UnsentRequests,
    received_bodies: ReceivedBodies,
    guest: Guest<Self>,
    /// The channel for the response of a directly linked P3 guest.
    answer: Option<oneshot::Sender<GuestResponse>>,
    /// The response of such a guest, until the guest waits, writes to the response's body or trailers, returns or has
    /// run for a slice. If the guest traps or exits before that, no response is sent, as in a component.
    answered: Option<GuestResponse>,
    /// If the guest has only passed a body on as its response's: closed at the end of that body.
    passed: Option<oneshot::Receiver<()>>,
}

/// What is created before the store if directories are granted.
pub(crate) struct Granted {
    wasi: Box<WasiCtx>,
    /// The output of the context's streams.
    output: GuestOutput,
}

/// The output of one request, whatever the interface that the guest writes it with.
fn output(settings: &AppSettings, request: RequestId, diagnosis: Option<&CallDiagnosis>) -> GuestOutput {
    let kept = diagnosis.and_then(CallDiagnosis::of_output);
    let route = Arc::clone(&settings.route);
    GuestOutput::new(route, request, settings.limits.max_output_bytes, kept, settings.mask.clone())
}

/// Denies everything by default except clocks, random numbers, output to the log, and what is granted by name.
fn wasi(settings: &AppSettings, output: &GuestOutput) -> WasiCtxBuilder {
    let mut wasi = WasiCtx::builder();
    wasi.stdout(output.stream(Stream::Stdout))
        .stderr(output.stream(Stream::Stderr))
        .max_random_size(MAX_RANDOM_BYTES)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    for (key, value) in &settings.grants.env {
        wasi.env(key, value.text());
    }
    wasi
}

/// The WASI context with the granted directories. Opening them may block.
///
/// # Errors
///
/// If one cannot be opened.
pub(crate) fn wasi_with_dirs(
    settings: &AppSettings,
    request: RequestId,
    diagnosis: Option<&CallDiagnosis>,
) -> wasmtime::Result<Granted> {
    let output = output(settings, request, diagnosis);
    let mut wasi = wasi(settings, &output);
    for dir in &settings.grants.dirs {
        let permissions = if dir.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        wasi.preopened_dir(&dir.host, &dir.guest, permissions)?;
    }
    Ok(Granted { wasi: Box::new(wasi.build()), output })
}

impl State {
    /// The WASI context is made in advance if directories are granted, otherwise at the guest's first use.
    pub(crate) fn new(
        settings: &Arc<AppSettings>,
        request: RequestId,
        diagnosis: Option<CallDiagnosis>,
        meter: Arc<Meter>,
        granted: Option<Granted>,
    ) -> Self {
        let (wasi, output) = granted.map(|granted| (granted.wasi, granted.output)).unzip();
        let mut table = ResourceTable::with_capacity(EXPECTED_HOST_RESOURCES);
        table.set_max_capacity(MAX_HOST_RESOURCES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_FIELDS_BYTES);
        Self {
            settings: Arc::clone(settings),
            request,
            diagnosis,
            wasi,
            output,
            http,
            hooks: Hooks::new(Arc::clone(&settings.outgoing), Arc::clone(&meter)),
            table,
            limiter: Limiter::new(&settings.limits, meter),
            host_memory: HostMemory::new(settings.limits.max_host_memory_bytes),
            store_use: StoreUse::default(),
            unsent_requests: UnsentRequests::default(),
            received_bodies: ReceivedBodies::default(),
            guest: Guest::new(MAX_HOSTCALL_BYTES),
            answer: None,
            answered: None,
            passed: None,
        }
    }

    pub(crate) fn vars(&self) -> &BTreeMap<String, Value> {
        &self.settings.grants.vars
    }

    /// The name of the guest's route.
    pub(super) fn route(&self) -> &str {
        &self.settings.route
    }

    /// The stores that the guest may open.
    pub(super) fn stores(&self) -> &Arc<GrantedStores> {
        &self.settings.stores
    }

    pub(super) fn store_use(&mut self) -> &mut StoreUse {
        &mut self.store_use
    }

    /// The secrets that the guest is granted.
    pub(crate) fn mask(&self) -> Option<&Arc<Mask>> {
        self.settings.mask.as_ref()
    }

    /// The guest's output to the log.
    pub(super) fn output(&mut self) -> &GuestOutput {
        self.output.get_or_insert_with(|| output(&self.settings, self.request, self.diagnosis.as_ref()))
    }

    /// What is recorded of the call for its developer.
    pub(crate) fn diagnosis(&self) -> Option<&CallDiagnosis> {
        self.diagnosis.as_ref()
    }

    /// Charges `bytes`, an upper bound, to the guest. Must be called before the host allocates them for the guest.
    ///
    /// # Errors
    ///
    /// If the host keeps more than `max_host_memory`; the guest must trap.
    pub(crate) fn charge(&mut self, bytes: usize) -> wasmtime::Result<()> {
        if self.host_memory.count(bytes) { self.measure(bytes) } else { Ok(()) }
    }

    /// Measures everything that the host keeps for the guest.
    #[cold]
    fn measure(&mut self, about_to: usize) -> wasmtime::Result<()> {
        let kept = Measurement::of_all(self.table.iter_mut())
            + self.guest.kept_bytes()
            + self.hooks.kept_bytes()
            + self.store_use.kept_bytes();
        Ok(self.host_memory.set_measured(kept, about_to)?)
    }

    /// The thread pool for the route's file operations.
    pub(crate) fn files(&self) -> &Arc<RouteFiles> {
        &self.settings.files
    }

    /// The host resources that the guest has handles of.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(crate) fn hooks(&mut self) -> &mut Hooks {
        &mut self.hooks
    }

    /// For a guest that has returned: a future that completes when the bodies of all its outgoing requests are sent.
    pub(crate) fn finish_uploads(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.hooks.finish_uploads()
    }

    pub(crate) fn unsent_requests(&mut self) -> &mut UnsentRequests {
        &mut self.unsent_requests
    }

    /// The messages of a P3 component whose bodies it has received.
    pub(crate) fn received_bodies(&mut self) -> &mut ReceivedBodies {
        &mut self.received_bodies
    }

    /// The canonical ABI's state, for a guest whose module is linked directly.
    pub(crate) fn guest(&mut self) -> &mut Guest<Self> {
        &mut self.guest
    }

    pub(crate) fn answer_to(&mut self, head: oneshot::Sender<GuestResponse>) {
        self.answer = Some(head);
    }

    /// Sets the guest's response.
    pub(crate) fn answer(&mut self, head: GuestResponse) {
        self.answered = Some(head);
    }

    /// Sends the guest's response to the connection, if there is one.
    pub(crate) fn pass_answer(&mut self) {
        if self.answered.is_some()
            && let (Some(head), Some(answer)) = (self.answered.take(), self.answer.take())
        {
            let _ = answer.send(head);
        }
    }

    /// Whether the guest's response was sent to the connection.
    pub(crate) fn has_passed_answer(&self) -> bool {
        self.answer.is_none()
    }

    /// For a response whose body is not the guest's own: the returned sender must be kept until the end of that body.
    pub(crate) fn pass_on(&mut self) -> oneshot::Sender<()> {
        let (sender, passed) = oneshot::channel();
        self.passed = Some(passed);
        sender
    }

    pub(crate) fn passed(&mut self) -> Option<oneshot::Receiver<()>> {
        self.passed.take()
    }

    pub(crate) fn limits(&self) -> &RouteLimits {
        &self.settings.limits
    }

    pub(crate) fn refused(&self) -> Option<Refused> {
        self.limiter.refused()
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Self { settings, request, diagnosis, output: written, wasi: made, table, .. } = self;
        let make = || {
            let output = written.get_or_insert_with(|| output(settings, *request, diagnosis.as_ref()));
            Box::new(wasi(settings, output).build())
        };
        WasiCtxView { ctx: made.get_or_insert_with(make), table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}
