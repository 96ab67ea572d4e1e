//! Schedules while everything works: what is sent and recorded, overlaps, what was missed, reloads and stops.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Daylily, PATIENCE, Request, Setup, eventually, run_at, run_in};

/// The store of schedules without a `lease`.
const STORE: &str = "_schedules";

/// A server with a route that records the requests of schedules in the store `visits`, and these schedules.
pub fn setup(state_dir: &str, schedules: &str) -> Setup {
    setup_with(&format!("state_dir = '{state_dir}'\n[store.visits]\n[store.claims]"), schedules)
}

/// The same with other keys at the top, which have the stores `visits` and `claims`.
pub fn setup_with(top: &str, schedules: &str) -> Setup {
    routes(Setup::new().top(top), schedules)
}

fn routes(setup: Setup, schedules: &str) -> Setup {
    setup
        .route("jobs.test", "store", "stores = ['visits']\nwall_time = '120s'")
        .route("status.test", "status", "")
        .raw_route(schedules)
}

/// A schedule of one run each second, with further keys.
pub fn each_second(name: &str, path: &str, keys: &str) -> String {
    format!("[[schedule]]\nname = '{name}'\ncron = '* * * * * *'\nroute = 'jobs.test'\npath = '{path}'\n{keys}\n")
}

/// The ledger of a schedule, read by `daylily store`; None before there is one.
pub fn ledger(directory: &Path, store: &str, name: &str) -> Option<Value> {
    let read = run_at(directory, &["store", "get", store, &format!("schedule:{name}")]);
    (read.code == 0).then(|| serde_json::from_str(&read.stdout).expect("JSON"))
}

#[track_caller]
pub fn wait_for(server: &Daylily, name: &str, what: impl Fn(&Value) -> bool) -> Value {
    wait_in(server, STORE, name, what)
}

/// Waits until the ledger of a schedule is as it should be.
#[track_caller]
pub fn wait_in(server: &Daylily, store: &str, name: &str, what: impl Fn(&Value) -> bool) -> Value {
    let mut last = None;
    let came = eventually(2 * PATIENCE, || {
        last = ledger(server.directory(), store, name);
        last.as_ref().is_some_and(&what)
    });
    assert!(came, "the ledger of {name} stays at {last:?}");
    last.expect("a ledger")
}

