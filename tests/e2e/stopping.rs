//! Stopping: requests in progress finish, waiting clients get responses, idle clients are not waited for; and responses
//! that take too long are visibly cut.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{
    Connection, Daylily, Ending, HeldFile, Load, PATIENCE, Request, Response, Setup, each, eventually,
};

/// Far below the default `shutdown_timeout` and `idle_timeout`, which no test here must wait for.
const PROMPTLY: Duration = Duration::from_secs(10);

/// A response that takes one second.
const SLOW: &str = "/stream?chunks=25&size=4&pause_ms=40";

/// A response that takes longer than any test.
const ENDLESS: &str = "/stream?chunks=100000&size=4&pause_ms=20";

fn setup(server: &str) -> Setup {
    let endless = "cpu_time = '10m'\nwall_time = '10m'";
    Setup::new()
        .server(server)
        .route("hello.test", "hello", "")
        .route("burn.test", "burn", endless)
        .route("silent.test", "stream", endless)
        .route_at(&format!("name = 'stream'\npath = '/stream'\n{endless}"), "stream")
}

/// A response that has begun.
struct Begun {
    connection: Connection,
    response: Response,
}

fn begin(server: &Daylily, request: &Request) -> Begun {
    let mut connection = server.connect();
    connection.send(&request.bytes());
    let response = connection.head();
    connection.some_bytes();
    Begun { connection, response }
}

impl Begun {
    fn finish(mut self) -> (usize, Ending) {
        let mut bytes = 0;
        self.connection.finish(&mut self.response, "GET", &mut |piece| bytes += piece.len());
        (bytes, self.response.ending)
    }
}

fn send(server: &Daylily, request: &Request) -> Connection {
    let mut connection = server.connect();
    connection.send(&request.bytes());
    connection
}

/// Waits until this many requests are in progress.
#[track_caller]
fn wait_for_requests(server: &Daylily, count: u64) {
    let came = eventually(PATIENCE, || server.status().total("requests_in_progress") == count);
    assert!(came, "{:?}", server.status());
}

/// How a server is stopped.
#[derive(Debug)]
pub enum By {
    Terminate,
    Interrupt,
    Command,
}

#[test]
fn what_is_in_progress_is_finished_and_nobody_idle_is_waited_for() {
    each(&[By::Terminate, By::Interrupt, By::Command], |by| {
        let server = setup("").workers(2).start();
        let mut idle: Vec<Connection> = (0..4).map(|_| server.connect()).collect();
        // Two connections that have received a response, and two that have sent nothing yet.
        for connection in &mut idle[..2] {
            connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
        }
        let slow = begin(&server, &Request::get("any.test", SLOW));
        let old = begin(&server, &Request::get("any.test", SLOW).http10());
        let start = Instant::now();
        match by {
            By::Terminate => server.signal(Signal::TERM),
            By::Interrupt => server.signal(Signal::INT),
            By::Command => {
                server.command(&["stop"]).expect(0, &[]);
                // The socket closes a moment before the process can be seen to have ended.
                assert!(eventually(Duration::from_secs(1), || server.try_wait().is_some()), "the command did not wait");
            }
        }
        assert_eq!(slow.finish(), (100, Ending::Complete));
        assert_eq!(old.finish(), (100, Ending::Complete));
        for connection in &mut idle {
            connection.expect_closed();
        }
        server.expect_exit(0, &["draining, requests in progress: 2; they have shutdown_timeout = 30s to finish"]);
        assert!(start.elapsed() < PROMPTLY, "it took {:?}", start.elapsed());
        server.expect_no_process(PATIENCE);
        assert!(!server.directory().join("control.sock").exists(), "the control socket is left behind");
    });
}

