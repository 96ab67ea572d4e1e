//! Other addresses after a reload: the new ones are served, those that stay are not disturbed, and whoever
//! has found the old one open is answered.

use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;

use crate::harness::{Connection, Daylily, Load, PATIENCE, Request, Setup, eventually};

/// Listens by its file, not by a flag, with `workers`.
fn start(listen: &str, workers: u32) -> Daylily {
    let setup = Setup::new().route("hello.test", "hello", "").without("--listen").workers(workers);
    setup.top(&format!("listen = [{listen}]")).start()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn hello(address: SocketAddr) {
    Connection::open(address).exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
}

#[track_caller]
fn listen(server: &Daylily, old: &str, new: &str) {
    server.configure(|config| config.replace(&format!("listen = [{old}]"), &format!("listen = [{new}]")));
    server.reload();
}

#[track_caller]
fn expect_closed(address: SocketAddr) {
    let refuses = || TcpStream::connect(address).is_err();
    assert!(eventually(PATIENCE, refuses), "the old address still takes connections");
}

/// The old worker is stopped when its address is given up, so that connections wait there.
#[test]
fn what_waits_at_an_address_that_is_given_up_is_answered() {
    let server = start("'127.0.0.1:0'", 1);
    let old = server.workers();
    hello(server.address());
    old[0].signal(Signal::STOP);
    let mut waiting: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
    for connection in &mut waiting {
        connection.send(&Request::get("hello.test", "/").bytes());
    }
    let port = free_port();
    listen(&server, "'127.0.0.1:0'", &format!("'127.0.0.1:{port}'"));
    hello(([127, 0, 0, 1], port).into());
    old[0].signal(Signal::CONT);
    for connection in &mut waiting {
        connection.response("GET").expect(200, "Hello World\n");
    }
    expect_closed(server.address());
    assert!(eventually(PATIENCE, || !old[0].is_running()), "the old worker stays");
    assert_eq!(server.status().0["listen"][0], format!("http://127.0.0.1:{port}/"));
}

#[test]
fn an_address_is_given_up_under_load() {
    let server = start("'127.0.0.1:0'", 2);
    let load = Load::start(server.address(), 4, &Request::get("hello.test", "/"));
    load.expect_more(50);
    let port = free_port();
    listen(&server, "'127.0.0.1:0'", &format!("'127.0.0.1:{port}'"));
    expect_closed(server.address());
    let outcome = load.end();
    assert!(outcome.failed() == 0 && outcome.refused > 0, "{outcome:?}");
    hello(([127, 0, 0, 1], port).into());
}

/// The same port at all addresses: the narrower socket has what comes to it, until it is closed.
#[test]
fn a_port_that_is_opened_to_all_addresses_loses_nobody() {
    let port = free_port();
    let narrow = format!("'127.0.0.1:{port}'");
    let server = start(&narrow, 2);
    let load = Load::start(server.address(), 4, &Request::get("hello.test", "/"));
    load.expect_more(50);
    listen(&server, &narrow, &format!("'0.0.0.0:{port}'"));
    load.expect_more(50);
    hello(([127, 0, 0, 2], port).into());
    listen(&server, &format!("'0.0.0.0:{port}'"), &narrow);
    load.expect_more(50);
    load.end().expect_no_failure();
    expect_closed(([127, 0, 0, 2], port).into());
}

#[test]
fn an_address_that_comes_and_goes_does_not_disturb_the_other() {
    let server = start("'127.0.0.1:0'", 2);
    let load = Load::start(server.address(), 4, &Request::get("hello.test", "/"));
    for _ in 0..3 {
        let other = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let both = format!("'127.0.0.1:0', '{other}'");
        listen(&server, "'127.0.0.1:0'", &both);
        hello(other);
        load.expect_more(20);
        listen(&server, &both, "'127.0.0.1:0'");
        expect_closed(other);
        load.expect_more(20);
    }
    load.end().expect_no_failure();
}
