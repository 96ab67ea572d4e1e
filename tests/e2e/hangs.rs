//! Workers whose event loop hangs. The tests stop the process (SIGSTOP): it exists, and does nothing.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Connection, Ending, Load, Moved, PATIENCE, Request, Setup, always, eventually};

/// How soon after `hang_timeout` a replacement must be ready, on a machine that also runs other tests.
const SOON: Duration = Duration::from_secs(10);

/// A `hang_timeout` that a healthy worker on a busy machine meets. Every test here waits for it.
const TIMEOUT: Duration = Duration::from_secs(2);

fn setup() -> Setup {
    Setup::new()
        .server("hang_timeout = '2s'")
        .route("hello.test", "hello", "")
        .route("burn.test", "burn", "cpu_time = '10m'\nwall_time = '10m'")
        .route_at("name = 'stream'\npath = '/stream'", "stream")
}

#[test]
fn a_hung_worker_is_replaced_and_the_others_serve_meanwhile() {
    let server = setup().workers(2).start();
    let mut moved = Moved::default();
    let mut other = server.connect_to(1, "hello.test");
    let hung = server.workers()[0];
    // The request in progress is lost with it, and its response is visibly cut.
    let mut begun = server.connect_to(0, "hello.test");
    begun.send(&Request::get("any.test", "/stream?chunks=1000&size=4&pause_ms=10").bytes());
    let mut response = begun.head();
    hung.signal(Signal::STOP);
    let start = Instant::now();
    // These connections are in its backlog, or at the other worker.
    let mut waiting: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
    for connection in &mut waiting {
        connection.send(&Request::get("hello.test", "/").bytes());
    }
    let replaced = eventually(TIMEOUT + SOON, || {
        other.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
        moved.look(&server).workers()[0].is_some_and(|worker| worker != hung)
    });
    let took = start.elapsed();
    assert!(replaced, "not replaced after {took:?}: {:?}", server.status());
    assert!(took >= TIMEOUT - TIMEOUT / 10, "killed after {took:?} of {TIMEOUT:?}");
    assert!(!hung.is_running(), "it was replaced, and not killed");
    for connection in &mut waiting {
        connection.response("GET").expect(200, "Hello World\n");
    }
    begun.finish(&mut response, "GET", &mut |_| {});
    assert_eq!(response.ending, Ending::Truncated);
    let status = moved.look(&server);
    let of_worker = |worker| (status.of_worker(worker, "hangs"), status.of_worker(worker, "restarts"));
    assert_eq!((of_worker(0), of_worker(1)), ((1, 1), (0, 0)), "{status:?}");
    assert_eq!((status.total("worker_hangs"), status.total("worker_restarts")), (1, 1));
    assert_eq!(status.total("requests_lost"), 1);
    server.log().wait_for(&["ERROR", "worker 0", "did not respond for hang_timeout = 2s and was killed"]);
}

/// Guests that use all CPU time do not make the worker hang: they yield to the event loop.
#[test]
fn a_busy_worker_is_not_hung() {
    let server = setup().start();
    let worker = server.workers();
    let _spinning: Vec<Connection> = (0..8)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(&Request::get("burn.test", "/loop").bytes());
            connection
        })
        .collect();
    assert!(eventually(PATIENCE, || server.status().total("requests_in_progress") == 8), "{:?}", server.status());
    // Under test: nothing happens for longer than `hang_timeout`.
    assert!(always(TIMEOUT + TIMEOUT / 2, || server.workers() == worker), "{:?}", server.status());
    assert_eq!(server.status().total("worker_hangs"), 0);
}

/// A supervisor that was stopped does not count missed heartbeats during that time, and its workers do not end.
#[test]
fn a_supervisor_that_was_stopped_kills_nobody() {
    let server = setup().workers(2).start();
    let workers = server.workers();
    let load = Load::start(server.address(), 2, &Request::get("hello.test", "/"));
    load.expect_more(20);
    server.signal(Signal::STOP);
    // The stop must last longer than `hang_timeout`.
    std::thread::sleep(TIMEOUT + TIMEOUT / 2);
    load.expect_more(20);
    server.signal(Signal::CONT);
    // Under test: nothing happens while the supervisor checks the workers again, which it does ten times in `TIMEOUT`.
    assert!(always(TIMEOUT / 2, || server.workers() == workers), "{:?}", server.status());
    load.expect_more(20);
    load.end().expect_no_failure();
    assert_eq!(server.workers(), workers);
    assert_eq!(server.status().total("worker_restarts"), 0);
}

