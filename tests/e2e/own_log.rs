//! daylily's own log: lines in JSON, the file that it is written to, and the way of workers' lines to it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    Daylily, Load, PATIENCE, Process, Request, Setup, binary, each, eventually, is_request_id, run_in,
};

fn setup(top: &str) -> Setup {
    Setup::new()
        .top(top)
        .route("output.test", "output", "max_output = '1GiB'\ncpu_time = '60s'\nwall_time = '100s'")
        .route("logging.test", "logging", "")
        .route("trap.test", "trap", "")
}

const TO_FILE: &str = "log_format = 'json'\nlog_to = 'daylily.log'";

fn path(server: &Daylily) -> PathBuf {
    server.directory().join("daylily.log")
}

/// The objects in a text, each of which is one line.
#[track_caller]
fn parse(text: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    let objects: Vec<Value> = text.lines().map(parse).collect();
    for object in &objects {
        for name in ["time", "level", "target", "message"] {
            assert!(object[name].is_string(), "no {name}: {object}");
        }
    }
    objects
}

/// The lines of a file so far: a line that is being written now is left out.
fn read(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.get(..text.rfind('\n').map_or(0, |end| end + 1)).unwrap_or_default().to_owned()
}

/// How often each line of a guest is there, by its request and its text.
fn of_guests(texts: &[String]) -> BTreeMap<(String, String), usize> {
    let mut lines = BTreeMap::new();
    for object in texts.iter().flat_map(|text| parse(text)).filter(|object| object["target"] == "guest") {
        let text = |name: &str| object[name].as_str().unwrap_or_else(|| panic!("no {name}: {object}")).to_owned();
        assert!(is_request_id(&text("request")), "{object}");
        *lines.entry((text("request"), text("message"))).or_default() += 1;
    }
    lines
}

