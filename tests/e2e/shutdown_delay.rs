//! `shutdown_delay`: a server that is about to stop is no longer ready, and serves what arrives until the drain begins.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::admin;
use crate::harness::{Connection, Daylily, PATIENCE, Request, Setup, each, eventually};
use crate::stopping::By;

fn setup(server: &str) -> Setup {
    Setup::new().server(server).route("hello.test", "hello", "")
}

/// How the server is stopped, and whether it waits for `shutdown_delay`.
#[test]
fn a_delayed_stop_is_not_ready_and_serves_until_the_drain() {
    each(&[(By::Terminate, true), (By::Command, true), (By::Interrupt, false)], |(by, waits)| {
        let server = setup("shutdown_delay = '1h'").flags(&["--admin", "127.0.0.1:0"]).start();
        let admin = admin::address(&server);
        let is_ready = || Connection::open(admin).exchange(&Request::get("localhost", "/readyz")).status == 200;
        let mut kept = server.connect();
        kept.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
        let mut idle = server.connect();
        assert!(is_ready());
        // A request ends a moment after its client has the response.
        let has_ended = || server.status().total("requests_in_progress") == 0;
        assert!(eventually(PATIENCE, has_ended), "{:?}", server.status());
        std::thread::scope(|scope| {
            let command = matches!(by, By::Command).then(|| scope.spawn(|| server.command(&["stop"])));
            match by {
                By::Terminate => server.signal(Signal::TERM),
                By::Interrupt => server.signal(Signal::INT),
                By::Command => {}
            }
            if *waits {
                delayed(&server, &is_ready, &mut kept, &mut idle);
                // Another signal within 250 ms would count as the same.
                std::thread::sleep(Duration::from_millis(300));
                server.signal(Signal::TERM);
            }
            server.expect_exit(0, &["draining, requests in progress: 0"]);
            if let Some(command) = command {
                command.join().expect("a command").expect(0, &[]);
            }
        });
        let log = server.log().to_end();
        assert_eq!(log.contains("the drain begins in shutdown_delay = 1h"), *waits, "{log}");
        server.expect_no_process(PATIENCE);
    });
}

/// What holds during the delay.
#[track_caller]
fn delayed(server: &Daylily, is_ready: &dyn Fn() -> bool, kept: &mut Connection, idle: &mut Connection) {
    assert!(eventually(PATIENCE, || !is_ready()), "it is still ready");
    server.log().wait_for(&["the drain begins in shutdown_delay = 1h"]);
    assert_eq!(server.status().state(), "stopping");
    server.command(&["reload"]).expect(69, &["reload refused: the server is stopping"]);
    // A kept connection gets its response, and is closed by it. New ones are accepted, also by a worker that starts now.
    let closes = |connection: &mut Connection| {
        let response = connection.exchange(&Request::get("hello.test", "/"));
        response.expect(200, "Hello World\n");
        response.closes()
    };
    assert!(closes(kept), "the response does not close its connection");
    kept.expect_closed();
    assert!(closes(&mut server.connect()));
    idle.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    let worker = server.process();
    worker.signal(Signal::KILL);
    assert!(eventually(PATIENCE, || server.status().ready().is_some_and(|ready| ready != [worker])));
    assert!(closes(&mut server.connect()), "a worker that was started meanwhile keeps connections");
    assert!(!is_ready());
}

#[test]
fn the_drain_begins_when_the_delay_is_over() {
    let server = setup("shutdown_delay = '400ms'").start();
    let begun = Instant::now();
    server.signal(Signal::TERM);
    server.expect_exit(0, &["the drain begins in shutdown_delay = 400ms", "draining, requests in progress: 0"]);
    assert!(begun.elapsed() >= Duration::from_millis(400), "it took {:?}", begun.elapsed());
}