/// All processes were stopped at once, as when the machine sleeps: none counts as hung.
#[test]
fn all_that_were_stopped_together_go_on() {
    let server = setup().workers(2).start();
    let workers = server.workers();
    let all = || workers.iter().copied().chain([server.supervisor()]);
    all().for_each(|process| process.signal(Signal::STOP));
    // The stop must last longer than `hang_timeout`.
    std::thread::sleep(TIMEOUT + TIMEOUT / 2);
    all().for_each(|process| process.signal(Signal::CONT));
    // Under test: nothing happens while the supervisor checks the workers again, which it does ten times in `TIMEOUT`.
    assert!(always(TIMEOUT / 2, || server.workers() == workers), "{:?}", server.status());
    server.get("hello.test", "/").expect(200, "Hello World\n");
    assert_eq!(server.workers(), workers);
    assert_eq!(server.status().total("worker_hangs"), 0);
}

/// A worker that hangs while it drains, at a reload or at a stop, is killed, too.
#[test]
fn a_worker_that_hangs_while_it_drains_is_killed() {
    let server = setup().start();
    let old = server.workers();
    old[0].signal(Signal::STOP);
    server.reload();
    server.get("hello.test", "/").expect(200, "Hello World\n");
    assert!(eventually(TIMEOUT + SOON, || !old[0].is_running()), "the old one hangs on");
    assert!(eventually(PATIENCE, || server.status().draining() == 0), "{:?}", server.status());
    server.workers()[0].signal(Signal::STOP);
    server.signal(Signal::TERM);
    server.expect_exit(0, &[]);
    server.expect_no_process(PATIENCE);
}

/// Connections that the kernel gives to a hung worker do not wait for `hang_timeout`, which may be long: the other
/// worker accepts them.
#[test]
fn what_waits_for_a_hung_worker_is_answered_by_the_other() {
    let server = Setup::new().server("hang_timeout = '10m'").route("hello.test", "hello", "").workers(2).start();
    let hung = server.workers()[0];
    hung.signal(Signal::STOP);
    let mut waiting: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
    for connection in &mut waiting {
        connection.send(&Request::get("hello.test", "/").bytes());
    }
    for connection in &mut waiting {
        connection.response("GET").expect(200, "Hello World\n");
    }
    // When it runs again, it accepts its share again.
    hung.signal(Signal::CONT);
    server.connect_to(0, "hello.test");
    let status = server.status();
    assert_eq!((status.total("worker_hangs"), status.total("worker_restarts")), (0, 0));
    assert_eq!(server.workers()[0], hung);
}

/// Commands give up on a supervisor that hangs, even when the control socket's backlog is full, so that monitoring with
/// these commands does not hang, too.
#[test]
fn a_supervisor_that_stands_still_is_given_up() {
    let server = setup().start();
    server.supervisor().signal(Signal::STOP);
    let give_up = |command: &str| {
        let start = Instant::now();
        server.command(&[command]).expect(69, &["has not responded for 5s", "control.sock"]);
        assert!(start.elapsed() >= Duration::from_millis(4900), "{command} gave up after {:?}", start.elapsed());
    };
    give_up("status");
    give_up("reload");
    let path = server.directory().join("control.sock");
    let address = socket2::SockAddr::unix(&path).expect("a path");
    let waiting: Vec<_> = (0..10_000)
        .map_while(|_| {
            let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a socket");
            socket.connect(&address).is_ok().then_some(socket)
        })
        .collect();
    assert!(waiting.len() < 10_000, "there is always room");
    give_up("status");
    drop(waiting);
    server.supervisor().signal(Signal::CONT);
    server.command(&["status"]).expect(0, &[]);
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

/// A command waits as long as the supervisor responds: here until the reload has given up on the old worker.
#[test]
fn a_reload_that_takes_long_is_waited_for() {
    let server = setup().start();
    server.workers()[0].signal(Signal::STOP);
    let start = Instant::now();
    server.reload();
    assert!(start.elapsed() >= Duration::from_millis(1500), "it was not long: {:?}", start.elapsed());
}
