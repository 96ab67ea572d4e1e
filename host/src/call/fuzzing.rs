//! What the fuzz targets run: malformed components, and guests that execute a generated program in both forms.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use daylily_core::config::RouteLimits;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::runtime::Runtime;
use wasmtime::component::Component;
use wasmtime::{Engine, Module, StoreContextMut};
use wasmtime_wasi_http::Error as HttpError;

use super::direct::handler::DirectLinker;
use super::handler::Handler;
use crate::artifact::cache;
use crate::artifact::inspect::inspect;
use crate::call::app::App;
use crate::call::{Call, Received};
use crate::component_abi::Function;
use crate::component_link::{self, relink};
use crate::engine::call_outcome::CallOutcome;
use crate::engine::epoch::Ticker;
use crate::engine::pool::{Engines, Needs, PoolKind, Reset, StackDetail, WasiVersion, compiler};
use crate::observe::request_id::RequestId;
use crate::wasi::http::content_length;
use crate::wasi::link::{self, functions};
use crate::wasi::settings::AppSettings;
use crate::wasi::state::State;

/// The interface from which a guest reads its program and to which it reports results: `word: func(at: u32) -> u64` and
/// `note: func(what: u32, value: u64)`.
pub const TRACE: &str = "daylily:fuzz/trace";

/// The message of [`Ended::Trap`] for a guest that waits forever.
pub const WAITS: &str = "it waits";

/// The message of [`Ended::Trap`] for a guest during whose call the host panicked.
pub const HOST_PANIC: &str = crate::engine::meter::HOST_PANIC;

/// Maximum of recorded results of one run. The program has no loops of its own.
const MAX_RECORDS: usize = 10_000;

/// Yields to the event loop, at the start and after each timer, until a waiting guest is taken to wait forever; besides
/// one for each operation of its program, which may yield.
const PATIENCE_TURNS: usize = 40;
/// Time to wait for each timer that the guest may have started. All of those are shorter.
const TIMER_PATIENCE: Duration = Duration::from_millis(3);

/// How a component is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Its main module alone, linked directly.
    Direct,
    /// The whole component.
    Component,
}

/// The WASI version of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wasi {
    /// `wasi:http/incoming-handler@0.2`.
    P2,
    /// `wasi:http/handler@0.3`.
    P3,
}

/// The guest's request, and its program.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// One word for each operation.
    pub program: Vec<u64>,
    /// The chunks of the request's body.
    pub body: Vec<&'static [u8]>,
    /// Whether the body ends after its chunks. If not, it stays open.
    pub ends: bool,
    /// Whether trailers are before its end, if it ends. What a client sends has ended after them.
    pub trailers: bool,
    /// The number of timers that the program can wait for in sequence. Each is shorter than two milliseconds.
    pub timers: usize,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It returned.
    Returned,
    /// It called `exit`.
    Exit(i32),
    /// It trapped, or waits forever.
    Trap(String),
    /// It exceeded a limit of the host, or never ran.
    Other(String),
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestRun {
    /// How the guest ended.
    pub ended: Ended,
    /// The results that it has reported.
    pub trace: Vec<(u32, u64)>,
    /// The response for the client.
    pub response: String,
}

#[derive(Default)]
struct Run {
    program: Vec<u64>,
    trace: Vec<(u32, u64)>,
}

thread_local! {
    /// The current run of this thread: host functions have no other access to it.
    static RUN: RefCell<Run> = RefCell::default();
}

fn word(at: u32) -> u64 {
    RUN.with_borrow(|run| run.program.get(at as usize).copied().unwrap_or(0))
}

fn record(what: u32, value: u64) {
    RUN.with_borrow_mut(|run| {
        if run.trace.len() < MAX_RECORDS {
            run.trace.push((what, value));
        }
    });
}

/// All functions that modules may import, and [`TRACE`].
fn traced_functions() -> Vec<Function<State>> {
    let mut all = functions();
    all.push(Function::new(TRACE, "word", |_: &mut State, (at,): (u32,)| wasmtime::error::Ok(word(at))));
    all.push(Function::new(TRACE, "note", |_: &mut State, (what, value): (u32, u64)| {
        record(what, value);
        wasmtime::error::Ok(())
    }));
    all
}

