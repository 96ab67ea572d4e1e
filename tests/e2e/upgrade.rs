//! Upgrades: another program takes over the sockets without losing a request. If it cannot, the old one continues.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Daylily, Ending, Load, Moved, PATIENCE, Process, Request, Setup, binary, copy_program, each, eventually, make_pipe,
};

fn setup() -> Setup {
    Setup::new().route("hello.test", "hello", "").route("stream.test", "stream", "").own_program()
}

/// Replaces the program that was started, atomically.
fn replace(server: &Daylily, program: &Path) {
    let new = server.directory().join("daylily.new");
    copy_program(program, &new);
    fs::rename(new, server.directory().join("daylily")).expect("the program in its place");
}

/// Replaces the program with a file with this mode.
fn replace_by(server: &Daylily, contents: &str, mode: u32) {
    server.put("daylily", contents);
    fs::set_permissions(server.directory().join("daylily"), Permissions::from_mode(mode)).expect("a mode");
}

/// Starts the upgrade. Returns the new supervisor once it serves alone.
#[track_caller]
pub fn upgrade(server: &Daylily) -> Process {
    let old = server.status().supervisor();
    old.signal(Signal::USR2);
    let came = eventually(PATIENCE, || server.status().supervisor() != old);
    assert!(came, "nobody took over: {:?}", server.status());
    server.status().supervisor()
}

#[test]
fn upgrades_under_load_lose_nothing() {
    let server = setup().workers(2).start();
    let load = Load::start(server.address(), 4, &Request::get("hello.test", "/"));
    load.expect_more(20);
    let mut supervisors = vec![server.supervisor()];
    for _ in 0..3 {
        replace(&server, Path::new(binary()));
        supervisors.push(upgrade(&server));
        load.expect_more(50);
    }
    let current = supervisors.pop().expect("the last one");
    assert_eq!(server.wait_exit(), 0);
    for old in &supervisors {
        assert!(eventually(PATIENCE, || !old.is_running()), "{old:?} goes on beside {current:?}");
    }
    let outcome = load.end();
    outcome.expect_no_failure();
    let status = server.status();
    assert_eq!((status.state(), status.generation(), server.workers().len()), ("serving", 4, 2));
    server.command(&["stop"]).expect(0, &[]);
    server.expect_no_process(PATIENCE);
}

/// Totals count from the first start: an upgrade must not reset them.
#[test]
fn totals_go_on_over_an_upgrade() {
    let server = setup().start();
    let mut moved = Moved::default();
    server.workers()[0].signal(Signal::KILL);
    let replaced = eventually(PATIENCE, || moved.look(&server).total("worker_restarts") == 1);
    assert!(replaced, "{:?}", server.status());
    server.reload();
    server.workers();
    let load = Load::start(server.address(), 2, &Request::get("hello.test", "/"));
    load.expect_more(50);
    let old = server.supervisor();
    server.signal(Signal::USR2);
    let gone = eventually(PATIENCE, || {
        moved.look(&server);
        !old.is_running()
    });
    assert!(gone, "the old one goes on: {:?}", server.status());
    load.expect_more(50);
    let outcome = load.end();
    let status = moved.look(&server);
    assert_eq!((status.total("worker_restarts"), status.total("reloads")), (1, 1));
    assert!(status.total("requests") >= outcome.answered, "{status:?} {outcome:?}");
}

#[test]
fn what_is_in_progress_is_finished_by_the_old_program() {
    let server = setup().start();
    let request = Request::get("stream.test", "/?chunks=25&size=4&pause_ms=60");
    let mut connection = server.connect();
    connection.send(&request.bytes());
    let mut response = connection.head();
    connection.some_bytes();
    upgrade(&server);
    assert!(server.try_wait().is_none(), "the old one did not wait");
    server.get("hello.test", "/").expect(200, "Hello World\n");
    let mut bytes = 0;
    connection.finish(&mut response, "GET", &mut |piece| bytes += piece.len());
    assert_eq!((bytes, response.ending), (100, Ending::Complete));
    assert_eq!(server.wait_exit(), 0);
}

/// A third program takes over while the first still drains.
#[test]
fn an_upgrade_does_not_wait_for_the_one_before() {
    let server = setup().start();
    let request = Request::get("stream.test", "/?chunks=100&size=1&pause_ms=20");
    let mut connection = server.connect();
    connection.send(&request.bytes());
    let mut response = connection.head();
    let (second, third) = (upgrade(&server), upgrade(&server));
    assert!(server.try_wait().is_none(), "the first did not wait");
    server.get("hello.test", "/").expect(200, "Hello World\n");
    let mut bytes = 0;
    connection.finish(&mut response, "GET", &mut |piece| bytes += piece.len());
    assert_eq!((bytes, response.ending), (100, Ending::Complete));
    assert_eq!(server.wait_exit(), 0);
    assert!(eventually(PATIENCE, || !second.is_running()), "the second goes on");
    assert_eq!(server.status().supervisor(), third);
    let counted = eventually(PATIENCE, || server.status().total("requests") == 2);
    assert!(counted, "what the first counted last is lost: {:?}", server.status());
    assert_eq!(server.status().total("requests_in_progress"), 0);
}

