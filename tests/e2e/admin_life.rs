//! The admin listener over the life of a server: the crash of its process, deaths of workers, reloads, upgrades, and the
//! end of the supervisor.

use std::net::SocketAddr;
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::Value;

use crate::admin::{address, get, request, setup, start, status};
use crate::harness::{Connection, Daylily, Load, PATIENCE, Process, Request, eventually};
use crate::unix_sockets::Place;

/// Waits until a check has this status.
#[track_caller]
fn wait_for(address: SocketAddr, path: &str, wanted: u16) {
    let came = eventually(PATIENCE, || get(address, path).status == wanted);
    assert!(came, "{path} has not become {wanted}: {}", get(address, "/status").text());
}

/// The observer that replaces `old`.
#[track_caller]
fn replaced(server: &Daylily, old: Process) -> Process {
    let mut new = None;
    let came = eventually(PATIENCE, || {
        let all = server.supervisor().children();
        new = all.into_iter().find(|child| *child != old && child.is_called("daylily-observer"));
        new.is_some()
    });
    assert!(came, "no other observer");
    new.expect("an observer")
}

#[test]
fn clients_wait_while_the_observer_is_started_again() {
    let server = start();
    let address = address(&server);
    let mut open = Connection::open(address);
    open.exchange(&request("/livez")).expect(200, "ok\n");
    let observer = server.observer();
    observer.signal(Signal::KILL);
    open.expect_closed();
    // The next observer comes a second later.
    let mut waiting: Vec<Connection> = (0..3).map(|_| Connection::open(address)).collect();
    for client in &mut waiting {
        client.send(&request("/readyz").bytes());
    }
    for client in &mut waiting {
        client.response("GET").expect(200, "ok\n");
    }
    assert!(replaced(&server, observer).is_running());
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

#[test]
fn a_worker_that_dies_makes_the_server_unready_until_it_is_replaced() {
    let server = start();
    let address = address(&server);
    let mut client = Connection::open(address);
    // Each death in a row makes the wait for the next start longer.
    let was_unready = eventually(PATIENCE, || {
        server.worker_processes().into_iter().for_each(Process::kill);
        (0..20).any(|_| client.exchange(&request("/readyz")).status == 503)
    });
    assert!(was_unready, "it was always ready");
    wait_for(address, "/readyz", 200);
    assert_eq!(status(address)["workers"][0]["pid"], server.process().pid);
    get(address, "/startupz").expect(200, "ok\n");
}

/// Replaces a part of the configuration.
fn change(server: &Daylily, old: &str, new: &str) {
    server.configure(|config| {
        assert!(config.contains(old), "no {old} in {config}");
        config.replace(old, new)
    });
}

#[test]
fn a_reload_moves_the_listener() {
    let place = Place::new();
    let server = setup("listen = '127.0.0.1:0'").unaudited("its admin listener is off at the end").start();
    let first = address(&server);
    let mut open = Connection::open(first);
    open.exchange(&request("/readyz")).expect(200, "ok\n");
    // A reload that changes nothing of it closes no connection.
    server.reload();
    open.exchange(&request("/readyz")).expect(200, "ok\n");
    assert_eq!((address(&server), &status(first)["generation"]), (first, &2.into()));

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address");
    change(&server, "listen = '127.0.0.1:0'", &format!("listen = '{taken}'"));
    server.command(&["reload"]).expect(69, &["(the admin listener): Address already in use"]);
    assert_eq!(status(first)["generation"], 2);

    change(&server, &format!("listen = '{taken}'"), &format!("listen = '{}'", place.listen("admin.sock")));
    server.reload();
    open.expect_closed();
    let is_closed = eventually(PATIENCE, || TcpStream::connect(first).is_err());
    assert!(is_closed, "the old address still takes connections");
    Connection::open_unix(&place.path("admin.sock")).exchange(&request("/readyz")).expect(200, "ok\n");

    change(&server, &format!("listen = '{}'", place.listen("admin.sock")), "listen = 'off'");
    server.reload();
    assert!(!place.path("admin.sock").exists(), "the file is left behind");
    assert_eq!(server.status().0["admin"], Value::Null);
}

#[test]
fn a_reload_that_drains_a_generation_shows_it() {
    let server = start();
    let address = address(&server);
    let mut slow = server.connect();
    slow.send(&Request::get("stream.test", "/?chunks=100000&size=4&pause_ms=20").bytes());
    slow.head();
    server.reload();
    let seen = status(address);
    assert_eq!((&seen["draining"], &seen["ready"]), (&serde_json::json!([1]), &true.into()));
    slow.leave();
    assert!(eventually(PATIENCE, || status(address)["draining"] == serde_json::json!([])));
}

#[test]
fn probes_notice_nothing_of_reloads_and_upgrades() {
    let server = setup("listen = '127.0.0.1:0'").own_program().workers(2).start();
    let address = address(&server);
    // One connection for each request, as probes do, and kept connections, as scrapers do.
    let probes = Load::start(address, 2, &request("/readyz").header("Connection", "close"));
    let scrapes = Load::start(address, 1, &request("/status"));
    probes.expect_more(20);
    server.reload();
    for _ in 0..3 {
        let old = server.status().supervisor();
        old.signal(Signal::USR2);
        assert!(eventually(PATIENCE, || server.status().supervisor() != old), "no successor took over");
        probes.expect_more(20);
        scrapes.expect_more(20);
        assert!(eventually(PATIENCE, || !old.is_running()), "the old one goes on");
    }
    probes.end().expect_no_failure();
    scrapes.end().expect_no_failure();
    assert_eq!(
        (status(address)["generation"].as_u64(), server.status().0["admin"].as_str().is_some()),
        (Some(5), true)
    );
}

/// The observer of the old program does not leave in time: it is ended, and the new one answers.
#[test]
fn an_upgrade_does_not_wait_for_an_observer_that_hangs() {
    let server = setup("listen = '127.0.0.1:0'").own_program().start();
    let address = address(&server);
    let (old, observer) = (server.supervisor(), server.observer());
    observer.signal(Signal::STOP);
    old.signal(Signal::USR2);
    assert!(eventually(PATIENCE, || server.status().supervisor() != old), "no successor took over");
    assert!(eventually(PATIENCE, || !observer.is_running()), "it still has the socket");
    get(address, "/readyz").expect(200, "ok\n");
    assert_eq!(server.wait_exit(), 0);
    get(address, "/readyz").expect(200, "ok\n");
}

#[test]
fn a_server_whose_supervisor_has_died_is_not_alive() {
    let server = start();
    let address = address(&server);
    let mut slow = server.connect();
    slow.send(&Request::get("stream.test", "/?chunks=100&size=4&pause_ms=20").bytes());
    slow.head();
    let mut client = Connection::open(address);
    client.exchange(&request("/livez")).expect(200, "ok\n");
    server.signal(Signal::KILL);
    let mut last = None;
    let told = eventually(PATIENCE, || {
        client.try_send(&request("/livez").bytes());
        match client.try_response("GET", PATIENCE) {
            Ok(response) => last.insert(response).status == 503,
            Err(silence) => panic!("{silence:?} after {last:?}"),
        }
    });
    assert!(told, "{last:?}");
    let is_closed = eventually(PATIENCE, || TcpStream::connect(address).is_err());
    assert!(is_closed, "the address is in use, and a server that starts again would fail");
    assert!(!server.processes().is_empty(), "the worker should still drain");
}
