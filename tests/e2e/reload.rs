//! A new configuration and new components, without a request lost; and when there is something wrong
//! with them, everything stays as it was.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Connection, Daylily, Ending, HeldFile, Load, PATIENCE, Request, Setup, cache_dir, each, eventually, guest, route_to,
};

fn component(package: &str) -> Vec<u8> {
    std::fs::read(guest(package)).expect("a built guest")
}

/// Serves `app.wasm` of its directory: the Hello World, until a test puts something else there.
fn app() -> Setup {
    Setup::new().route_to("app.test", "app.wasm").file("app.wasm", &component("hello"))
}

fn hello(server: &Daylily) {
    server.get("app.test", "/").expect(200, "Hello World\n");
}

#[track_caller]
fn wait_for_generation(server: &Daylily, generation: u64) {
    let came = eventually(PATIENCE, || server.status().generation() == generation);
    assert!(came, "no generation {generation}: {:?}", server.status());
}

#[derive(Debug)]
enum By {
    Command,
    Hangup,
}

#[test]
fn what_was_changed_is_served() {
    each(&[By::Command, By::Hangup], |by| {
        let server = app().start();
        let reload = |generation| match by {
            By::Command => server.reload(),
            By::Hangup => {
                server.signal(Signal::HUP);
                wait_for_generation(&server, generation);
            }
        };
        hello(&server);
        let old = server.workers();
        server.put("app.wasm", component("state"));
        hello(&server);
        reload(2);
        server.get("app.test", "/").expect(200, "count: 1\n");
        server.get("more.test", "/").expect_refusal(404, "no such route");
        server.configure(|config| config + &route_to("more.test", "app.wasm"));
        reload(3);
        server.get("more.test", "/").expect(200, "count: 1\n");
        let (status, new) = (server.status(), server.workers());
        assert_eq!((status.generation(), status.total("reloads"), status.total("reloads_failed")), (3, 2, 0));
        assert_ne!(old, new);
        assert!(eventually(PATIENCE, || !old[0].is_running()), "the worker of the first generation stays");
        assert_eq!(server.status().supervisor(), server.supervisor());
    });
}

