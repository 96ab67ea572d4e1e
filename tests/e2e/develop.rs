//! `daylily dev` builds, serves, and does both again when a source changes.

use rustix::process::Signal;
use std::fs;

use crate::harness::{Connection, Daylily, PATIENCE, Request, Response, Setup, eventually, guest, run_at};

pub fn component(package: &str) -> Vec<u8> {
    fs::read(guest(package)).expect("a built guest")
}

/// The source is a file with the name of a guest, and a build makes that guest the component.
pub const CONFIG: &str = "[build]\ncommand = 'echo compiling $(cat src/which) && cp $(cat src/which).wasm app.wasm'\n\n\
    [[route]]\npath = '/api/*'\ncomponent = 'app.wasm'\n\n[[route]]\npath = '/*'\nfiles = 'public'\n";

pub const PAGE: &str = "<!doctype html><h1>Page</h1>\n";
pub const HELLO: &str = "Hello World\n";
pub const STATE: &str = "count: 1\n";

pub fn project(config: &str) -> Setup {
    Setup::bare(&["dev"])
        .file("daylily.toml", config.as_bytes())
        .file("hello.wasm", &component("hello"))
        .file("state.wasm", &component("state"))
        .file("public/index.html", PAGE.as_bytes())
        .file("src/which", b"hello")
}

pub fn get(server: &Daylily, target: &str) -> Response {
    server.get("localhost", target)
}

/// As a browser that shows the page.
pub fn visit(server: &Daylily, target: &str) -> Response {
    server.exchange(&Request::get("localhost", target).header("sec-fetch-mode", "navigate"))
}

#[track_caller]
fn expect_soon(server: &Daylily, body: &str) {
    assert!(eventually(PATIENCE, || get(server, "/api/").text() == body), "{:?}", get(server, "/api/"));
}

#[track_caller]
fn expect_page_soon(server: &Daylily, parts: &[&str]) {
    let has_all = |page: &str| parts.iter().all(|part| page.contains(part));
    assert!(eventually(PATIENCE, || has_all(&visit(server, "/").text())), "{}", visit(server, "/").text());
}

/// Logs when the watched files were looked at.
const LOOKS: [&str; 2] = ["--log", "info,daylily::build=trace,daylily::supervisor=trace"];

/// What the lines about it have: those of the sources, of the served files, and of the configuration and the components.
const LOOKED: [&str; 3] = ["files below src", "files below public", "watched files"];

/// A change is noticed by a look after it, and reported by the next one.
const NOTICED_BY: usize = 3;

/// Waits until all watched files were looked at so often that each change is reported, and the same again after the
/// reload that it may have caused.
fn rest(log: impl Fn() -> String) {
    for _ in 0..2 {
        for looked in LOOKED {
            let looks = || log().matches(looked).count();
            let before = looks();
            assert!(eventually(PATIENCE, || looks() >= before + NOTICED_BY), "no looks at {looked}: {}", log());
        }
    }
}

/// Fails unless the log has `count` lines with `part`, and no more of them when everything was looked at again.
#[track_caller]
fn expect_at_rest(server: &Daylily, part: &str, count: usize) {
    let lines = || server.log().matching(|line| line.contains(part));
    assert!(eventually(PATIENCE, || lines().len() >= count), "{:#?}", lines());
    rest(|| server.log().matching(|line| line.contains("looked at")).join("\n"));
    assert_eq!(lines().len(), count, "{:#?}", lines());
}

/// What pages compare, by a worker that does not drain.
pub fn version(server: &Daylily) -> String {
    let mut version = None;
    let came = eventually(PATIENCE, || {
        version = next_version(&mut events(server));
        version.is_some()
    });
    version.filter(|_| came).expect("a version")
}

fn events(server: &Daylily) -> Connection {
    let mut connection = server.connect();
    connection.send(&Request::get("localhost", "/.daylily/events").bytes());
    assert_eq!(connection.head().values("content-type"), ["text/event-stream"]);
    connection
}

/// None if the page is to connect again.
fn next_version(connection: &mut Connection) -> Option<String> {
    let event = String::from_utf8(connection.next_chunk()).expect("text");
    let version = event.strip_prefix("data: ").map(|version| version.trim_end().to_owned());
    assert!(version.is_some() || event == AGAIN, "{event:?}");
    version
}

const AGAIN: &str = "event: again\ndata: again\n\n";

