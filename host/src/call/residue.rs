//! An instance finds no data of the instance that used its slot before. Tested for each kind of pool as configured, and
//! with each of its tuned settings off. There is either one slot for the memory, or the slot that was returned last is
//! taken first, so that the second instance certainly gets the same slot.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daylily_core::config::RouteLimits;
use http_body_util::{BodyExt, Empty};
use residue_guest::{FIELD, PLACES, Wasi, component, places};
use rustix::mm::{Advice, madvise};
use tokio::sync::oneshot;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::artifact::Form;
use crate::call::app::App;
use crate::call::testing::{app_in, needs};
use crate::call::{Call, Received};
use crate::engine::call_outcome::CallOutcome;
use crate::engine::cpu_queue::CpuQueue;
use crate::engine::epoch::Ticker;
use crate::engine::meter::Metered;
use crate::engine::pool::{Engines, PoolKind, Reset, StackDetail, WasiVersion, base, pooling, use_slots};
use crate::observe::request_id::RequestId;
use crate::wasi::http::GuestResponse;
use crate::wasi::settings::AppSettings;

/// The limit of the guest that spins.
const SPIN_CPU_TIME: Duration = Duration::from_millis(300);

/// The limit of all others, which write up to 32 MiB: far more than this takes on a busy machine without optimisation.
const CPU_TIME: Duration = Duration::from_secs(60);

type Change = fn(&mut PoolingAllocationConfig, &mut Config);

const NONE: &(&str, Change) = &("none", |_, _| {});

/// Each changes one tuned setting of wasmtime's pool to off.
const SETTINGS: &[(&str, Change)] = &[
    ("linear_memory_keep_resident", |pool, _| {
        pool.linear_memory_keep_resident(0);
    }),
    ("table_keep_resident", |pool, _| {
        pool.table_keep_resident(0);
    }),
    ("max_unused_warm_slots", |pool, _| {
        pool.max_unused_warm_slots(0);
    }),
    ("pagemap_scan", |pool, _| {
        pool.pagemap_scan(Enabled::No);
    }),
    ("memory_init_cow", |_, config| {
        config.memory_init_cow(false);
    }),
    ("all", |pool, config| {
        pool.linear_memory_keep_resident(0).table_keep_resident(0);
        pool.max_unused_warm_slots(0).pagemap_scan(Enabled::No);
        config.memory_init_cow(false);
    }),
];

/// What is written, and how the guest that wrote it ends. The sizes are below, at and above what the pool keeps
/// resident.
const WRITES: &[(&str, By)] = &[
    ("/write-return?mib=0", By::Returning),
    ("/write-return?mib=1", By::Returning),
    ("/write-return?mib=4", By::Returning),
    ("/write-return?mib=32", By::Returning),
    ("/write-trap?mib=4", By::Trap),
    ("/write-spin?mib=4", By::CpuTime),
    ("/write-wait?mib=4", By::DropWhileWaiting),
    ("/write-wait?mib=0", By::DropPagedOut),
    ("/write-head?mib=4", By::DropWhileRunning),
];

#[derive(Clone, Copy, Debug)]
enum By {
    Returning,
    Trap,
    CpuTime,
    DropWhileWaiting,
    /// While it waits, and after the kernel has moved its memory to swap. Without swap space, the memory stays where it
    /// is.
    DropPagedOut,
    DropWhileRunning,
}

#[tokio::test]
async fn nothing_is_left_for_the_next_instance_of_0_2() {
    check_all(WasiVersion::P2).await;
}

#[tokio::test]
async fn nothing_is_left_for_the_next_instance_of_0_3() {
    check_all(WasiVersion::P3).await;
}

async fn check_all(wasi_version: WasiVersion) {
    let forms = if wasi_version == WasiVersion::P2 { &[Form::Component, Form::Module][..] } else { &[Form::Component] };
    for form in forms {
        check(PoolKind { wasi_version, reset: Reset::Whole }, *form, NONE).await;
        for setting in SETTINGS.iter().chain([NONE]) {
            check(PoolKind { wasi_version, reset: Reset::Written }, *form, setting).await;
        }
    }
}

async fn check(kind: PoolKind, form: Form, (off, change): &(&str, Change)) {
    let app = app(kind, form, *change);
    let limits = RouteLimits { cpu_time: SPIN_CPU_TIME, ..RouteLimits::default() };
    let spinning = App::new(&app.engines, &app.handler, AppSettings::granting_nothing("under test", limits));
    let spinning = Arc::new(spinning);
    // A check that the guest finds residue if there is any.
    let found = answer(&app, "/both?mib=4").await;
    assert_eq!(found, PLACES.map(|(_, name)| name), "{kind:?}, {form:?}, off: {off}");
    for (write, by) in WRITES {
        for _ in 0..2 {
            let app_to_end = if matches!(by, By::CpuTime) { &spinning } else { &app };
            end(app_to_end, write, *by).await;
            let found = answer(&app, "/look?mib=33").await;
            assert!(found.is_empty(), "{found:?} after {write}, ended by {by:?}; {kind:?}, {form:?}, off: {off}");
        }
    }
}

