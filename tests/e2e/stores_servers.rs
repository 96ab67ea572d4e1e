//! Key-value stores on Redis and NATS servers that the tests start, stop, pause and kill.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Certificates, Daylily, Setup, StoreServer, eventually, run_at};
use crate::stores::{FORMS, LIMITS, check_interfaces, check_limits, check_swaps, setup_with};
use crate::stores_failing::check_under_kills;

/// The stores `visits` and `other`, both on this server, the first one with further keys.
fn setup(keeper: &StoreServer, store: &str, route: &str) -> Setup {
    let url = keeper.url();
    let stores = format!("[store.visits]\nbackend = '{url}'\n{store}\n[store.other]\nbackend = '{url}'");
    setup_with(&stores, route)
}

/// What a guest is told while there is no connection to the server.
const UNAVAILABLE: &str = "error: Error::Other(\"the store's server cannot be reached, and nothing was changed\")";

/// The lines of the log about outages and their ends.
fn outages(server: &Daylily) -> Vec<String> {
    server.log().matching(|line| {
        line.contains("daylily::storage") && (line.contains("cannot be reached") || line.contains("can be used again"))
    })
}

#[test]
#[ignore = "needs redis-server"]
fn every_interface_does_the_same_on_redis() {
    let redis = StoreServer::redis(&[]);
    let server = setup(&redis, "", "").start();
    check_interfaces(&server);
    // Redis has no revisions, so an entry that was changed back is the same.
    check_swaps(&server, "some x, swapped");
    // A value is what others see, too.
    for host in FORMS {
        server.get(host, "/set?key=n&value=41").expect(200, "()");
        assert_eq!(redis.ask("INCR visits:n"), ":42\r\n");
        server.get(host, "/increment?key=n").expect(200, "43");
        server.get(host, "/delete?key=n").expect(200, "()");
    }
    assert_eq!(redis.ask("DBSIZE"), ":0\r\n");
    server.stop();
}

#[test]
#[ignore = "needs nats-server"]
fn every_interface_does_the_same_on_nats() {
    let nats = StoreServer::nats(&[]);
    let server = setup(&nats, "bucket = 'shop-visits'", "").start();
    check_interfaces(&server);
    check_swaps(&server, "some x, now some x");
    server.stop();
}

#[test]
#[ignore = "needs redis-server"]
fn limits_are_the_same_on_redis() {
    check_limits_on(&StoreServer::redis(&[]));
}

#[test]
#[ignore = "needs nats-server"]
fn limits_are_the_same_on_nats() {
    check_limits_on(&StoreServer::nats(&[]));
}

fn check_limits_on(keeper: &StoreServer) {
    check_limits(&setup(keeper, "", LIMITS).start());
}

#[test]
#[ignore = "needs redis-server"]
fn entries_on_redis_expire() {
    check_ttl(&StoreServer::redis(&[]));
}

#[test]
#[ignore = "needs nats-server"]
fn entries_on_nats_expire() {
    check_ttl(&StoreServer::nats(&[]));
}

fn check_ttl(keeper: &StoreServer) {
    let server = setup(keeper, "ttl = '1s'", "").start();
    server.get("direct.test", "/set-many?key=a,b&value=1").expect(200, "()");
    server.get("direct.test", "/increment?key=n").expect(200, "1");
    let is_gone = || server.get("direct.test", "/get-many?key=a,b,n").text() == "a=none,b=none,n=none";
    assert!(eventually(Duration::from_secs(10), is_gone), "they do not expire");
}

/// While the server is gone, operations fail at once and all else is served. Soon after it is back, so are they. The log
/// has a line for each.
#[test]
#[ignore = "needs redis-server"]
fn an_outage_of_redis_fails_operations_at_once() {
    check_outage(StoreServer::redis(&[]));
}

#[test]
#[ignore = "needs nats-server"]
fn an_outage_of_nats_fails_operations_at_once() {
    check_outage(StoreServer::nats(&[]));
}

