//! The environment of daylily: full disks, system limits, terminals, orphan processes, changes of the clock.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Daylily, PATIENCE, Process, Request, Setup, binary, cache_dir, each, eventually};

fn hello() -> Setup {
    Setup::new().route("hello.test", "hello", "")
}

/// 10 MB in the blocks of `ulimit -f`: more than memory files need.
const FILE_LIMIT_BLOCKS: u64 = 20_000;
const FILE_LIMIT_BYTES: u64 = FILE_LIMIT_BLOCKS * 512;

/// A log file that reaches the file size limit loses lines, as on a full disk. SIGXFSZ would end the server.
#[test]
fn a_log_at_the_limit_of_file_sizes_ends_nothing() {
    let script = format!(
        "truncate -s {} log; exec 2>>log; ulimit -f {FILE_LIMIT_BLOCKS}; exec \"$@\"",
        FILE_LIMIT_BYTES - 20_000
    );
    let server = hello().flags(&["--log", "debug"]).through(&script).start();
    let log = server.directory().join("log");
    let worker = server.workers();
    let is_full = || fs::metadata(&log).expect("a log").len() == FILE_LIMIT_BYTES;
    let mut requests = 0;
    while !is_full() {
        server.get("hello.test", "/").expect(200, "Hello World\n");
        requests += 1;
        assert!(requests < 10_000, "the log is not written");
    }
    for _ in 0..100 {
        server.get("hello.test", "/").expect(200, "Hello World\n");
    }
    server.reload();
    server.get("hello.test", "/").expect(200, "Hello World\n");
    assert!(eventually(PATIENCE, || !worker[0].is_running()), "the old worker stays");
    assert_eq!((server.status().total("worker_restarts"), server.status().total("requests_lost")), (0, 0));
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

/// A system limit that prevents a start, and the error.
const TOO_LITTLE: &[(&str, i32, &[&str])] = &[
    ("ulimit -f 8", 1, &["a file in memory exceeds the file size limit", "ulimit -f", "LimitFSIZE="]),
    ("ulimit -n 7", 1, &["Too many open files", "ulimit -n", "LimitNOFILE="]),
    ("ulimit -n 8", 1, &["Too many open files", "ulimit -n", "LimitNOFILE="]),
    ("ulimit -n 9", 1, &["Too many open files", "ulimit -n", "LimitNOFILE="]),
    ("ulimit -v 8000000", 78, &["the address space is limited to", "ulimit -v unlimited", "LimitAS=infinity"]),
];

#[test]
fn a_limit_that_is_too_low_is_named_with_what_helps() {
    each(TOO_LITTLE, |(limit, code, parts)| {
        let server = hello().through(&format!("{limit}; exec \"$@\"")).spawn();
        server.expect_exit(*code, parts);
    });
}

/// Workers have one socket each for each address: more than the soft limit, which is raised before they are opened.
#[test]
fn sockets_of_many_workers_fit_into_the_hard_limit() {
    let listens = "listen = ['127.0.0.1:0', '127.0.0.2:0', '127.0.0.3:0']";
    let setup = hello().without("--listen").top(listens).workers(8);
    let server = setup.through("ulimit -S -n 30; exec \"$@\"").start();
    assert_eq!(server.addresses().len(), 3);
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

/// Workers are started from `/proc/self/exe`.
#[test]
fn a_system_without_proc_is_told_so() {
    let unshare = "unshare --user --map-root-user --mount";
    let can = Command::new("/bin/sh").args(["-c", &format!("{unshare} true")]).status().expect("a shell");
    if !can.success() {
        eprintln!("not tried: this user may make no namespaces");
        return;
    }
    let hide = "mount -t tmpfs none /proc && exec \"$@\"";
    let server = hello().through(&format!("exec {unshare} sh -c '{hide}' sh \"$@\"")).spawn();
    server.expect_exit(1, &["/proc is not mounted", "mount -t proc proc /proc"]);
}

/// The number of children, including zombies.
fn children(process: Process) -> usize {
    process.read(&format!("task/{}/children", process.pid)).split_whitespace().count()
}

/// A supervisor that replaced a shell with `exec` has that shell's children, as PID 1 of a container gets all orphans.
#[test]
fn children_of_others_do_not_stay_zombies() {
    let orphans = "for _ in 1 2 3 4 5; do sleep 0.2 & done; sleep 1000 & exec \"$@\"";
    let server = hello().workers(2).through(orphans).start();
    let are_gone = eventually(PATIENCE, || children(server.supervisor()) == 4);
    assert!(are_gone, "{} children instead of 2 workers, the observer and one orphan", children(server.supervisor()));
    // The supervisor must wait for a worker that dies at the same time itself, and report how it died.
    for _ in 0..5 {
        let workers = server.workers();
        let is_daylily = |child: &Process| workers.contains(child) || child.is_called("daylily-observer");
        let orphan = server.supervisor().children().into_iter().find(|child| !is_daylily(child));
        orphan.into_iter().chain(workers.clone()).for_each(|child| child.signal(Signal::KILL));
        assert!(eventually(PATIENCE, || server.status().ready().is_some_and(|ready| !ready.contains(&workers[0]))));
    }
    assert!(eventually(PATIENCE, || children(server.supervisor()) == 3), "an orphan stays a zombie");
    assert_eq!(server.log().matching(|line| line.contains("cannot be waited for")), Vec::<String>::new());
    assert!(!server.log().matching(|line| line.contains("ended (signal: 9 (SIGKILL))")).is_empty());
    // Neither a new supervisor nor its workers are taken for orphans.
    let old = server.supervisor();
    server.signal(Signal::USR2);
    assert!(eventually(PATIENCE, || server.status().supervisor() != old), "{:?}", server.status());
    assert_eq!(server.wait_exit(), 0);
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

/// Environment variables, and whether the log is coloured on a terminal.
#[test]
fn colours_are_for_terminals_whose_user_wants_them() {
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[("TERM", "xterm")], true),
        (&[], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[("NO_COLOR", "0")], false),
        (&[("TERM", "dumb")], false),
    ];
    each(cases, |(environment, coloured)| {
        let command = format!("{} check --log debug --cache-dir {}", binary(), cache_dir().display());
        // `script` gives the command a terminal.
        let output = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("script");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("is linked"), "{output:?}");
        assert_eq!(text.contains('\u{1b}'), *coloured, "{text:?}");
    });
}

