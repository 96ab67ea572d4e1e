//! The control socket: the output of `daylily status`, which of several servers responds, and robustness of the socket.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Connection, Daylily, PATIENCE, Request, Setup, Status, binary, each, eventually, run, run_in};

fn hello() -> Setup {
    Setup::new().route("hello.test", "hello", "").route("stream.test", "stream", "")
}

/// The fields that scripts may rely on.
const FIELDS: &[&str] = &[
    "/version",
    "/pid",
    "/uptime_ms",
    "/generation",
    "/state",
    "/listen/0",
    "/routes/0/name",
    "/routes/0/host",
    "/routes/0/path",
    "/routes/0/component",
    "/workers/0/worker",
    "/workers/0/generation",
    "/workers/0/pid",
    "/workers/0/state",
    "/workers/0/uptime_ms",
    "/workers/0/restarts",
    "/workers/0/hangs",
    "/workers/0/connections",
    "/workers/0/requests_in_progress",
    "/workers/0/requests",
    "/draining",
    "/totals/connections",
    "/totals/requests",
    "/totals/requests_in_progress",
    "/totals/requests_cut",
    "/totals/requests_lost",
    "/totals/reloads",
    "/totals/reloads_failed",
    "/totals/worker_restarts",
    "/totals/worker_hangs",
];

/// A server with one request in progress and three completed ones, over two connections.
fn busy() -> (Daylily, Connection) {
    let server = hello().start();
    server.get("hello.test", "/").expect(200, "Hello World\n");
    let mut connection = server.connect();
    for _ in 0..2 {
        connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    }
    connection.send(&Request::get("stream.test", "/silent?ms=20000").bytes());
    let counted = eventually(PATIENCE, || {
        let status = server.status();
        status.total("requests") == 4 && status.of_worker(0, "connections") == 1
    });
    assert!(counted, "{:?}", server.status());
    (server, connection)
}

#[test]
fn machines_are_shown_every_field() {
    let (server, _connection) = busy();
    let shown = server.command(&["status", "--json"]);
    shown.expect(0, &[]);
    assert_eq!(shown.stderr, "");
    let value: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    for field in FIELDS {
        assert!(value.pointer(field).is_some_and(|value| !value.is_null()), "no {field} in {value}");
    }
    assert_eq!(value["listen"][0], format!("http://{}/", server.address()));
    assert_eq!((&value["state"], &value["workers"][0]["state"]), (&"serving".into(), &"ready".into()));
    assert_eq!(
        (&value["routes"][0]["name"], &value["routes"][1]["host"]),
        (&"hello.test".into(), &"stream.test".into())
    );
    let status = Status(value);
    assert_eq!(status.supervisor(), server.supervisor());
    assert_eq!(status.workers(), [Some(server.process())]);
    assert_eq!(
        (status.total("requests"), status.total("connections"), status.total("requests_in_progress")),
        (4, 2, 1)
    );
    let of_worker = |name| status.of_worker(0, name);
    assert_eq!((of_worker("requests"), of_worker("connections"), of_worker("requests_in_progress")), (4, 1, 1));
}

#[test]
fn people_are_shown_tables() {
    let (server, _connection) = busy();
    let shown = server.command(&["status"]);
    shown.expect(0, &[]);
    let lines: Vec<String> =
        shown.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let has =
        |wanted: &str| assert!(lines.iter().any(|line| line.contains(wanted)), "no {wanted:?} in:\n{}", shown.stdout);
    has(&format!("(pid {}) is serving, generation 1, up ", server.supervisor().pid));
    has(&format!("listening on http://{}/", server.address()));
    has("WORKER GENERATION PID STATE UP RESTARTS CONNECTIONS IN PROGRESS REQUESTS");
    has(&format!("0 1 {} ready ", server.process().pid));
    has(" 0 1 1 4");
    has("ROUTE SERVES");
    has("hello.test /");
    has("requests: 4 on 2 connections, 0 cut after shutdown_timeout, 0 lost when their worker died");
    has("workers replaced: 0, 0 of them hung, 0 of them with blocked file calls");
    has("reloads: 0, 0 of them failed");
}

