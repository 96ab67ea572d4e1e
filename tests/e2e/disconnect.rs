//! When a client leaves, its guest ends within 100 ms. The tests observe this through the server's only permit: the
//! next request gets it once the guest has ended.

use std::time::{Duration, Instant};

use crate::harness::{Connection, Daylily, PATIENCE, Request, Setup, each, eventually};

/// How soon the guest must have ended.
const SOON: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
enum Leave {
    Fin,
    Rst,
}

impl Leave {
    fn leave(self, connection: Connection) {
        match self {
            Self::Fin => connection.leave(),
            Self::Rst => connection.leave_rudely(),
        }
    }
}

/// Every case with both ways to leave.
fn with_both<C: Clone>(cases: &[C]) -> Vec<(Leave, C)> {
    [Leave::Fin, Leave::Rst].iter().flat_map(|leave| cases.iter().map(|case| (*leave, case.clone()))).collect()
}

fn start() -> Daylily {
    let endless = "cpu_time = '10m'\nwall_time = '10m'\nmax_body = '64MiB'";
    Setup::new()
        .server("max_concurrency = 1\nmax_queue = 0")
        .route("hello.test", "hello", "")
        .route("burn.test", "burn", endless)
        .route("stream.test", "stream", endless)
        .route("echo.test", "echo", endless)
        .route("service03.test", "service03", endless)
        .alone()
        .start()
}

/// Whether a request that is sent now gets the permit.
fn place_is_free(server: &Daylily) -> bool {
    match server.get("hello.test", "/").status {
        200 => true,
        503 => false,
        status => panic!("hello answers {status}"),
    }
}

/// Sends `bytes`, waits until the guest holds the permit, leaves, and waits until the permit is free.
fn check(server: &Daylily, bytes: &[u8], leave: Leave) {
    assert!(eventually(PATIENCE, || place_is_free(server)), "the place is taken from the start");
    let mut connection = Connection::open(server.address());
    connection.send(bytes);
    assert!(eventually(PATIENCE, || !place_is_free(server)), "the guest is not running");
    // The test would prove nothing if the guest ended by itself.
    std::thread::sleep(Duration::from_millis(50));
    assert!(!place_is_free(server), "the guest has ended though its client is there");
    leave.leave(connection);
    let left = Instant::now();
    loop {
        let asked = left.elapsed();
        if place_is_free(server) {
            return;
        }
        assert!(asked <= SOON, "still in progress {asked:?} after the client left");
    }
}

#[test]
fn the_guest_of_a_client_that_left_is_gone_within_100_ms() {
    let server = start();
    let requests = [
        Request::get("burn.test", "/loop"),
        Request::get("burn.test", "/after-head"),
        Request::get("service03.test", "/loop"),
        Request::get("service03.test", "/loop-after"),
        Request::get("stream.test", "/?chunks=1000000&size=1&pause_ms=60000"),
        Request::get("stream.test", "/?chunks=1000000&size=1&pause_ms=10"),
        Request::get("stream.test", "/?chunks=1000000&size=100000&pause_ms=0"),
        Request::get("stream.test", "/silent?ms=600000"),
        Request::get("service03.test", "/wait?ms=600000"),
        Request::get("service03.test", "/stream?chunks=1000000&size=100000"),
        Request::post("echo.test", "/").header("Content-Length", "10"),
        Request::post("echo.test", "/count").header("Transfer-Encoding", "chunked"),
    ];
    each(&with_both(&requests), |(leave, request)| check(&server, &request.head_bytes(), *leave));
}

/// Unread bytes in the socket, before the end of the stream, must not hide that end.
#[test]
fn unread_bytes_do_not_hide_that_the_client_left() {
    let server = start();
    let unread = vec![b'x'; 60_000];
    let pipelined = [Request::get("burn.test", "/loop").bytes(), Request::get("hello.test", "/").bytes()].concat();
    let many: Vec<u8> = std::iter::once(Request::get("burn.test", "/loop").bytes())
        .chain((0..500).map(|_| Request::get("hello.test", "/").bytes()))
        .flatten()
        .collect();
    let part = [Request::get("burn.test", "/after-head").bytes(), b"GET /half".to_vec()].concat();
    let cases = [
        ("a body with its length", Request::post("burn.test", "/loop").body(&unread).bytes()),
        ("a part of a body", Request::post("burn.test", "/after-head").header("Content-Length", "10").head_bytes()),
        ("a small body", Request::post("burn.test", "/loop").body(b"small").bytes()),
        ("a body in chunks", Request::post("burn.test", "/loop").chunked(&[&unread]).bytes()),
        ("a body for 0.3", Request::post("service03.test", "/loop").body(&unread).bytes()),
        ("a body for a guest that sleeps", Request::post("stream.test", "/silent?ms=600000").body(&unread).bytes()),
        ("a pipelined request", pipelined),
        ("500 pipelined requests", many),
        ("half a pipelined request", part),
    ];
    each(&with_both(&cases), |(leave, (_, bytes))| check(&server, bytes, *leave));
}

/// The body is larger than the socket buffers: the server has stopped reading, and must still notice a reset.
#[test]
fn a_body_larger_than_all_buffers_does_not_hide_a_reset() {
    let server = start();
    let mut connection = Connection::open(server.address());
    connection.send(&Request::post("burn.test", "/loop").header("Content-Length", "60000000").head_bytes());
    connection.send_until_stuck();
    assert!(!place_is_free(&server), "the guest is not running");
    connection.leave_rudely();
    let left = Instant::now();
    while !place_is_free(&server) {
        assert!(left.elapsed() <= SOON, "still in progress after {:?}", left.elapsed());
    }
}

/// A guest may work after its response: it goes on when the client has the whole response and leaves.
#[test]
fn leaving_with_the_whole_answer_is_no_disconnect() {
    let server = Setup::new().route("early.test", "early", "").route("service03.test", "service03", "").start();
    for host in ["early.test", "service03.test"] {
        let mut connection = server.connect();
        connection.exchange(&Request::get(host, "/late?ms=500"));
        connection.leave();
        server.log().wait_for(&["late done", host]);
    }
}

/// Nothing accumulates when a thousand clients leave.
#[test]
fn clients_that_leave_leak_nothing() {
    let server = Setup::new()
        .server("max_concurrency = 20\nmax_queue = 1000\nqueue_timeout = '30s'")
        .route("hello.test", "hello", "")
        .route("stream.test", "stream", "")
        .start();
    let wave = || {
        for _ in 0..250 {
            let mut connection = server.connect();
            connection.send(&Request::get("stream.test", "/?chunks=1000&size=1000&pause_ms=1").bytes());
            connection.some_bytes();
            connection.leave_rudely();
        }
        server.get("hello.test", "/").expect(200, "Hello World\n");
    };
    wave();
    let (memory, descriptors) = (server.process().resident_kib(), server.process().descriptors());
    (0..3).for_each(|_| wave());
    let after = server.process().resident_kib();
    assert!(after < memory + memory / 10 + 8 * 1024, "from {memory} KiB to {after} KiB");
    let closed = eventually(PATIENCE, || server.process().descriptors() <= descriptors + 2);
    assert!(closed, "from {descriptors} descriptors to {}", server.process().descriptors());
}

/// A client that only closes its sending side still gets a response that is ready at once.
#[test]
fn a_quick_answer_reaches_a_client_that_stopped_sending() {
    let server = start();
    let mut connection = Connection::open(server.address());
    connection.send(&Request::get("hello.test", "/").bytes());
    connection.writer().shutdown(std::net::Shutdown::Write).expect("a half-closed connection");
    connection.response("GET").expect(200, "Hello World\n");
}
