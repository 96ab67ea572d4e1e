//! Texts from guests and clients are cut before they get into a log line or an error response, and the queue of log
//! lines is bounded: other requests are not delayed, and memory does not grow while stderr is not read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant, SystemTime};

use residue_guest::{Wasi, encode};

use crate::harness::{Connection, Daylily, PATIENCE, Request, Setup, Shared, as_component, built, each, eventually};

/// The longest line that one text of a guest can cause, with all other parts of the line.
const MAX_LINE_BYTES: usize = 1_400;

/// The longest error response that contains such a text.
const MAX_ANSWER_BYTES: usize = 1_200;

/// As much as a guest can pass to the host at once; 10 MB when escaped.
const LONG_KIB: u64 = 2_000;

/// Guests that fail with long texts, linked in both ways.
fn setup() -> Setup {
    let forms = ["trap", "service03"].into_iter().fold(Setup::new(), |setup, name| {
        let component = std::fs::read(built(name)).expect("a guest");
        let (direct, entire) = (format!("{name}-direct.wasm"), format!("{name}-entire.wasm"));
        setup
            .file(&direct, &component)
            .file(&entire, &as_component(&component))
            .route_to(&format!("direct-{name}.test"), &direct)
            .route_to(&format!("entire-{name}.test"), &entire)
    });
    let module = encode(&trapping(450_000), Wasi::P2).expect("a component");
    let limits = "cpu_time = '20s'\nwall_time = '1m'";
    forms
        .defaults(limits)
        .server("max_queue = 1000\nqueue_timeout = '60s'")
        .file("names.wasm", &module)
        .file("names-entire.wasm", &as_component(&module))
        .route_to("direct-names.test", "names.wasm")
        .route_to("entire-names.test", "names-entire.wasm")
        .route("outgoing.test", "outgoing", "")
        .route("output.test", "output", "max_output = '1GiB'")
        .route("hello.test", "hello", "")
}

/// stderr is a pipe that only the server has open, so it is never read.
const UNREAD: &str = "mkfifo unread && exec 3<>unread && exec \"$@\" 2>&3 3>&-";

static SERVER: Shared = Shared::new(setup);
static DEV: Shared = Shared::new(|| setup().flags(&["--dev"]));

/// A guest that traps in functions with names of `length` characters.
fn trapping(length: usize) -> String {
    let (inner, outer) = ("i".repeat(length), "o".repeat(length));
    format!(
        r#"(module
            (memory (export "memory") 1)
            (func ${inner} unreachable)
            (func ${outer} call ${inner})
            (func (export "wasi:http/incoming-handler@0.2.12#handle") (param i32 i32) call ${outer})
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 0))"#
    )
}

/// Routes, targets, and the status and reason of the response.
fn long_texts() -> Vec<(&'static str, String, u16, &'static str)> {
    let error = "guest returned an error code";
    let mut cases: Vec<_> = ["direct-trap.test", "entire-trap.test", "direct-service03.test", "entire-service03.test"]
        .into_iter()
        .map(|host| (host, format!("/error-long?kib={LONG_KIB}"), 502, error))
        .collect();
    for host in ["direct-names.test", "entire-names.test"] {
        cases.push((host, "/".into(), 500, "guest trapped"));
    }
    cases
}

