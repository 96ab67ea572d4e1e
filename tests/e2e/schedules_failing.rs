//! Schedules when workers and whole servers are killed, and when their store is locked.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Daylily, PATIENCE, StoreServer, eventually, run_at};
use crate::schedules::{each_second, expect_balance, ledger, recorded, setup, setup_with, total, wait_for, wait_in};

/// How long two servers are killed in turn. For a longer test by hand.
const SECONDS: &str = "DAYLILY_E2E_SCHEDULE_SECONDS";

/// Its run is lost, which others find out when it has not been heard of for some time; with `retries` they begin it
/// again.
#[test]
fn a_killed_worker() {
    let schedules = each_second("once", "/record?pause=100000", "")
        + &each_second("again", "/record?pause=100000", "retries = 2")
        + &each_second("short", "/record", "");
    let server = setup("state", &schedules).workers(2).start();
    for name in ["once", "again"] {
        wait_for(&server, name, |ledger| total(ledger, "begun") == 1);
    }
    let tick = wait_for(&server, "again", |_| true)["running"][0]["tick"].clone();
    for worker in server.worker_processes() {
        worker.kill();
    }
    // The next workers claim what is due at once.
    let before = total(&wait_for(&server, "short", |_| true), "ok");
    wait_for(&server, "short", |ledger| total(ledger, "ok") > before + 1);
    let again = wait_for(&server, "again", |ledger| ledger["running"][0]["attempt"] == 2);
    assert_eq!((total(&again, "lost"), &again["running"][0]["tick"]), (1, &tick), "{again}");
    let once = wait_for(&server, "once", |ledger| total(ledger, "lost") == 1 && total(ledger, "begun") == 2);
    assert_ne!(once["running"][0]["tick"], tick, "{once}");
    for name in ["once", "again", "short"] {
        expect_balance(&wait_for(&server, name, |_| true));
    }
    server.log().wait_for(&["ERROR daylily::schedule: schedule `again`: the run of 20", "; it is begun again"]);
    server.log().wait_for(&["ERROR daylily::schedule: schedule `once`: the run of 20", "; it is not begun again"]);
    let recorded = recorded(&server);
    assert!(recorded.values().all(|count| *count == 1), "{recorded:?}");
    let second: Vec<_> = recorded.keys().filter(|key| key.ends_with("~2")).collect();
    assert!(second.len() == 1 && second[0].starts_with("again~"), "{second:?}");
    let lost =
        |name| server.metrics().sum("daylily_schedule_runs_total", None, &[("schedule", name), ("outcome", "lost")]);
    assert!(eventually(PATIENCE, || lost("again") == 1.0 && lost("once") == 1.0));
}

/// Two servers share the state directory, and are killed in turn: with all of their processes, at any moment.
#[test]
fn two_servers_killed_in_turn() {
    let state = tempfile::tempdir().expect("a directory");
    let state = state.path().join("state").display().to_string();
    check_two_servers(&format!("state_dir = '{state}'\n[store.visits]\n[store.claims]"));
}

/// The same with a directory for each, and stores that are shared on Redis.
#[test]
#[ignore = "needs redis-server"]
fn two_servers_killed_in_turn_on_redis() {
    let redis = StoreServer::redis(&[]);
    check_two_servers(&on_redis(&redis.url()));
}

fn on_redis(url: &str) -> String {
    format!("state_dir = 'state'\n[store.visits]\nbackend = '{url}'\n[store.claims]\nbackend = '{url}'")
}

fn check_two_servers(top: &str) {
    let seconds = std::env::var(SECONDS).ok().map_or(8, |seconds| seconds.parse().expect("a number"));
    let schedules = each_second("tick", "/record?pause=300", "overlap = 'allow'\nlease = 'claims'");
    let start = || -> Daylily { setup_with(top, &schedules).workers(2).unaudited("it is killed").start() };
    let (mut one, mut other) = (start(), start());
    let (end, mut round) = (Instant::now() + Duration::from_secs(seconds), 0);
    while Instant::now() < end {
        let begun = total(&wait_in(&other, "claims", "tick", |_| true), "begun");
        wait_in(&other, "claims", "tick", |ledger| total(ledger, "begun") > begun + round % 3);
        // Dropping a server kills it.
        drop(one);
        one = start();
        std::mem::swap(&mut one, &mut other);
        round += 1;
    }
    let recorded = recorded(&one);
    for server in [&one, &other] {
        server.signal(Signal::TERM);
        server.wait_exit();
    }
    let ledger = ledger(one.directory(), "claims", "tick").expect("a ledger");
    expect_balance(&ledger);
    assert!(recorded.iter().all(|(key, count)| key.ends_with("~1") && *count == 1), "{recorded:?}");
    let (begun, ok) = (total(&ledger, "begun"), total(&ledger, "ok"));
    assert!(recorded.len() as u64 <= begun && ok >= 2, "{} of {ledger}", recorded.len());
    eprintln!("{round} servers killed: {ledger}");
}

