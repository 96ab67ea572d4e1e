//! Whatever bytes a client sends or a guest writes, each event is one line of its log, in both forms.

use std::fs;

use serde_json::Value;

use crate::access_log::path;
use crate::harness::{Daylily, PATIENCE, Setup, each, eventually};

/// What a head has before and after each byte that is tried.
const PLACES: [(&str, &str); 5] = [
    ("GET /a", "b HTTP/1.1\r\nhost: hello.test\r\n\r\n"),
    ("GET /a?b", "c HTTP/1.1\r\nhost: hello.test\r\n\r\n"),
    ("GET / HTTP/1.1\r\nhost: hello", ".test\r\n\r\n"),
    ("GET / HTTP/1.1\r\nhost: hello.test\r\nuser-agent: a", "b\r\n\r\n"),
    ("G", "T / HTTP/1.1\r\nhost: hello.test\r\n\r\n"),
];

fn setup(form: &str) -> Setup {
    let fields = "['time', 'x_request_id', 'method', 'host', 'path', 'query', 'route', 'outcome']";
    let access_log = format!("format = '{form}', to = 'access.log', headers = ['user-agent'], fields = {fields}");
    Setup::new()
        .top(&format!("log = 'debug'\nlog_format = '{form}'\naccess_log = {{ {access_log} }}"))
        .route("hello.test", "hello", "")
        .route("output.test", "output", "max_output = '1MiB'")
        .route("trap.test", "trap", "")
}

/// Sends each byte in each place. Returns the number of requests.
fn send(server: &Daylily) -> usize {
    for (before, after) in PLACES {
        for byte in 0..=u8::MAX {
            let mut connection = server.connect();
            connection.send(&[before.as_bytes(), &[byte], after.as_bytes()].concat());
            let response = connection.try_response("GET", PATIENCE);
            assert!(response.is_ok(), "no response to {before:?} {byte:#x}");
        }
    }
    server.get("output.test", "/bytes").expect(200, "ok\n");
    server.get("trap.test", "/error-bytes").expect_refusal(502, "guest returned an error code");
    PLACES.len() * 256 + 2
}

#[test]
fn no_byte_forges_a_line() {
    each(&["json", "text"], |form| {
        let server = setup(form).start();
        let requests = send(&server);
        let lines = || fs::read_to_string(path(&server)).unwrap_or_default();
        assert!(eventually(PATIENCE, || lines().lines().count() >= requests), "{} lines", lines().lines().count());
        assert_eq!(lines().split_terminator('\n').count(), requests);
        server.log().wait_for(&["guest returned an error code"]);
        server.command(&["stop"]).expect(0, &[]);
        let log = server.log().to_end();
        let (mut of_guest, mut failures) = (0, 0);
        for line in lines().split_terminator('\n').chain(log.split_terminator('\n')) {
            // daylily's own log has the tabs of guests.
            assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
            if *form == "json" {
                let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
                assert!(object["time"].is_string(), "{line}");
            }
            of_guest += usize::from(line.contains("\"stream\":\"std") || line.contains(" stream=\"std"));
            failures += usize::from(line.contains("guest failed: "));
        }
        // The line feed makes three lines of one, on each of the two streams.
        assert_eq!((of_guest, failures), (2 * (255 + 3), 1), "{log}");
        if *form == "text" {
            let is_dated = |line: &str| line.starts_with("20") && line.as_bytes().get(10) == Some(&b'T');
            assert!(log.split_terminator('\n').all(is_dated), "{log}");
        }
    });
}
