//! An access log that is not written for a while: every request is served, and each has a line or is counted.

use std::collections::BTreeSet;
use std::fs::{self, File};

use serde_json::Value;

use crate::access_log::path;
use crate::admin::address;
use crate::harness::{
    Connection, Daylily, Log, MetricsPage, PATIENCE, Process, Request, Setup, Terminal, each, eventually,
};

fn setup(to: &str) -> Setup {
    Setup::new()
        .top(&format!("access_log = {{ format = 'json', to = '{to}' }}\n[admin]\nlisten = '127.0.0.1:0'"))
        .route("hello.test", "hello", "")
}

/// Sends so many requests, each of which is answered.
#[track_caller]
fn send(server: &Daylily, count: usize) {
    let mut connection = server.connect();
    for _ in 0..count {
        connection.exchange(&Request::get("hello.test", "/somewhere")).expect(200, "Hello World\n");
    }
}

fn dropped(server: &Daylily, reason: &str) -> usize {
    let page = MetricsPage::read(Connection::open(address(server))).expect("an admin listener");
    page.sum("daylily_access_log_dropped_total", None, &[("reason", reason)]) as usize
}

/// Waits until each of so many requests has a line or is counted as dropped. No line may be there twice.
#[track_caller]
fn expect_all_accounted(server: &Daylily, requests: usize, lines: impl Fn() -> Vec<String>) {
    let dropped = || dropped(server, "unread") + dropped(server, "unwritten");
    let all = eventually(PATIENCE, || lines().len() + dropped() == requests);
    let lines = lines();
    assert!(all, "{} lines and {} dropped of {requests} requests", lines.len(), dropped());
    let parse = |line: &String| -> Value { serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}")) };
    let ids: BTreeSet<String> = lines.iter().map(|line| parse(line)["id"].to_string()).collect();
    assert_eq!(ids.len(), lines.len());
}

/// A write that does not return, to a terminal that is not read: the records of a worker that has ended do not wait for
/// it for ever, and the log goes on when it returns.
#[test]
fn a_write_that_does_not_return_holds_up_only_the_log() {
    let terminal = Terminal::new();
    let server = setup(&terminal.path().display().to_string()).start();
    send(&server, 2_000);
    server.log().wait_for(&["access log: failed to write to /dev/pts/", "a write has not returned"]);
    server.reload();
    assert!(eventually(PATIENCE, || dropped(&server, "unwritten") > 0), "the records of the ended worker wait on");
    assert_eq!(dropped(&server, "unread"), 0);
    let log = terminal.read();
    server.log().wait_for(&["access log: it can be written again"]);
    send(&server, 10);
    expect_all_accounted(&server, 2_010, || log.lines());
}

/// How the access log is kept from being written, and then not any more.
#[derive(Debug)]
enum Obstacle {
    /// Standard output is a pipe that is not read.
    UnreadPipe,
    /// The file has reached its size limit, as on a full disk.
    FullDisk,
}

/// Passes on the two lines of standard output that have the addresses. The rest stays in the pipe.
const UNREAD: &str = "mkfifo out && exec 3<>out && { for line in address admin; do read -r line; echo \"$line\"; done <&3 & } && \
    exec \"$@\" >&3";

/// Less than the journals of a worker have by default: they get smaller, and are soon full.
const SMALL_JOURNAL_BYTES: u64 = 512 << 10;

/// What the file takes before it is full.
const FULL_FILE_BYTES: u64 = 100_000;

#[test]
fn lines_and_drops_add_up_to_requests() {
    each(&[Obstacle::UnreadPipe, Obstacle::FullDisk], |obstacle| {
        let (to, script) = match obstacle {
            Obstacle::UnreadPipe => ("stdout", UNREAD),
            Obstacle::FullDisk => ("access.log", "exec \"$@\""),
        };
        let server = setup(to).through(script).start();
        shrink_journal(&server);
        if matches!(obstacle, Obstacle::FullDisk) {
            server.observer().limit_file_size(Some(FULL_FILE_BYTES));
        }
        send(&server, 2_000);
        server.log().wait_for(&["access log: failed to write to"]);
        assert!(eventually(PATIENCE, || dropped(&server, "unread") > 0), "the journal is not full");
        // From here on, nothing more is kept.
        let processes = [server.observer(), server.process(), server.supervisor()];
        let before = processes.map(Process::resident_kib);
        send(&server, 4_000);
        for (process, before) in processes.into_iter().zip(before) {
            let grown = process.resident_kib().saturating_sub(before);
            assert!(grown < 2_048, "{} grew by {grown} KiB, from {before} KiB", process.read("comm").trim_end());
        }
        let is_there = |dropped: usize| (4_000..6_000).contains(&dropped);
        assert!(eventually(PATIENCE, || is_there(dropped(&server, "unread"))), "{}", dropped(&server, "unread"));
        let lines: Box<dyn Fn() -> Vec<String>> = match obstacle {
            Obstacle::UnreadPipe => {
                let log = Log::collect(File::open(server.directory().join("out")).expect("the pipe"));
                Box::new(move || log.lines())
            }
            Obstacle::FullDisk => {
                server.observer().limit_file_size(None);
                let log = path(&server);
                Box::new(move || fs::read_to_string(&log).expect("the log").lines().map(str::to_owned).collect())
            }
        };
        server.log().wait_for(&["access log lines dropped: "]);
        send(&server, 10);
        expect_all_accounted(&server, 6_010, lines);
        assert_eq!(dropped(&server, "unwritten"), 0);
    });
}

/// Replaces the worker by one whose journal is small.
fn shrink_journal(server: &Daylily) {
    let worker = server.process();
    server.supervisor().limit_file_size(Some(SMALL_JOURNAL_BYTES));
    worker.kill();
    let is_replaced = || server.status().ready().is_some_and(|ready| !ready.contains(&worker));
    assert!(eventually(PATIENCE, is_replaced), "{:?}", server.status());
    server.supervisor().limit_file_size(None);
}