/// While another process has locked the store, nothing is claimed; a run in progress goes on.
#[test]
fn a_locked_store() {
    let schedules = each_second("long", "/record?pause=7000", "") + &each_second("short", "/record", "");
    let server = setup("state", &schedules).start();
    wait_for(&server, "long", |ledger| total(ledger, "begun") == 1);
    let before = total(&wait_for(&server, "short", |ledger| total(ledger, "ok") >= 1), "ok");
    let lock = crate::stores_failing::lock(&server.directory().join("state/_schedules.sqlite"));
    server
        .log()
        .wait_for(&["ERROR daylily::schedule: schedule `short`: nothing can be claimed: the store `_schedules`"]);
    drop(lock);
    wait_for(&server, "short", |ledger| total(ledger, "ok") > before + 2);
    let long = wait_for(&server, "long", |ledger| total(ledger, "ok") == 1);
    assert_eq!(total(&long, "lost"), 0, "{long}");
    expect_balance(&long);
}

/// The last tick that was decided is in the future. Deleting the entry ends that, also while the server runs; the tick
/// after it is not forgotten.
#[test]
fn a_deleted_entry() {
    let server = setup("state", &each_second("tick", "/record", "")).workers(2).start();
    let mut ledger = wait_for(&server, "tick", |ledger| total(ledger, "ok") >= 1);
    ledger["last"] = (ledger["last"].as_i64().expect("a time") + 3_600).into();
    let command = |arguments: &[&str]| run_at(server.directory(), arguments).expect(0, &[]).code;
    command(&["store", "set", "_schedules", "schedule:tick", &ledger.to_string()]);
    server.log().wait_for(&["WARN daylily::schedule: schedule `tick`", "the clock was set back"]);
    command(&["store", "delete", "_schedules", "schedule:tick"]);
    wait_for(&server, "tick", |ledger| total(ledger, "ok") >= 2);

    let schedule = each_second("slow", "/record", "").replace("* * * * * *", "*/3 * * * * *");
    let server = setup("state", &schedule).start();
    wait_for(&server, "slow", |ledger| total(ledger, "ok") >= 1);
    run_at(server.directory(), &["store", "delete", "_schedules", "schedule:slow"]).expect(0, &[]);
    let remade = wait_for(&server, "slow", |_| true);
    assert_eq!((total(&remade, "begun"), total(&remade, "missed")), (1, 0), "{remade}");
}

/// The connection to Redis ends after a claim, or the end of a run, was sent and before it is answered: the run is begun
/// and ends, and is not taken for lost.
#[test]
#[ignore = "needs redis-server"]
fn answers_of_the_store_are_lost() {
    let redis = StoreServer::redis(&[]);
    let proxy = Cutting::start(redis.port());
    let top = on_redis(&format!("redis://127.0.0.1:{}/0", proxy.port));
    let schedules = each_second("tick", "/record", "lease = 'claims'");
    let server = setup_with(&top, &schedules).workers(2).start();
    wait_in(&server, "claims", "tick", |ledger| total(ledger, "ok") >= 1);
    for round in 1..=6 {
        proxy.cut_next();
        assert!(eventually(PATIENCE, || proxy.cuts() == round), "nothing was cut");
        let before = total(&wait_in(&server, "claims", "tick", |_| true), "ok");
        wait_in(&server, "claims", "tick", |ledger| total(ledger, "ok") > before + 1);
    }
    let ledger = wait_in(&server, "claims", "tick", |_| true);
    assert_eq!((total(&ledger, "lost"), total(&ledger, "failed")), (0, 0), "{ledger}");
    expect_balance(&ledger);
    let lost = server.log().matching(|line| line.contains("was lost: ") || line.contains("taken for lost"));
    assert!(lost.is_empty(), "{lost:?}");
}

/// A proxy of Redis that can end a connection between a script and its answer.
struct Cutting {
    port: u16,
    is_next: Arc<AtomicBool>,
    cuts: Arc<AtomicU64>,
}

impl Cutting {
    fn start(redis: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (is_next, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let state = (Arc::clone(&is_next), Arc::clone(&cuts));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, redis)) else { continue };
                let (is_next, cuts) = state.clone();
                std::thread::spawn(move || forward(&client, &server, &is_next, &cuts));
            }
        });
        Self { port, is_next, cuts }
    }

    fn cut_next(&self) {
        self.is_next.store(true, SeqCst);
    }

    fn cuts(&self) -> u64 {
        self.cuts.load(SeqCst)
    }
}

/// Forwards until an end, or until a script was sent whose answer is not to arrive.
fn forward(client: &TcpStream, server: &TcpStream, is_next: &AtomicBool, cuts: &AtomicU64) {
    let is_cut = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut from, mut to, mut buffer) = (server, client, [0; 64 << 10]);
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                // The server has done what it answers.
                if is_cut.load(SeqCst) || to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
        let (mut from, mut to, mut buffer) = (client, server, [0; 64 << 10]);
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let is_script = buffer[..length].windows(7).any(|word| word == b"EVALSHA");
            if is_script && is_next.swap(false, SeqCst) {
                is_cut.store(true, SeqCst);
                cuts.fetch_add(1, SeqCst);
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    });
}
