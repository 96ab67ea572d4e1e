//! Connections in the metrics: by listener, and each once by how it ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::admin::address;
use crate::harness::{Connection, Daylily, MetricsPage, PATIENCE, Request, Setup, eventually, guest};
use crate::unix_sockets::Place;

/// Connections that have ended, by listener and reason.
type Ended = BTreeMap<(String, String), u64>;

const ENDED: &str = "daylily_connections_ended_total";
const BEGUN: &str = "daylily_connections_total";

fn scrape(admin: SocketAddr) -> MetricsPage {
    MetricsPage::read(Connection::open(admin)).expect("an admin listener")
}

fn ended(admin: SocketAddr) -> Ended {
    let page = scrape(admin);
    let mut ended = Ended::new();
    for listener in page.values(ENDED, "listener") {
        for reason in page.values(ENDED, "reason") {
            let count = page.sum(ENDED, None, &[("listener", &listener), ("reason", &reason)]) as u64;
            if count > 0 {
                ended.insert((listener.clone(), reason), count);
            }
        }
    }
    ended
}

/// The value of a series of a listener.
fn of_listener(admin: SocketAddr, name: &str, listener: &str) -> f64 {
    scrape(admin).sum(name, None, &[("listener", listener)])
}

/// A listener of the server, and its admin listener.
struct Listener<'a> {
    server: &'a Daylily,
    admin: SocketAddr,
    name: &'a str,
}

impl Listener<'_> {
    /// Asserts that `what` ends one connection of this listener for this reason, and nothing else is counted.
    #[track_caller]
    fn check(&self, reason: &str, what: impl FnOnce(&Daylily)) {
        let mut expected = ended(self.admin);
        what(self.server);
        *expected.entry((self.name.to_owned(), reason.to_owned())).or_insert(0) += 1;
        let is_counted = eventually(PATIENCE, || ended(self.admin) == expected);
        assert!(is_counted, "{:#?} instead of {expected:#?}", ended(self.admin));
    }

    /// [`Self::check`] of a connection that these bytes are sent on, and that the server then closes.
    #[track_caller]
    fn check_sent(&self, reason: &str, bytes: &[u8]) {
        self.check(reason, |server| drain(&mut server.connect(), bytes));
    }

    fn open(&self) -> f64 {
        of_listener(self.admin, "daylily_connections_open", self.name)
    }
}

/// Sends bytes, and reads until the connection ends.
fn drain(connection: &mut Connection, bytes: &[u8]) {
    connection.try_send(bytes);
    while connection.try_response("GET", PATIENCE).is_ok() {}
}

fn hello() -> Request {
    Request::get("hello.test", "/")
}

fn setup() -> Setup {
    Setup::new()
        .top("[admin]\nlisten = '127.0.0.1:0'")
        .route("hello.test", "hello", "")
        .route("burn.test", "burn", "cpu_time = '100ms'")
        .route("echo.test", "echo", "")
        .route("stream.test", "stream", "wall_time = '10m'\nbody_timeout = '500ms'")
}

#[test]
fn each_connection_is_counted_by_how_it_ended() {
    let server = setup().server("head_timeout = '1s'\nidle_timeout = '1s'\nmax_head = '16KiB'").start();
    let tcp = Listener { server: &server, admin: address(&server), name: "127.0.0.1:0" };

    tcp.check("client_closed", |server| server.connect().leave());
    tcp.check("client_closed", |server| {
        let mut connection = server.connect();
        connection.exchange(&hello()).expect(200, "Hello World\n");
        connection.exchange(&hello()).expect(200, "Hello World\n");
        connection.leave();
    });
    tcp.check("client_gone", |server| {
        let mut connection = server.connect();
        connection.send(b"GET / HT");
        connection.leave();
    });
    tcp.check("client_gone", |server| {
        let mut connection = server.connect();
        connection.send(&Request::get("stream.test", "/silent?ms=600000").bytes());
        assert!(connection.is_quiet_for(std::time::Duration::from_millis(100)));
        connection.leave();
    });
    tcp.check("client_reset", |server| {
        let mut connection = server.connect();
        connection.exchange(&hello()).expect(200, "Hello World\n");
        connection.leave_rudely();
    });
    tcp.check_sent("requested", &hello().header("Connection", "close").bytes());
    tcp.check_sent("requested", &hello().http10().header("Host", "hello.test").bytes());
    tcp.check_sent("unread_body", &Request::post("none.test", "/").header("Content-Length", "1000000").head_bytes());
    let impatient = setup().server("idle_timeout = '1s'").start();
    let listener = Listener { server: &impatient, admin: address(&impatient), name: "127.0.0.1:0" };
    listener.check_sent("idle_timeout", &hello().bytes());
    tcp.check_sent("head_timeout", b"");
    tcp.check_sent("head_timeout", b"GET / HTTP/1.1\r\n");
    tcp.check_sent("head_limit", &hello().header("x", &"x".repeat(20_000)).bytes());
    tcp.check_sent("head_limit", format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000)).as_bytes());
    tcp.check_sent("malformed", b"GET / HTTP/1.1\r\nno field\r\n\r\n");
    tcp.check_sent("malformed", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let chunked = Request::post("echo.test", "/").header("Transfer-Encoding", "chunked").head_bytes();
    tcp.check_sent("malformed", &[chunked.as_slice(), b"no size\r\n"].concat());
    tcp.check_sent("cut", &Request::get("burn.test", "/after-head").bytes());
    tcp.check_sent("cut", &Request::get("burn.test", "/after-head").http10().header("Host", "burn.test").bytes());
    let mut narrow = Connection::open_narrow(server.address());
    tcp.check("unread_response", |_| {
        narrow.send(&Request::get("stream.test", "/n?chunks=64&size=1000000&pause_ms=0").bytes());
    });
    let (begun, ended) = (of_listener(tcp.admin, BEGUN, tcp.name), ended(tcp.admin));
    assert_eq!(begun as u64, ended.values().sum::<u64>(), "{ended:#?}");
}

