//! The files of Unix sockets over the life of a server: start, reload, stop, crash and upgrade. Clients lose nothing.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::process::Signal;

use crate::harness::{Connection, Daylily, Load, PATIENCE, Request, Setup, Silence, each, eventually};
use crate::unix_sockets::{Place, hello, mode, setup};

/// Replaces a part of the configuration, and reloads.
#[track_caller]
fn change(server: &Daylily, old: &str, new: &str) {
    server.configure(|config| {
        assert!(config.contains(old), "no {old} in {config}");
        config.replace(old, new)
    });
    server.reload();
}

#[track_caller]
fn expect_refused(path: &Path) {
    assert!(UnixStream::connect(path).is_err(), "{} still takes connections", path.display());
}

#[test]
fn the_file_has_the_mode_that_is_configured() {
    let place = Place::new();
    let path = place.path("a.sock");
    let server = setup(&[place.listen("a.sock")]).through("umask 077; exec \"$@\"").start();
    assert_eq!(mode(&path), 0o660);
    let before = fs::symlink_metadata(&path).expect("a file").permissions();
    assert!(fs::symlink_metadata(&path).expect("a file").file_type().is_socket(), "{before:?}");
    // A reload changes the mode of the same socket.
    change(&server, &place.listen("a.sock"), &format!("{}?mode=0666", place.listen("a.sock")));
    assert_eq!(mode(&path), 0o666);
    hello(&path);
}

#[test]
fn the_file_is_removed_at_a_stop_and_what_was_left_behind_is_replaced() {
    let place = Place::new();
    let path = place.path("a.sock");
    for (signal, remains) in [(Signal::TERM, false), (Signal::KILL, true), (Signal::INT, false)] {
        let server = setup(&[place.listen("a.sock")]).start();
        hello(&path);
        server.signal(signal);
        assert!(eventually(PATIENCE, || server.try_wait().is_some()), "it goes on after {signal:?}");
        server.expect_no_process(PATIENCE);
        assert_eq!(path.symlink_metadata().is_ok(), remains, "{signal:?}");
        expect_refused(&path);
    }
    assert_eq!(fs::read_dir(place.0.path()).expect("a directory").count(), 0, "something is left behind");
}

/// Another server's file is not removed, even when it has the same path by then.
#[test]
fn a_file_that_another_server_has_put_there_stays() {
    let place = Place::new();
    let path = place.path("a.sock");
    let server = setup(&[place.listen("a.sock")]).start();
    fs::remove_file(&path).expect("the socket");
    let _other = UnixListener::bind(&path).expect("a socket");
    server.command(&["stop"]).expect(0, &[]);
    assert_eq!(server.wait_exit(), 0);
    assert!(UnixStream::connect(&path).is_ok(), "the other server's socket is gone");
}