#[test]
fn an_edit_is_built_and_served() {
    let server = project(CONFIG).flags(&LOOKS).start();
    server.stdout().wait_for(&["built in ", "watching src, public"]);
    get(&server, "/api/").expect(200, HELLO);
    let mut page = events(&server);
    let first = next_version(&mut page).expect("a version");
    server.put("src/which", "state");
    // The browser connects again at once, and loads the page again.
    assert_eq!(next_version(&mut page), None);
    assert!(page.next_chunk().is_empty(), "the events go on after a reload");
    assert!(eventually(PATIENCE, || version(&server) != first));
    expect_soon(&server, STATE);
    server.put("public/index.html", "new");
    expect_page_soon(&server, &["new"]);
    // Nothing is built or reloaded but what has changed.
    expect_at_rest(&server, "reloaded: generation", 2);
    expect_at_rest(&server, "building: ", 2);
    server.put("daylily.toml", CONFIG.replace("'/api/*'", "'/*'").replace("'/*'\nfiles", "'/files/*'\nfiles"));
    assert!(eventually(PATIENCE, || get(&server, "/").text() == STATE));
}

#[test]
fn a_failed_build_is_shown_and_leaves_what_served() {
    let server = project(CONFIG).start();
    server.put("src/which", "<missing>");
    server.log().wait_for(&["the build failed", "exit code"]);
    expect_page_soon(&server, &["The build failed", "compiling &lt;missing>", "/.daylily/dev.js?"]);
    // The workers that served accept clients for a moment longer.
    assert!(eventually(PATIENCE, || visit(&server, "/api/").status == 500));
    get(&server, "/api/").expect(200, HELLO);
    get(&server, "/").expect(200, PAGE);
    // The page stays when something else is reloaded.
    server.put("public/more.txt", "more");
    assert!(eventually(PATIENCE, || get(&server, "/more.txt").text() == "more"));
    assert!(visit(&server, "/").text().contains("The build failed"));
    server.put("src/which", "state");
    expect_soon(&server, STATE);
    expect_page_soon(&server, &["<h1>Page</h1>"]);
}

#[test]
fn what_cannot_be_served_is_shown() {
    let server = project(CONFIG).file("broken.wasm", b"\0asm").start();
    server.put("src/which", "broken");
    expect_page_soon(&server, &["cannot be served", "failed to load component"]);
    get(&server, "/api/").expect(200, HELLO);
    server.put("src/which", "state");
    expect_soon(&server, STATE);
    server.put("daylily.toml", CONFIG.replace("files", "flies"));
    expect_page_soon(&server, &["cannot be served", "unknown key `flies`"]);
    expect_soon(&server, STATE);
    server.put("daylily.toml", CONFIG);
    expect_page_soon(&server, &["<h1>Page</h1>"]);
}

#[test]
fn a_first_build_may_fail() {
    for (which, shown) in [("missing", "The build failed"), ("broken", "failed to load component")] {
        let server = project(CONFIG).file("src/which", which.as_bytes()).file("broken.wasm", b"\0asm").start();
        let page = visit(&server, "/");
        assert_eq!(page.status, 500);
        assert!(page.text().contains(shown), "{}", page.text());
        let other = get(&server, "/api/");
        assert_eq!((other.status, other.values("content-type")), (500, vec!["text/plain; charset=utf-8"]));
        assert!(other.text().contains(shown), "{}", other.text());
        server.put("src/which", "state");
        expect_soon(&server, STATE);
        expect_page_soon(&server, &["<h1>Page</h1>"]);
    }
}

/// A project of files alone.
#[test]
fn files_are_served_without_a_build() {
    let config = "[[route]]\nfiles = 'public'\n";
    let server = project(config).start();
    server.stdout().wait_for(&["watching public, and the configuration"]);
    let page = visit(&server, "/").text();
    assert!(page.starts_with(PAGE) && page.contains("/.daylily/dev.js?"), "{page}");
    let first = version(&server);
    server.put("public/index.html", "new");
    assert!(eventually(PATIENCE, || version(&server) != first), "pages do not reload");
    assert!(visit(&server, "/").text().starts_with("new"));
    server.put("daylily.toml", format!("{config}cache_control = 'max-age=9'\n"));
    server.log().wait_for(&["reloaded: generation 3"]);
}

#[test]
fn a_directory_that_a_build_makes_is_not_missing() {
    let config = "[build]\nwatch = ['src', 'later']\ncommand = 'cp -r src dist'\n[[route]]\nfiles = 'dist'\n";
    let server = project(config).file("src/index.html", PAGE.as_bytes()).start();
    get(&server, "/").expect(200, PAGE);
    let missing = server.log().matching(|line| line.contains("does not exist"));
    assert!(missing.len() == 1 && missing[0].contains("`later` does not exist"), "{missing:?}");
}

