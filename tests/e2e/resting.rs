//! A connection whose client is silent for a second gives up its buffers, and nobody notices.

use crate::harness::{Connection, Daylily, PATIENCE, Request, Setup, eventually};

/// Its log tells of each connection that gave up its buffers.
fn start() -> Daylily {
    Setup::new().route("hello.test", "hello", "").route("echo.test", "echo", "").flags(&["--log", "debug"]).start()
}

/// Waits until so many connections have gone to rest since the start.
#[track_caller]
fn wait_for_rest(server: &Daylily, times: usize) {
    let rested = || server.log().matching(|line| line.contains("an idle connection released its buffers")).len();
    assert!(eventually(PATIENCE, || rested() >= times), "{} of {times} connections went to rest", rested());
}

fn hello(connection: &mut Connection) {
    connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
}

#[test]
fn a_silent_client_is_answered_again() {
    let server = start();
    let mut connection = server.connect();
    for times in 1..=3 {
        hello(&mut connection);
        let body = "a body ".repeat(5000);
        connection.exchange(&Request::post("echo.test", "/").body(body.as_bytes())).expect(200, &body);
        wait_for_rest(&server, times);
    }
    hello(&mut connection);
}

/// It came with the request before, and keeps the connection from going to rest.
#[test]
fn half_a_head_is_not_lost() {
    let server = start();
    let mut connection = server.connect();
    let request = Request::get("hello.test", "/").bytes();
    let (first, rest) = request.split_at(10);
    connection.send(&[&request, first].concat());
    connection.response("GET").expect(200, "Hello World\n");
    // One that begins its silence later goes to rest, and this one has had its time by then.
    let mut other = server.connect();
    hello(&mut other);
    wait_for_rest(&server, 1);
    connection.send(rest);
    connection.response("GET").expect(200, "Hello World\n");
}

#[test]
fn an_idle_connection_takes_little_memory() {
    const CONNECTIONS: u32 = 400;
    const MOST_KIB: u64 = 8;
    let server = Setup::new().workers(1).route("hello.test", "hello", "").alone().start();
    let worker = server.workers()[0];
    // What the first requests leave behind is not the connections'.
    for _ in 0..20 {
        hello(&mut server.connect());
    }
    let before = worker.resident_kib();
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| {
            let mut connection = server.connect();
            hello(&mut connection);
            connection
        })
        .collect();
    let awake = worker.resident_kib();
    let most = before + u64::from(CONNECTIONS) * MOST_KIB;
    let rests = eventually(PATIENCE, || worker.resident_kib() <= most);
    let at_rest = worker.resident_kib();
    assert!(rests, "{before} KiB before, {awake} KiB awake, {at_rest} KiB at rest: more than {MOST_KIB} KiB each");
    assert!(awake > most, "{before} KiB before and {awake} KiB awake: nothing that could be given back");
    connections.iter_mut().for_each(hello);
}