pub fn total(ledger: &Value, name: &str) -> u64 {
    ledger["totals"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {ledger}"))
}

/// Each run is accounted for.
#[track_caller]
pub fn expect_balance(ledger: &Value) {
    let running = ledger["running"].as_array().expect("runs").iter().filter(|run| run["owner"] != "").count() as u64;
    let ended: u64 = ["ok", "failed", "lost"].iter().map(|name| total(ledger, name)).sum();
    assert_eq!(total(ledger, "begun"), ended + running, "{ledger}");
}

/// What guests have recorded: how often each `NAME~TIME~ATTEMPT` was begun.
pub fn recorded(server: &Daylily) -> BTreeMap<String, u64> {
    let keys = server.get("jobs.test", "/list").text();
    let keys: Vec<_> = keys.rsplit_once(' ').expect("keys").0.split(',').filter(|key| key.contains('~')).collect();
    let count = |key: &str| {
        let text = server.get("jobs.test", &format!("/get?key={key}")).text();
        text.strip_prefix("some ").and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{key}: {text}"))
    };
    keys.into_iter().map(|key| (key.to_owned(), count(key))).collect()
}

#[test]
fn a_route_gets_a_request_each_second() {
    let log = "access_log = { format = 'json', to = 'access.log', fields = ['schedule', 'path', 'status', 'client'] }";
    let failing = "[[schedule]]\nname = 'failing'\ncron = '* * * * * *'\nroute = 'status.test'\npath = '/500'\n";
    let top = format!("{log}\nstate_dir = 'state'\n[store.visits]");
    let schedules = each_second("tick", "/record?x=1", "") + failing;
    let server = routes(Setup::new().top(&top), &schedules).workers(2).start();
    let ticks = wait_for(&server, "tick", |ledger| total(ledger, "ok") >= 3);
    expect_balance(&ticks);
    let line = r#"{"schedule":"tick","path":"/record","status":200}"#;
    let log = server.directory().join("access.log");
    let is_logged = || std::fs::read_to_string(&log).is_ok_and(|log| log.lines().any(|logged| logged == line));
    assert!(eventually(PATIENCE, is_logged), "{:?}", std::fs::read_to_string(&log));
    let recorded = recorded(&server);
    assert!(recorded.len() >= 3, "{recorded:?}");
    for (key, count) in &recorded {
        let is_form = key.starts_with("tick~20") && key.ends_with("Z~1");
        assert!(is_form && *count == 1, "{key} was begun {count} times");
    }
    // A response with an error is not tried again.
    let failed = wait_for(&server, "failing", |ledger| total(ledger, "failed") >= 2);
    expect_balance(&failed);
    assert_eq!((total(&failed, "ok"), total(&failed, "lost")), (0, 0), "{failed}");
    server.log().wait_for(&["WARN daylily::schedule: schedule `failing`: the run of 20", "failed with status 500"]);
}

#[test]
fn metrics_and_fields_of_clients() {
    let server = setup("state", &each_second("tick", "/record", "method = 'POST'")).start();
    wait_for(&server, "tick", |ledger| total(ledger, "ok") >= 2);
    let of = |page: &crate::harness::MetricsPage, outcome| {
        page.sum("daylily_schedule_runs_total", None, &[("schedule", "tick"), ("outcome", outcome)])
    };
    assert!(eventually(PATIENCE, || of(&server.metrics(), "ok") >= 2.0));
    let page = server.metrics();
    assert_eq!((of(&page, "failed"), of(&page, "lost")), (0.0, 0.0));
    assert_eq!(page.values("daylily_schedule_runs_total", "outcome").len(), 5);
    // No client can pretend to be a schedule.
    let forged = Request::get("jobs.test", "/record")
        .header("daylily-schedule", "tick")
        .header("Daylily-Scheduled-Time", "2026-01-01T00:00:00Z")
        .header("daylily-schedule-attempt", "1");
    server.exchange(&forged).expect(200, "~~ 1");
}

#[test]
fn a_run_that_takes_long() {
    let schedules = each_second("skip", "/record?pause=2500", "")
        + &each_second("allow", "/record?pause=2500", "overlap = 'allow'");
    let server = setup("state", &schedules).workers(2).start();
    let skip = wait_for(&server, "skip", |ledger| total(ledger, "ok") >= 2);
    expect_balance(&skip);
    assert!(total(&skip, "skipped") >= 2 && total(&skip, "begun") <= 3, "{skip}");
    server.log().wait_for(&["schedule `skip`: the run of 20", "was skipped: the one before it has not ended"]);
    let allow = wait_for(&server, "allow", |ledger| total(ledger, "ok") >= 3);
    expect_balance(&allow);
    assert!(total(&allow, "begun") > total(&skip, "begun"), "{allow}");
    assert_eq!(total(&allow, "skipped"), 0, "{allow}");
}

/// The ledger says that there was no run for two years.
#[test]
fn what_was_missed() {
    let state = tempfile::tempdir().expect("a directory");
    let state = state.path().join("state").display().to_string();
    let yearly = |name: &str, keys: &str| {
        format!("[[schedule]]\nname = '{name}'\ncron = '0 0 1 1 *'\nroute = 'jobs.test'\npath = '/record'\n{keys}\n")
    };
    let schedules = yearly("none", "") + &yearly("last", "catch_up = 'last'");
    let server = setup(&state, &schedules).start();
    for name in ["none", "last"] {
        let mut ledger = wait_for(&server, name, |_| true);
        ledger["last"] = (ledger["last"].as_i64().expect("a time") - 2 * 366 * 86_400).into();
        let key = format!("schedule:{name}");
        run_at(server.directory(), &["store", "set", STORE, &key, &ledger.to_string()]).expect(0, &[]);
    }
    server.signal(Signal::TERM);
    server.wait_exit();
    for _ in 0..2 {
        let server = setup(&state, &schedules).workers(2).start();
        let last = wait_for(&server, "last", |ledger| total(ledger, "ok") >= 1);
        assert_eq!((total(&last, "begun"), total(&last, "missed")), (1, 1), "{last}");
        let none = wait_for(&server, "none", |ledger| total(ledger, "missed") >= 2);
        assert_eq!((total(&none, "begun"), total(&none, "missed")), (0, 2), "{none}");
        let recorded = recorded(&server);
        assert_eq!(recorded.len(), 1, "{recorded:?}");
        assert!(recorded.iter().all(|(key, count)| key.ends_with("-01-01T00:00:00Z~1") && *count == 1));
        server.signal(Signal::TERM);
        server.wait_exit();
    }
}

/// Generations share the ledger: no tick is run twice or missed, and a run in progress ends.
#[test]
fn reloads() {
    let server = setup("state", &each_second("tick", "/record?pause=700", "")).workers(2).start();
    for round in 1..=3 {
        wait_for(&server, "tick", |ledger| total(ledger, "ok") >= round);
        server.reload();
    }
    let ledger = wait_for(&server, "tick", |ledger| total(ledger, "ok") >= 6);
    expect_balance(&ledger);
    assert_eq!((total(&ledger, "lost"), total(&ledger, "failed")), (0, 0), "{ledger}");
    assert!(recorded(&server).iter().all(|(_, count)| *count == 1));
}

/// A stop waits for a run, and cuts it after `shutdown_timeout`. What was cut is begun again if it may be.
#[test]
fn stops() {
    let state = tempfile::tempdir().expect("a directory");
    let state = state.path().join("state").display().to_string();
    let schedules = each_second("short", "/record?pause=800", "")
        + &each_second("once", "/record?pause=60000", "")
        + &each_second("again", "/record?pause=60000", "retries = 1");
    let server = setup(&state, &schedules).server("shutdown_timeout = '2s'").start();
    for name in ["short", "once", "again"] {
        wait_for(&server, name, |ledger| total(ledger, "begun") >= 1);
    }
    server.signal(Signal::TERM);
    server.wait_exit();
    server.log().wait_for(&["schedule `once`: the run of", "was lost: it had not ended when the server stopped"]);
    let now = |name| ledger(server.directory(), STORE, name).expect("a ledger");
    for (name, lost, running) in [("short", 0, 0), ("once", 1, 0), ("again", 1, 1)] {
        let ledger = now(name);
        expect_balance(&ledger);
        let runs = ledger["running"].as_array().expect("runs").len();
        assert_eq!((total(&ledger, "lost"), runs), (lost, running), "{name}: {ledger}");
    }
    let tick = now("again")["running"][0]["tick"].clone();
    let next = setup(&state, &schedules).server("shutdown_timeout = '100ms'").start();
    let again = wait_for(&next, "again", |ledger| ledger["running"][0]["attempt"] == 2);
    assert_eq!(again["running"][0]["tick"], tick, "{again}");
    assert!(eventually(PATIENCE, || recorded(&next)
        .keys()
        .any(|key| key.starts_with("again~") && key.ends_with("~2"))));
    assert!(!recorded(&next).keys().any(|key| key.starts_with("once~") && key.ends_with("~2")));
}

#[test]
fn check_says_when_they_are_due() {
    let config = "[[route]]\npath = '/api/*'\ncomponent = 'a.wasm'\n\
        [[schedule]]\ncron = '30 3 1 7 *'\ntime_zone = 'Asia/Tokyo'\nroute = '/api/*'\npath = '/api/clean?x=1'\n";
    let component = std::fs::read(crate::harness::guest("hello")).expect("a guest");
    let with = |config: &str, arguments: &[&str]| {
        let environment = [("STATE_DIRECTORY", "state")];
        run_in(&[("daylily.toml", config.as_bytes()), ("a.wasm", &component)], &environment, arguments)
    };
    let checked = with(config, &["check"]);
    checked.expect(0, &[]);
    let line = checked.stdout.lines().find(|line| line.starts_with("schedule ")).expect("a line").to_owned();
    assert!(line.starts_with("schedule /api/clean: GET /api/clean?x=1, next at 20"), "{line}");
    assert_eq!(line.matches("-07-01T03:30:00+09:00").count(), 2, "{line}");
    for command in [&["check"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let refused = with(&config.replace("30 3 1 7 *", "0 0 30 2 *"), command);
        refused.expect(78, &["the cron line \"0 0 30 2 *\" never comes", "--> daylily.toml:5:8", "^^^"]);
    }
}

/// A reload with an error in a schedule changes nothing.
#[test]
fn a_reload_with_an_error() {
    let server = setup("state", &each_second("tick", "/record", "")).start();
    wait_for(&server, "tick", |ledger| total(ledger, "ok") >= 1);
    server.configure(|config| config.replace("* * * * * *", "* * * *"));
    server.command(&["reload"]).expect(78, &["invalid cron line", "it has 4 fields"]);
    // `daylily store`, which shows the ledger, reads the file, too.
    server.configure(|config| config.replace("* * * *", "* * * * * *"));
    let before = total(&wait_for(&server, "tick", |_| true), "ok");
    wait_for(&server, "tick", |ledger| total(ledger, "ok") > before + 1);
    server.configure(|config| config.replace("* * * * * *", "0 0 1 1 *"));
    server.reload();
    assert!(eventually(Duration::from_secs(10), || {
        wait_for(&server, "tick", |_| true)["times"] == "0 0 1 1 * UTC"
    }));
}
