//! `--watch`: changed files are served without a command, once they are valid.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::harness::{Daylily, PATIENCE, Request, Setup, each, eventually, guest, route_to};

fn component(package: &str) -> Vec<u8> {
    fs::read(guest(package)).expect("a built guest")
}

fn app(path: &str) -> Setup {
    Setup::new().route_to("app.test", path).file(path, &component("hello")).flags(&["--watch"])
}

const HELLO: &str = "Hello World\n";
const STATE: &str = "count: 1\n";

#[track_caller]
fn expect_soon(server: &Daylily, host: &str, body: &str) {
    let request = Request::get(host, "/");
    let came = eventually(PATIENCE, || server.exchange(&request).text() == body);
    assert!(came, "{host} answers {:?}", server.exchange(&request));
}

/// Fails unless the log has at least `refused` failed reloads and `reason`, and `body` is still served.
#[track_caller]
fn expect_refused(server: &Daylily, refused: usize, reason: &str, body: &str) {
    let lines = || server.log().matching(|line| line.contains("ERROR") && line.contains("reload failed"));
    assert!(eventually(PATIENCE, || lines().len() >= refused), "nothing was refused");
    // An error in the configuration continues on the next lines.
    server.log().wait_for(&[reason]);
    server.get("app.test", "/").expect(200, body);
}

fn remove_all(server: &Daylily, path: &str) {
    fs::remove_dir_all(server.directory().join(path)).expect("the directory");
}

#[test]
fn a_component_that_is_written_is_served() {
    let server = app("app.wasm").start();
    expect_soon(&server, "app.test", HELLO);
    // The file is replaced, and then written in place.
    server.put("app.wasm", component("state"));
    expect_soon(&server, "app.test", STATE);
    fs::write(server.directory().join("app.wasm"), component("hello")).expect("the component");
    expect_soon(&server, "app.test", HELLO);
    server.put("app.wasm", "Hello");
    expect_refused(&server, 1, "failed to load component", HELLO);
    server.put("app.wasm", component("state"));
    expect_soon(&server, "app.test", STATE);
    fs::remove_file(server.directory().join("app.wasm")).expect("the component");
    expect_refused(&server, 2, "failed to read component", STATE);
    server.put("app.wasm", component("hello"));
    expect_soon(&server, "app.test", HELLO);
}

#[test]
fn a_configuration_that_is_written_is_served() {
    let server = app("app.wasm").file("more.wasm", &component("hello")).start();
    let config = server.config();
    let more = config.clone() + &route_to("more.test", "more.wasm");
    server.put("daylily.toml", &more);
    expect_soon(&server, "more.test", HELLO);
    // The component that it names is watched from then on.
    server.put("more.wasm", component("state"));
    expect_soon(&server, "more.test", STATE);
    server.put("daylily.toml", "= nonsense");
    expect_refused(&server, 1, "daylily.toml", HELLO);
    server.get("more.test", "/").expect(200, STATE);
    server.put("daylily.toml", &config);
    let gone = eventually(PATIENCE, || server.get("more.test", "/").status == 404);
    assert!(gone, "a route that was taken away is served");
}

/// A configuration that names a missing file, which is then created.
#[test]
fn what_a_refused_configuration_waits_for_is_watched() {
    let server = app("app.wasm").start();
    server.configure(|config| config + &route_to("late.test", "late.wasm"));
    expect_refused(&server, 1, "late.wasm", HELLO);
    server.put("late.wasm", component("state"));
    expect_soon(&server, "late.test", STATE);
}

/// As `cargo clean && cargo build` does.
#[test]
fn a_directory_that_was_removed_and_made_again_is_watched() {
    let server = app("target/release/app.wasm").start();
    for (failed, package, body, before) in [(1, "state", STATE, HELLO), (2, "hello", HELLO, STATE)] {
        remove_all(&server, "target");
        expect_refused(&server, failed, "failed to read component", before);
        fs::create_dir_all(server.directory().join("target/release")).expect("a directory");
        server.put("target/release/app.wasm", component(package));
        expect_soon(&server, "app.test", body);
    }
}

#[test]
fn a_link_that_leads_elsewhere_is_followed() {
    let server = app("one/app.wasm").file("two/app.wasm", &component("state")).start();
    remove_all(&server, "one");
    symlink("two", server.directory().join("one")).expect("a link");
    expect_soon(&server, "app.test", STATE);
}

/// Other work of the supervisor, however frequent, does not stop it from watching.
#[test]
fn a_busy_supervisor_watches_all_the_same() {
    let server = app("app.wasm").start();
    server.put("app.wasm", component("state"));
    let came = eventually(PATIENCE / 3, || server.status().generation() == 2);
    assert!(came, "it answers for its status, and sees no change: {:?}", server.status());
    expect_soon(&server, "app.test", STATE);
}

#[derive(Debug)]
enum Quiet {
    /// Files are watched, and none was changed.
    Watched,
    /// `--watch` was not given.
    Unwatched,
}

#[test]
fn nothing_is_reloaded_without_a_reason() {
    each(&[Quiet::Watched, Quiet::Unwatched], |case| {
        let server = match case {
            Quiet::Watched => app("app.wasm").start(),
            Quiet::Unwatched => {
                Setup::new().route_to("app.test", "app.wasm").file("app.wasm", &component("hello")).start()
            }
        };
        server.put("app.wasm", component("state"));
        let reloads = match case {
            Quiet::Watched => {
                expect_soon(&server, "app.test", STATE);
                1
            }
            Quiet::Unwatched => 0,
        };
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(server.status().total("reloads"), reloads);
        server.get("app.test", "/").expect(200, if reloads == 1 { STATE } else { HELLO });
    });
}