/// A component that is compiled once, and run in both forms.
pub struct Forms {
    direct: Arc<App>,
    component: Arc<App>,
    runtime: Runtime,
}

impl Forms {
    /// # Errors
    ///
    /// If the component cannot be linked in both forms.
    pub fn new(component: &[u8], wasi: Wasi) -> wasmtime::Result<Self> {
        let wasi_version = match wasi {
            Wasi::P2 => WasiVersion::P2,
            Wasi::P3 => WasiVersion::P3,
        };
        Ok(Self {
            direct: app(WasiVersion::P2, |engine| {
                let module = component_link::direct::main_module(component, &traced_functions())
                    .ok_or_else(|| wasmtime::format_err!("it is not linked directly"))?;
                DirectLinker::of(engine, traced_functions())?.link(&Module::new(engine, module)?).map(Handler::Direct)
            })?,
            component: app(wasi_version, |engine| {
                let mut linker = link::linker(engine, wasi_version)?;
                let mut trace = linker.instance(&format!("{TRACE}@0.2.0"))?;
                trace.func_wrap("word", |_: StoreContextMut<'_, State>, (at,): (u32,)| Ok((word(at),)))?;
                trace.func_wrap("note", |_: StoreContextMut<'_, State>, (what, value): (u32, u64)| {
                    record(what, value);
                    Ok(())
                })?;
                let component = Component::new(engine, component)?;
                Handler::new(linker.instantiate_pre(&component)?, wasi == Wasi::P3)
            })?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// Runs one request in one form.
    ///
    /// # Errors
    ///
    /// If the request is invalid.
    pub fn run(&self, form: Form, input: &Input) -> http::Result<GuestRun> {
        RUN.set(Run { program: input.program.clone(), trace: Vec::new() });
        let app = match form {
            Form::Direct => &self.direct,
            Form::Component => &self.component,
        };
        let request = http::Request::post("/path?query").header("host", "fuzz.test").header("x-first", "1");
        let request = request.body(RequestBody::of(input))?;
        let outcome = self.runtime.block_on(outcome(app, request, input));
        let (ended, response) = outcome.unwrap_or_else(|| (Ended::Trap(WAITS.to_owned()), String::new()));
        Ok(GuestRun { ended, response, trace: RUN.take().trace })
    }
}

fn app(
    wasi_version: WasiVersion,
    link: impl FnOnce(&Engine) -> wasmtime::Result<Handler>,
) -> wasmtime::Result<Arc<App>> {
    let kind = PoolKind { wasi_version, reset: Reset::Whole };
    let limits = RouteLimits::default();
    let needs = Needs {
        memories: 2,
        memory_bytes: limits.max_memory_bytes,
        tables: 4,
        table_elements: 0,
        core_instances: limits.max_instances,
        stacks: 8,
    };
    // Without epoch ticks: the end of a slice also sends the response, and when it comes depends on the machine.
    let mut engines = Engines::new(&[(kind, needs)], 1, StackDetail::Names)?;
    engines.ticker = Ticker::start(Vec::new())?;
    let engines = Arc::new(engines);
    let engine = engines.pool(kind).ok_or_else(|| wasmtime::format_err!("there is no pool"))?;
    let handler = Arc::new(link(engine)?);
    let settings = AppSettings::granting_nothing("fuzzing", limits);
    Ok(Arc::new(App::new(&engines, &handler, settings)))
}

/// How the guest ended, and its response. `None` if it waits forever.
async fn outcome(app: &Arc<App>, request: http::Request<RequestBody>, input: &Input) -> Option<(Ended, String)> {
    // The same in both forms: the guest sees it.
    let id = RequestId::from_words([1, 2]);
    let Call { run, mut head, .. } = app.call(id, Received::plain(id, request));
    let has_ended = Cell::new(false);
    let response = async {
        let head = poll_fn(|cx| match Pin::new(&mut head).poll(cx) {
            // An ended store may keep the sender.
            Poll::Pending if has_ended.get() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
            Poll::Ready(head) => Poll::Ready(head.ok()),
        });
        match head.await {
            Some(Ok(response)) => {
                let (parts, body) = response.into_parts();
                let body = body.collect().await.map(|body| (body.trailers().cloned(), body.to_bytes()));
                // A body that is too short is reported by the host API in one form, and by hyper, when it is sent, in
                // the other.
                let said = content_length(&parts.headers);
                let body = body.ok().filter(|(_, bytes)| said.is_none_or(|said| bytes.len() as u64 == said));
                format!("{} {:?} {body:?}", parts.status, parts.headers)
            }
            Some(Err(code)) => code.into(),
            None => "none".to_owned(),
        }
    };
    let run = async {
        let (outcome, ended_store) = run.await;
        has_ended.set(true);
        // The ended store keeps a body open that its guest did not finish. For outcomes after which an end of the body
        // counts as the guest's own, it is kept until the response has ended, as by the server.
        let kept = matches!(outcome, CallOutcome::Exit(_) | CallOutcome::Trap(_)).then_some(ended_store);
        let ended = match outcome {
            CallOutcome::Done => Ended::Returned,
            CallOutcome::Exit(code) => Ended::Exit(code),
            CallOutcome::Trap(detail) => Ended::Trap(detail.into()),
            other => Ended::Other(format!("{other:?}")),
        };
        (ended, kept)
    };
    let patience = async {
        for timer in 0..=input.timers {
            if timer > 0 {
                tokio::time::sleep(TIMER_PATIENCE).await;
            }
            for _ in 0..PATIENCE_TURNS + input.program.len() {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        biased;
        ((ended, _kept), response) = async { tokio::join!(run, response) } => Some((ended, response)),
        () = patience => None,
    }
}

/// A request body of some chunks. It ends after them, or never.
struct RequestBody {
    frames: VecDeque<Frame<Bytes>>,
    ends: bool,
}

impl RequestBody {
    fn of(input: &Input) -> Self {
        let mut frames: VecDeque<_> = input.body.iter().map(|piece| Frame::data(Bytes::from_static(piece))).collect();
        if input.ends && input.trailers {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-trailer", http::HeaderValue::from_static("last"));
            frames.push_back(Frame::trailers(trailers));
        }
        Self { frames, ends: input.ends }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// A component without its shim module, if it has one of the known form.
pub fn relinked(component: &[u8]) -> Option<Vec<u8>> {
    relink::relink(component)
}

/// The rewritten main module of a component, if it can be linked directly.
pub fn main_module(component: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        static FUNCTIONS: Vec<Function<State>> = traced_functions();
    }
    FUNCTIONS.with(|functions| component_link::direct::main_module(component, functions))
}

/// Whether the file is recognized as a component with an HTTP handler.
pub fn inspected(file: &[u8]) -> Result<(), String> {
    inspect(file).map(drop).map_err(|error| error.to_string())
}

/// Whether wasmtime compiles a component, or a module.
///
/// # Errors
///
/// wasmtime's error if it does not.
pub fn compiles(wasm: &[u8], form: Form) -> wasmtime::Result<()> {
    let engine = compiler(PoolKind { wasi_version: WasiVersion::P3, reset: Reset::Whole }, StackDetail::Names)?;
    match form {
        Form::Direct => Module::new(&engine, wasm).map(drop),
        Form::Component => Component::new(&engine, wasm).map(drop),
    }
}

/// The facts and the code of a cache entry, if it is valid and has this key.
pub fn cache_entry(key: [u8; 32], entry: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    cache::parse(entry, &cache::Key(key)).map(|cache::Entry { facts, code }| (facts, code))
}

/// The digest in a cache entry's header. `rest` is what follows it: the length of the facts, the facts and the code.
pub fn digest(rest: &[u8]) -> [u8; 32] {
    *blake3::hash(rest).as_bytes()
}
