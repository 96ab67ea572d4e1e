//! Limits of requests in progress and in the queue, of the server and of a route.

use std::time::{Duration, Instant};

use crate::harness::{Connection, Daylily, PATIENCE, Request, Response, Setup, Silence};

/// A request that is in progress until `finish`. Its guest waits for timers: if it waited for its client, it would have
/// to give way to waiting requests.
struct Held(Connection);

fn hold(server: &Daylily, host: &str) -> Held {
    Held::begun(ask_to_hold(server, host))
}

/// Requests a response that does not end.
fn ask_to_hold(server: &Daylily, host: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(&Request::get(host, "/stream?chunks=100000&size=2&pause_ms=50").bytes());
    connection
}

impl Held {
    /// Waits for the first bytes, which show that the guest runs.
    fn begun(mut connection: Connection) -> Self {
        assert_eq!(connection.head().status, 200);
        connection.read_chunk(b"xx");
        Self(connection)
    }

    fn finish(self) {
        self.0.leave();
    }
}

fn send(server: &Daylily, host: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(&Request::get(host, "/").bytes());
    connection
}

/// Polls the waiting connections until one has received a response.
fn first_answer(waiting: &mut Vec<Connection>) -> Response {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        for at in 0..waiting.len() {
            match waiting[at].try_response("GET", Duration::from_millis(10)) {
                Ok(response) => {
                    waiting.remove(at);
                    return response;
                }
                Err(Silence::Waiting) => {}
                Err(Silence::Closed) => panic!("closed without an answer"),
            }
        }
    }
    panic!("none of {} requests was answered", waiting.len());
}

fn small(server: &str) -> Setup {
    Setup::new().server(server).route("held.test", "stream", "").route("hello.test", "hello", "")
}

