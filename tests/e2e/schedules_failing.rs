//! Schedules when workers and whole servers are killed, and when their store is locked.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Daylily, PATIENCE, eventually};
use crate::schedules::{each_second, expect_balance, ledger, recorded, setup, total, wait_for, wait_in};

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
    let seconds = std::env::var(SECONDS).ok().map_or(8, |seconds| seconds.parse().expect("a number"));
    let state = tempfile::tempdir().expect("a directory");
    let state = state.path().join("state").display().to_string();
    let schedules = each_second("tick", "/record?pause=300", "overlap = 'allow'\nlease = 'claims'");
    let start = || -> Daylily { setup(&state, &schedules).workers(2).unaudited("it is killed").start() };
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