/// Each kind of request that does not end by itself, and what its client receives.
#[test]
fn what_takes_too_long_is_cut() {
    each(&[By::Terminate, By::Command], |by| {
        let server = setup("shutdown_timeout = '600ms'\nmax_concurrency = 5\nqueue_timeout = '60s'").start();
        let begun = [
            begin(&server, &Request::get("any.test", ENDLESS)),
            begin(&server, &Request::get("any.test", ENDLESS).http10()),
            begin(&server, &Request::get("burn.test", "/after-head")),
        ];
        let mut silent = send(&server, &Request::get("silent.test", "/silent?ms=600000"));
        let mut spinning = send(&server, &Request::get("burn.test", "/loop"));
        wait_for_requests(&server, 5);
        let mut waiting = send(&server, &Request::get("hello.test", "/"));
        wait_for_requests(&server, 6);
        let start = Instant::now();
        match by {
            By::Command => {
                let stopped = server.command(&["stop"]);
                stopped.expect(75, &["not all requests finished in time; requests cut: 6"]);
            }
            _ => server.signal(Signal::TERM),
        }
        for connection in [&mut silent, &mut spinning, &mut waiting] {
            connection.response("GET").expect_refusal(503, "server is shutting down");
        }
        for response in begun {
            assert_eq!(response.finish().1, Ending::Truncated);
        }
        assert!(start.elapsed() >= Duration::from_millis(550), "cut after {:?} of 600 ms", start.elapsed());
        server.expect_exit(75, &["not all requests finished in time; requests cut: 6"]);
        assert!(start.elapsed() < PROMPTLY, "it took {:?}", start.elapsed());
        server.expect_no_process(PATIENCE);
    });
}

#[test]
fn what_waits_for_its_turn_is_answered() {
    let server = setup("max_concurrency = 1\nqueue_timeout = '60s'").start();
    let slow = begin(&server, &Request::get("any.test", SLOW));
    let mut waiting: Vec<Connection> = (0..5).map(|_| send(&server, &Request::get("hello.test", "/"))).collect();
    wait_for_requests(&server, 6);
    server.signal(Signal::TERM);
    assert_eq!(slow.finish(), (100, Ending::Complete));
    for connection in &mut waiting {
        let response = connection.response("GET");
        response.expect(200, "Hello World\n");
        assert!(response.closes(), "{response:?}");
    }
    server.expect_exit(0, &[]);
}

/// Stopped workers (SIGSTOP) accept nothing until the server has closed its sockets.
#[test]
fn what_waits_in_the_backlog_is_answered() {
    let server = setup("").workers(2).start();
    let workers = server.workers();
    workers.iter().for_each(|worker| worker.signal(Signal::STOP));
    let mut waiting: Vec<Connection> = (0..40).map(|_| send(&server, &Request::get("hello.test", "/"))).collect();
    server.signal(Signal::TERM);
    server.log().wait_for(&["draining, requests in progress"]);
    workers.iter().for_each(|worker| worker.signal(Signal::CONT));
    for connection in &mut waiting {
        connection.response("GET").expect(200, "Hello World\n");
    }
    server.expect_exit(0, &[]);
}

/// A client that has begun to send a request is waited for.
#[test]
fn a_request_that_is_still_arriving_is_answered() {
    let server = setup("").start();
    let bytes = Request::get("hello.test", "/").bytes();
    let (first, rest) = bytes.split_at(20);
    let mut connection = server.connect();
    connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    connection.send(first);
    // The response on another connection shows that the worker has read what was sent before.
    server.get("hello.test", "/").expect(200, "Hello World\n");
    server.signal(Signal::TERM);
    server.log().wait_for(&["draining, requests in progress"]);
    // Longer than an idle client may stay.
    assert!(connection.is_quiet_for(Duration::from_millis(600)), "it is not waited for");
    connection.send(rest);
    let response = connection.response("GET");
    response.expect(200, "Hello World\n");
    assert!(response.closes(), "{response:?}");
    server.expect_exit(0, &[]);
}