#[test]
fn a_file_that_is_written_with_the_same_content_starts_no_build() {
    let config = CONFIG.replace("cp ", "echo generated > src/made && cp ");
    let server = project(&config).file("src/made", b"generated\n").flags(&LOOKS).start();
    for (builds, which) in [(2, "state"), (3, "hello"), (4, "state")] {
        server.put("src/which", which);
        expect_soon(&server, if which == "state" { STATE } else { HELLO });
        expect_at_rest(&server, "building: ", builds);
    }
}

#[test]
fn a_file_that_comes_back_is_a_change() {
    let server = project(CONFIG).start();
    server.put("src/which", "state");
    expect_soon(&server, STATE);
    fs::remove_file(server.directory().join("src/which")).expect("a file");
    expect_page_soon(&server, &["The build failed"]);
    server.put("src/which", "state");
    expect_page_soon(&server, &["<h1>Page</h1>"]);
}

/// The first thing that goes wrong.
#[test]
fn a_wrong_command_is_corrected_in_the_configuration() {
    let wrong = CONFIG.replace("cp ", "cpp-missing ");
    for has_component in [false, true] {
        let setup = project(&wrong);
        let setup = if has_component { setup.file("app.wasm", &component("state")) } else { setup };
        let server = setup.start();
        // Also a component that is there already is not what was built.
        assert!(visit(&server, "/").text().contains("$ echo compiling"), "{}", visit(&server, "/").text());
        assert_eq!(get(&server, "/api/").status, 500);
        server.put("public/index.html", "new");
        server.log().wait_for(&["`public/index.html` has changed"]);
        server.put("daylily.toml", CONFIG);
        expect_soon(&server, HELLO);
        expect_page_soon(&server, &["new", "/.daylily/dev.js"]);
        server.put("daylily.toml", &wrong);
        expect_page_soon(&server, &["The build failed"]);
        // Without a build, none has failed.
        server.put(
            "daylily.toml",
            CONFIG.split_once("[[route]]").map(|(_, rest)| format!("[[route]]{rest}")).expect("a route"),
        );
        expect_page_soon(&server, &["new", "/.daylily/dev.js"]);
    }
}

/// What a build writes is loaded when it has ended, at once and whole, and not at all if it fails.
#[test]
fn nothing_is_loaded_during_a_build() {
    let config = "[build]\ncommand = '''rm -f app.wasm; echo half > public/half.txt; sleep 1\n\
        cp $(cat src/which).wasm app.wasm; sleep 1; test $(cat src/which) != trap'''\n\
        [[route]]\npath = '/api/*'\ncomponent = 'app.wasm'\n[[route]]\npath = '/*'\nfiles = 'public'\n";
    let server = project(config).file("trap.wasm", &component("trap")).flags(&LOOKS).start();
    server.put("src/which", "state");
    expect_soon(&server, STATE);
    expect_at_rest(&server, "reload", 1);
    server.put("src/which", "trap");
    expect_page_soon(&server, &["The build failed"]);
    expect_at_rest(&server, "reload", 1);
    get(&server, "/api/").expect(200, STATE);
    // Nor with what else is loaded then.
    let failed = version(&server);
    server.put("public/more.txt", "more");
    assert!(eventually(PATIENCE, || version(&server) != failed));
    get(&server, "/api/").expect(200, STATE);
    get(&server, "/more.txt").expect(200, "more");
}

#[test]
fn what_daylily_writes_starts_no_build() {
    let config =
        format!("log_to = 'daylily.log'\n{}", CONFIG.replace("watch", "").replace("[build]", "[build]\nwatch = ['.']"));
    let server = project(&config).flags(&["--cache-dir", "compiled"]).flags(&LOOKS).spawn();
    let log = || fs::read_to_string(server.directory().join("daylily.log")).unwrap_or_default();
    assert!(eventually(PATIENCE, || log().contains("built in")), "{}", log());
    let looks = || log().matches("files below .").count();
    let before = looks();
    assert!(eventually(PATIENCE, || looks() >= before + NOTICED_BY), "{}", log());
    assert_eq!(log().matches("building: ").count(), 1, "{}", log());
}

#[test]
fn development_may_have_a_command_of_its_own() {
    let config = "[build]\ncommand = 'cp state.wasm app.wasm'\ndev_command = 'cp hello.wasm app.wasm'\n\
        [[route]]\ncomponent = 'app.wasm'\n";
    let server = project(config).start();
    get(&server, "/").expect(200, HELLO);
    run_at(server.directory(), &["build"]).expect(0, &["building: cp state.wasm app.wasm"]);
    assert!(eventually(PATIENCE, || get(&server, "/").text() == STATE), "what was built by hand is not served");
}

#[test]
fn an_upgrade_is_refused() {
    let server = project(CONFIG).start();
    server.signal(Signal::USR2);
    server.log().wait_for(&["upgrade refused", "daylily dev"]);
    get(&server, "/api/").expect(200, HELLO);
}