#[test]
fn without_a_server_there_is_a_remedy() {
    let left_behind = hello().start();
    left_behind.signal(Signal::KILL);
    left_behind.expect_no_process(PATIENCE);
    each(&["status", "reload", "stop"], |command| {
        let refused = run(&[command, "--control", "nowhere.sock"]);
        refused.expect(69, &["no daylily server responds at `nowhere.sock`", "is it running?"]);
        assert_eq!(refused.stdout, "");
        left_behind.command(&[command]).expect(69, &["no daylily server responds at `control.sock`", "is it running?"]);
    });
    let by_environment = run_in(&[], &[("DAYLILY_CONTROL", "elsewhere.sock")], &["status"]);
    by_environment.expect(69, &["no daylily server responds at `elsewhere.sock`"]);
}

/// The runtime directory of this user's servers, in a temporary directory. Root's servers also use `/run/daylily`,
/// where unrelated servers may run.
struct Runtime(TempDir);

impl Runtime {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join(format!("daylily-{}", geteuid().as_raw()))
    }

    fn start(&self) -> Daylily {
        let directory = self.directory().display().to_string();
        hello().without("--control").env("RUNTIME_DIRECTORY", &directory).start()
    }

    fn socket(&self, server: &Daylily) -> PathBuf {
        self.directory().join(format!("{}.sock", server.address()))
    }

    fn status(&self) -> crate::harness::Finished {
        run_in(&[], &[("TMPDIR", &self.0.path().display().to_string())], &["status", "--json"])
    }
}

fn others_run() -> bool {
    let entries = fs::read_dir("/run/daylily").into_iter().flatten().filter_map(Result::ok);
    entries.into_iter().any(|entry| UnixStream::connect(entry.path()).is_ok())
}

#[test]
fn the_only_server_is_found_and_of_several_one_must_be_chosen() {
    assert!(!others_run(), "servers run in /run/daylily: stop them, or run this as another user");
    let runtime = Runtime::new();
    let none = runtime.status();
    none.expect(69, &["no daylily server of this user is running (looked in ", "give its control socket with"]);
    none.expect(69, &[&runtime.directory().display().to_string()]);
    let first = runtime.start();
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o7777;
    assert_eq!((mode(&runtime.socket(&first)), mode(&runtime.directory())), (0o600, 0o700));
    let only = runtime.status();
    only.expect(0, &[]);
    let status = Status(serde_json::from_str(&only.stdout).expect("JSON"));
    assert_eq!(status.supervisor(), first.supervisor());
    let second = runtime.start();
    let several = runtime.status();
    several.expect(69, &["several daylily servers are running; choose one:"]);
    for server in [&first, &second] {
        several.expect(69, &[&format!("--control {}", runtime.socket(server).display())]);
    }
    // A killed server leaves its socket behind, and does not count as one of several.
    second.signal(Signal::KILL);
    second.expect_no_process(PATIENCE);
    runtime.status().expect(0, &[]);
    first.signal(Signal::TERM);
    first.expect_exit(0, &[]);
    runtime.status().expect(69, &["no daylily server of this user is running"]);
}

/// Root may connect to every socket, unless it runs without that capability.
#[test]
fn the_socket_is_for_its_user_alone() {
    let server = hello().start();
    let socket = server.directory().join("control.sock");
    assert_eq!(fs::metadata(&socket).expect("the socket").permissions().mode() & 0o7777, 0o600);
    let mut command = if geteuid().is_root() {
        chown(&socket, Some(65_534), None).expect("another owner");
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-dac_override,-dac_read_search", binary()]);
        command
    } else {
        fs::set_permissions(&socket, Permissions::from_mode(0o000)).expect("a mode");
        Command::new(binary())
    };
    let output = command.args(["status", "--control"]).arg(&socket).output().expect("the binary under test");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(77), &[][..]), "{stderr}");
    assert!(stderr.contains("belongs to another user") && stderr.contains("as root"), "{stderr}");
}

