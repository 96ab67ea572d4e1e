//! Where the access log goes: files that are moved, streams that nobody reads, disks that are full.

use std::fs;

use rustix::process::Signal;

use crate::access_log::{logging, path};
use crate::harness::{Load, PATIENCE, Request, Setup, each, eventually, run_in};

#[test]
fn moving_the_file_away_loses_no_line() {
    let server = logging("fields = ['id']").start();
    let load = Load::start(server.address(), 2, &Request::get("hello.test", "/"));
    let moved = |number: u32| server.directory().join(format!("access.log.{number}"));
    for number in 0..5 {
        load.expect_more(50);
        assert!(eventually(PATIENCE, || path(&server).exists()), "there is no log");
        fs::rename(path(&server), moved(number)).expect("a new name");
        let reopened = server.command(&["reopen"]);
        assert_eq!(reopened.expect(0, &[]).stdout, "reopened\n");
        assert!(eventually(PATIENCE, || path(&server).exists()), "it is opened anew");
    }
    let outcome = load.end();
    outcome.expect_no_failure();
    let directory = server.directory().to_owned();
    let files = (0..5).map(moved).chain([path(&server)]).collect::<Vec<_>>();
    assert!(eventually(PATIENCE, || server.status().total("requests_in_progress") == 0));
    let begun = server.status().total("requests") as usize;
    let ids = || -> Vec<String> {
        let texts = files.iter().map(|file| fs::read_to_string(file).unwrap_or_default());
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    assert!(
        eventually(PATIENCE, || ids().len() >= begun),
        "{} of {begun} lines in {}",
        ids().len(),
        directory.display()
    );
    let mut all = ids();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), ids().len()), (begun, begun), "none twice");
}

#[test]
fn text_is_the_combined_format() {
    let server = Setup::new()
        .top("access_log = { format = 'text', to = 'access.log', headers = ['user-agent', 'referer'] }\n")
        .route("hello.test", "hello", "")
        .start();
    server.exchange(&Request::get("hello.test", "/a%20\"b").header("user-agent", "agent")).expect(200, "Hello World\n");
    let there = eventually(PATIENCE, || fs::read_to_string(path(&server)).is_ok_and(|text| text.ends_with('\n')));
    let text = fs::read_to_string(path(&server)).unwrap_or_default();
    assert!(there, "{text}");
    assert!(text.starts_with("127.0.0.1 - - ["), "{text}");
    assert!(text.contains("] \"GET /a%20\\x22b HTTP/1.1\" 200 12 \"-\" \"agent\" "), "{text}");
    assert!(text.contains("us ok \"hello.test\" "), "{text}");
}

#[test]
fn standard_output_and_error() {
    each(&["stdout", "stderr"], |to| {
        let server = Setup::new()
            .top(&format!("access_log = {{ format = 'json', to = '{to}' }}\n"))
            .route("hello.test", "hello", "")
            .start();
        server.get("hello.test", "/somewhere").expect(200, "Hello World\n");
        if *to == "stderr" {
            server.log().wait_for(&["\"path\":\"/somewhere\""]);
        } else {
            server.command(&["stop"]).expect(0, &[]);
            let output = server.stop();
            assert!(output.contains("\"path\":\"/somewhere\""), "{output}");
        }
    });
}

/// A disk that is full: every request is served, and what has no line is counted.
#[test]
fn a_full_disk_stands_in_nobodys_way() {
    let server = Setup::new()
        .top("access_log = { format = 'json', to = '/dev/full' }\n")
        .route("hello.test", "hello", "")
        .start();
    for _ in 0..100 {
        server.get("hello.test", "/").expect(200, "Hello World\n");
    }
    let line = server.log().wait_for(&["access log: failed to write to /dev/full"]);
    assert!(line.contains("No space left on device"), "{line}");
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

#[test]
fn an_access_log_that_cannot_be_opened_is_an_error_at_start() {
    let config = |table: &str| {
        format!("[access_log]\n{table}\n[[route]]\ncomponent = '{}'\n", crate::harness::guest("hello").display())
    };
    let cases: [(&str, &[&str]); 9] = [
        ("format = 'json'\nto = 'no/such/dir/log'", &["access log", "no/such/dir/log", "No such file"]),
        ("format = 'json'\nto = '.'", &["access log", "directory"]),
        ("format = 'xml'", &["invalid access log format", "off, text or json"]),
        ("fields = ['paht']", &["unknown field \"paht\"", "path"]),
        ("headers = ['Cookie']", &["`cookie` are secrets"]),
        ("headers = ['Host']", &["`host` is the name of a field"]),
        ("sample = 2", &["from 0.000001 to 1"]),
        ("always = ['slow']", &["invalid condition \"slow\"", "slower than 500ms"]),
        ("sampel = 1", &["unknown key `sampel` in [access_log]", "sample"]),
    ];
    each(&cases, |(table, parts)| {
        run_in(&[("daylily.toml", config(table).as_bytes())], &[], &["check"]).expect(78, parts);
    });
    let finished = run_in(&[("daylily.toml", config("format = 'json'\nto = 'new.log'").as_bytes())], &[], &["check"]);
    finished.expect(0, &[]);
}

#[test]
fn a_stop_signal_to_all_processes_writes_the_log_first() {
    let server = logging("fields = ['path']").start();
    server.get("hello.test", "/last").expect(200, "Hello World\n");
    let log = path(&server);
    // As a terminal's Ctrl-C does.
    server.supervisor().children().into_iter().for_each(|child| child.signal(Signal::INT));
    server.supervisor().signal(Signal::INT);
    assert!(eventually(PATIENCE, || server.processes().is_empty()), "{:?}", server.processes());
    assert!(fs::read_to_string(log).expect("the log").contains("/last"));
}

/// Standard error is a pipe that nobody reads. Every request is served all the same, and a stop ends.
#[test]
fn a_pipe_that_nobody_reads_stands_in_nobodys_way() {
    let server = Setup::new()
        .top("access_log = { format = 'json', to = 'stderr' }\nlog = 'off'\n")
        .route("hello.test", "hello", "")
        .through("mkfifo full && exec 2<>full && exec \"$@\"")
        .start();
    let mut connection = server.connect();
    // A pipe has room for 64 KiB, and a line has over 250 bytes.
    for _ in 0..1_000 {
        connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    }
    server.reload();
    server.get("hello.test", "/").expect(200, "Hello World\n");
    server.command(&["stop"]).expect(0, &[]);
    assert!(eventually(PATIENCE, || server.processes().is_empty()), "{:?} run on", server.processes());
}
