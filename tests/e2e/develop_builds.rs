//! The builds of `daylily dev`: when one begins and ends, and what waits for it.

use std::fs;

use rustix::process::Signal;

use crate::develop::{HELLO, PAGE, STATE, get, project, visit};
use crate::harness::{Daylily, PATIENCE, Process, eventually};

/// A build that takes until a file is there; each start adds its pid to a list.
const SLOW: &str = "[build]\ncommand = '''echo $$ >> pids\nwhile ! test -e go; do sleep 0.05; done\n\
    cp $(cat src/which).wasm app.wasm'''\n\n[[route]]\ncomponent = 'app.wasm'\n";

fn builds(server: &Daylily) -> Vec<Process> {
    let list = fs::read_to_string(server.directory().join("pids")).unwrap_or_default();
    list.lines().map(|pid| Process { pid: pid.parse().expect("a pid") }).collect()
}

#[test]
fn a_build_is_started_again_when_something_is_saved_meanwhile() {
    let server = project(SLOW).spawn();
    assert!(eventually(PATIENCE, || builds(&server).len() == 1));
    // The first one has no server beside it that could watch.
    server.put("go", "");
    server.log().wait_for(&["built in"]);
    fs::remove_file(server.directory().join("go")).expect("a file");
    server.put("src/which", "missing");
    assert!(eventually(PATIENCE, || builds(&server).len() == 2));
    server.put("src/which", "state");
    assert!(eventually(PATIENCE, || builds(&server).len() == 3));
    assert!(!builds(&server)[1].is_running(), "two builds at a time");
    server.put("go", "");
    assert!(eventually(PATIENCE, || server.log().matching(|line| line.contains("built in")).len() == 2));
}

#[test]
fn a_configuration_that_is_saved_with_a_source_is_loaded_with_the_build() {
    let server = project(SLOW).file("go", b"").start();
    let begin = |which: &str| {
        let begun = builds(&server).len();
        fs::remove_file(server.directory().join("go")).expect("a file");
        server.put("src/which", which);
        assert!(eventually(PATIENCE, || builds(&server).len() == begun + 1));
    };
    let postponed = || server.log().matching(|line| line.contains("it is loaded when the build has ended")).len();
    let reloads = || server.log().matching(|line| line.contains("reloaded: ")).len();
    let more = format!("{SLOW}\n[[route]]\nhost = 'more.localhost'\nfiles = 'public'\n");
    begin("state");
    server.put("daylily.toml", &more);
    assert!(eventually(PATIENCE, || postponed() == 1));
    assert_eq!(get(&server, "/").text(), HELLO);
    server.put("go", "");
    assert!(eventually(PATIENCE, || get(&server, "/").text() == STATE));
    assert!(eventually(PATIENCE, || server.get("more.localhost", "/").text() == PAGE));
    assert_eq!(reloads(), 1);
    // Also if the build fails.
    begin("missing");
    server.put("daylily.toml", SLOW);
    assert!(eventually(PATIENCE, || postponed() == 2));
    server.put("go", "");
    assert!(eventually(PATIENCE, || server.get("more.localhost", "/").text() == STATE));
    assert!(eventually(PATIENCE, || visit(&server, "/").text().contains("The build failed")));
    // Another command is not kept waiting by a build that may never end.
    begin("state");
    server.put("daylily.toml", SLOW.replace("test -e go", "test -e src"));
    server.log().wait_for(&["while ! test -e src"]);
    assert!(eventually(PATIENCE, || !visit(&server, "/").text().contains("The build failed")));
}

#[test]
fn a_build_ends_with_the_server() {
    type End = fn(&Daylily);
    let ends: [End; 3] = [
        |server| server.signal(Signal::TERM),
        |server| server.signal(Signal::INT),
        |server| server.supervisor().kill(),
    ];
    for end in ends {
        let server = project(SLOW).spawn();
        assert!(eventually(PATIENCE, || builds(&server).len() == 1));
        let build = builds(&server)[0];
        assert!(build.is_running());
        end(&server);
        assert!(eventually(PATIENCE, || !build.is_running()), "the build goes on");
        assert!(eventually(PATIENCE, || server.try_wait().is_some()), "the server goes on");
    }
}

/// What ignores SIGTERM, and outlives the command.
#[test]
fn nothing_of_a_build_is_left() {
    let config = "[build]\ncommand = '''sh -c 'trap \"\" TERM; echo $$ > inner; while :; do sleep 1; done' &\n\
        until test -s inner; do sleep 0.01; done; cp inner pids; cp hello.wasm app.wasm'''\n\
        [[route]]\ncomponent = 'app.wasm'\n";
    let server = project(config).start();
    get(&server, "/").expect(200, HELLO);
    let left = builds(&server);
    assert_eq!(left.len(), 1);
    assert!(eventually(PATIENCE, || !left[0].is_running()), "a process is left");
}

/// The time of a log line, `2026-11-27T17:32:14.184306Z`, in seconds since the start of its hour.
fn seconds(line: &str) -> f64 {
    let (minutes, seconds) = line[14..26].split_once(':').expect("a time");
    minutes.parse::<f64>().expect("minutes") * 60.0 + seconds.parse::<f64>().expect("seconds")
}

#[test]
fn builds_that_write_their_sources_wait_longer_and_longer() {
    // At its start and at its end, with a new content each time.
    for command in
        ["date +%N > src/made; sleep 0.5; cp hello.wasm app.wasm", "cp hello.wasm app.wasm; date +%N > src/made"]
    {
        let server = project(&format!("[build]\ncommand = '{command}'\n[[route]]\ncomponent = 'app.wasm'\n")).start();
        server.put("src/which", "edited");
        server.log().wait_for(&["20 builds in a row were followed by a change", "does the build write it?"]);
        let builds = || server.log().matching(|line| line.contains("building: ") || line.contains("builds in a row"));
        let begun = builds().len();
        // An edit is built all the same.
        server.put("src/which", "edited again");
        assert!(eventually(PATIENCE, || builds().len() >= begun + 2));
        let builds = builds();
        let warned = builds.iter().position(|line| line.contains("in a row")).expect("the warning");
        let times: Vec<f64> = builds[warned..].iter().map(|line| seconds(line)).collect();
        for (waited, least) in times.windows(2).zip([1.0, 2.0]) {
            assert!(waited[1] - waited[0] >= least, "less than {least} s between builds: {builds:#?}");
        }
    }
}
