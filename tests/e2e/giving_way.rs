//! Clients that keep their guests waiting give way to others, only if others wait; and no route takes all permits.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::{Connection, Daylily, Ending, PATIENCE, Request, Setup, each, eventually};

/// Far less than `body_timeout` and `wall_time`, far more than the one second after which requests give way.
const SOON: Duration = Duration::from_secs(15);

const PLACES: usize = 3;

/// How a client keeps its guest waiting.
#[derive(Debug, Clone, Copy)]
enum Client {
    /// It begins a body and stops sending.
    Silent,
    /// It sends one byte at long intervals.
    Dripping,
    /// It does not read its response.
    NotReading,
}

/// A client with a request in progress, and the thread that sends its body.
struct Held {
    connection: Connection,
    sending: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Held {
    fn new(server: &Daylily, client: Client) -> Self {
        match client {
            Client::NotReading => {
                let mut connection = Connection::open_narrow(server.address());
                connection.send(&Request::get("stream.test", "/stream?chunks=200&size=65536").bytes());
                connection.some_bytes();
                Self { connection, sending: None }
            }
            Client::Silent => Self { connection: body(server), sending: None },
            Client::Dripping => Self::sending(server, b"1\r\nx\r\n", Duration::from_millis(300)),
        }
    }

    /// Sends `bytes` at intervals.
    fn sending(server: &Daylily, bytes: &'static [u8], every: Duration) -> Self {
        let connection = body(server);
        let mut writer = connection.writer();
        let ended = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            while !is_over.load(SeqCst) && writer.write_all(bytes).is_ok() {
                thread::sleep(every);
            }
        });
        Self { connection, sending: Some((ended, thread)) }
    }

    /// Stops sending.
    fn pause(&mut self) {
        if let Some((ended, thread)) = self.sending.take() {
            ended.store(true, SeqCst);
            thread.join().expect("a client that does not fail");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pause();
    }
}

/// A request whose body has begun. The P2 guest responds after it has read the whole body, the P3 guest at once.
fn body(server: &Daylily) -> Connection {
    let mut connection = server.connect();
    let path = if server.config().contains("service03") { "/echo" } else { "/count" };
    let request = Request::post("body.test", path).header("Transfer-Encoding", "chunked");
    connection.send(&request.head_bytes()).send(b"2\r\nin\r\n");
    connection
}

/// Serves P2 and P3 guests from separate routes, each of which may take all of the server's permits.
fn server(guests: &Guests) -> Daylily {
    let all = "max_concurrency = 3\nwall_time = '5m'\ncpu_time = '60s'";
    Setup::new()
        .server("max_concurrency = 3\nmax_queue = 100\nqueue_timeout = '60s'")
        .route("body.test", guests.body, all)
        .route("stream.test", guests.stream, all)
        .start()
}

#[derive(Debug)]
struct Guests {
    body: &'static str,
    stream: &'static str,
}

const GUESTS: &[Guests] =
    &[Guests { body: "echo", stream: "stream" }, Guests { body: "service03", stream: "service03" }];

fn in_progress(server: &Daylily) -> u64 {
    server.status().of_worker(0, "requests_in_progress")
}

#[track_caller]
fn expect_in_progress(server: &Daylily, requests: usize) {
    let seen = eventually(PATIENCE, || in_progress(server) == requests as u64);
    assert!(seen, "{} requests in progress, not {requests}", in_progress(server));
}

#[test]
fn a_request_is_answered_beside_clients_that_keep_all_places() {
    let cases: Vec<_> = GUESTS
        .iter()
        .flat_map(|guests| [Client::Silent, Client::Dripping, Client::NotReading].map(|client| (guests, client)))
        .collect();
    each(&cases, |(guests, client)| {
        let server = server(guests);
        let mut held: Vec<Held> = (0..PLACES).map(|_| Held::new(&server, *client)).collect();
        expect_in_progress(&server, PLACES);
        for host in ["body.test", "stream.test"] {
            let start = Instant::now();
            assert_eq!(server.get(host, "/").status, 200);
            assert!(start.elapsed() < SOON, "{host} was answered after {:?}", start.elapsed());
        }
        // As many requests gave way as others were waiting; the rest continue.
        expect_in_progress(&server, PLACES - 1);
        server.log().wait_for(&["requests of stalled clients aborted"]);
        let gave_way = held.iter_mut().filter_map(|held| fate(held, *client)).collect::<Vec<_>>();
        let expected = match (client, guests.body) {
            (Client::NotReading, _) | (_, "service03") => Fate::Cut,
            _ => Fate::Refused,
        };
        assert_eq!(gave_way, [expected]);
    });
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Refused,
    Cut,
}