#[test]
fn a_second_signal_stops_at_once() {
    each(
        &[(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)],
        |(first, second)| {
            let server = setup("").start();
            let begun = [
                begin(&server, &Request::get("any.test", ENDLESS)),
                begin(&server, &Request::get("any.test", ENDLESS).http10()),
            ];
            let mut spinning = send(&server, &Request::get("burn.test", "/loop"));
            wait_for_requests(&server, 3);
            let start = Instant::now();
            server.signal(*first);
            server.log().wait_for(&["a second signal ends them at once"]);
            assert!(spinning.is_quiet_for(Duration::from_millis(300)), "the first signal was enough");
            server.signal(*second);
            for response in begun {
                assert_eq!(response.finish().1, Ending::Truncated);
            }
            spinning.expect_closed();
            server.expect_exit(75, &["not all requests finished in time; requests cut: 3"]);
            assert!(start.elapsed() < PROMPTLY, "it took {:?}", start.elapsed());
            server.expect_no_process(PATIENCE);
        },
    );
}

/// How a stop can arrive twice: wrappers signal their child, and then the process group, which contains it.
#[test]
fn signals_to_stop_that_come_together_are_one() {
    let pairs = [(Signal::TERM, Signal::INT), (Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT)];
    each(&pairs, |(first, second)| {
        // If the second signal arrives too late, because the machine is busy, the test tries again.
        let mut in_time = false;
        for _ in 0..5 {
            let server = setup("").start();
            let slow = begin(&server, &Request::get("any.test", SLOW));
            let start = Instant::now();
            server.signal(*first);
            server.log().wait_for(&["draining, requests in progress"]);
            server.signal(*second);
            in_time = start.elapsed() < Duration::from_millis(150);
            if in_time {
                assert_eq!(slow.finish(), (100, Ending::Complete));
                server.expect_exit(0, &[]);
                break;
            }
        }
        assert!(in_time, "the second signal always came late");
    });
}

/// The workers detect by themselves that their supervisor was killed.
#[test]
fn workers_whose_supervisor_is_killed_finish_and_end() {
    let server = setup("").workers(2).start();
    let mut idle = server.connect();
    let begun =
        [begin(&server, &Request::get("any.test", SLOW)), begin(&server, &Request::get("any.test", SLOW).http10())];
    let start = Instant::now();
    server.signal(Signal::KILL);
    for response in begun {
        assert_eq!(response.finish(), (100, Ending::Complete));
    }
    idle.expect_closed();
    server.expect_no_process(PATIENCE);
    assert!(start.elapsed() < PROMPTLY, "it took {:?}", start.elapsed());
    assert!(std::net::TcpStream::connect(server.address()).is_err(), "somebody still listens");
}

/// A restart does not have to wait until the workers have finished: they release the address first.
#[test]
fn a_server_whose_supervisor_was_killed_can_be_started_again() {
    let first = setup("").start();
    let address = first.address();
    let begun = begin(&first, &Request::get("any.test", "/stream?chunks=50&size=2&pause_ms=60"));
    let workers = first.workers();
    first.signal(Signal::KILL);
    let is_free = || std::net::TcpStream::connect(address).is_err();
    assert!(eventually(PATIENCE, is_free), "the address is not let go");
    let second = setup("").flags(&["--listen", &address.to_string()]).start();
    assert!(workers[0].is_running(), "the worker has nothing to do any more: too late to tell");
    second.get("hello.test", "/").expect(200, "Hello World\n");
    assert_eq!(begun.finish(), (100, Ending::Complete));
    second.get("hello.test", "/").expect(200, "Hello World\n");
}

#[test]
fn what_takes_too_long_is_cut_without_a_supervisor_too() {
    let server = setup("shutdown_timeout = '500ms'").start();
    let begun = begin(&server, &Request::get("any.test", ENDLESS));
    let mut spinning = send(&server, &Request::get("burn.test", "/loop"));
    wait_for_requests(&server, 2);
    let start = Instant::now();
    server.signal(Signal::KILL);
    spinning.response("GET").expect_refusal(503, "server is shutting down");
    assert_eq!(begun.finish().1, Ending::Truncated);
    assert!(start.elapsed() >= Duration::from_millis(450), "cut after {:?} of 500 ms", start.elapsed());
    server.expect_no_process(PROMPTLY);
}