#[test]
fn a_long_text_makes_a_short_line() {
    let server = SERVER.get();
    each(&long_texts(), |(host, target, status, reason)| {
        let id = server.get(host, target).expect_refusal(*status, reason);
        let line = server.log().wait_for(&[&id, reason]);
        assert!(line.len() < MAX_LINE_BYTES, "{} bytes", line.len());
        assert!(line.contains("left out"), "{line}");
    });
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

/// Also for an error at the end of the body. If the guest was interrupted before that, its response has begun.
#[test]
fn a_long_text_at_the_end_of_a_body_makes_a_short_line() {
    let server = SERVER.get();
    each(&["direct-service03.test", "entire-service03.test"], |host| {
        server.get(host, &format!("/error-long-after?kib={LONG_KIB}"));
        let line = server.log().wait_for(&[host, "internal error"]);
        assert!(line.len() < MAX_LINE_BYTES && line.contains("left out"), "{} bytes", line.len());
    });
}

#[test]
fn a_long_text_makes_a_short_refusal() {
    let server = DEV.get();
    each(&long_texts(), |(host, target, status, reason)| {
        let response = server.get(host, target);
        assert_eq!(response.status, *status);
        let text = response.text();
        let (first, stack) = text.split_once('\n').expect("a line");
        assert!(first.starts_with(reason) && first.contains("left out"), "{text}");
        assert!(stack.is_empty() || stack.contains("left out"), "{text}");
        assert!(text.len() < MAX_ANSWER_BYTES, "{} bytes", text.len());
    });
}

#[test]
fn a_long_host_makes_a_short_line() {
    let server = SERVER.get();
    let host = "h".repeat(1_000);
    server.get("outgoing.test", &format!("/?url=http://{host}/"));
    let line = server.log().wait_for(&["outgoing request to", "hhhh"]);
    assert!(line.len() < MAX_LINE_BYTES - 700 && line.contains("left out"), "{line}");
}

/// Signals the end when dropped, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The longest duration of one client's requests, while `at_once` other requests are sent concurrently.
fn slowest_hello(server: &Daylily, host: &str, target: &str, at_once: usize) -> Duration {
    let over = AtomicBool::new(false);
    let mut others: Vec<Connection> = (0..at_once).map(|_| server.connect()).collect();
    scope(|scope| {
        let victim = scope.spawn(|| {
            let (mut connection, mut slowest) = (server.connect(), Duration::ZERO);
            while !over.load(Ordering::SeqCst) {
                let begun = Instant::now();
                connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        });
        let at_the_end = Over(&over);
        let request = Request::get(host, target).bytes();
        for other in &mut others {
            other.send(&request);
        }
        for other in &mut others {
            other.response("GET");
        }
        drop(at_the_end);
        victim.join().expect("an answer to every request")
    })
}

/// Compared with guests that make the same texts and do not return them. Formatting the texts took 100 ms each.
#[test]
fn two_hundred_long_texts_at_once_delay_nobody() {
    let server = setup().through(UNREAD).start();
    let hosts = ["direct-trap.test", "entire-trap.test", "direct-service03.test", "entire-service03.test"];
    each(&hosts, |host| {
        let quiet = slowest_hello(&server, host, &format!("/quiet-long?kib={LONG_KIB}"), 200);
        let loud = slowest_hello(&server, host, &format!("/error-long?kib={LONG_KIB}"), 200);
        assert!(loud < 3 * quiet + Duration::from_secs(1), "{loud:?}, and {quiet:?} beside guests that say nothing");
    });
}

/// When a log line was written, in microseconds since midnight.
fn written_us(line: &str) -> u64 {
    let (_, time) = line.split_once('T').expect("a date and a time");
    let digits: Vec<u64> = time.split([':', '.', 'Z']).take(4).map(|part| part.parse().expect("a number")).collect();
    ((digits[0] * 60 + digits[1]) * 60 + digits[2]) * 1_000_000 + digits[3]
}

fn now_us() -> u64 {
    const DAY_US: u128 = 24 * 3600 * 1_000_000;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    u64::try_from(since.as_micros() % DAY_US).expect("less than a day")
}

/// The lines of one call are logged in several steps, between which other requests run. In a single step, they were
/// delayed.
#[test]
fn a_flood_of_short_lines_lets_others_in_between() {
    const LINES: usize = 16_384;
    let server = SERVER.get();
    let (over, is_flood) = (AtomicBool::new(false), |line: &str| line.contains(" guest: x route=output.test"));
    let answered: Vec<u64> = scope(|scope| {
        let victim = scope.spawn(|| {
            let (mut connection, mut answered) = (server.connect(), Vec::new());
            while !over.load(Ordering::SeqCst) {
                connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
                answered.push(now_us());
            }
            answered
        });
        let at_the_end = Over(&over);
        server.get("output.test", &format!("/short-lines?count={LINES}")).expect(200, "ok\n");
        assert!(eventually(PATIENCE, || server.log().matching(is_flood).len() == LINES), "not all lines came");
        drop(at_the_end);
        victim.join().expect("an answer to every request")
    });
    let lines = server.log().matching(is_flood);
    let (first, last) = (written_us(&lines[0]), written_us(&lines[LINES - 1]));
    let between = answered.iter().filter(|at| (first..last).contains(*at)).count();
    assert!(between > 3, "{between} answers in the {} us in which {LINES} lines were written", last - first);
}

#[test]
fn an_unread_log_does_not_make_the_worker_grow() {
    let server = setup().through(UNREAD).start();
    let ask = |count: usize| {
        for host in ["direct-trap.test", "direct-service03.test"] {
            for _ in 0..count {
                server
                    .get(host, &format!("/error-long?kib={LONG_KIB}"))
                    .expect_refusal(502, "guest returned an error code");
            }
            // Lines of 8 KiB: more than the queue holds.
            server.get("output.test", "/flood?kib=8000").expect(200, "ok\n");
        }
    };
    ask(5);
    let before = server.process().resident_kib();
    ask(75);
    let after = server.process().resident_kib();
    assert!(after < before + 16 * 1024, "from {before} KiB to {after} KiB");
    server.get("hello.test", "/").expect(200, "Hello World\n");
}
