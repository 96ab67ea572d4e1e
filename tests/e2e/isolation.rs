//! No request changes the response to another one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Connection, Daylily, Request, Setup, Shared};

fn setup() -> Setup {
    Setup::new()
        .route("hello.test", "hello", "")
        .route("state.test", "state", "")
        .route("echo.test", "echo", "")
        .route("trap.test", "trap", "")
        .route("memory.test", "memory", "cpu_time = '300ms'")
        .route("output.test", "output", "cpu_time = '300ms'")
        .route("service03.test", "service03", "cpu_time = '300ms'")
        .route("burn.test", "burn", "cpu_time = '2m'\nwall_time = '2m'")
}

static SERVER: Shared = Shared::new(setup);

#[test]
fn every_request_has_a_new_instance() {
    let server = SERVER.get();
    for (host, target) in [("state.test", "/"), ("service03.test", "/count")] {
        let mut connection = server.connect();
        for _ in 0..50 {
            connection.exchange(&Request::get(host, target)).expect(200, "count: 1\n");
        }
        // Also concurrently.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        server.get(host, target).expect(200, "count: 1\n");
                    }
                });
            }
        });
    }
}

#[test]
fn an_instance_that_trapped_leaves_nothing_behind() {
    let server = SERVER.get();
    let mut state = server.connect();
    for _ in 0..20 {
        server.get("trap.test", "/before").expect_refusal(500, "guest trapped");
        server.get("service03.test", "/trap").expect_refusal(500, "guest trapped");
        state.exchange(&Request::get("state.test", "/")).expect(200, "count: 1\n");
        server.get("service03.test", "/count").expect(200, "count: 1\n");
    }
}

/// Sends requests to one misbehaving guest from several clients while `victim` runs.
fn while_attacked(server: &Daylily, host: &str, target: &str, victim: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut attacks = 0;
                    while !over.load(Ordering::SeqCst) || attacks == 0 {
                        server.get(host, target);
                        attacks += 1;
                    }
                })
            })
            .collect();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(victim));
        over.store(true, Ordering::SeqCst);
        attackers.into_iter().for_each(|attacker| attacker.join().expect("an answer to every attack"));
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn misbehaviour_changes_no_other_answer() {
    let server = SERVER.get();
    let attacks = [
        ("trap.test", "/before"),
        ("trap.test", "/after-head"),
        ("trap.test", "/stack"),
        ("memory.test", "/forever"),
        ("output.test", "/flood?kib=4096"),
        ("service03.test", "/trap"),
        ("service03.test", "/trap-after"),
        ("service03.test", "/loop"),
    ];
    let body = "streamed ".repeat(2000);
    crate::harness::each(&attacks, |(host, target)| {
        while_attacked(&server, host, target, || {
            let mut connection = server.connect();
            for _ in 0..30 {
                connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
                connection.exchange(&Request::get("state.test", "/")).expect(200, "count: 1\n");
                connection.exchange(&Request::post("echo.test", "/").body(body.as_bytes())).expect(200, &body);
            }
        });
    });
}

/// The durations of 400 requests, sorted.
fn times(server: &Daylily) -> Vec<Duration> {
    let mut connection = server.connect();
    let mut times: Vec<Duration> = (0..400)
        .map(|_| {
            let start = Instant::now();
            connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
            start.elapsed()
        })
        .collect();
    times.sort();
    times
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100 - 1]
}

/// The only test in which a duration is the guarantee itself. On a busy machine, these requests would be slow even
/// without spinning guests, so it runs alone.
#[test]
fn hello_stays_quick_beside_spinning_guests() {
    let server = setup().alone().start();
    let alone = times(&server);
    let cores = std::thread::available_parallelism().expect("a number of cores").get();
    let spinners: Vec<Connection> = (0..cores * 8)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(&Request::get("burn.test", "/after-head").bytes());
            connection
        })
        .collect();
    let spinners: Vec<Connection> = spinners
        .into_iter()
        .map(|mut spinner| {
            // The head shows that the guest is spinning now.
            assert_eq!(spinner.head().status, 200);
            spinner
        })
        .collect();
    let beside = times(&server);
    for mut spinner in spinners {
        assert!(spinner.is_quiet_after_chunk(), "a spinner ended before the measurement did");
    }
    let (least, most) = (p99(&alone), p99(&beside));
    let bar = Duration::from_millis(50).max(3 * least);
    assert!(
        most < bar,
        "p99 {most:?} beside them and {least:?} alone, median {:?}, most {:?}",
        beside[200],
        beside[399]
    );
}
