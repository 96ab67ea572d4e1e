//! Other addresses after a reload: the new ones are served, those that stay are not disturbed, and whoever
//! has found the old one open is answered.

use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;

use crate::harness::{Connection, Daylily, Load, PATIENCE, Request, Setup, each, eventually};

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

/// Loopback of both families at the port of `server`.
fn both(server: &Daylily) -> [SocketAddr; 2] {
    let port = server.address().port();
    [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))]
}

/// A socket of IPv6 is one for IPv4 as well, unless both are named: then each has its own, in either order.
#[test]
fn all_addresses_of_both_families_are_served() {
    each(&[["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"], ["[::]", "127.0.0.1"], ["127.0.0.1", "0.0.0.0"]], |hosts| {
        let port = free_port();
        let listen = hosts.map(|host| format!("'{host}:{port}'")).join(", ");
        let server = start(&listen, 2);
        let reachable = both(&server).into_iter().filter(|address| address.is_ipv4() || hosts.contains(&"[::]"));
        reachable.for_each(|address| (0..20).for_each(|_| hello(address)));
        server.reload();
        both(&server).into_iter().take(1).for_each(hello);
    });
}

/// One family after the other comes and goes, while clients of both are served.
#[test]
fn families_come_and_go_without_a_request_lost() {
    let port = free_port();
    let [v4, v6] = [format!("'0.0.0.0:{port}'"), format!("'[::]:{port}'")];
    let both_named = format!("{v4}, {v6}");
    let steps = [&v6, &both_named, &v6, &both_named, &v4, &both_named];
    let server = start(steps[0], 2);
    let [over_v4, over_v6] = both(&server);
    let request = Request::get("hello.test", "/");
    let load = Load::start(over_v4, 2, &request);
    load.expect_more(20);
    for change in steps.windows(2) {
        let [old, new] = change else { panic!("not two") };
        listen(&server, old, new);
        load.expect_more(20);
        if new.contains("[::]") {
            // More than one socket and worker has.
            (0..10).for_each(|_| hello(over_v6));
        }
        hello(over_v4);
    }
    load.end().expect_no_failure();
}

/// What HTTP/1.0 without `Host` asks is the address of its connection, as its client knows it.
#[test]
fn a_client_of_ipv4_asks_an_ipv4_address_at_a_socket_for_both() {
    let port = free_port();
    let setup = Setup::new().route_at("path = '/*'", "report").without("--listen");
    let server = setup.top(&format!("listen = '[::]:{port}'")).start();
    for address in both(&server) {
        let mut client = Connection::open(address);
        let response = client.send(b"GET / HTTP/1.0\r\n\r\n").response("GET");
        assert!(response.text().contains(&format!("authority: {address}\n")), "{}", response.text());
    }
}
