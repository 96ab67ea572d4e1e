//! Key-value stores when processes are killed, and when files are locked, damaged or no stores.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Connection, Daylily, Process, Request, Setup, eventually, run_at};
use crate::stores::{FORMS, files, setup};
use crate::upgrade::upgrade;

pub fn storage(server: &Daylily) -> Option<Process> {
    server.processes().into_iter().find(|process| process.is_called("daylily-storage"))
}

/// What was acknowledged is there: after the end of a worker, of the storage process, after a reload and a restart.
#[test]
fn data_survive_the_end_of_every_process() {
    let server = setup("").workers(2).start();
    let mut acknowledged = 0;
    let mut increment = |server: &Daylily| {
        acknowledged += 1;
        server.get("direct.test", "/increment?key=n").expect(200, &acknowledged.to_string());
    };
    increment(&server);
    for worker in server.worker_processes() {
        worker.kill();
    }
    increment(&server);
    let first = storage(&server).expect("a storage process");
    first.kill();
    server.log().wait_for(&["ERROR daylily::storage: the storage process ended (signal: 9", "it is started again"]);
    // It waits for the next process.
    increment(&server);
    assert_ne!(storage(&server).expect("a storage process"), first);
    let before = storage(&server).expect("a storage process");
    server.signal(Signal::HUP);
    server.log().wait_for(&["reloaded"]);
    increment(&server);
    let is_gone = eventually(Duration::from_secs(10), || !before.is_running());
    assert!(is_gone, "the storage process of the generation before does not end with it");
    increment(&server);
    let state = server.directory().join("state");
    let copy = tempfile::tempdir().expect("a directory");
    server.signal(Signal::TERM);
    assert!(eventually(Duration::from_secs(10), || server.try_wait().is_some()), "it does not stop");
    assert_eq!(files(&state), ["other.sqlite", "visits.sqlite"], "something is not in the files yet");
    std::fs::copy(state.join("visits.sqlite"), copy.path().join("visits.sqlite")).expect("a copy");
    let database = copy.path().display().to_string();
    let server = Setup::new()
        .top(&format!("state_dir = '{database}'\n[store.visits]"))
        .route("copy.test", "store", "stores = ['visits']")
        .start();
    server.get("copy.test", "/get?key=n").expect(200, &format!("some {acknowledged}"));
}

/// While another process has locked the file, writes wait and then fail in time; reads, other stores and other requests
/// are not concerned.
#[test]
fn a_locked_store_delays_only_its_writes() {
    let server = setup("store_timeout = '400ms'").start();
    server.get("direct.test", "/set?key=a&value=1").expect(200, "()");
    let path = server.directory().join("state/visits.sqlite");
    let locked = "the operation took longer than store_timeout = 400ms; a write may have been applied, or may still be";
    let lock = lock(&path);
    for host in FORMS {
        server.get(host, "/get?key=a").expect(200, "some 1");
        server.get(host, "/set?key=b&value=2&store=cache").expect(200, "()");
        let text = server.get(host, "/set?key=a&value=2").text();
        assert!(
            text.contains(locked)
                || text.contains("the operation was not begun within store_timeout, and nothing was changed"),
            "{text}"
        );
    }
    drop(lock);
    server.get("direct.test", "/set?key=a&value=3").expect(200, "()");
    server.log().wait_for(&["WARN daylily::storage: store `visits`: an operation failed: "]);
}