/// A component in a pool with one slot, whose settings are modified by `change`.
fn app(kind: PoolKind, form: Form, change: Change) -> Arc<App> {
    let wasi_version = kind.wasi_version;
    let limits = RouteLimits { cpu_time: CPU_TIME, ..RouteLimits::default() };
    let mut config = base(kind, StackDetail::Names);
    match kind.reset {
        Reset::Whole => use_slots(&mut config, needs(), 1).expect("address space"),
        Reset::Written => {
            let mut pool = pooling(needs(), 1, 1, Enabled::Auto);
            change(&mut pool, &mut config);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
    }
    let engine = Engine::new(&config).expect("a pool");
    let wasi = if wasi_version == WasiVersion::P3 { Wasi::P3 } else { Wasi::P2 };
    let component = component(wasi).expect("a component");
    let ticker = Ticker::start(vec![engine.clone()]).expect("a thread");
    let engines = Arc::new(Engines { pools: vec![(kind, engine)], ticker, cpu_queue: CpuQueue::new() });
    app_in(engines, kind, form, &component, limits)
}

fn call(app: &Arc<App>, target: &str) -> Call {
    let request = http::Request::get(target).header("host", "residue.test");
    let body = Empty::<Bytes>::new().map_err(|never| match never {});
    let id = RequestId::next();
    app.call(id, Received::plain(id, request.body(body).expect("a request")))
}

/// The findings of a guest that ends by returning.
async fn answer(app: &Arc<App>, target: &str) -> Vec<&'static str> {
    let Call { run, head, .. } = call(app, target);
    answered(target, run, head).await
}

/// The findings of a guest that is to end by returning.
async fn answered(target: &str, run: Metered, head: oneshot::Receiver<GuestResponse>) -> Vec<&'static str> {
    // Checked at once: while the store of a guest that has failed is kept, its response has no end.
    let run = async {
        let (outcome, ended_store) = run.await;
        assert!(matches!(outcome, CallOutcome::Done), "{target}: {outcome:?}");
        ended_store
    };
    tokio::join!(run, found(head)).1
}

async fn found(head: oneshot::Receiver<GuestResponse>) -> Vec<&'static str> {
    let (head, body) = head.await.expect("an answer").expect("a response").into_parts();
    // A P3 guest ends only after its response has been read.
    body.collect().await.expect("an empty body");
    let field = head.headers.get(FIELD).expect("the field").to_str().expect("a number");
    places(field).expect("a number")
}

/// Lets a guest write, and ends it.
async fn end(app: &Arc<App>, target: &str, by: By) {
    let Call { mut run, head, .. } = call(app, target);
    match by {
        By::Returning => {
            let found = answered(target, run, head).await;
            assert!(found.is_empty(), "{target}: {found:?}");
        }
        By::Trap => {
            let (outcome, _remains) = run.await;
            assert!(matches!(outcome, CallOutcome::Trap(_)), "{outcome:?}");
        }
        By::CpuTime => {
            let (outcome, _remains) = run.await;
            assert!(matches!(outcome, CallOutcome::CpuTime(_)), "{outcome:?}");
        }
        By::DropWhileWaiting | By::DropPagedOut => {
            let ended = tokio::time::timeout(Duration::from_millis(100), &mut run).await;
            assert!(ended.is_err(), "it does not wait");
            if matches!(by, By::DropPagedOut) {
                page_out();
            }
        }
        By::DropWhileRunning => tokio::select! {
            _ = &mut run => panic!("it does not run on"),
            head = head => drop(head.expect("an answer")),
        },
    }
}

/// Moves this process's written memory to swap, as the kernel does when memory is short.
#[expect(unsafe_code, reason = "advice that changes no contents")]
fn page_out() {
    for line in std::fs::read_to_string("/proc/self/maps").expect("a list of mappings").lines() {
        let Some((range, rest)) = line.split_once(' ') else { continue };
        let (start, end) = range.split_once('-').expect("a range");
        let [start, end] = [start, end].map(|hex| usize::from_str_radix(hex, 16).expect("an address"));
        if rest.starts_with("rw-p") {
            // SAFETY: pages that are moved to swap have the same contents when they are accessed again. For a mapping
            // that no longer exists, the call fails without an effect.
            let _ = unsafe { madvise(start as *mut c_void, end - start, Advice::LinuxPageOut) };
        }
    }
}