/// Runs a command whose output cannot be written. Returns how it ends.
fn printed(arguments: &[&str], directory: &Path, out: impl Into<Stdio>) -> (Option<i32>, String) {
    let output = Command::new(binary())
        .args(arguments)
        .env_clear()
        .env("XDG_CACHE_HOME", cache_dir())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .expect("the binary under test");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_reader_that_left_is_no_error_and_a_full_disk_is_named() {
    let server = hello().start();
    let commands: &[&[&str]] = &[
        &["status", "--control", "control.sock"],
        &["status", "--json", "--control", "control.sock"],
        &["reload", "--control", "control.sock"],
        &["check"],
        &["check", "--help"],
        &["--version"],
    ];
    each(commands, |arguments| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(printed(arguments, server.directory(), writer), (Some(0), String::new()));
        let full = File::options().write(true).open("/dev/full").expect("a device");
        let (code, said) = printed(arguments, server.directory(), full);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with("failed to write to standard output: No space left on device"), "{said}");
    });
    assert_eq!(server.status().total("reloads"), 2, "a reload was done, also when nobody reads that");
}

/// A clock for one process and its children: a day ahead while there is a file `ahead` in the working directory.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *time) {
    int failed = syscall(SYS_clock_gettime, id, time);
    if (!failed && id == CLOCK_REALTIME && access("ahead", F_OK) == 0) time->tv_sec += 86400;
    return failed;
}
"#;

fn clock(directory: &TempDir) -> String {
    let (source, library) = (directory.path().join("clock.c"), directory.path().join("clock.so"));
    fs::write(&source, CLOCK).expect("a file");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().expect("cc");
    assert!(built.success(), "{built}");
    library.display().to_string()
}

/// How many seconds the `date` of each kind of response is ahead of the clock.
fn ahead(server: &Daylily) -> Vec<i64> {
    let requests = [
        Request::get("hello.test", "/"),
        Request::get("stream.test", "/?chunks=2&size=4&pause_ms=1"),
        Request::get("nowhere.test", "/"),
    ];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let ahead = requests.iter().map(|request| {
        let response = server.exchange(request);
        let dates = response.values("date");
        assert_eq!(dates.len(), 1, "{response:?}");
        seconds(dates[0]) - i64::try_from(now).expect("a time")
    });
    ahead.collect()
}

/// Converts `Sun, 06 Nov 1994 08:49:37 GMT` to seconds since 1970.
fn seconds(date: &str) -> i64 {
    let parsed = Command::new("date").args(["-u", "+%s", "-d", date]).output().expect("date");
    String::from_utf8_lossy(&parsed.stdout).trim().parse().expect("seconds")
}

#[test]
fn dates_follow_a_clock_that_is_set_back() {
    const DAY: i64 = 86_400;
    let library = TempDir::new().expect("a directory");
    let server = hello()
        .route("stream.test", "stream", "")
        .file("ahead", b"")
        .env("LD_PRELOAD", &clock(&library))
        .unaudited("the times in its log are not those of this process")
        .start();
    assert!(ahead(&server).iter().all(|ahead| (DAY - 60..DAY + 60).contains(ahead)), "{:?}", ahead(&server));
    fs::remove_file(server.directory().join("ahead")).expect("a file");
    let follows = |wanted: i64| {
        let is_near = |ahead: &i64| (wanted - 60..wanted + 60).contains(ahead);
        assert!(eventually(Duration::from_secs(2), || ahead(&server).iter().all(is_near)), "{:?}", ahead(&server));
    };
    follows(0);
    // The date advances: otherwise the same date would be sent for a day.
    let first = server.get("hello.test", "/").values("date")[0].to_owned();
    let moves = eventually(PATIENCE, || server.get("hello.test", "/").values("date")[0] != first);
    assert!(moves, "it stands still at {first}");
    File::create(server.directory().join("ahead")).expect("a file");
    follows(DAY);
}