/// Ends the request. Returns how it failed, or None if it succeeded.
fn fate(held: &mut Held, client: Client) -> Option<Fate> {
    held.pause();
    if !matches!(client, Client::NotReading) {
        held.connection.try_send(b"0\r\n\r\n");
    }
    let mut response = held.connection.head();
    let mut text = Vec::new();
    held.connection.finish(&mut response, "POST", &mut |piece| text.extend_from_slice(piece));
    if response.status == 408 {
        assert!(text.starts_with(b"request body too slow while other requests waited"), "{text:?}");
        return Some(Fate::Refused);
    }
    (response.ending == Ending::Truncated).then_some(Fate::Cut)
}

/// Requests keep their permits while their guests wait for a timer, while their clients send fast enough, and always
/// when no request waits.
#[test]
fn others_keep_their_places() {
    let server = Setup::new()
        .server("max_concurrency = 3\nmax_queue = 100\nqueue_timeout = '60s'")
        .route("body.test", "echo", "max_concurrency = 3")
        .route("stream.test", "stream", "max_concurrency = 3")
        .start();
    let mut silent = Held::new(&server, Client::Silent);
    expect_in_progress(&server, 1);
    thread::sleep(Duration::from_secs(2));
    assert!(silent.connection.is_quiet_for(Duration::from_millis(10)), "no request waits for its place");
    let mut timer = server.connect();
    timer.send(&Request::get("stream.test", "/silent?ms=3000").bytes());
    let mut steady =
        Held::sending(&server, b"28\r\n0123456789012345678901234567890123456789\r\n", Duration::from_millis(50));
    expect_in_progress(&server, 3);
    // Two waiting requests: one gets the silent client's permit, the other has to wait for one of the other requests to
    // end.
    let mut waiting: Vec<Connection> = (0..2)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(&Request::get("stream.test", "/silent?ms=4000").bytes());
            connection
        })
        .collect();
    silent.connection.response("POST").expect_refusal(408, "request body too slow while other requests waited");
    timer.response("GET").expect(200, "done\n");
    steady.pause();
    steady.connection.send(b"0\r\n\r\n");
    assert_eq!(steady.connection.response("POST").status, 200, "a client that sends gave way");
    for connection in &mut waiting {
        connection.response("GET").expect(200, "done\n");
    }
}

/// A request that waits for a permit of its own route makes only requests of that route give way.
#[test]
fn a_route_takes_no_place_from_another_one() {
    let server = Setup::new()
        .route("body.test", "echo", "max_concurrency = 1")
        .route("stream.test", "stream", "max_concurrency = 1")
        .start();
    // Its guest has waited for longer than the other one: it would be asked first.
    let mut other = Held::new(&server, Client::Silent);
    expect_in_progress(&server, 1);
    let mut held = Held::new(&server, Client::NotReading);
    expect_in_progress(&server, 2);
    assert_eq!(server.get("stream.test", "/").status, 200);
    assert_eq!(fate(&mut held, Client::NotReading), Some(Fate::Cut));
    assert_eq!(fate(&mut other, Client::Silent), None);
}

#[test]
fn a_route_leaves_a_quarter_of_the_places_to_others() {
    let server = Setup::new()
        .server("max_concurrency = 8\nmax_queue = 0")
        .route("stream.test", "stream", "")
        .route("hello.test", "hello", "")
        .start();
    let mut held: Vec<Connection> = (0..6)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(&Request::get("stream.test", "/?chunks=100000&size=1&pause_ms=50").bytes());
            assert_eq!(connection.head().status, 200);
            connection
        })
        .collect();
    server.get("stream.test", "/?chunks=1").expect_refusal(503, "request queue full");
    server.get("hello.test", "/").expect(200, "Hello World\n");
    held.pop().expect("one of them").leave();
    let free = eventually(PATIENCE, || server.get("stream.test", "/?chunks=1").status == 200);
    assert!(free, "the place is not given back");
    // A single route may take all permits.
    let server = Setup::new().server("max_concurrency = 2\nmax_queue = 0").route("a.test", "stream", "").start();
    let mut held = [server.connect(), server.connect()];
    for connection in &mut held {
        connection.send(&Request::get("a.test", "/?chunks=100000&size=1&pause_ms=50").bytes());
        assert_eq!(connection.head().status, 200);
    }
    server.get("a.test", "/").expect_refusal(503, "request queue full");
}