fn check_outage(mut keeper: StoreServer) {
    let server = setup(&keeper, "", "").start();
    server.get("direct.test", "/set?key=a&value=1").expect(200, "()");
    server.get("direct.test", "/set?key=a&value=1&store=cache").expect(200, "()");
    for round in 1..=2 {
        let before = outages(&server).len();
        keeper.kill();
        server.log().wait_for(&["ERROR daylily::storage: store `visits`: ", "://127.0.0.1:", "cannot be reached"]);
        let is_known = || server.get("direct.test", "/get?key=a").text() == UNAVAILABLE;
        assert!(eventually(Duration::from_secs(2), is_known), "the outage is not noticed");
        let began = Instant::now();
        for host in FORMS {
            for target in ["/get?key=a", "/increment?key=n", "/list", "/swap?key=a&value=1"] {
                server.get(host, target).expect(200, UNAVAILABLE);
            }
            server.get(host, "/open?count=1").expect(200, "opened 1");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?} for 10 requests", began.elapsed());
        keeper.start_again();
        let began = Instant::now();
        let is_back = || server.get("direct.test", "/get?key=a").text() == "some 1";
        assert!(eventually(Duration::from_secs(10), is_back), "it does not come back");
        assert!(began.elapsed() < Duration::from_secs(1), "it was back after {:?}", began.elapsed());
        let both = || outages(&server).len() >= before + 2;
        assert!(eventually(Duration::from_secs(5), both), "round {round}: {:?}", outages(&server));
        if round == 1 {
            // The next outage is not part of this one.
            std::thread::sleep(Duration::from_secs(11));
        }
    }
    server.get("direct.test", "/increment?key=n").expect(200, "1");
    let visits = outages(&server).into_iter().filter(|line| line.contains("`visits`"));
    assert_eq!(visits.count(), 4, "{:?}", outages(&server));
}

/// A server that is there and does nothing: operations fail in time, and later at once. What was sent is done at most
/// once.
#[test]
#[ignore = "needs redis-server"]
fn a_paused_redis_holds_nobody() {
    check_pause(&StoreServer::redis(&[]));
}

#[test]
#[ignore = "needs nats-server"]
fn a_paused_nats_holds_nobody() {
    check_pause(&StoreServer::nats(&[]));
}

