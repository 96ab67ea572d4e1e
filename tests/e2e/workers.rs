//! Several worker processes: all of them serve, they share what can be shared, and secrets are not visible to other
//! processes.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::harness::{Connection, Ending, PATIENCE, Process, Request, Setup, each, eventually, run_in};

const SECRET: &str = "7b0c45e1-secret-of-the-configuration";

fn hello() -> Setup {
    Setup::new().route("hello.test", "hello", "").route_at("name = 'stream'\npath = '/stream'", "stream")
}

#[test]
fn every_worker_answers() {
    let mut server = hello().workers(3).spawn();
    assert_eq!(server.announced(), 3);
    assert_eq!(server.workers().len(), 3);
    let (mut sent, mut open) = (0, Vec::new());
    let all_answered = || (0..3).all(|worker| server.status().of_worker(worker, "requests") > 0);
    while !all_answered() && open.len() < 300 {
        let mut connection = server.connect();
        connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
        open.push(connection);
        sent += 1;
    }
    assert!(all_answered(), "{sent} connections, and one has none: {:?}", server.status());
    // The counts of all workers add up to the requests sent.
    let status = server.status();
    let sum = |name| (0..3).map(|worker| status.of_worker(worker, name)).sum::<u64>();
    assert_eq!((sum("requests"), sum("connections"), status.total("requests")), (sent, sent, sent));
}

#[test]
fn how_many_there_are() {
    let cores = std::thread::available_parallelism().expect("a number of cores").get();
    each(&[("1", 1), ("2", 2), ("auto", cores)], |(given, workers)| {
        let mut by_flag = hello().flags(&["--workers", given]).spawn();
        assert_eq!(by_flag.announced() as usize, *workers);
        assert_eq!((by_flag.worker_processes().len(), by_flag.workers().len()), (*workers, *workers));
        let quoted = if *given == "auto" { "'auto'" } else { given };
        let mut by_file = hello().without("--workers").top(&format!("workers = {quoted}")).spawn();
        assert_eq!(by_file.announced() as usize, *workers);
        let mut by_environment = hello().without("--workers").env("DAYLILY_WORKERS", given).spawn();
        assert_eq!(by_environment.announced() as usize, *workers);
    });
    let mut by_default = hello().without("--workers").spawn();
    assert_eq!(by_default.announced() as usize, cores);
    each(&["0", "-1", "many", "257"], |given| {
        run_in(&[], &[], &["serve", &format!("--workers={given}")]).expect(2, &["--workers"]);
        let file = format!("workers = {}\n", if *given == "many" { "'many'" } else { given });
        let file = file + "[[route]]\ncomponent = 'a.wasm'\n";
        run_in(&[("daylily.toml", file.as_bytes())], &[], &["serve"]).expect(78, &["workers"]);
    });
}

/// Lines of `/proc/PID/maps` for compiled code: whether executable, and the inode.
fn code(worker: Process) -> BTreeSet<(bool, String)> {
    let maps = worker.read("maps");
    let lines = maps.lines().filter(|line| line.contains("daylily-code")).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[1].contains('x'), words[4].to_owned())
    });
    lines.collect()
}

/// Shared pages take memory only once, also for workers that start later.
#[test]
fn compiled_code_is_shared() {
    let server = hello().workers(3).start();
    let first = code(server.workers()[0]);
    let inodes: BTreeSet<&String> = first.iter().map(|(_, inode)| inode).collect();
    assert_eq!(inodes.len(), 2, "two components, {first:?}");
    assert!(inodes.iter().all(|inode| first.contains(&(true, (*inode).clone()))), "none can run: {first:?}");
    server.workers()[2].signal(Signal::KILL);
    assert!(eventually(PATIENCE, || server.status().total("worker_restarts") == 1), "{:?}", server.status());
    for worker in server.workers() {
        assert_eq!(code(worker), first);
    }
    // Code that did not change is the same after a reload.
    server.reload();
    for worker in server.workers() {
        assert_eq!(code(worker), first);
    }
}

#[test]
fn nothing_of_the_configuration_is_to_be_seen() {
    let secret = format!("env = {{ SECRET = '{SECRET}' }}");
    let server = Setup::new()
        .route("env.test", "env", &secret)
        .env("NOTIFY_SOCKET", "/nowhere/notify")
        .env("WATCHDOG_USEC", "100000000")
        .start();
    // The guest has the secret.
    assert!(server.get("env.test", "/").text().contains(SECRET));
    let worker = server.process();
    for file in ["environ", "cmdline", "comm"] {
        assert!(!worker.read(file).contains(SECRET), "the secret is in {file}");
    }
    assert_eq!(worker.read("cmdline").split('\0').collect::<Vec<_>>(), ["daylily", "worker", "0", ""]);
    assert_eq!(worker.read("comm"), "daylily-worker\n");
    let environment = worker.read("environ");
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_"] {
        assert!(!environment.contains(variable), "{environment}");
    }
}

/// Signals reach the whole process group (Ctrl-C), or all processes of a service. The supervisor decides what they mean
/// for its workers.
#[test]
fn signals_do_nothing_to_a_worker() {
    let server = hello().start();
    let worker = server.process();
    let mut connection = server.connect();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2] {
        worker.signal(signal);
        connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    }
    assert_eq!(server.workers(), [worker]);
    let status = server.status();
    assert_eq!((status.generation(), status.total("worker_restarts")), (1, 0));
}

#[test]
fn a_signal_to_everybody_lets_workers_finish() {
    each(&[Signal::INT, Signal::TERM], |signal| {
        let server = hello().workers(2).start();
        let mut begun = server.connect();
        begun.send(&Request::get("any.test", "/stream?chunks=25&size=4&pause_ms=40").bytes());
        let mut response = begun.head();
        let workers = server.workers();
        workers.iter().for_each(|worker| worker.signal(*signal));
        server.signal(*signal);
        workers.iter().for_each(|worker| worker.signal(*signal));
        let mut bytes = 0;
        begun.finish(&mut response, "GET", &mut |piece| bytes += piece.len());
        assert_eq!((bytes, response.ending), (100, Ending::Complete));
        server.expect_exit(0, &[]);
    });
}

/// A worker that is started by hand prints how to start a server.
#[test]
fn nobody_starts_a_worker_by_hand() {
    run_in(&[], &[], &["worker"]).expect(2, &["daylily serve"]);
    run_in(&[], &[], &["worker", "0"]).expect(2, &["daylily serve"]);
}

/// A server that exits with 0 although responses were cut would report wrongly, and so would one that ends responses
/// early without showing it.
#[test]
fn every_client_of_a_stop_knows_what_it_got() {
    let server = hello().server("shutdown_timeout = '300ms'").workers(2).start();
    let mut open: Vec<Connection> = (0..6).map(|_| server.connect()).collect();
    let mut responses = Vec::new();
    for (at, connection) in open.iter_mut().enumerate() {
        let request = Request::get("any.test", "/stream?chunks=100&size=4&pause_ms=20");
        connection.send(&if at % 2 == 0 { request } else { request.http10() }.bytes());
        responses.push(connection.head());
    }
    server.signal(Signal::TERM);
    for (connection, response) in open.iter_mut().zip(&mut responses) {
        connection.finish(response, "GET", &mut |_| {});
        assert_eq!(response.ending, Ending::Truncated);
    }
    server.expect_exit(75, &["not all requests finished in time; requests cut: 6"]);
}
