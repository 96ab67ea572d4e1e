//! Workers that die: only the requests that they were processing are lost. They are replaced, and waiting clients get
//! responses from the replacement.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Connection, Daylily, Ending, Load, Moved, PATIENCE, Process, Request, Setup, Status, each, eventually,
};

/// How soon a replacement must be ready, on a machine that also runs other tests.
const SOON: Duration = Duration::from_secs(10);

fn hello(workers: u32) -> Setup {
    Setup::new().route("hello.test", "hello", "").workers(workers)
}

/// Whether all of `killed` have been replaced by ready workers.
fn are_replaced(status: &Status, killed: &[Process]) -> bool {
    status.ready().is_some_and(|ready| !ready.iter().any(|worker| killed.contains(worker)))
}

/// Kills these workers at once, and waits for their replacements.
#[track_caller]
fn kill(server: &Daylily, killed: &[Process], moved: &mut Moved) {
    killed.iter().for_each(|worker| worker.signal(Signal::KILL));
    let replaced = eventually(SOON, || are_replaced(moved.look(server), killed));
    assert!(replaced, "not replaced after {SOON:?}: {:?}", server.status());
}

#[test]
fn a_worker_that_is_killed_loses_only_what_it_had() {
    const CLIENTS: u64 = 4;
    let server = hello(2).start();
    let load = Load::start(server.address(), CLIENTS as usize, &Request::get("hello.test", "/"));
    let mut moved = Moved::default();
    let (mut descriptors, mut memory_kib) = (0, 0);
    let mut kills = 0;
    for round in 0..3 {
        let [first, second] = server.workers()[..] else { panic!("not two workers") };
        kill(&server, &[first], &mut moved);
        load.expect_more(20);
        kill(&server, &[second], &mut moved);
        load.expect_more(20);
        kill(&server, &server.workers(), &mut moved);
        load.expect_more(20);
        kills += 3;
        if round == 0 {
            (descriptors, memory_kib) = (server.supervisor().descriptors(), server.supervisor().resident_kib());
        }
    }
    let outcome = load.end();
    assert!(outcome.failed() <= kills * CLIENTS, "more than was in progress: {outcome:?}");
    assert_eq!((outcome.refused, outcome.wrong.as_slice()), (0, &[][..]), "{outcome:?}");
    let status = moved.look(&server);
    assert_eq!(status.total("worker_restarts"), 12, "{status:?}");
    assert!(status.total("requests") >= outcome.answered, "{status:?} {outcome:?}");
    assert!(status.total("requests_lost") <= outcome.failed(), "{status:?} {outcome:?}");
    let idle = eventually(PATIENCE, || server.status().total("requests_in_progress") == 0);
    assert!(idle, "requests of dead workers are in progress: {:?}", server.status());
    let closed = eventually(PATIENCE, || server.supervisor().descriptors() <= descriptors);
    assert!(closed, "from {descriptors} descriptors to {}", server.supervisor().descriptors());
    let after_kib = server.supervisor().resident_kib();
    assert!(after_kib <= memory_kib + 4096, "from {memory_kib} KiB to {after_kib} KiB");
}

/// A stopped worker (SIGSTOP) accepts nothing, so all connections are in its backlog when it dies.
#[test]
fn what_waits_in_the_backlog_is_answered_by_the_replacement() {
    each(&[1, 2], |&workers| {
        let server = hello(workers).start();
        let old = server.workers();
        old.iter().for_each(|worker| worker.signal(Signal::STOP));
        let mut waiting: Vec<Connection> = (0..50).map(|_| server.connect()).collect();
        for connection in &mut waiting {
            connection.send(&Request::get("hello.test", "/").bytes());
        }
        assert!(waiting[0].is_quiet_for(Duration::from_millis(50)), "a worker that was stopped answers");
        kill(&server, &old, &mut Moved::default());
        for connection in &mut waiting {
            connection.response("GET").expect(200, "Hello World\n");
        }
    });
}

/// The log lines about deaths: the number of quick crashes in a row, and the wait before the next start.
fn deaths(server: &Daylily) -> Vec<(u32, Duration)> {
    let lines = server.log().matching(|line| line.contains("worker 0 ") && line.contains("quick crashes in a row"));
    let parse = |line: &String| {
        let count = line.split_once(" quick crashes")?.0.rsplit_once('(')?.1.parse().ok()?;
        let wait = line.split_once("replaced in ")?.1;
        let wait = match wait.strip_suffix("ms") {
            Some(ms) => ms.parse::<f64>().ok()? / 1000.0,
            None => wait.strip_suffix('s')?.parse().ok()?,
        };
        Some((count, Duration::from_secs_f64(wait)))
    };
    lines.iter().map(|line| parse(line).unwrap_or_else(|| panic!("not the line of a death: {line}"))).collect()
}