/// A worker that is stopped in the middle of its writes locks nothing: only the storage process has the file.
#[test]
fn a_stopped_worker_delays_no_write_of_others() {
    const WRITES: usize = 200;
    let server = setup("store_timeout = '2s'").workers(2).start();
    let increment = |key: &str| Request::get("direct.test", &format!("/increment?key={key}"));
    let mut other = server.connect_to(1, "direct.test");
    let mut busy: Vec<_> = (0..4).map(|_| server.connect_to(0, "direct.test")).collect();
    let (workers, stopped) = (server.workers(), server.workers()[0]);
    for connection in &mut busy {
        connection.send(&increment("busy").bytes().repeat(WRITES));
    }
    let value = |connection: &mut Connection, key: &str| -> usize {
        let response = connection.exchange(&Request::get("direct.test", &format!("/increment?key={key}&delta=0")));
        response.text().parse().unwrap_or_else(|_| panic!("{:?}", response.text()))
    };
    assert!(eventually(Duration::from_secs(10), || value(&mut other, "busy") > WRITES / 10), "nothing is written");
    stopped.signal(Signal::STOP);
    for number in 1..=WRITES {
        other.exchange(&increment("other")).expect(200, &number.to_string());
    }
    let before = value(&mut other, "busy");
    assert!(before < busy.len() * WRITES, "it was not stopped in the middle");
    stopped.signal(Signal::CONT);
    for connection in &mut busy {
        for _ in 0..WRITES {
            assert_eq!(connection.response("GET").status, 200);
        }
    }
    let after = value(&mut other, "busy");
    assert!((before..=busy.len() * WRITES).contains(&after), "{after}");
    assert_eq!((server.workers(), server.status().total("worker_restarts")), (workers, 0));
}

/// Holds the write lock of a database until it is dropped.
pub fn lock(path: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).expect("a database");
    connection.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    connection
}

/// A file that is damaged fails its store, with one log line; everything else is served.
#[test]
fn a_damaged_file_fails_only_its_store() {
    let server = setup("").file("state/visits.sqlite", &[b'x'; 8_192]).start();
    for host in FORMS {
        server
            .get(host, "/get?key=a")
            .expect(200, "error: Error::Other(\"the store cannot be used; the server's log says why\")");
        server.get(host, "/increment?key=a&store=cache&delta=0").expect(200, "0");
    }
    server.log().wait_for(&["ERROR daylily::storage: store `visits`: file is not a database"]);
    let errors = server.log().matching(|line| line.contains("ERROR"));
    assert_eq!(errors.len(), 1, "{errors:?}");
}

/// What only the operator can change is an error at the start, at a reload and in `check`.
#[test]
fn what_is_no_store_is_not_served() {
    fn check(prepare: impl Fn(&Path), top: &str, expected: &[&str]) {
        let server = setup("").start();
        let directory = server.directory().to_owned();
        let config = std::fs::read_to_string(directory.join("daylily.toml")).expect("the configuration");
        prepare(&directory);
        std::fs::write(directory.join("daylily.toml"), config.replace("state_dir = 'state'", top)).expect("room");
        run_at(&directory, &["check"]).expect(78, expected);
        run_at(&directory, &["serve", "--listen", "127.0.0.1:0", "--control", "other.sock"]).expect(78, expected);
        server.signal(Signal::HUP);
        server.log().wait_for(&["reload failed", expected[0]]);
        server.get("direct.test", "/exists?key=a").expect(200, "false");
    }
    let foreign = |directory: &Path| {
        std::fs::create_dir(directory.join("foreign")).expect("a directory");
        let database = rusqlite::Connection::open(directory.join("foreign/other.sqlite")).expect("a database");
        database.execute_batch("CREATE TABLE notes (text)").expect("a table");
    };
    check(
        foreign,
        "state_dir = 'foreign'",
        &["store `other`: ", "other.sqlite is a database, but no store of daylily's"],
    );
    let newer = |directory: &Path| {
        std::fs::create_dir(directory.join("newer")).expect("a directory");
        let copied = "newer/visits.sqlite";
        std::fs::copy(directory.join("state/visits.sqlite"), directory.join(copied)).expect("a copy");
        let database = rusqlite::Connection::open(directory.join(copied)).expect("a database");
        database
            .execute_batch("CREATE TABLE entry (x); PRAGMA application_id = 1684109676; PRAGMA user_version = 2")
            .expect("a version");
    };
    check(newer, "state_dir = 'newer'", &["store `visits`: ", "newer version of daylily (schema 2, this one knows 1)"]);
    let open = |directory: &Path| {
        std::fs::create_dir(directory.join("open")).expect("a directory");
        std::fs::set_permissions(directory.join("open"), Permissions::from_mode(0o777)).expect("permissions");
    };
    check(open, "state_dir = 'open'", &["the state directory `open` is not safe: others can write to it (mode 777)"]);
    let fifo = |directory: &Path| {
        std::fs::create_dir(directory.join("fifo")).expect("a directory");
        std::fs::create_dir(directory.join("fifo/visits.sqlite")).expect("a directory");
    };
    check(fifo, "state_dir = 'fifo'", &["store `visits`: ", "is no regular file"]);
}

