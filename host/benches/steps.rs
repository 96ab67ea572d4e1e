//! Benchmarks of the single steps of a request, without sockets and processes: they show where the time of a request
//! goes, and which step a change has made slower. CONTRIBUTING.md explains how to run them.
#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot be set up fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use daylily::Allocator;
use daylily::bench::Steps;
use daylily_core::config::{self, Overrides};
use divan::{AllocProfiler, Bencher};
use http::Request;
use http::header::HOST;

/// The allocator of the program, with counters.
#[global_allocator]
static ALLOCATOR: AllocProfiler<Allocator> = AllocProfiler::new(Allocator);

/// Hello World of wasi:http 0.2 and 0.3: packages of the guest workspace.
const GUESTS: [&str; 2] = ["hello", "hello03"];

/// The number of samples for steps that need an input or take a slot. Each input is made for one sample at a time, as
/// for a request.
const SAMPLES: u32 = 5_000;

static BUILT: LazyLock<PathBuf> = LazyLock::new(|| guest_builder::build(&GUESTS).expect("the guests"));

fn main() {
    // The same setting as in the program.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    divan::main();
}

/// Finds the route for a request from its target and `Host`, for each route in turn.
#[divan::bench(args = [1, 100, 1_000])]
fn route(bencher: Bencher<'_, '_>, routes: u32) {
    let hosts: Vec<_> = (0..routes).map(|route| format!("app-{route}.example.com")).collect();
    let steps = load(&hosts.iter().map(|host| route_to("hello", host)).collect::<String>());
    let requests: Vec<_> = hosts.iter().map(|host| request("/items/42?page=2", host)).collect();
    assert!(requests.iter().all(|request| steps.route(request).expect("a well-formed target")));
    let mut next = requests.iter().cycle();
    bencher.bench_local(|| next.next().map(|request| steps.route(request)));
}

/// Takes a permit and returns it.
#[divan::bench]
fn admit(bencher: Bencher<'_, '_>) {
    let steps = hello("hello");
    bencher.bench_local(|| drop(steps.admit().expect("a permit")));
}

/// Creates a store, and drops it without an instance.
#[divan::bench(args = GUESTS)]
fn store(bencher: Bencher<'_, '_>, guest: &str) {
    let steps = hello(guest);
    bencher.bench_local(|| drop(steps.store().expect("a store")));
}

/// Instantiates a guest in an existing store, and drops both before the guest has run.
#[divan::bench(args = GUESTS, sample_count = SAMPLES, sample_size = 1)]
fn instantiate(bencher: Bencher<'_, '_>, guest: &str) {
    let steps = hello(guest);
    let store = || steps.store().expect("a store");
    bencher.with_inputs(store).bench_local_values(|store| drop(steps.instantiate(store).expect("an instance")));
}

/// All that the engine does for a request: creates a store and an instance, runs the guest to its end, reads its
/// response, and drops everything.
#[divan::bench(args = GUESTS, sample_count = SAMPLES, sample_size = 1)]
fn call(bencher: Bencher<'_, '_>, guest: &str) {
    let steps = hello(guest);
    let called = steps.call(request("/", "localhost")).expect("an answer");
    assert_eq!(called.response.body(), "Hello World\n");
    let request = || request("/", "localhost");
    bencher.with_inputs(request).bench_local_values(|request| drop(steps.call(request).expect("an answer")));
}

/// Drops the store and the instance of a guest that has run: its memory is reset, and its slot released.
#[divan::bench(args = GUESTS, sample_count = SAMPLES, sample_size = 1)]
fn drop_store(bencher: Bencher<'_, '_>, guest: &str) {
    let steps = hello(guest);
    let called = || steps.call(request("/", "localhost")).expect("an answer");
    bencher.with_inputs(called).bench_local_values(drop);
}

/// A worker with one route.
fn hello(guest: &str) -> Steps {
    load(&route_to(guest, "localhost"))
}

fn load(config: &str) -> Steps {
    let config = config::parse(Path::new("steps.toml"), config, &Overrides::default()).expect("a configuration");
    Steps::load(&config).expect("guests that can be served")
}

fn route_to(guest: &str, host: &str) -> String {
    let component = BUILT.join(format!("{guest}.wasm"));
    format!("[[route]]\nhost = {host:?}\npath = \"/*\"\ncomponent = {component:?}\n")
}

fn request(target: &str, host: &str) -> Request<()> {
    Request::get(target).header(HOST, host).body(()).expect("a request")
}
