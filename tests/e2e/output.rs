//! The output of guests is logged line by line, and can neither flood nor forge the log.

use crate::harness::{Daylily, PATIENCE, Setup, Shared, eventually};

static SERVER: Shared = Shared::new(|| {
    Setup::new()
        .route("lines.test", "output", "")
        .route("partial.test", "output", "")
        .route("flood.test", "output", "max_output = '10KiB'")
        // 128 lines of 79 characters, each of which costs 128 bytes in addition to its text.
        .route("at.test", "output", "max_output = 26_496")
        .route("short.test", "output", "")
        .route("ample.test", "output", "max_output = '1GiB'")
        // Ten times as much output takes CPU time, too.
        .route("default.test", "output", "cpu_time = '10s'")
        .route("bytes.test", "output", "")
        .route("many.test", "output", "")
        .route("trap.test", "trap", "")
});

/// Waits for `count` lines of the guest of a route. Returns them as level and message.
fn guest_lines(server: &Daylily, route: &str, count: usize) -> Vec<String> {
    let of_route = |line: &str| line.contains(" guest: ") && line.contains(route);
    let came = eventually(PATIENCE, || server.log().matching(of_route).len() >= count);
    let lines = server.log().matching(of_route);
    assert!(came, "want {count} lines, got {lines:?}");
    lines
}

fn request_of(line: &str) -> String {
    let id = line.split("request=").nth(1).and_then(|rest| rest.split([' ', '"']).find(|part| !part.is_empty()));
    let id = id.unwrap_or_else(|| panic!("no request id in {line:?}"));
    assert!(crate::harness::is_request_id(id), "{line:?}");
    id.to_owned()
}

fn message(line: &str) -> &str {
    let rest = line.split_once(" guest: ").map(|(_, rest)| rest).expect("a guest's line");
    // The fields come after the message, in any order.
    let ends = [" route=", " request=", " stream="].iter().filter_map(|field| rest.find(field));
    &rest[..ends.min().expect("fields")]
}

#[test]
fn each_line_has_its_route_and_request() {
    let server = SERVER.get();
    server.get("lines.test", "/lines").expect(200, "ok\n");
    server.get("lines.test", "/lines").expect(200, "ok\n");
    let lines = guest_lines(&server, "lines.test", 6);
    assert_eq!(lines.len(), 6, "{lines:?}");
    let mut requests: Vec<String> = lines.iter().map(|line| request_of(line)).collect();
    requests.sort();
    requests.dedup();
    assert_eq!(requests.len(), 2, "two requests, two ids: {lines:?}");
    for request in requests {
        let of_request = lines.iter().filter(|line| line.contains(&request));
        let mut told: Vec<(&str, bool, bool)> = of_request
            .map(|line| {
                (
                    message(line),
                    line.contains("INFO") && line.contains("stdout"),
                    line.contains("WARN") && line.contains("stderr"),
                )
            })
            .collect();
        told.sort();
        assert_eq!(told, [("err", false, true), ("one", true, false), ("two", true, false)]);
    }
}

#[test]
fn half_a_line_comes_out_when_the_instance_ends() {
    let server = SERVER.get();
    server.get("partial.test", "/partial").expect(200, "ok\n");
    let lines = guest_lines(&server, "partial.test", 1);
    assert_eq!(lines.iter().map(|line| message(line)).collect::<Vec<_>>(), ["no newline"]);
}

#[test]
fn a_flood_is_cut_at_the_limit_and_says_so() {
    let server = SERVER.get();
    // A line of 79 characters costs 207 bytes.
    for (host, kib, most) in [("flood.test", 1000, 10 * 1024 / 207 + 1), ("default.test", 10_000, 64 * 1024 / 207 + 1)]
    {
        server.get(host, &format!("/flood?kib={kib}")).expect(200, "ok\n");
        let notice = "max_output";
        server.log().wait_for(&[host, notice]);
        let printed = server.log().matching(|line| line.contains(host) && line.contains("xxxxxxxx"));
        assert!(printed.len() <= most && printed.len() >= most - 2, "{} lines of {most}", printed.len());
        let notices = server.log().matching(|line| line.contains(host) && line.contains(notice));
        assert_eq!(notices.len(), 1, "{notices:?}");
        request_of(&notices[0]);
    }
}

#[test]
fn output_at_the_limit_is_whole() {
    let server = SERVER.get();
    server.get("at.test", "/flood?kib=10").expect(200, "ok\n");
    let lines = guest_lines(&server, "at.test", 128);
    assert_eq!(lines.len(), 128, "{:?}", lines.last());
}

/// The limit counts what a line costs in the log, not only its text: 32,768 lines would take 4 MiB there.
#[test]
fn short_lines_cost_what_they_take_in_the_log() {
    let server = SERVER.get();
    server.get("short.test", "/short-lines?count=32768").expect(200, "ok\n");
    server.log().wait_for(&["short.test", "max_output"]);
    let lines = server.log().matching(|line| line.contains("short.test") && line.contains(" guest: x"));
    assert_eq!(lines.len(), 64 * 1024 / 129, "{:?}", lines.last());
}

/// If the limit is large, all lines of one call are logged, in several steps.
#[test]
fn lines_of_one_call_come_out_to_the_last() {
    let server = SERVER.get();
    server.get("ample.test", "/short-lines?count=2000").expect(200, "ok\n");
    let lines = guest_lines(&server, "ample.test", 2000);
    assert_eq!(lines.len(), 2000);
}

/// The limit applies to each request separately.
#[test]
fn one_requests_flood_takes_nothing_from_the_next() {
    let server = SERVER.get();
    server.get("many.test", "/flood?kib=1000").expect(200, "ok\n");
    server.log().wait_for(&["many.test", "max_output"]);
    server.get("many.test", "/lines").expect(200, "ok\n");
    server.log().wait_for(&["many.test", " guest: ", "two"]);
}

#[test]
fn control_characters_cannot_reach_the_terminal() {
    let server = SERVER.get();
    server.get("bytes.test", "/utf8").expect(200, "ok\n");
    let lines = guest_lines(&server, "bytes.test", 1);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let control = lines[0].chars().find(|char| char.is_control());
    assert_eq!(control, None, "{:?}", lines[0]);
    for part in ["bad ", ", red ", "[31m, bell ", ", return ", ", nul "] {
        assert!(lines[0].contains(part), "no {part:?} in {:?}", lines[0]);
    }
}

/// The output of a guest that then traps is not lost.
#[test]
fn a_panic_is_told() {
    let server = Setup::new().route("a.test", "memory", "max_memory = '4MiB'").start();
    server.get("a.test", "/forever").expect_refusal(500, "guest trapped");
    server.log().wait_for(&[" guest: ", "a.test", "memory allocation"]);
}
