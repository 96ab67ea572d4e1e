//! A reload serves a new configuration and new components without losing a request. When it fails, nothing changes.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Connection, Daylily, Ending, HeldFile, Load, PATIENCE, Request, Setup, cache_dir, each, eventually, guest, route_to,
};

fn component(package: &str) -> Vec<u8> {
    std::fs::read(guest(package)).expect("a built guest")
}

/// Serves `app.wasm` in its directory: the Hello World component, until a test replaces it.
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
                // The generation before accepts for another moment.
                assert!(eventually(PATIENCE, || server.status().draining() == 0), "{:?}", server.status());
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

/// A name, an invalid change of the files, the exit code, and the text of the error.
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
        &["daylily does not provide these imports", "example:missing/thing", "wasi:blobstore/blobstore"],
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
    // Open for as long as the test process runs.
    let other = Box::leak(Box::new(TcpListener::bind("127.0.0.1:0").expect("a port")));
    let address = other.local_addr().expect("an address");
    server.configure(|config| config.replace("'127.0.0.1:0'", &format!("'127.0.0.1:0', '{address}'")));
}

fn remove(server: &Daylily, path: &str) {
    std::fs::remove_file(server.directory().join(path)).expect("the file");
}

/// Fails unless the reload fails and changes nothing.
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
    // The processes that were started for the new generation have ended.
    let only_old = eventually(PATIENCE, || server.worker_processes() == old);
    assert!(only_old, "{:?} run beside {old:?}", server.worker_processes());
    for part in parts {
        server.log().wait_for(&[part]);
    }
    // The errors are the same as at a start.
    let cache = cache_dir().display().to_string();
    let started = server.command_at("another.sock", &["serve", "-c", "daylily.toml", "--cache-dir", &cache]);
    assert_eq!((started.code, started.stderr.ends_with(&refused.stderr)), (code, true), "{started:?} {refused:?}");
}

/// Takes its addresses and its number of workers from the configuration file, not from flags.
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

/// After the response to a reload, no new connection goes to the old generation, however busy that is.
#[test]
fn a_reload_that_was_answered_is_served() {
    let server = app().route("burn.test", "burn", "").start();
    let load = Load::start(server.address(), 8, &Request::get("burn.test", "/ms?n=10"));
    for round in 0..60 {
        let (package, body) = if round % 2 == 0 { ("state", "count: 1\n") } else { ("hello", "Hello World\n") };
        server.put("app.wasm", component(package));
        // Without starting a process for the command, which would take a while to exit.
        let answer = server.say("\"reload\"\n").expect("an answer");
        assert!(answer.contains("reloaded"), "{answer}");
        server.get("app.test", "/").expect(200, body);
    }
    load.end().expect_no_failure();
}

/// It also waits for earlier generations, even if one stops accepting later than those that came after it.
#[test]
fn a_reload_waits_for_every_generation_before_it() {
    let server = app().start();
    let first = server.workers()[0];
    first.signal(Signal::STOP);
    server.signal(Signal::HUP);
    wait_for_generation(&server, 2);
    server.put("app.wasm", component("state"));
    let reload = server.ask("\"reload\"\n").expect("a connection");
    wait_for_generation(&server, 3);
    let begun = Instant::now();
    let is_only_the_first_left = || server.status().draining() == 1;
    assert!(eventually(PATIENCE, is_only_the_first_left), "{:?}", server.status());
    // After this time, the server replies although a worker has not confirmed that it stopped accepting.
    let may_be_answered = begun.elapsed() > Duration::from_secs(1);
    assert!(may_be_answered || !reload.is_answered(), "it was answered though the first generation may still accept");
    first.signal(Signal::CONT);
    let answer = reload.answer().expect("an answer");
    assert!(answer.contains("reloaded"), "{answer}");
    server.get("app.test", "/").expect(200, "count: 1\n");
}

/// Concurrent reload commands all get a response, and the files as they were before each command are served by then.
#[test]
fn reloads_at_once_are_all_answered() {
    let server = app().start();
    for round in 0..5 {
        let (package, body) = if round % 2 == 0 { ("state", "count: 1\n") } else { ("hello", "Hello World\n") };
        // A reload that may already have read the files.
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

/// Fails unless only this many workers are left soon.
#[track_caller]
fn expect_drained(server: &Daylily, workers: usize) {
    let drained = eventually(PATIENCE, || server.status().draining() == 0 && server.processes().len() == 2 + workers);
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
    // No connection was left in the backlog of a socket without an accept loop.
    (0..50).for_each(|_| hello(&server));
}

/// A reload that takes as long as the test wants: its component, which is invalid, cannot be opened before this is
/// dropped.
#[track_caller]
fn slow_reload(server: &Daylily) -> HeldFile {
    let held = HeldFile::new(&server.directory().join("held.wasm"), b"no component");
    server.configure(|config| config + &route_to("held.test", "held.wasm"));
    server.signal(Signal::HUP);
    held.wait_for_reader();
    held
}

/// More workers have more sockets, and the kernel may give connections to these before their workers accept.
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

/// A reload takes as long as its components take to compile. The supervisor does its other work meanwhile.
#[test]
fn a_slow_reload_holds_up_nothing() {
    let server = app().start();
    let _slow = slow_reload(&server);
    let old = server.workers();
    old[0].signal(Signal::KILL);
    hello(&server);
    assert_ne!(server.workers(), old);
    thread::scope(|scope| {
        // The reload command gets a response, too.
        let waits = scope.spawn(|| server.command(&["reload"]));
        assert!(eventually(PATIENCE, || server.status().state() == "reloading"));
        server.command(&["stop"]).expect(0, &[]);
        waits.join().expect("a reload").expect(69, &[]);
    });
    assert_eq!(server.wait_exit(), 0);
    server.expect_no_process(PATIENCE);
}

/// Removed by an operator, or by a program that cleans /tmp.
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
    // A reload that fails makes it again, too.
    std::fs::remove_file(&path).expect("the socket");
    server.put("daylily.toml", "= nonsense");
    server.signal(Signal::HUP);
    assert!(eventually(PATIENCE, || path.exists()), "it is not made again");
    // A socket of another process at that path is not replaced.
    std::fs::remove_file(&path).expect("the socket");
    let other = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    server.signal(Signal::HUP);
    server.log().wait_for(&["WARN", "failed to open the control socket", "another daylily server listens there"]);
    drop(other);
    server.signal(Signal::HUP);
    assert!(eventually(PATIENCE, || server.command(&["status"]).code == 0), "it is not made again");
}