#[test]
fn stops_under_load_lose_no_response_that_was_begun() {
    let request = Request::get("any.test", "/stream?chunks=3&size=10&pause_ms=2");
    for _ in 0..20 {
        let server = setup("").workers(2).start();
        let load = Load::start(server.address(), 4, &request);
        load.expect_more(20);
        server.signal(Signal::TERM);
        server.expect_exit(0, &[]);
        let outcome = load.end();
        assert_eq!((outcome.truncated, outcome.wrong.as_slice()), (0, &[][..]), "{outcome:?}");
        assert_eq!(outcome.unanswered.len(), 0, "{outcome:?}");
        assert!(outcome.refused > 0, "the clients did not see the end: {outcome:?}");
    }
}

/// Written data is still sent after the process that wrote it has ended. The reset that shows a cut to an HTTP/1.0
/// client must not be sent then.
#[test]
fn who_reads_slowly_gets_all_of_it() {
    for is_old in [false, true] {
        let server = setup("").start();
        // Less than the kernel buffers for a connection.
        let request = Request::get("any.test", "/stream?chunks=15&size=10000");
        let request = if is_old { request.http10() } else { request };
        let mut connection = Connection::open_narrow(server.address());
        connection.send(&request.bytes());
        wait_until_answered(&server);
        server.signal(Signal::TERM);
        server.expect_exit(0, &[]);
        let mut response = connection.head();
        let mut bytes = 0;
        connection.finish(&mut response, "GET", &mut |piece| bytes += piece.len());
        assert_eq!((bytes, response.ending), (150_000, Ending::Complete), "HTTP/1.0: {is_old}");
    }
}

#[track_caller]
fn wait_until_answered(server: &Daylily) {
    let answered = eventually(PATIENCE, || {
        let status = server.status();
        status.total("requests") == 1 && status.total("requests_in_progress") == 0
    });
    assert!(answered, "{:?}", server.status());
}

/// An old generation drains for as long as a stop would; requests that it could not finish count as cut.
#[test]
fn a_reload_cuts_what_takes_too_long() {
    let server = setup("shutdown_timeout = '500ms'").start();
    let begun = begin(&server, &Request::get("any.test", ENDLESS));
    let mut spinning = send(&server, &Request::get("burn.test", "/loop"));
    wait_for_requests(&server, 2);
    let (old, start) = (server.workers()[0], Instant::now());
    server.command(&["reload"]).expect(0, &[]);
    spinning.response("GET").expect_refusal(503, "server is shutting down");
    assert_eq!(begun.finish().1, Ending::Truncated);
    assert!(start.elapsed() >= Duration::from_millis(450), "cut after {:?} of 500 ms", start.elapsed());
    assert!(eventually(PATIENCE, || !old.is_running()), "the old worker stays");
    assert!(eventually(PATIENCE, || server.status().draining() == 0), "{:?}", server.status());
    let status = server.status();
    assert_eq!(
        (status.total("requests_cut"), status.total("requests_lost"), status.total("worker_restarts")),
        (2, 0, 0)
    );
    // The cut requests do not affect the exit code of a later stop.
    server.signal(Signal::TERM);
    server.expect_exit(0, &[]);
}

/// A stop waits for generations that still drain; their cut requests count for its exit code.
#[test]
fn a_stop_ends_what_drains() {
    let server = setup("shutdown_timeout = '1s'").start();
    let begun = begin(&server, &Request::get("any.test", ENDLESS));
    server.command(&["reload"]).expect(0, &[]);
    assert_eq!(server.status().draining(), 1);
    server.signal(Signal::TERM);
    assert_eq!(begun.finish().1, Ending::Truncated);
    server.expect_exit(75, &["not all requests finished in time; requests cut: 1"]);
    server.expect_no_process(PATIENCE);
}

/// The component cannot be opened, so the start takes as long as the test wants.
#[test]
fn a_server_that_is_still_starting_can_be_stopped() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("held.wasm");
    each(&[Signal::TERM, Signal::INT], |signal| {
        let held = HeldFile::new(&path, b"");
        let server = Setup::bare(&["serve", &path.display().to_string()]).spawn();
        held.wait_for_reader();
        server.signal(*signal);
        server.expect_exit(0, &[]);
        server.expect_no_process(PATIENCE);
    });
}