/// Worker 0 is killed whenever it is ready, until the log reports six quick deaths in a row. Connections that the
/// kernel gives to worker 0 are then accepted by worker 1.
#[test]
fn a_worker_that_keeps_dying_is_replaced_less_and_less_often_and_the_other_serves() {
    let server = hello(2).start();
    let mut other = server.connect_to(1, "hello.test");
    let start = Instant::now();
    while deaths(&server).iter().all(|(count, _)| *count < 6) {
        assert!(start.elapsed() < PATIENCE, "no sixth quick death; the log tells of {:?}", deaths(&server));
        let status = server.status();
        if let Some(worker) = status.workers()[0] {
            worker.kill();
        }
        // Worker 1 is not affected.
        other.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    }
    // Worker 0 is not restarted for more than a second.
    for _ in 0..20 {
        server.get("hello.test", "/").expect(200, "Hello World\n");
    }
    assert_eq!(server.status().0["workers"][0]["state"], "waiting", "they waited for the replacement");
    for (count, wait) in deaths(&server) {
        let longest = Duration::from_millis(100) * 2_u32.pow(count - 1);
        // The log rounds to a tenth of a second.
        let rounding = Duration::from_millis(60);
        assert!(wait + rounding >= longest / 2 && wait <= longest + rounding, "death {count}: {wait:?}");
    }
    let status = server.status();
    assert_eq!(status.of_worker(1, "restarts"), 0, "{status:?}");
    assert!(eventually(SOON, || server.status().ready().is_some()), "the last one is not replaced");
}

#[derive(Debug)]
enum Client {
    Http10,
    Http11,
}

/// A response that its worker could not finish must not look complete. For an HTTP/1.0 client it has no length, so only
/// a reset shows that.
#[test]
fn a_response_that_died_with_its_worker_is_seen_to_be_cut() {
    let server = Setup::new().route_at("name = 'stream'\npath = '/'", "stream").start();
    each(&[Client::Http10, Client::Http11], |client| {
        let request = Request::get("stream.test", "/?chunks=1000&size=10&pause_ms=20");
        let request = if matches!(client, Client::Http10) { request.http10() } else { request };
        let mut connection = server.connect();
        connection.send(&request.bytes());
        let mut response = connection.head();
        assert_eq!((response.status, response.has("content-length")), (200, false));
        connection.some_bytes();
        kill(&server, &server.workers(), &mut Moved::default());
        connection.finish(&mut response, "GET", &mut |_| {});
        assert_eq!(response.ending, Ending::Truncated);
    });
    assert_eq!(server.status().total("requests_lost"), 2);
}

/// Totals include the counts of workers that ended long ago.
#[test]
fn totals_outlive_a_reload() {
    let server = hello(1).start();
    let mut moved = Moved::default();
    server.get("hello.test", "/").expect(200, "Hello World\n");
    kill(&server, &server.workers(), &mut moved);
    assert_eq!(moved.look(&server).total("worker_restarts"), 1);
    server.reload();
    let drained = eventually(PATIENCE, || moved.look(&server).draining() == 0);
    assert!(drained, "the old generation is still there");
    let status = moved.look(&server);
    assert_eq!((status.total("worker_restarts"), status.total("requests"), status.total("reloads")), (1, 1, 1));
}

/// Workers are killed while some drain, some start and some serve. In the end, one generation serves.
#[test]
fn deaths_in_the_middle_of_reloads_are_recovered_from() {
    const CLIENTS: u64 = 4;
    // Few enough that the waits between quick deaths stay short.
    const ROUNDS: u64 = 5;
    let server = hello(2).start();
    let load = Load::start(server.address(), CLIENTS as usize, &Request::get("hello.test", "/"));
    let mut killed = 0;
    let mut moved = Moved::default();
    for round in 0..ROUNDS {
        server.signal(Signal::HUP);
        // In each round at another point of the reload.
        std::thread::sleep(Duration::from_millis(6 * round));
        let workers = server.worker_processes();
        killed += workers.len() as u64;
        workers.into_iter().for_each(Process::kill);
        let recovered = eventually(SOON, || {
            let status = moved.look(&server);
            status.state() == "serving" && status.ready().is_some() && status.total("reloads") == round + 1
        });
        assert!(recovered, "{:?}", server.status());
        load.expect_more(20);
    }
    let outcome = load.end();
    // Workers die one after the other: a client that lost one may already have sent a request to the next.
    assert!(outcome.failed() <= killed * CLIENTS, "more than was in progress: {outcome:?}");
    assert_eq!(outcome.refused, 0, "{outcome:?}");
    let settled = eventually(PATIENCE, || server.status().draining() == 0 && server.processes().len() == 4);
    assert!(settled, "{:?} {:?}", server.processes(), server.status());
}
