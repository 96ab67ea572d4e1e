//! Which lines `log` lets through, by level and target.

use std::net::TcpListener;

use crate::harness::{Daylily, Setup, run_in};

const FILTER: &str = "info,daylily::outgoing=debug,guest=off";

fn setup() -> Setup {
    Setup::new()
        .route("output.test", "output", "")
        .route("fetch.test", "outgoing", "allow_http = ['http://127.0.0.1:*']")
        .route("trap.test", "trap", "")
}

/// Causes a line of a guest, a line of a request at level `debug`, one at `warn`, and at last one of an outgoing request
/// at `debug`. One worker logs them in this order.
fn cause_lines(server: &Daylily) {
    let closed_port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    server.get("output.test", "/lines").expect(200, "ok\n");
    server.get("nowhere.test", "/").expect_refusal(404, "no such route");
    server.get("trap.test", "/before").expect_refusal(500, "guest trapped");
    assert_eq!(server.get("fetch.test", &format!("/send?url=http://{closed_port}/")).status, 200);
}

#[track_caller]
fn expect_filtered(server: &Daylily) {
    cause_lines(server);
    server.log().wait_for(&["DEBUG daylily::outgoing: outgoing request failed", "connection refused"]);
    server.log().wait_for(&["WARN daylily::request: guest failed"]);
    let others = |line: &str| line.contains(" guest: ") || line.contains("DEBUG daylily::request");
    assert_eq!(server.log().matching(others), Vec::<String>::new());
}

#[test]
fn a_filter_lets_one_target_through_and_silences_another() {
    expect_filtered(&setup().top(&format!("log = '{FILTER}'")).start());
    expect_filtered(&setup().flags(&["--log", FILTER]).start());
    expect_filtered(&setup().env("DAYLILY_LOG", FILTER).start());
}

/// Without a filter, the lines above are logged by their levels alone.
#[test]
fn without_a_filter_the_level_counts() {
    let server = setup().start();
    cause_lines(&server);
    server.log().wait_for(&["WARN daylily::request: guest failed"]);
    server.log().wait_for(&["INFO guest: one"]);
    assert_eq!(server.log().matching(|line| line.contains("DEBUG")), Vec::<String>::new());
    let server = setup().flags(&["--log", "debug"]).start();
    cause_lines(&server);
    server.log().wait_for(&["DEBUG daylily::request: request refused", "no such route"]);
    server.log().wait_for(&["DEBUG daylily::outgoing: outgoing request failed"]);
}

#[test]
fn a_reload_changes_the_filter() {
    let server = setup().top("log = 'guest=off'").start();
    server.get("output.test", "/lines").expect(200, "ok\n");
    server.configure(|config| config.replace("guest=off", "daylily=error"));
    server.reload();
    server.get("output.test", "/lines").expect(200, "ok\n");
    server.log().wait_for(&["WARN guest: err"]);
    assert_eq!(server.log().matching(|line| line.contains(" guest: one")).len(), 1);
    assert_eq!(server.log().matching(|line| line.contains("reloaded")), Vec::<String>::new());
}

#[test]
fn an_unknown_target_is_an_error_with_the_list_of_targets() {
    let list = "the targets are daylily, daylily::admin, daylily::build, ";
    let config = b"log = 'daylily::http=debug'\n[[route]]\ncomponent = 'a.wasm'\n";
    let finished = run_in(&[("daylily.toml", config)], &[], &["check"]);
    finished.expect(78, &["unknown log target \"daylily::http\"", "daylily.toml:1:7", "^^^", list]);
    run_in(&[], &[], &["check", "--log", "daylily::http=debug"]).expect(2, &["daylily::http", list]);
    run_in(&[], &[("DAYLILY_LOG", "daylily::http=debug")], &["check"]).expect(2, &["daylily::http", list]);
}