/// Waits until the texts have the three lines of each request that the server has begun. Fails if a line is there twice.
#[track_caller]
fn expect_all_once(server: &Daylily, texts: impl Fn() -> Vec<String>) {
    assert!(eventually(PATIENCE, || server.status().total("requests_in_progress") == 0));
    let requests = server.status().total("requests") as usize;
    let mut lines = BTreeMap::new();
    let there = eventually(PATIENCE, || {
        lines = of_guests(&texts());
        lines.len() >= 3 * requests
    });
    assert!(there && lines.len() == 3 * requests, "{} lines of {requests} requests", lines.len());
    let twice: Vec<_> = lines.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn every_event_is_one_object_in_one_line() {
    let server = setup("log = 'debug'\nlog_format = 'json'").workers(2).start();
    let load = Load::start(server.address(), 3, &Request::get("output.test", "/lines"));
    load.expect_more(100);
    for target in ["/levels", "/control", "/long"] {
        server.get("logging.test", target).expect(200, "ok\n");
    }
    server.get("output.test", "/utf8").expect(200, "ok\n");
    server.get("trap.test", "/before").expect_refusal(500, "guest trapped");
    server.reload();
    server.configure(|config| config + "[[route]]\ncomponent = 'no\\nsuch.wasm'\nhost = 'other.test'\n");
    server.command(&["reload"]).expect(66, &[]);
    load.expect_more(100);
    let answered = load.end().answered as usize;
    server.command(&["stop"]).expect(0, &[]);
    let text = server.log().to_end();
    let objects = parse(&text);
    let find = |parts: &[(&str, &str)]| -> Vec<&Value> {
        objects.iter().filter(|object| parts.iter().all(|(name, value)| object[*name] == *value)).collect()
    };
    let of_guest = [("target", "guest"), ("route", "output.test"), ("stream", "stdout")];
    let one = find(&[of_guest.as_slice(), &[("message", "one"), ("level", "info")]].concat());
    assert!(one.len() >= answered, "{} of {answered}", one.len());
    assert!(one.iter().all(|object| object["request"].as_str().is_some_and(is_request_id)), "{:?}", one[0]);
    let replaced = "bad \u{fffd}\u{fffd}, red \\u{1b}[31m, bell \\u{7}, return \\r, nul \\u{0}.";
    assert_eq!(find(&[of_guest.as_slice(), &[("message", replaced)]].concat()).len(), 1);
    let logged = [("target", "guest"), ("level", "error"), ("context", "shop"), ("message", "at Level::Critical")];
    assert_eq!(find(&logged).len(), 1, "{:?}", find(&[("context", "shop")]));
    let forged = find(&[("context", "a\u{1b}\" request=forged")]);
    assert!(forged.len() == 1 && forged[0]["request"].as_str().is_some_and(is_request_id), "{forged:?}");
    let failed = find(&[("target", "daylily::request"), ("level", "warn"), ("method", "GET"), ("path", "/before")]);
    assert!(
        failed.iter().any(|object| object["message"].as_str().is_some_and(|text| text.starts_with("guest failed")))
    );
    let refused = |object: &Value| object["message"].as_str().is_some_and(|text| text.starts_with("reload failed"));
    assert!(objects.iter().any(|object| object["target"] == "daylily::supervisor" && refused(object)), "{text}");
}

#[test]
fn flags_variables_and_reloads_change_the_log() {
    let json = |server: &Daylily| {
        server.get("output.test", "/lines").expect(200, "ok\n");
        parse(&server.log().wait_for(&["\"message\":\"one\""]));
    };
    json(&setup("").flags(&["--log-format", "json"]).start());
    json(&setup("").env("DAYLILY_LOG_FORMAT", "json").start());
    let server = setup("").flags(&["--log-to", "daylily.log"]).start();
    server.get("output.test", "/lines").expect(200, "ok\n");
    assert!(eventually(PATIENCE, || read(&path(&server)).contains(" INFO guest: one route=output.test")));
    let server = setup("log_format = 'text'\nlog_to = 'stderr'").start();
    server.get("output.test", "/lines").expect(200, "ok\n");
    server.log().wait_for(&["INFO guest: one"]);
    server.configure(|config| config.replace("'text'", "'json'").replace("'stderr'", "'daylily.log'"));
    server.reload();
    server.get("output.test", "/lines").expect(200, "ok\n");
    let has = |text: &str| parse(&read(&path(&server))).iter().any(|object| object["message"] == text);
    assert!(eventually(PATIENCE, || has("one") && read(&path(&server)).contains("reloaded: ")));
    assert_eq!(server.log().matching(|line| line.contains(" guest: one")).len(), 1);
}

#[test]
fn moving_the_file_away_loses_no_line() {
    let server = setup(TO_FILE).workers(2).start();
    let load = Load::start(server.address(), 2, &Request::get("output.test", "/lines"));
    let moved = |number: u32| server.directory().join(format!("daylily.log.{number}"));
    for number in 0..5 {
        load.expect_more(30);
        assert!(eventually(PATIENCE, || path(&server).exists()), "there is no log");
        fs::rename(path(&server), moved(number)).expect("a new name");
        server.command(&["reopen"]).expect(0, &[]);
        assert!(eventually(PATIENCE, || path(&server).exists()), "it is reopened");
        if number % 2 == 0 {
            server.reload();
        }
    }
    load.end().expect_no_failure();
    let files: Vec<_> = (0..5).map(moved).chain([path(&server)]).collect();
    expect_all_once(&server, || files.iter().map(|file| read(file)).collect());
    let mode = fs::metadata(path(&server)).expect("the log").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let reloads = files.iter().map(|file| read(file).matches("\"reloaded: ").count()).sum::<usize>();
    assert_eq!(reloads, 3);
    assert_eq!(server.log().lines(), Vec::<String>::new());
}

/// Debian's logrotate, with the configuration of docs/operations.md, rotates both logs while they are written.
#[test]
fn logrotate_loses_no_line() {
    if Command::new("logrotate").arg("--version").output().is_err() {
        eprintln!("not tried: logrotate is not installed");
        return;
    }
    let top = format!("access_log = {{ format = 'json', to = 'access.log', fields = ['id'] }}\n{TO_FILE}");
    let server = setup(&top).workers(2).start();
    let directory = server.directory().canonicalize().expect("a directory");
    let rotation = format!(
        "{0}/daylily.log {0}/access.log {{\n rotate 100\n missingok\n sharedscripts\n postrotate\n \
         {1} reopen --control {0}/control.sock\n endscript\n}}\n",
        directory.display(),
        binary()
    );
    server.put("logrotate.conf", rotation);
    let load = Load::start(server.address(), 2, &Request::get("output.test", "/lines"));
    for number in 1..=4 {
        load.expect_more(30);
        let are_there = || ["daylily.log", "access.log"].iter().all(|log| directory.join(log).exists());
        assert!(eventually(PATIENCE, are_there), "a log is not reopened");
        let rotated = Command::new("logrotate")
            .args(["--force", "--state", "logrotate.state", "logrotate.conf"])
            .current_dir(&directory)
            .output()
            .expect("logrotate");
        assert!(rotated.status.success(), "{rotated:?}");
        for log in ["daylily.log", "access.log"] {
            assert!(directory.join(format!("{log}.{number}")).exists(), "{log} was not rotated: {rotated:?}");
        }
    }
    load.end().expect_no_failure();
    let texts = |log: &str| -> Vec<String> {
        let files = (1..=4).map(|number| directory.join(format!("{log}.{number}"))).chain([directory.join(log)]);
        files.map(|file| read(&file)).collect()
    };
    expect_all_once(&server, || texts("daylily.log"));
    let requests = server.status().total("requests") as usize;
    let mut ids = Vec::new();
    let there = eventually(PATIENCE, || {
        ids = texts("access.log").concat().lines().map(str::to_owned).collect();
        ids.len() >= requests
    });
    let lines = ids.len();
    ids.sort();
    ids.dedup();
    assert!(there && (lines, ids.len()) == (requests, requests), "{lines} lines of {requests} requests");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_at_start() {
    let config = |top: &str| format!("{top}\n[[route]]\ncomponent = '{}'\n", crate::harness::guest("hello").display());
    let cases: [(&str, &[&str]); 6] = [
        ("log_to = 'no/such/dir/log'", &["failed to open the log", "no/such/dir/log", "No such file", "log_to"]),
        ("log_to = '.'", &["failed to open the log", "it is a directory"]),
        ("log_to = 'stdout'", &["cannot be written to standard output", "daylily.toml:1:10", "./stdout"]),
        ("log_to = ''", &["invalid path of the log"]),
        ("log_format = 'xml'", &["invalid log format \"xml\"", "text or json"]),
        (
            "log_to = 'no/log'\naccess_log = { format = 'json', to = 'no/access.log' }",
            &["failed to open the log", "failed to open the access log"],
        ),
    ];
    each(&cases, |(top, parts)| {
        for command in ["check", "serve"] {
            let config = config(top);
            let arguments = [command, "--config", "daylily.toml"];
            run_in(&[("daylily.toml", config.as_bytes())], &[], &arguments).expect(78, parts);
        }
    });
    run_in(&[], &[], &["check", "--log-to", "no/log"]).expect(78, &["failed to open the log `no/log`", "--log-to"]);
    run_in(&[], &[("DAYLILY_LOG_TO", "no/log")], &["check"]).expect(78, &["failed to open the log `no/log`"]);
    run_in(&[], &[], &["check", "--log-to", "stdout"]).expect(2, &["cannot be written to standard output"]);
    run_in(&[], &[], &["check", "--log-to", "new.log"]).expect(0, &[]);
    let server = setup(TO_FILE).start();
    crate::harness::make_pipe(&server.directory().join("pipe"));
    for wrong in ["no/log", "pipe"] {
        server.configure(|_| config(&format!("log_to = '{wrong}'")));
        server.command(&["reload"]).expect(78, &["failed to open the log", wrong]);
    }
    server.get("output.test", "/lines").expect(200, "ok\n");
    assert!(eventually(PATIENCE, || read(&path(&server)).contains("reload failed")));
}

/// A disk that is full: every request is served, standard error says so, and the end comes in time.
#[test]
fn a_full_disk_delays_no_request() {
    let server = setup("log_to = '/dev/full'").start();
    for _ in 0..100 {
        server.get("output.test", "/lines").expect(200, "ok\n");
    }
    server.log().wait_for(&["failed to write the log to /dev/full: No space left on device"]);
    server.reload();
    server.get("output.test", "/lines").expect(200, "ok\n");
    server.command(&["stop"]).expect(0, &[]);
    assert_eq!(server.wait_exit(), 0);
    server.expect_no_process(PATIENCE);
    server.log().wait_for(&["log lines lost at the end of process", "they could not be written in time"]);
}

/// What does not fit into memory while the disk is full is counted, and a line says how much that was.
#[test]
fn lines_that_were_dropped_are_counted() {
    const LINES: u64 = 3_000 * 1024 / 80;
    let server =
        setup("log_format = 'json'\nlog_to = 'full.log'").through("ln -s /dev/full full.log; exec \"$@\"").start();
    server.get("output.test", "/flood?kib=3000").expect(200, "ok\n");
    let log = server.directory().join("full.log");
    fs::remove_file(&log).expect("a link");
    server.command(&["reopen"]).expect(0, &[]);
    let dropped = || {
        let objects = parse(&read(&log));
        let of_log = objects.iter().find(|object| object["target"] == "daylily::log")?;
        let rest = of_log["message"].as_str()?.strip_prefix("log lines dropped: ")?;
        rest.split(';').next()?.parse::<u64>().ok()
    };
    let written = || parse(&read(&log)).iter().filter(|object| object["target"] == "guest").count() as u64;
    let all = || dropped().is_some_and(|dropped| dropped + written() == LINES);
    assert!(eventually(PATIENCE, all), "{:?} dropped, {} written", dropped(), written());
    assert!(dropped().is_some_and(|dropped| dropped > LINES / 10), "{:?}", dropped());
}

/// Standard error is a pipe that no process reads. Every request is served all the same, and a stop ends.
#[test]
fn a_pipe_that_is_not_read_delays_no_request() {
    let server = setup("log = 'debug'").through("mkfifo full && exec 2<>full && exec \"$@\"").start();
    let mut connection = server.connect();
    // A pipe has room for 64 KiB, and a socket between two processes for 208 KiB.
    for _ in 0..1_000 {
        connection.exchange(&Request::get("output.test", "/lines")).expect(200, "ok\n");
    }
    server.reload();
    server.get("output.test", "/lines").expect(200, "ok\n");
    server.command(&["stop"]).expect(0, &[]);
    server.expect_no_process(PATIENCE);
}

/// Lines wait for the observer, also those of a worker that has ended, and another observer finds them.
#[test]
fn lines_wait_for_the_next_observer() {
    let server = setup("log_format = 'json'").workers(2).start();
    let observer = server.observer();
    observer.signal(Signal::STOP);
    let workers = server.workers();
    server.get("output.test", "/lines").expect(200, "ok\n");
    server.reload();
    // The old workers have ended, and written their last lines to the observer.
    assert!(eventually(PATIENCE, || workers.iter().all(|worker| !worker.is_running())), "they stay");
    server.get("output.test", "/lines").expect(200, "ok\n");
    assert_eq!(server.log().matching(|line| line.contains("\"target\":\"guest\"")), Vec::<String>::new());
    observer.kill();
    server.log().wait_for(&["the observer ended"]);
    expect_all_once(&server, || server.log().lines().iter().map(|line| format!("{line}\n")).collect());
}

/// An observer that is killed loses no line. It may have written some that it had not taken, so they are there twice.
#[test]
fn a_killed_observer_loses_no_line() {
    let server = setup("log_format = 'json'").workers(2).repeats_lines("the observer is killed").start();
    let load = Load::start(server.address(), 2, &Request::get("output.test", "/lines"));
    for _ in 0..3 {
        load.expect_more(30);
        let observer = server.observer();
        observer.kill();
        let is_another = |process: &Process| process.is_called("daylily-observer") && *process != observer;
        assert!(eventually(PATIENCE, || server.supervisor().children().iter().any(is_another)), "there is none");
    }
    load.end().expect_no_failure();
    let requests = server.status().total("requests") as usize;
    server.command(&["stop"]).expect(0, &[]);
    assert_eq!(of_guests(&[server.log().to_end()]).len(), 3 * requests);
}

/// What a process writes directly, such as the message of a crash, goes to the operator's standard error.
#[test]
fn all_processes_keep_standard_error() {
    let server = setup(TO_FILE).start();
    let stderr = |process: Process| fs::read_link(format!("/proc/{}/fd/2", process.pid)).expect("a descriptor");
    let expected = stderr(server.supervisor());
    assert_eq!((stderr(server.process()), stderr(server.observer())), (expected.clone(), expected));
}

/// Without a supervisor and an observer, workers write their last lines themselves.
#[test]
fn lines_outlive_the_supervisor() {
    let server = setup(TO_FILE).route("wall.test", "stream", "wall_time = '2s'").start();
    let mut slow = server.connect();
    slow.send(&Request::get("wall.test", "/silent?ms=60000").bytes());
    assert!(eventually(PATIENCE, || server.status().total("requests_in_progress") == 1));
    // Stopped first, so that it starts no other observer.
    server.supervisor().signal(Signal::STOP);
    server.observer().kill();
    server.supervisor().kill();
    server.expect_no_process(PATIENCE);
    let objects = parse(&read(&path(&server)));
    let is_failure = |object: &Value| object["target"] == "daylily::request" && object["route"] == "wall.test";
    assert_eq!(objects.iter().filter(|object| is_failure(object)).count(), 1, "{objects:?}");
}