#[test]
fn over_the_requests_in_progress_the_queue_and_over_the_queue_503() {
    let server = small("max_concurrency = 2\nmax_queue = 2\nqueue_timeout = '60s'").start();
    let (first, second) = (hold(&server, "held.test"), hold(&server, "held.test"));
    // Whichever two arrive first wait; the third gets an error response at once.
    let mut waiting: Vec<Connection> = (0..3).map(|_| send(&server, "hello.test")).collect();
    first_answer(&mut waiting).expect_refusal(503, "request queue full");
    for connection in &mut waiting {
        assert!(connection.is_quiet_for(Duration::from_millis(200)), "a third request is in progress");
    }
    first.finish();
    first_answer(&mut waiting).expect(200, "Hello World\n");
    first_answer(&mut waiting).expect(200, "Hello World\n");
    second.finish();
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

#[test]
fn a_queue_of_none_refuses_at_once() {
    let server = small("max_concurrency = 1\nmax_queue = 0").start();
    server.get("hello.test", "/").expect(200, "Hello World\n");
    let held = hold(&server, "held.test");
    server.get("hello.test", "/").expect_refusal(503, "request queue full");
    server.get("hello.test", "/").expect_refusal(503, "request queue full");
    held.finish();
    expect_place(&server, "the one that held it");
}

#[test]
fn the_queue_has_a_deadline() {
    let server = small("max_concurrency = 1\nmax_queue = 10\nqueue_timeout = '500ms'").start();
    let held = hold(&server, "held.test");
    let start = Instant::now();
    let mut waiting = vec![send(&server, "hello.test"), send(&server, "hello.test")];
    first_answer(&mut waiting).expect_refusal(503, "timed out in queue");
    first_answer(&mut waiting).expect_refusal(503, "timed out in queue");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_secs(10), "it took {took:?}");
    held.finish();
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

#[test]
fn the_queue_is_first_in_first_out() {
    let server = small("max_concurrency = 1\nmax_queue = 10\nqueue_timeout = '60s'").start();
    let held = hold(&server, "held.test");
    let mut holders = Vec::new();
    for _ in 0..3 {
        let mut connection = ask_to_hold(&server, "held.test");
        // Long enough for the request to be queued before the next is sent.
        assert!(connection.is_quiet_for(Duration::from_millis(200)), "two requests are in progress");
        holders.push(connection);
    }
    held.finish();
    for connection in holders {
        Held::begun(connection).finish();
    }
}

#[test]
fn a_client_that_leaves_the_queue_frees_its_place() {
    let server = small("max_concurrency = 1\nmax_queue = 1\nqueue_timeout = '60s'").start();
    let held = hold(&server, "held.test");
    let mut waiting = vec![send(&server, "hello.test"), send(&server, "hello.test")];
    first_answer(&mut waiting).expect_refusal(503, "request queue full");
    waiting.pop().expect("one that waits").leave();
    let mut waits = None;
    let start = Instant::now();
    while waits.is_none() && start.elapsed() < PATIENCE {
        let mut next = send(&server, "hello.test");
        match next.try_response("GET", Duration::from_millis(300)) {
            Err(Silence::Waiting) => waits = Some(next),
            Err(Silence::Closed) => panic!("closed without an answer"),
            Ok(refused) => drop(refused.expect_refusal(503, "request queue full")),
        }
    }
    held.finish();
    waits.expect("a place in the queue").response("GET").expect(200, "Hello World\n");
}

#[test]
fn a_route_has_its_own_share() {
    let server = Setup::new()
        .server("max_concurrency = 10\nmax_queue = 10\nqueue_timeout = '60s'")
        .route("held.test", "stream", "max_concurrency = 1")
        .route("service03.test", "service03", "max_concurrency = 2")
        .route("hello.test", "hello", "")
        .start();
    let held = hold(&server, "held.test");
    let mut second = server.connect();
    second.send(&Request::get("held.test", "/?size=6").bytes());
    assert!(second.is_quiet_for(Duration::from_millis(300)), "two requests of the route are in progress");
    // The other routes can still use all their permits.
    server.get("hello.test", "/").expect(200, "Hello World\n");
    let others = [hold(&server, "service03.test"), hold(&server, "service03.test")];
    held.finish();
    second.response("GET").expect(200, "xxxxxx");
    others.into_iter().for_each(Held::finish);
}

#[test]
fn requests_that_wait_for_their_route_do_not_fill_the_others_places() {
    let server = Setup::new()
        .server("max_concurrency = 2\nmax_queue = 10\nqueue_timeout = '60s'")
        .route("held.test", "stream", "max_concurrency = 1")
        .route("hello.test", "hello", "")
        .start();
    let held = hold(&server, "held.test");
    let mut waiting: Vec<Connection> = (0..3).map(|_| send(&server, "held.test")).collect();
    for connection in &mut waiting {
        assert!(connection.is_quiet_for(Duration::from_millis(100)), "two requests of the route are in progress");
    }
    server.get("hello.test", "/").expect(200, "Hello World\n");
    held.finish();
    for mut connection in waiting {
        assert_eq!(connection.response("GET").status, 200);
    }
}

/// A permit is held until the last byte of the response, and released after every outcome.
#[test]
fn every_ending_gives_the_place_back() {
    let server = Setup::new()
        .server("max_concurrency = 1\nmax_queue = 0")
        .route("trap.test", "trap", "")
        .route("burn.test", "burn", "cpu_time = '100ms'")
        .route("small.test", "echo", "max_body = 1")
        .route("hello.test", "hello", "")
        .start();
    for _ in 0..3 {
        for target in ["/before", "/after-head", "/after-length", "/none", "/error", "/exit", "/drop-body", "/short"] {
            server.get("trap.test", target);
            expect_place(&server, target);
        }
        server.get("burn.test", "/loop").expect_refusal(504, "CPU time limit exceeded");
        expect_place(&server, "/loop");
        server.exchange(&Request::post("small.test", "/").body(b"xx")).expect_refusal(413, "request body too large");
        expect_place(&server, "a body too large");
    }
}

/// The permit may be released a moment after the last byte was sent.
fn expect_place(server: &Daylily, after: &str) {
    let free = crate::harness::eventually(Duration::from_secs(5), || server.get("hello.test", "/").status == 200);
    assert!(free, "the place was not given back after {after}");
}