/// A name, a function that changes a directory and returns the socket's path, and the error.
type Refused = (&'static str, fn(&Path) -> PathBuf, &'static [&'static str]);

const REFUSED: &[Refused] = &[
    ("too long", |directory| directory.join("x".repeat(108)), &["the path is longer than", "bytes"]),
    (
        "writable by all",
        |directory| in_mode(directory, 0o777),
        &["others can write to its directory (mode 777)", "chmod go-w"],
    ),
    ("writable by the group", |directory| in_mode(directory, 0o770), &["others can write to its directory (mode 770)"]),
    ("a file", in_place_of_a_file, &["the path exists and is not a socket"]),
    ("no directory", |_| "/proc/nothing/control.sock".into(), &["/proc/nothing"]),
];

fn in_mode(directory: &Path, mode: u32) -> PathBuf {
    fs::set_permissions(directory, Permissions::from_mode(mode)).expect("a mode");
    directory.join("control.sock")
}

fn in_place_of_a_file(directory: &Path) -> PathBuf {
    fs::write(directory.join("control.sock"), "precious").expect("a file");
    directory.join("control.sock")
}

#[test]
fn a_socket_that_is_not_safe_or_cannot_be_is_refused() {
    each(REFUSED, |(_, spoil, parts)| {
        let directory = TempDir::new().expect("a directory");
        let path = spoil(directory.path()).display().to_string();
        let before = if directory.path().join("control.sock").exists() { vec!["precious"] } else { Vec::new() };
        let refused = run(&["serve", "--listen", "127.0.0.1:0", "--control", &path]);
        refused.expect(69, parts).expect(69, &["failed to open the control socket", &path, "--control"]);
        assert_eq!(refused.stdout, "", "it said that it serves");
        let left = fs::read_dir(directory.path()).expect("a list of files").map(|file| file.expect("a file").path());
        let left: Vec<_> = left.map(|file| fs::read_to_string(file).expect("its contents")).collect();
        assert_eq!(left, before);
    });
}

/// Root changes the owner of a directory; other users take one of root's, in which they cannot create files.
#[test]
fn a_socket_in_a_directory_of_somebody_else_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let (path, part) = if geteuid().is_root() {
        chown(directory.path(), Some(65_534), None).expect("another owner");
        (directory.path().join("control.sock"), "its directory belongs to user 65534, not to user 0")
    } else {
        ("/usr/control.sock".into(), "Permission denied")
    };
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--control", &path.display().to_string()]);
    refused.expect(69, &["failed to open the control socket", part]);
}

/// The default socket was not configured, so the server runs without it if it cannot be opened.
#[test]
fn a_default_socket_that_is_not_safe_is_done_without() {
    let directory = TempDir::new().expect("a directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("a mode");
    let runtime = directory.path().display().to_string();
    let server = hello().without("--control").env("RUNTIME_DIRECTORY", &runtime).start();
    server.get("hello.test", "/").expect(200, "Hello World\n");
    server.log().wait_for(&["WARN", "failed to open the control socket", "others can write to its directory"]);
    server.signal(Signal::TERM);
    server.expect_exit(0, &[]);
}

#[test]
fn a_socket_in_use_stays_with_its_server_and_one_left_behind_is_taken() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("control.sock").display().to_string();
    let start = || hello().flags(&["--control", &path]).start();
    let first = start();
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--control", &path]);
    refused.expect(69, &["another daylily server listens there"]);
    assert_eq!(refused.stdout, "");
    run(&["status", "--control", &path]).expect(0, &[]);
    first.signal(Signal::KILL);
    first.expect_no_process(PATIENCE);
    assert!(Path::new(&path).exists(), "who removed it?");
    let second = start();
    let shown = run(&["status", "--control", &path]);
    shown.expect(0, &[]);
    assert!(shown.stdout.contains(&format!("(pid {})", second.supervisor().pid)), "{}", shown.stdout);
}

/// Bytes to send, and whether a response is certain. It is not for invalid UTF-8; and a response to more bytes than a
/// command may have can be lost to the reset that unread bytes cause.
const GARBAGE: &[(&[u8], bool)] = &[
    (b"", true),
    (b"\n", true),
    (b"garbage\n", true),
    (b"{}\n", true),
    (b"[]\n", true),
    (b"\"nonsense\"\n", true),
    (b"{\"status\":{}}\n", true),
    (b"\"status\",\"stop\"\n", true),
    (b"\"status", true),
    (b"\xff\xfe\x00\n", false),
    (b"GET / HTTP/1.1\r\n\r\n", false),
    (&[b'['; 100_000], false),
];

/// Sends as many bytes as the server takes. Returns what it responds until the end.
fn say(server: &Daylily, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(server.directory().join("control.sock")).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
    let _it_may_not_read_all = stream.write_all(bytes);
    let _it_may_have_closed = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    // Closing with unread bytes resets the connection, which is acceptable here.
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    answer
}

#[test]
fn what_is_no_command_does_no_harm() {
    let server = hello().start();
    let before = server.status();
    each(GARBAGE, |&(bytes, is_answered)| {
        let answer = say(&server, bytes);
        assert!(!is_answered || !answer.is_empty(), "no answer");
        if !answer.is_empty() {
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            assert!(
                answer["failed"]["reason"].as_str().is_some_and(|reason| reason.contains("not a command")),
                "{answer}"
            );
            assert_eq!(answer["failed"]["exit_code"], 2);
        }
        assert_eq!(server.status().supervisor(), server.supervisor());
    });
    let after = server.status();
    assert_eq!((after.state(), after.generation()), ("serving", before.generation()));
    assert_eq!(after.total("reloads"), 0);
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

/// More connections than are served at a time, none of which sends anything.
#[test]
fn silent_clients_do_not_keep_others_out() {
    let server = hello().start();
    let path = server.directory().join("control.sock");
    server.command(&["status"]).expect(0, &[]);
    let descriptors = server.supervisor().descriptors();
    let silent: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(&path).expect("a connection")).collect();
    server.command(&["status"]).expect(0, &[]);
    drop(silent);
    assert!(eventually(PATIENCE, || server.supervisor().descriptors() <= descriptors), "they are still there");
}

/// A client that leaves without waiting for the response: its command is carried out, and others are not disturbed.
#[test]
fn a_client_that_leaves_early_disturbs_nobody() {
    let server = hello().start();
    for _ in 0..3 {
        let mut stream = UnixStream::connect(server.directory().join("control.sock")).expect("a connection");
        stream.write_all(b"\"reload\"\n").expect("a command");
    }
    assert!(eventually(PATIENCE, || server.status().generation() > 1), "{:?}", server.status());
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

#[test]
fn a_server_that_is_stopping_says_so() {
    let server = hello().start();
    let mut connection = server.connect();
    connection.send(&Request::get("stream.test", "/?chunks=30&size=4&pause_ms=50").bytes());
    let mut response = connection.head();
    server.signal(Signal::TERM);
    server.log().wait_for(&["draining, requests in progress"]);
    assert_eq!(server.status().state(), "stopping");
    server.command(&["reload"]).expect(69, &["reload refused", "the server is stopping"]);
    // A second stop command waits for the stop in progress.
    server.command(&["stop"]).expect(0, &[]);
    connection.finish(&mut response, "GET", &mut |_| {});
    assert!(eventually(Duration::from_secs(1), || server.try_wait().is_some()), "the command did not wait");
    server.expect_exit(0, &[]);
}