/// What is at the path, and what the error says.
type InTheWay = (&'static str, fn(&Path) -> Option<OwnedFd>, &'static [&'static str]);

const IN_THE_WAY: &[InTheWay] = &[
    (
        "a server",
        |path| Some(UnixListener::bind(path).expect("a socket").into()),
        &["listens there", "choose another path with --listen"],
    ),
    (
        "a server with a full backlog",
        |path| {
            let listener = UnixListener::bind(path).expect("a socket");
            rustix::net::listen(&listener, 0).expect("a listener");
            let connect = || {
                let client =
                    socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
                client.set_nonblocking(true).expect("no waiting");
                let connected = client.connect(&socket2::SockAddr::unix(path).expect("an address"));
                std::mem::forget(client);
                connected.is_err()
            };
            assert!((0..10).any(|_| connect()), "the backlog does not fill");
            Some(listener.into())
        },
        &["another server listens there", "choose another path with --listen"],
    ),
    (
        "a file",
        |path| {
            fs::write(path, "text").expect("a file");
            None
        },
        &["the path exists and is not a socket", "remove that file"],
    ),
    (
        "a directory",
        |path| {
            fs::create_dir(path).expect("a directory");
            None
        },
        &["the path exists and is not a socket"],
    ),
    (
        "a link",
        |path| {
            symlink("/nowhere", path).expect("a link");
            None
        },
        &["the path exists and is not a socket"],
    ),
];

#[test]
fn what_is_in_the_way_is_named_and_stays() {
    each(IN_THE_WAY, |(_, put, parts)| {
        let place = Place::new();
        let path = place.path("a.sock");
        let _open = put(&path);
        let server = setup(&[place.listen("a.sock")]).spawn();
        server.expect_exit(69, &[&["failed to listen on", &place.listen("a.sock")], *parts].concat());
        assert!(path.symlink_metadata().is_ok(), "it was removed");
    });
    let place = Place::new();
    let server = setup(&[place.listen("missing/a.sock")]).spawn();
    server.expect_exit(69, &["its directory", "missing: No such file", "RuntimeDirectory="]);
}

/// A start that fails for another reason leaves a socket where it was.
#[test]
fn a_start_that_fails_changes_nothing() {
    let place = Place::new();
    drop(UnixListener::bind(place.path("a.sock")).expect("a socket that is left behind"));
    let server =
        setup(&[place.listen("a.sock"), place.listen("b.sock")]).route_with("path = '/x'", "missing.wasm").spawn();
    server.expect_exit(66, &["missing.wasm"]);
    assert!(place.path("a.sock").exists() && !place.path("b.sock").exists());
}

#[test]
fn a_reload_keeps_adds_and_removes_sockets() {
    let place = Place::new();
    let (a, b) = (place.listen("a.sock"), place.listen("b.sock"));
    let server = setup(std::slice::from_ref(&a)).workers(2).start();
    let inode =
        |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(place.path(name)).expect("a file"));
    let kept = inode("a.sock");
    let load = Load::start_unix(&place.path("a.sock"), 4, &Request::get("hello.test", "/"));
    load.expect_more(50);
    change(&server, &format!("'{a}'"), &format!("'{a}', '{b}'"));
    hello(&place.path("b.sock"));
    load.expect_more(50);
    assert_eq!(inode("a.sock"), kept, "the socket was not kept");
    // A failed reload changes nothing.
    let config = server.config();
    server.put("daylily.toml", config.replace(&format!("'{b}'"), &format!("'{}'", place.listen("missing/c.sock"))));
    server.command(&["reload"]).expect(69, &["missing"]);
    hello(&place.path("b.sock"));
    server.put("daylily.toml", config);
    load.expect_more(50);
    load.end().expect_no_failure();
    // Clients of a socket that is given up get their responses, or find no socket.
    let load = Load::start_unix(&place.path("a.sock"), 4, &Request::get("hello.test", "/"));
    load.expect_more(50);
    change(&server, &format!("'{a}', "), "");
    assert!(!place.path("a.sock").exists());
    load.expect_refused();
    let outcome = load.end();
    assert!(outcome.failed() == 0 && outcome.refused > 0, "{outcome:?}");
    hello(&place.path("b.sock"));
}

/// The workers are stopped (SIGSTOP) while the socket is given up, so connections are still in its backlog.
#[test]
fn what_waits_at_a_socket_that_is_given_up_is_answered() {
    let place = Place::new();
    let server = setup(&[place.listen("a.sock")]).start();
    let old = server.workers();
    old[0].signal(Signal::STOP);
    let mut waiting: Vec<Connection> = (0..20).map(|_| Connection::open_unix(&place.path("a.sock"))).collect();
    for connection in &mut waiting {
        connection.send(&Request::get("hello.test", "/").bytes());
    }
    change(&server, &place.listen("a.sock"), &place.listen("b.sock"));
    assert!(!place.path("a.sock").exists());
    old[0].signal(Signal::CONT);
    for connection in &mut waiting {
        connection.response("GET").expect(200, "Hello World\n");
    }
    hello(&place.path("b.sock"));
}

/// A program that cleans directories may remove the file.
#[test]
fn a_reload_puts_back_a_file_that_was_removed() {
    let place = Place::new();
    let path = place.path("a.sock");
    let server = setup(&[place.listen("a.sock")]).start();
    fs::remove_file(&path).expect("the socket");
    server.reload();
    hello(&path);
    server.command(&["stop"]).expect(0, &[]);
    assert!(!path.exists());
}

#[test]
fn a_stop_under_load_loses_nothing() {
    let place = Place::new();
    let path = place.path("a.sock");
    let server = setup(&[place.listen("a.sock")]).workers(2).start();
    let load = Load::start_unix(&path, 8, &Request::get("hello.test", "/"));
    load.expect_more(100);
    server.command(&["stop"]).expect(0, &[]);
    assert!(!path.exists());
    let outcome = load.end();
    assert!(outcome.failed() == 0 && outcome.refused > 0 && outcome.answered > 0, "{outcome:?}");
}

/// A worker that dies loses what it had accepted. What waits in the backlog is answered by the others.
#[test]
fn a_worker_that_is_killed_loses_only_what_it_had() {
    const CLIENTS: u64 = 4;
    let place = Place::new();
    let server = setup(&[place.listen("a.sock")]).workers(2).start();
    let load = Load::start_unix(&place.path("a.sock"), CLIENTS as usize, &Request::get("hello.test", "/"));
    for _ in 0..3 {
        load.expect_more(20);
        let killed = server.workers();
        killed.iter().for_each(|worker| worker.signal(Signal::KILL));
        let replaced = eventually(PATIENCE, || {
            server.status().ready().is_some_and(|ready| !ready.iter().any(|worker| killed.contains(worker)))
        });
        assert!(replaced, "{:?}", server.status());
    }
    load.expect_more(20);
    let outcome = load.end();
    assert!(outcome.failed() <= 3 * CLIENTS, "more than was in progress: {outcome:?}");
    assert_eq!((outcome.refused, outcome.wrong.as_slice()), (0, &[][..]), "{outcome:?}");
}

#[test]
fn upgrades_under_load_lose_nothing() {
    let place = Place::new();
    let path = place.path("a.sock");
    let (a, b) = (place.listen("a.sock"), place.listen("b.sock"));
    let server = setup(&[a, b.clone()]).workers(2).own_program().start();
    let load = Load::start_unix(&path, 4, &Request::get("hello.test", "/"));
    for _ in 0..2 {
        load.expect_more(50);
        let old = server.status().supervisor();
        old.signal(Signal::USR2);
        assert!(eventually(PATIENCE, || server.status().supervisor() != old), "{:?}", server.status());
        // The predecessor leaves the file to its successor.
        assert!(eventually(PATIENCE, || !old.is_running()), "the old one goes on");
        hello(&path);
    }
    // One that cannot start leaves it as well.
    let config = server.config();
    server.put("daylily.toml", "= nonsense");
    server.status().supervisor().signal(Signal::USR2);
    server.log().wait_for(&["ERROR", "upgrade failed"]);
    hello(&path);
    load.expect_more(50);
    load.end().expect_no_failure();
    // A successor that no longer serves on a socket removes its file.
    server.put("daylily.toml", config.replace(&format!(", '{b}'"), ""));
    let old = server.status().supervisor();
    old.signal(Signal::USR2);
    assert!(eventually(PATIENCE, || !old.is_running()), "the old one goes on");
    assert!(path.exists() && !place.path("b.sock").exists());
    server.command(&["stop"]).expect(0, &[]);
    server.expect_no_process(PATIENCE);
    assert!(!path.exists(), "it is left behind");
}

/// systemd keeps its socket, and its file, when the service stops.
#[test]
fn a_socket_of_systemd_is_served_and_stays() {
    let place = Place::new();
    let path = place.path("a.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut early = Connection::open_unix(&path);
    early.send(&Request::get("hello.test", "/").bytes());
    let server = Setup::new()
        .route("hello.test", "hello", "")
        .without("--listen")
        .passed(vec![listener.try_clone().expect("a second handle").into()], "web")
        .workers(2)
        .start();
    early.response("GET").expect(200, "Hello World\n");
    assert_eq!(server.status().0["listen"][0], place.listen("a.sock"));
    server.reload();
    hello(&path);
    server.command(&["stop"]).expect(0, &[]);
    assert_eq!(server.wait_exit(), 0);
    // Waits for the next start.
    let mut waiting = Connection::open_unix(&path);
    assert_eq!(waiting.try_response("GET", std::time::Duration::from_millis(50)).err(), Some(Silence::Waiting));
}