/// What is wrong after the files were changed, the exit code, and what is said.
type Bad = (&'static str, fn(&Daylily), i32, &'static [&'static str]);

const BAD: &[Bad] = &[
    ("no TOML", |server| server.put("daylily.toml", "= nonsense"), 78, &["daylily.toml:1"]),
    ("an unknown key", |server| server.configure(|config| format!("nonsense = 1\n{config}")), 78, &["nonsense"]),
    ("no configuration", |server| remove(server, "daylily.toml"), 78, &["failed to read the configuration"]),
    ("no component", |server| remove(server, "app.wasm"), 66, &["failed to read component", "app.wasm"]),
    ("not a component", |server| server.put("app.wasm", "Hello"), 65, &["failed to load component", "app.wasm"]),
    (
        "an import that nobody provides",
        |server| server.put("app.wasm", component("wants")),
        65,
        &["daylily does not provide these imports", "example:missing/thing", "wasi:keyvalue/store"],
    ),
    (
        "more memory than it may have",
        |server| {
            server.put("app.wasm", component("state"));
            server.configure(|config| config + "max_memory = '64KiB'\n");
        },
        78,
        &["failed to load component", "max_memory"],
    ),
    (
        "a directory that is not there",
        |server| server.configure(|config| config + "dirs = ['nowhere::/data']\n"),
        78,
        &["failed to open the directory", "nowhere"],
    ),
    ("no workers", |server| server.configure(|config| config.replace("workers = 1", "workers = 0")), 78, &["workers"]),
    ("an address in use", listen_where_another_does, 69, &["failed to listen on 127.0.0.1:", "--listen"]),
    (
        "no time to start in",
        |server| server.configure(|config| config.replace("[server]", "[server]\nstart_timeout = '1ms'")),
        1,
        &["not ready after start_timeout = 1ms"],
    ),
];

fn listen_where_another_does(server: &Daylily) {
    // For as long as the test runs.
    let other = Box::leak(Box::new(TcpListener::bind("127.0.0.1:0").expect("a port")));
    let address = other.local_addr().expect("an address");
    server.configure(|config| config.replace("'127.0.0.1:0'", &format!("'127.0.0.1:0', '{address}'")));
}

fn remove(server: &Daylily, path: &str) {
    std::fs::remove_file(server.directory().join(path)).expect("the file");
}

/// Fails unless the server is as it was before a reload that failed.
#[track_caller]
fn expect_refused(server: &Daylily, code: i32, parts: &[&str]) {
    let (before, old) = (server.status(), server.workers());
    let refused = server.command(&["reload"]);
    refused.expect(code, parts);
    assert_eq!(refused.stdout, "");
    hello(server);
    let after = server.status();
    assert_eq!((after.generation(), after.state()), (before.generation(), "serving"));
    assert_eq!(after.total("reloads_failed"), before.total("reloads_failed") + 1);
    assert_eq!(server.workers(), old);
    assert_eq!(after.of_worker(0, "restarts"), before.of_worker(0, "restarts"));
    // What was started for the new generation is gone.
    let only_old = eventually(PATIENCE, || server.supervisor().children() == old);
    assert!(only_old, "{:?} run beside {old:?}", server.supervisor().children());
    for part in parts {
        server.log().wait_for(&[part]);
    }
    // As one who starts it would be told.
    let cache = cache_dir().display().to_string();
    let started = server.command_at("another.sock", &["serve", "-c", "daylily.toml", "--cache-dir", &cache]);
    assert_eq!((started.code, started.stderr.ends_with(&refused.stderr)), (code, true), "{started:?} {refused:?}");
}

/// Listens and has its number of workers by its file, not by flags.
fn by_file() -> Setup {
    app().without("--listen").without("--workers").top("listen = ['127.0.0.1:0']\nworkers = 1")
}

#[test]
fn what_cannot_be_served_leaves_everything_as_it_was() {
    let server = by_file().start();
    let config = server.config();
    each(BAD, |(_, spoil, code, parts)| {
        server.put("daylily.toml", &config);
        server.put("app.wasm", component("hello"));
        spoil(&server);
        expect_refused(&server, *code, parts);
    });
    server.put("daylily.toml", &config);
    server.put("app.wasm", component("state"));
    server.reload();
    server.get("app.test", "/").expect(200, "count: 1\n");
}

/// Not even one connection that is made after the answer comes to the old generation, however busy that is.
#[test]
fn a_reload_that_was_answered_is_served() {
    let server = app().route("burn.test", "burn", "").start();
    let load = Load::start(server.address(), 8, &Request::get("burn.test", "/ms?n=10"));
    for round in 0..60 {
        let (package, body) = if round % 2 == 0 { ("state", "count: 1\n") } else { ("hello", "Hello World\n") };
        server.put("app.wasm", component(package));
        // Without the process of the command, whose end takes a while.
        let answer = server.say("\"reload\"\n").expect("an answer");
        assert!(answer.contains("reloaded"), "{answer}");
        server.get("app.test", "/").expect(200, body);
    }
    load.end().expect_no_failure();
}

/// Nor to one before that, which is slower to stop than the one that came after it.
#[test]
fn a_reload_waits_for_every_generation_before_it() {
    let server = app().start();
    let first = server.workers()[0];
    first.signal(Signal::STOP);
    server.signal(Signal::HUP);
    wait_for_generation(&server, 2);
    server.put("app.wasm", component("state"));
    thread::scope(|scope| {
        let answer = scope.spawn(|| server.say("\"reload\"\n"));
        wait_for_generation(&server, 3);
        thread::sleep(Duration::from_millis(300));
        assert!(!answer.is_finished(), "it was answered though the first generation may still accept");
        first.signal(Signal::CONT);
        let answer = answer.join().expect("an answer").expect("a line");
        assert!(answer.contains("reloaded"), "{answer}");
        server.get("app.test", "/").expect(200, "count: 1\n");
    });
}

/// All who ask at once get their answer, and what they wrote before is served when they have it.
#[test]
fn reloads_at_once_are_all_answered() {
    let server = app().start();
    for round in 0..5 {
        let (package, body) = if round % 2 == 0 { ("state", "count: 1\n") } else { ("hello", "Hello World\n") };
        // One that may have read the files already.
        server.signal(Signal::HUP);
        server.put("app.wasm", component(package));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    server.reload();
                    server.get("app.test", "/").expect(200, body);
                });
            }
        });
    }
    assert_eq!(server.status().total("reloads_failed"), 0);
}

