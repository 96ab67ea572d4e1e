//! Changes of addresses in a reload: new addresses are served, kept ones are not disturbed, and clients that have
//! connected to a removed one still get responses.

use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;

use crate::harness::{Connection, Daylily, Load, PATIENCE, Request, Setup, each, eventually};

/// Starts a server that listens as its configuration file says, not by a flag.
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

/// The worker is stopped (SIGSTOP) while its address is removed, so that connections are still in its backlog.
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

/// The same port on all addresses: connections go to the narrower socket until it is closed.
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

/// The loopback addresses of both families, with the port of `server`.
fn both(server: &Daylily) -> [SocketAddr; 2] {
    let port = server.address().port();
    [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))]
}

/// An IPv6 socket also accepts IPv4, unless both are configured: then each family has its own socket, in either order.
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

/// Addresses of either family are added and removed while clients of both are served.
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
            // More connections than there are sockets and workers.
            (0..10).for_each(|_| hello(over_v6));
        }
        hello(over_v4);
    }
    load.end().expect_no_failure();
}

/// For an HTTP/1.0 request without `Host`, the authority is the connection's address as the client knows it.
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