/// Commands always get a response, at every moment of an upgrade.
#[test]
fn commands_are_answered_all_through_an_upgrade() {
    let server = setup().start();
    let first = server.supervisor();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while first.is_running() {
                server.command(&["status"]).expect(0, &[]);
            }
        });
        for _ in 0..3 {
            upgrade(&server);
        }
        assert_eq!(server.wait_exit(), 0);
        asking.join().expect("commands that are answered");
    });
}

/// The new program is blocked until the test lets it continue.
#[test]
fn a_reload_during_an_upgrade_is_answered() {
    let server = setup().start();
    let pipe = server.directory().join("pipe");
    make_pipe(&pipe);
    replace_by(&server, &format!("#!/bin/sh\nread _ < pipe\nexec {} \"$@\"\n", binary()), 0o755);
    server.signal(Signal::USR2);
    // Opening the pipe succeeds once the new program reads it.
    let mut writing = fs::File::options().write(true).open(&pipe).expect("the writing end");
    let reload = server.ask("\"reload\"\n").expect("a connection");
    assert_eq!(server.status().state(), "upgrading");
    assert!(!reload.is_answered(), "it was answered before anything was read");
    std::io::Write::write_all(&mut writing, b"go\n").expect("the new program reads");
    let reload = reload.answer().expect("an answer");
    assert!(reload.contains("reloaded") || reload.contains("reload refused"), "{reload}");
    assert_eq!(server.wait_exit(), 0);
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

/// A name, how the program is replaced, and what the log says.
type Broken = (&'static str, fn(&Daylily), &'static str);

const BROKEN: &[Broken] = &[
    ("no program", |server| replace_by(server, "\u{1}\u{2}\u{3}\u{4}", 0o755), "Exec format error"),
    ("not executable", |server| replace_by(server, "#!/bin/sh\n", 0o644), "Permission denied"),
    ("ends at once", |server| replace(server, Path::new("/bin/false")), "ended before it was ready (exit status: 1)"),
    ("ends well", |server| replace(server, Path::new("/bin/true")), "ended before it was ready (exit status: 0)"),
    (
        "a script",
        |server| replace_by(server, "#!/bin/sh\nexit 3\n", 0o755),
        "ended before it was ready (exit status: 3)",
    ),
    (
        "is killed",
        |server| replace_by(server, "#!/bin/sh\nkill -9 $$\n", 0o755),
        "ended before it was ready (signal: 9",
    ),
    (
        "nothing",
        |server| fs::remove_file(server.directory().join("daylily")).expect("the program"),
        "No such file or directory",
    ),
    (
        "a configuration that it does not take",
        |server| {
            replace(server, Path::new(binary()));
            server.put("daylily.toml", "= nonsense");
        },
        "ended before it was ready (exit status: 78)",
    ),
];

#[test]
fn a_program_that_cannot_take_over_changes_nothing() {
    each(BROKEN, |(_, spoil, reason)| {
        let server = setup().start();
        let (config, workers) = (server.config(), server.workers());
        spoil(&server);
        server.signal(Signal::USR2);
        server.log().wait_for(&["ERROR", "upgrade failed", reason, "this process keeps serving"]);
        let status = server.status();
        assert_eq!((status.supervisor(), status.state()), (server.supervisor(), "serving"));
        assert_eq!(server.workers(), workers);
        server.get("hello.test", "/").expect(200, "Hello World\n");
        assert_eq!(server.processes().len(), 3, "what was started is left behind");
        // Once the program is fixed, it takes over.
        replace(&server, Path::new(binary()));
        server.put("daylily.toml", config);
        upgrade(&server);
        server.get("hello.test", "/").expect(200, "Hello World\n");
        assert_eq!(server.wait_exit(), 0);
    });
}

/// A program that hangs, itself or in a child process, which then has the sockets.
const HANGS: &[&str] =
    &["exec sleep 1000", "sleep 1000", "sleep 1000 & sleep 1000 & wait", "trap '' TERM; while :; do sleep 1; done"];

/// A program that neither takes over nor ends does not delay a stop, and does not keep the sockets open.
#[test]
fn a_program_that_never_gets_ready_does_not_hold_up_a_stop() {
    each(HANGS, |script| {
        let server = setup().start();
        replace_by(&server, &format!("#!/bin/sh\n{script}\n"), 0o755);
        server.signal(Signal::USR2);
        assert!(eventually(PATIENCE, || server.status().state() == "upgrading"), "{:?}", server.status());
        assert!(eventually(PATIENCE, || server.processes().len() > 3), "the new program is not started");
        server.get("hello.test", "/").expect(200, "Hello World\n");
        let start = Instant::now();
        server.command(&["stop"]).expect(0, &[]);
        assert_eq!(server.wait_exit(), 0);
        assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
        server.expect_no_process(PATIENCE);
        assert!(std::net::TcpStream::connect(server.address()).is_err(), "somebody keeps the sockets open");
    });
}

/// The children of a program are killed, even when the program ends by itself.
#[test]
fn what_a_program_leaves_behind_goes_with_it() {
    let server = setup().start();
    replace_by(&server, "#!/bin/sh\nsleep 1000 </dev/null &\nexit 3\n", 0o755);
    server.signal(Signal::USR2);
    server.log().wait_for(&["upgrade failed", "ended before it was ready (exit status: 3)"]);
    assert!(eventually(PATIENCE, || server.processes().len() == 3), "{:?} run", server.processes());
    server.get("hello.test", "/").expect(200, "Hello World\n");
}
