//! A connection whose client is silent for a second gives up its buffers, which the client cannot observe.

use crate::harness::{Connection, Daylily, PATIENCE, Request, Setup, eventually};

/// A server whose log has a line for each connection that gives up its buffers.
fn start() -> Daylily {
    Setup::new().route("hello.test", "hello", "").route("echo.test", "echo", "").flags(&["--log", "debug"]).start()
}

/// Waits until connections have gone to rest this many times since the start.
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

/// Half a head was received with the previous request, and keeps the connection from resting.
#[test]
fn half_a_head_is_not_lost() {
    let server = start();
    let mut connection = server.connect();
    let request = Request::get("hello.test", "/").bytes();
    let (first, rest) = request.split_at(10);
    connection.send(&[&request, first].concat());
    connection.response("GET").expect(200, "Hello World\n");
    // A connection that becomes silent later rests; by then, the first would have, too.
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
    // Memory that is allocated by the first requests is not counted as the connections'.
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
