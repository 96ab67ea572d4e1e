//! File calls that do not return: they block threads of their own route only, and the worker with the blocked threads
//! is replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::harness::{Daylily, HeldFile, PATIENCE, Request, Setup, Upstream, each, eventually, make_pipe};

/// Number of threads for the files of one route.
const THREADS: usize = 16;

/// A guest for each version of `wasi:filesystem`, and its error for a file that the host refuses to open.
const GUESTS: &[(&str, &str)] =
    &[("env", "error: Operation not permitted"), ("files03", "error: ErrorCode::NotPermitted")];

fn setup(guest: &str) -> Setup {
    Setup::new()
        .route("bad.test", guest, "dirs = ['granted::.']\nwall_time = '1s'")
        .route("good.test", guest, "dirs = ['granted::.']")
        .route("out.test", "outgoing", "allow_http = ['http://localhost:*']")
        .file("granted/file", b"contents")
        .file("granted/deep/inner", b"inner")
}

#[track_caller]
fn ask(server: &Daylily, host: &str, query: &str) -> String {
    let response = server.get(host, &format!("/?{query}"));
    assert_eq!(response.status, 200, "{query}: {response:?}");
    let text = response.text();
    let answer = text.lines().find(|line| line.starts_with(&query.replacen('=', " ", 1)));
    answer.unwrap_or_else(|| panic!("no answer to {query} in {text}")).to_owned()
}

#[test]
fn only_regular_files_and_directories_can_be_opened() {
    each(GUESTS, |(guest, refused)| {
        let server = setup(guest).start();
        let granted = server.directory().join("granted");
        make_pipe(&granted.join("pipe"));
        symlink("pipe", granted.join("link")).expect("a link");
        symlink("file", granted.join("good")).expect("a link");
        drop(UnixListener::bind(granted.join("socket")).expect("a socket"));
        for name in ["pipe", "link", "socket"] {
            for what in ["read", "write"] {
                let start = Instant::now();
                let answer = ask(&server, "good.test", &format!("{what}={name}"));
                assert!(answer.contains(refused), "{answer}");
                assert!(start.elapsed() < Duration::from_secs(5), "{what} {name} took {:?}", start.elapsed());
            }
        }
        for (query, expected) in [
            ("read=file", "read file: contents"),
            ("read=good", "read good: contents"),
            ("read=deep/inner", "read deep/inner: inner"),
            ("read=none", "read none: error: "),
            ("read=../daylily.toml", "read ../daylily.toml: error: "),
        ] {
            let answer = ask(&server, "good.test", query);
            assert!(answer.starts_with(expected), "{answer}");
        }
    });
}

#[test]
fn streams_of_0_3_read_and_write_whole_files() {
    let server = setup("files03").start();
    let path = server.directory().join("granted/new");
    assert_eq!(ask(&server, "good.test", "write=new"), "write new: 20000 bytes");
    assert_eq!(ask(&server, "good.test", "append=new"), "append new: 40000 bytes");
    assert_eq!(fs::read(&path).expect("a file"), vec![b'w'; 40_000]);
    assert_eq!(ask(&server, "good.test", "read=new"), format!("read new: {}", "w".repeat(40_000)));
    assert_eq!(ask(&server, "good.test", "list=."), "list .: deep file new");
    assert!(ask(&server, "good.test", "read=deep").contains("error: ErrorCode::IsDirectory"));
    let read_only = Setup::new()
        .route("good.test", "files03", "dirs = ['granted::.:ro']")
        .file("granted/file", b"contents")
        .start();
    assert!(ask(&read_only, "good.test", "write=file").contains("error: ErrorCode::NotPermitted"));
    assert_eq!(ask(&read_only, "good.test", "read=file"), "read file: contents");
}

/// Makes as many calls as the route has threads, each of which outlives its request.
fn block(server: &Daylily) {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| server.get("bad.test", "/?read=held").expect_refusal(504, "wall time limit exceeded"));
        }
    });
}

/// More concurrent calls than tokio's blocking pool has threads.
#[test]
fn many_calls_at_a_time_keep_nothing_else_waiting() {
    const CALLS: usize = 600;
    let server = setup("env")
        .server("max_concurrency = 1000")
        .route("many.test", "env", "dirs = ['granted::.']\nwall_time = '5m'\nmax_concurrency = 900")
        .alone()
        .start();
    let upstream = Upstream::echo();
    let held = HeldFile::new(&server.directory().join("granted/held"), b"held");
    let mut waiting: Vec<_> = (0..CALLS)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(&Request::get("many.test", "/?read=held").bytes());
            connection
        })
        .collect();
    held.wait_for_reader();
    let all = eventually(PATIENCE, || server.status().of_worker(0, "requests_in_progress") == CALLS as u64);
    assert!(all, "{:?}", server.status());
    expect_others_work(&server, &upstream);
    drop(held);
    for connection in &mut waiting {
        let response = connection.response("GET");
        assert!(response.text().contains("read held: held"), "{response:?}");
    }
}

#[track_caller]
fn expect_others_work(server: &Daylily, upstream: &Upstream) {
    assert_eq!(ask(server, "good.test", "read=file"), "read file: contents");
    let response = server.get("out.test", &format!("/?url=http://localhost:{}/", upstream.port()));
    assert!(response.text().starts_with("status: 200"), "{response:?}");
}

#[test]
fn calls_that_do_not_return_take_their_own_routes_threads_and_have_the_worker_replaced_once() {
    each(GUESTS, |(guest, _)| {
        let server = setup(guest).alone().start();
        let upstream = Upstream::echo();
        let expect_others_work = || expect_others_work(&server, &upstream);
        let held = HeldFile::new(&server.directory().join("granted/held"), b"");
        let first = server.workers()[0];
        block(&server);
        expect_others_work();
        let replaced = eventually(PATIENCE, || server.status().total("workers_blocked") == 1);
        assert!(replaced, "{:?}", server.status());
        server.log().wait_for(&["all 16 file threads are blocked", "bad.test"]);
        server.log().wait_for(&["has 16 file calls that do not return", "replaces it"]);
        let second = server.workers()[0];
        assert_ne!(first, second);
        assert!(eventually(PATIENCE, || !first.is_running()), "the old process stays");
        expect_others_work();
        assert_eq!(server.status().of_worker(0, "blocked_file_calls"), 0);

        // The replacement blocks on the same file, and is not replaced again so soon. Further calls fail at once.
        block(&server);
        let seen = eventually(PATIENCE, || server.status().of_worker(0, "blocked_file_calls") == THREADS as u64);
        assert!(seen, "{:?}", server.status());
        server.get("bad.test", "/?read=file").expect_refusal(503, "cannot create an instance");
        expect_others_work();
        assert_eq!((server.workers()[0], server.status().total("workers_blocked")), (second, 1));

        drop(held);
        let free = eventually(PATIENCE, || server.get("bad.test", "/?read=file").status == 200);
        assert!(free, "the threads stay blocked");
        assert_eq!(server.status().total("requests_lost"), 0);
    });
}