#[test]
fn connections_of_workers_that_end_are_counted() {
    let server = setup().start();
    let tcp = Listener { server: &server, admin: address(&server), name: "127.0.0.1:0" };
    let mut idle = server.connect();
    idle.exchange(&hello()).expect(200, "Hello World\n");
    tcp.check("drain", |server| {
        server.reload();
        idle.expect_closed();
    });
    let mut open = server.connect();
    open.send(b"GET");
    assert!(eventually(PATIENCE, || tcp.open() == 1.0), "{}", tcp.open());
    tcp.check("lost", |server| {
        server.worker_processes().iter().for_each(|worker| worker.signal(Signal::KILL));
    });
    assert_eq!(tcp.open(), 0.0);
    let (begun, ended) = (of_listener(tcp.admin, BEGUN, tcp.name), ended(tcp.admin));
    assert_eq!(begun as u64, ended.values().sum::<u64>(), "{ended:#?}");
}

/// Listeners have the names of the configuration, and those that it has no more leave.
#[test]
fn connections_are_counted_by_listener() {
    let place = Place::new();
    let (one, two) = (place.listen("one.sock"), place.listen("two.sock"));
    let route = format!("[[route]]\ncomponent = '{}'", guest("hello").display());
    let config = |listen: &str| format!("listen = [{listen}]\n[admin]\nlisten = '127.0.0.1:0'\n{route}\n");
    let file = config(&format!("'127.0.0.1:0', '{one}'"));
    let server = Setup::bare(&["-c", "daylily.toml"]).without("--listen").file("daylily.toml", file.as_bytes());
    let server = server.workers(2).start();
    let admin = address(&server);
    let has = |name: &str| scrape(admin).values(BEGUN, "listener").contains(name);
    assert!(has("127.0.0.1:0") && has(&one) && !has(&two));
    for _ in 0..3 {
        let unix = Listener { server: &server, admin, name: &one };
        unix.check("client_closed", |_| {
            let mut connection = Connection::open_unix(&place.path("one.sock"));
            connection.exchange(&Request::get("a.test", "/")).expect(200, "Hello World\n");
            connection.leave();
        });
    }
    assert_eq!(of_listener(admin, BEGUN, &one), 3.0);
    assert_eq!(of_listener(admin, BEGUN, "127.0.0.1:0"), 0.0);
    let reload = |listen: &str| {
        std::fs::write(server.directory().join("daylily.toml"), config(listen)).expect("a configuration");
        server.reload();
    };
    reload(&format!("'127.0.0.1:0', '{two}'"));
    assert!(eventually(PATIENCE, || has(&two) && !has(&one)));
    // It comes back with its numbers.
    reload(&format!("'127.0.0.1:0', '{one}'"));
    assert!(eventually(PATIENCE, || has(&one)));
    assert_eq!(of_listener(admin, BEGUN, &one), 3.0);
}

#[test]
fn what_cannot_be_accepted_is_counted() {
    let not_accepted = |server: &Daylily, why: &str| {
        let labels = [("listener", "127.0.0.1:0"), ("reason", why)];
        let page = scrape(address(server));
        assert!(page.values("daylily_connections_not_accepted_total", "reason").contains(why), "{page:#?}");
        page.sum("daylily_connections_not_accepted_total", None, &labels)
    };
    let server = setup().server("max_connections = 3").start();
    let mut open: Vec<Connection> = (0..2).map(|_| server.connect()).collect();
    for connection in &mut open {
        connection.exchange(&hello()).expect(200, "Hello World\n");
    }
    assert_eq!(not_accepted(&server, "limit"), 0.0);
    open.push(server.connect());
    assert!(eventually(PATIENCE, || not_accepted(&server, "limit") == 1.0), "{}", not_accepted(&server, "limit"));
    drop(open);

    let server = setup().start();
    let (worker, limit) = (server.process(), server.process().descriptor_limit());
    worker.limit_descriptors(worker.descriptors() as u64 + 4);
    let mut more: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
    for connection in &mut more {
        connection.send(&hello().bytes());
    }
    assert!(eventually(PATIENCE, || not_accepted(&server, "exhausted") > 0.0));
    worker.limit_descriptors(limit);
    for connection in &mut more {
        connection.response("GET").expect(200, "Hello World\n");
    }
    assert_eq!(not_accepted(&server, "limit"), 0.0);
}