#[test]
fn reloads_under_load_lose_nothing() {
    const RELOADS: u64 = 30;
    let server = app().workers(2).start();
    let load = Load::start(server.address(), 4, &Request::get("app.test", "/"));
    let mut descriptors = 0;
    for at in 1..=RELOADS {
        server.reload();
        load.expect_more(10);
        if at == RELOADS / 2 {
            expect_drained(&server, 2);
            descriptors = server.supervisor().descriptors();
        }
    }
    load.end().expect_no_failure();
    expect_drained(&server, 2);
    assert_eq!(server.status().generation(), 1 + RELOADS);
    let closed = eventually(PATIENCE, || server.supervisor().descriptors() <= descriptors);
    assert!(closed, "from {descriptors} descriptors to {}", server.supervisor().descriptors());
}

/// Fails unless only these many workers are left soon.
#[track_caller]
fn expect_drained(server: &Daylily, workers: usize) {
    let drained = eventually(PATIENCE, || server.status().draining() == 0 && server.processes().len() == 1 + workers);
    assert!(drained, "{:?}, {:?}", server.processes(), server.status());
    assert_eq!(server.workers().len(), workers);
}

#[derive(Debug)]
enum InProgress {
    Response,
    Http10Response,
    Upload,
}

#[test]
fn what_is_in_progress_is_finished_by_the_old_worker() {
    let server = app().route_at("name = 'stream'\npath = '/stream'", "stream").route("echo.test", "echo", "").start();
    each(&[InProgress::Response, InProgress::Http10Response, InProgress::Upload], |case| {
        let old = server.workers();
        let mut connection = server.connect();
        let request = match case {
            InProgress::Upload => Request::post("echo.test", "/").header("Transfer-Encoding", "chunked"),
            _ => Request::get("any.test", "/stream?chunks=25&size=4&pause_ms=40"),
        };
        let request = if matches!(case, InProgress::Http10Response) { request.http10() } else { request };
        connection.send(&request.head_bytes());
        if matches!(case, InProgress::Upload) {
            connection.send(b"32\r\n").send(&[b'x'; 50]).send(b"\r\n");
        }
        let mut response = connection.head();
        connection.some_bytes();
        server.reload();
        assert!(old[0].is_running() && server.status().draining() == 1, "it did not wait");
        if matches!(case, InProgress::Upload) {
            connection.send(b"32\r\n").send(&[b'x'; 50]).send(b"\r\n0\r\n\r\n");
        }
        let mut bytes = 0;
        connection.finish(&mut response, request.method(), &mut |piece| bytes += piece.len());
        assert_eq!((bytes, response.ending), (100, Ending::Complete));
        assert!(eventually(PATIENCE, || !old[0].is_running()), "the old worker stays when it has finished");
    });
    assert_eq!(server.status().total("requests_cut"), 0);
}