fn check_pause(keeper: &StoreServer) {
    let server = setup(keeper, "", "store_timeout = '400ms'").start();
    server.get("direct.test", "/increment?key=n").expect(200, "1");
    keeper.pause();
    let began = Instant::now();
    let text = server.get("direct.test", "/increment?key=n").text();
    assert!(text.contains("the operation took longer than store_timeout = 400ms"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    server.get("direct.test", "/open?count=1").expect(200, "opened 1");
    let is_known = || server.get("direct.test", "/get?key=n").text() == UNAVAILABLE;
    assert!(eventually(Duration::from_secs(10), is_known), "nobody notices that it does nothing");
    server.log().wait_for(&["ERROR daylily::storage: store `visits`: ", "cannot be reached: it does not answer"]);
    let began = Instant::now();
    server.get("direct.test", "/get?key=n").expect(200, UNAVAILABLE);
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
    keeper.resume();
    let began = Instant::now();
    let is_back = || server.get("direct.test", "/get?key=n").text().starts_with("some ");
    assert!(eventually(Duration::from_secs(10), is_back), "it does not come back");
    assert!(began.elapsed() < Duration::from_secs(1), "it was back after {:?}", began.elapsed());
    // The one that was sent may have been done.
    let text = server.get("direct.test", "/get?key=n").text();
    assert!(["some 1", "some 2"].contains(&text.as_str()), "{text}");
    assert_eq!(server.processes().iter().filter(|process| process.is_called("daylily-storage")).count(), 1);
}

/// Increments whose time is over while the server does nothing: not one of them is written when it goes on.
#[test]
#[ignore = "needs nats-server"]
fn nats_gets_no_write_after_the_timeout() {
    let keeper = StoreServer::nats(&[]);
    let server = setup(&keeper, "", "store_timeout = '300ms'").start();
    server.get("direct.test", "/increment?key=n").expect(200, "1");
    keeper.pause();
    for _ in 0..4 {
        let text = server.get("direct.test", "/increment?key=n").text();
        assert!(text.contains("the operation took longer than store_timeout = 300ms"), "{text}");
    }
    keeper.resume();
    std::thread::sleep(Duration::from_secs(1));
    server.get("direct.test", "/get?key=n").expect(200, "some 1");
}

/// A command for one store reads the password of no other one.
#[test]
fn a_command_needs_no_password_of_other_stores() {
    let text = "[store.a]\n[store.b]\nbackend = 'redis://127.0.0.1:1'\npassword = { file = 'missing' }\n\
                [[route]]\ncomponent = 'app.wasm'\n";
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("daylily.toml"), text).expect("room");
    let state = dir.path().join("state");
    let store = |arguments: &[&str]| {
        run_at(dir.path(), &[&["store", "--state-dir", state.to_str().expect("a path")], arguments].concat())
    };
    store(&["set", "a", "x", "1"]).expect(0, &[]);
    assert_eq!(store(&["list", "a"]).stdout, "x\n");
    store(&["list", "b"]).expect(78, &["store `b` has no `password`", "cannot be read"]);
}

/// A server that is away at the start is a warning, or an error if it is `required`.
#[test]
#[ignore = "needs redis-server"]
fn a_start_without_redis() {
    check_start(StoreServer::redis(&[]));
}

#[test]
#[ignore = "needs nats-server"]
fn a_start_without_nats() {
    check_start(StoreServer::nats(&[]));
}

fn check_start(mut keeper: StoreServer) {
    keeper.kill();
    let server = setup(&keeper, "", "").start();
    server.log().wait_for(&[
        "WARN daylily::storage: store `visits`: ",
        "://127.0.0.1:",
        "operations fail until it can",
    ]);
    server.get("direct.test", "/get?key=a").expect(200, UNAVAILABLE);
    run_at(server.directory(), &["check"]).expect(0, &[]);
    let config = std::fs::read_to_string(server.directory().join("daylily.toml")).expect("the configuration");
    let required = config.replace("[store.visits]", "[store.visits]\nrequired = true");
    assert_ne!(required, config);
    std::fs::write(server.directory().join("daylily.toml"), required).expect("room");
    run_at(server.directory(), &["check"]).expect(0, &[]);
    let expected = ["store `visits`: ", "://127.0.0.1:", "cannot be reached: ", "it is `required`"];
    run_at(server.directory(), &["serve", "--listen", "127.0.0.1:0", "--control", "other.sock"]).expect(78, &expected);
    server.signal(Signal::HUP);
    server.log().wait_for(&["reload failed", expected[0]]);
    keeper.start_again();
    let is_there = || server.get("direct.test", "/get?key=a").text() == "none";
    assert!(eventually(Duration::from_secs(5), is_there), "it is not found");
    server.reload();
    server.get("direct.test", "/increment?key=n").expect(200, "1");
}

/// The password reaches the server, and nobody else.
#[test]
#[ignore = "needs redis-server"]
fn a_password_for_redis_is_sent_and_not_shown() {
    let redis = StoreServer::redis(&["--requirepass", PASSWORD]);
    check_secret(&redis, "password = { file = 'secret' }", "NOAUTH");
}

#[test]
#[ignore = "needs nats-server"]
fn a_password_for_nats_is_sent_and_not_shown() {
    let nats = StoreServer::nats(&["--user", "shop", "--pass", PASSWORD]);
    check_secret(&nats, "user = 'shop'\npassword = { file = 'secret' }", "authorization violation");
}

#[test]
#[ignore = "needs nats-server"]
fn a_token_for_nats_is_sent_and_not_shown() {
    let nats = StoreServer::nats(&["--auth", PASSWORD]);
    check_secret(&nats, "token = { file = 'secret' }", "authorization violation");
}

const PASSWORD: &str = "hunter22-hunter22";

fn check_secret(keeper: &StoreServer, keys: &str, refusal: &str) {
    let server = setup(keeper, keys, "").file("secret", PASSWORD.as_bytes()).start();
    server.get("direct.test", "/increment?key=n").expect(200, "1");
    // The other store has none.
    server.get("direct.test", "/get?key=n&store=cache").expect(200, UNAVAILABLE);
    server.log().wait_for(&["store `other`: ", "://127.0.0.1:", "cannot be reached: ", refusal]);
    let found = run_at(server.directory(), &["store", "get", "visits", "n"]);
    found.expect(0, &[]);
    assert_eq!(found.stdout.trim_end(), "1");
    std::fs::write(server.directory().join("secret"), "hunter23-hunter23").expect("room");
    let refused = run_at(server.directory(), &["store", "get", "visits", "n"]);
    refused.expect(1, &["store `visits`: ", "://127.0.0.1:", "cannot be reached: "]);
    server.reload();
    server.log().wait_for(&["store `visits`: ", "://127.0.0.1:", "cannot be reached: "]);
    server.get("direct.test", "/get?key=n").expect(200, UNAVAILABLE);
    std::fs::remove_file(server.directory().join("secret")).expect("a file");
    let check = run_at(server.directory(), &["check"]);
    check.expect(78, &["store `visits` has no `", "cannot be read"]);
    let shown = [server.log().matching(|_| true).join("\n"), check.stderr, refused.stderr].concat();
    assert!(!shown.contains("hunter2"), "{shown}");
}

/// The server's certificate must be one that the machine trusts, and for the host of the URL.
#[test]
#[ignore = "needs redis-server"]
fn redis_is_reached_with_tls_if_it_is_trusted() {
    check_tls(StoreServer::redis_tls);
}

#[test]
#[ignore = "needs nats-server"]
fn nats_is_reached_with_tls_if_it_is_trusted() {
    check_tls(StoreServer::nats_tls);
}

fn check_tls(start: fn([String; 2]) -> StoreServer) {
    let certificates = Certificates::of("127.0.0.1");
    let keeper = start(certificates.pem());
    let trusting =
        |setup: Setup| setup.file("ca.pem", certificates.authority.as_bytes()).env("SSL_CERT_FILE", "ca.pem");
    let server = trusting(setup(&keeper, "", "")).start();
    for host in FORMS {
        server.get(host, "/set?key=k&value=v").expect(200, "()");
        server.get(host, "/get?key=k").expect(200, "some v");
    }
    // The command does not have the variable, so it trusts those of the system only.
    let command = run_at(server.directory(), &["store", "get", "visits", "k"]);
    command.expect(1, &["store `visits`: ", "cannot be reached: ", "invalid peer certificate: UnknownIssuer"]);

    let stranger = Certificates::of("127.0.0.1");
    let misnamed = certificates.with_name("localhost");
    for (wrong, said) in [(stranger, ""), (misnamed, "not valid for name")] {
        let keeper = start(wrong.pem());
        let server = trusting(setup(&keeper, "", "")).start();
        server.get("direct.test", "/get?key=k").expect(200, UNAVAILABLE);
        server.log().wait_for(&["store `visits`: ", "cannot be reached: ", "invalid peer certificate", said]);
    }
}

/// Clients increment while workers, the storage process and the server are killed, with reloads.
#[test]
#[ignore = "needs redis-server"]
fn nothing_acknowledged_is_lost_under_kills_on_redis() {
    check_kills(StoreServer::redis(&[]));
}

#[test]
#[ignore = "needs nats-server"]
fn nothing_acknowledged_is_lost_under_kills_on_nats() {
    check_kills(StoreServer::nats(&[]));
}

fn check_kills(mut keeper: StoreServer) {
    let server = setup(&keeper, "", "").workers(2).start();
    check_under_kills(&server, || {
        keeper.kill();
        keeper.start_again();
    });
}

#[test]
#[ignore = "needs redis-server"]
fn stores_on_redis_can_be_looked_at_and_changed() {
    check_commands(&StoreServer::redis(&[]));
}

#[test]
#[ignore = "needs nats-server"]
fn stores_on_nats_can_be_looked_at_and_changed() {
    check_commands(&StoreServer::nats(&[]));
}

fn check_commands(keeper: &StoreServer) {
    let server = setup(keeper, "", "").start();
    let store = |arguments: &[&str], code: i32, expected: &str| {
        let done = run_at(server.directory(), &[&["store"], arguments].concat());
        done.expect(code, &[expected]);
        done.stdout
    };
    store(&["set", "visits", "greeting", "hello"], 0, "");
    server.get("direct.test", "/get?key=greeting").expect(200, "some hello");
    assert_eq!(store(&["list", "visits"], 0, ""), "greeting\n");
    assert_eq!(store(&["list", "other"], 0, ""), "");
    assert_eq!(store(&["get", "visits", "greeting"], 0, "").trim_end(), "hello");
    assert_eq!(store(&["export", "visits"], 0, ""), "{\"key\":\"greeting\",\"value\":\"hello\"}\n");
    store(&["backup", "visits", "copy.sqlite"], 1, "write `daylily store export visits > FILE`");
    store(&["delete", "visits", "greeting"], 0, "");
    store(&["get", "visits", "greeting"], 1, "there is no key \"greeting\"");
    // No directory is made for stores that have no files.
    assert!(!server.directory().join("state").exists());
}