#[test]
fn nothing_acknowledged_is_lost_under_kills() {
    check_under_kills(&setup("").workers(2).start(), || {});
}

/// How many seconds the kills go on, to be set by hand, with one in each second. Otherwise there are a few.
const SECONDS: &str = "DAYLILY_E2E_KILLS_SECONDS";

/// Clients increment while processes are killed and replaced, with reloads and upgrades, and `disturb` does more. The
/// counter is at least what was acknowledged, and at most that and what got an answer that leaves it open, or none.
pub fn check_under_kills(server: &Daylily, mut disturb: impl FnMut()) {
    const CLIENTS: usize = 64;
    let seconds = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse::<u32>().ok());
    let pause = Duration::from_secs(u64::from(seconds.is_some()));
    let is_over = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| increment_until(server, &is_over))).collect();
        for round in 0..seconds.unwrap_or(8) {
            // Some more are acknowledged in between.
            let before: u64 = value(server);
            assert!(eventually(Duration::from_secs(20), || value(server) > before + 20), "nothing goes on");
            let mut workers = server.processes();
            workers.retain(|process| process.is_called("daylily-worker"));
            match round % 6 {
                0 | 3 => workers[round as usize / 3 % workers.len()].kill(),
                1 => storage(server).expect("a storage process").kill(),
                2 => server.reload(),
                4 => disturb(),
                _ => drop(upgrade(server)),
            }
            std::thread::sleep(pause);
        }
        is_over.store(true, Relaxed);
        let counts = clients.into_iter().map(|client| client.join().expect("a client"));
        counts.fold((0, 0), |sums, counts| (sums.0 + counts.0, sums.1 + counts.1))
    });
    let (acknowledged, unknown) = counts;
    let value = value(server);
    assert!((acknowledged..=acknowledged + unknown).contains(&value), "{value}: {acknowledged} and {unknown} unknown");
    assert!(acknowledged > 100, "only {acknowledged} were acknowledged");
}

/// The counter, however often the server has to be asked.
fn value(server: &Daylily) -> u64 {
    let mut value = None;
    let is_there = || {
        value = ask(server, "/increment?key=n&delta=0").and_then(|text| text.parse().ok());
        value.is_some()
    };
    assert!(eventually(Duration::from_secs(20), is_there), "no answer");
    value.expect("a value")
}

/// Increments until the end: how many were acknowledged, and how many may have been done.
fn increment_until(server: &Daylily, is_over: &AtomicBool) -> (u64, u64) {
    let (mut acknowledged, mut unknown) = (0, 0);
    while !is_over.load(Relaxed) {
        let text = ask(server, "/increment?key=n").unwrap_or_default();
        match text.parse::<u64>() {
            Ok(_) => acknowledged += 1,
            Err(_) if text.contains("nothing was changed") => {}
            Err(_) => unknown += 1,
        }
    }
    (acknowledged, unknown)
}

/// One request on a connection of its own. None if there is no complete response with status 200.
fn ask(server: &Daylily, target: &str) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(server.address()).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(stream, "GET {target} HTTP/1.1\r\nhost: direct.test\r\nconnection: close\r\n\r\n").ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    let (head, body) = response.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}