#[test]
fn the_number_of_workers_changes_under_load() {
    let server = by_file().start();
    let load = Load::start(server.address(), 4, &Request::get("app.test", "/"));
    let mut now = 1;
    for next in [3, 2, 4, 1] {
        server.configure(|config| config.replace(&format!("workers = {now}"), &format!("workers = {next}")));
        now = next;
        server.reload();
        load.expect_more(50);
        assert_eq!(server.workers().len(), next);
        expect_drained(&server, next);
    }
    load.end().expect_no_failure();
    // Nothing is left in the backlog of a socket that nobody accepts on.
    (0..50).for_each(|_| hello(&server));
}

/// A reload that waits as long as the test wants: its component, which is none, cannot be opened before this is dropped.
#[track_caller]
fn slow_reload(server: &Daylily) -> HeldFile {
    let held = HeldFile::new(&server.directory().join("held.wasm"), b"no component");
    server.configure(|config| config + &route_to("held.test", "held.wasm"));
    server.signal(Signal::HUP);
    held.wait_for_reader();
    held
}

/// More workers have more sockets, and the kernel may give those connections before anybody accepts there.
#[test]
fn connections_during_a_reload_to_more_workers_are_answered() {
    let server = by_file().start();
    server.configure(|config| config.replace("workers = 1", "workers = 8"));
    let slow = slow_reload(&server);
    assert_eq!(server.status().state(), "reloading");
    let mut waiting: Vec<Connection> = (0..50).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|connection| {
        connection.send(&Request::get("app.test", "/").bytes());
    });
    let late = waiting.iter_mut().filter_map(|connection| {
        match connection.try_response("GET", Duration::from_secs(2)) {
            Ok(response) => drop(response.expect(200, "Hello World\n")),
            Err(silence) => return Some((connection, silence)),
        }
        None
    });
    let late: Vec<_> = late.take(3).collect();
    drop(slow);
    let refused = eventually(PATIENCE, || server.status().total("reloads_failed") == 1);
    assert!(refused, "{:?}", server.status());
    let lost: Vec<_> = late.into_iter().map(|(connection, _)| connection.try_response("GET", PATIENCE).err()).collect();
    assert!(lost.is_empty(), "answered only after the reload (None), or not at all: {lost:?}");
}

/// A reload takes as long as its components take to compile. Meanwhile the supervisor does its work.
#[test]
fn a_slow_reload_holds_up_nothing() {
    let server = app().start();
    let _slow = slow_reload(&server);
    let old = server.workers();
    old[0].signal(Signal::KILL);
    hello(&server);
    assert_ne!(server.workers(), old);
    thread::scope(|scope| {
        // It is not left without an answer either.
        let waits = scope.spawn(|| server.command(&["reload"]));
        assert!(eventually(PATIENCE, || server.status().state() == "reloading"));
        server.command(&["stop"]).expect(0, &[]);
        waits.join().expect("a reload").expect(69, &[]);
    });
    assert_eq!(server.wait_exit(), 0);
    server.expect_no_process(PATIENCE);
}

/// By hand, or by what clears /tmp.
#[test]
fn a_socket_that_was_removed_is_made_again_by_a_reload() {
    let server = app().start();
    let path = server.directory().join("control.sock");
    for generation in 2..5 {
        std::fs::remove_file(&path).expect("the socket");
        server.signal(Signal::HUP);
        assert!(eventually(PATIENCE, || path.exists()), "it is not made again");
        assert!(eventually(PATIENCE, || server.status().generation() == generation), "{:?}", server.status());
    }
    // Also by one that fails.
    std::fs::remove_file(&path).expect("the socket");
    server.put("daylily.toml", "= nonsense");
    server.signal(Signal::HUP);
    assert!(eventually(PATIENCE, || path.exists()), "it is not made again");
    // One of somebody else in its place stays.
    std::fs::remove_file(&path).expect("the socket");
    let other = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    server.signal(Signal::HUP);
    server.log().wait_for(&["WARN", "failed to open the control socket", "another daylily server listens there"]);
    drop(other);
    server.signal(Signal::HUP);
    assert!(eventually(PATIENCE, || server.command(&["status"]).code == 0), "it is not made again");
}
