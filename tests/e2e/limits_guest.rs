//! The limits of a guest: memory, tables, instances, CPU time, wall time.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{
    Connection, Daylily, Ending, Request, Setup, Shared, built, each, entire, guest, run_in, with_module,
};

static SERVER: Shared = Shared::new(|| {
    Setup::new()
        .route("hello.test", "hello", "")
        .route("default.test", "memory", "cpu_time = '20s'")
        .route("small.test", "memory", "max_memory = '16MiB'\ncpu_time = '20s'")
        .route("brief.test", "burn", "cpu_time = '300ms'")
        .route("burn-wall.test", "burn", "cpu_time = '60s'\nwall_time = '400ms'")
        .route("brief-stream.test", "stream", "cpu_time = '300ms'")
        .route("stream-wall.test", "stream", "wall_time = '700ms'")
        .route("brief03.test", "service03", "cpu_time = '300ms'")
        .route("wall03.test", "service03", "cpu_time = '60s'\nwall_time = '700ms'")
});

fn expect_healthy(server: &Daylily) {
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

#[test]
fn memory_at_under_and_over() {
    let server = SERVER.get();
    // A Rust guest uses about 1.1 MiB before it allocates anything.
    let cases = [
        ("default.test", 1, true),
        ("default.test", 60, true),
        ("default.test", 64, false),
        ("default.test", 200, false),
        ("small.test", 1, true),
        ("small.test", 14, true),
        ("small.test", 16, false),
        ("small.test", 60, false),
    ];
    each(&cases, |&(host, mib, fits)| {
        let response = server.get(host, &format!("/grow?mib={mib}"));
        match fits {
            true => drop(response.expect(200, &format!("ok {mib}\n"))),
            false => drop(response.expect_refusal(500, "guest trapped")),
        }
        expect_healthy(&server);
    });
}

#[test]
fn a_guest_that_wants_all_memory_gets_none_of_the_hosts() {
    let server = SERVER.get();
    server.get("default.test", "/grow?mib=60").expect(200, "ok 60\n");
    let before = server.process().resident_kib();
    for _ in 0..5 {
        server.get("default.test", "/forever").expect_refusal(500, "guest trapped");
    }
    let after = server.process().resident_kib();
    assert!(after < before + 80 * 1024, "from {before} KiB to {after} KiB with a limit of 64 MiB");
    expect_healthy(&server);
}

/// A component's minimum is known before it is served: `check` names the key and the value that it needs.
fn check_need(component: &Path, key: &str, least: &str, unit: u64) {
    let component = component.display().to_string();
    let check = |value: &str| {
        let config = format!("[[route]]\ncomponent = '{component}'\n{key} = {value}\n");
        run_in(&[("daylily.toml", config.as_bytes())], &[], &["check"])
    };
    let refused = check(least);
    refused.expect(78, &[&component, key, &format!("raise {key}")]);
    let number = refused.stderr.split(' ').find_map(|word| word.trim_end_matches("KiB").parse::<u64>().ok());
    let need = number.expect("how much it needs") * unit;
    check(&(need - 1).to_string()).expect(78, &[key]);
    // With that value it starts; this guest needs no more while it runs.
    let setup = Setup::new().route_with(&format!("host = 'at.test'\n{key} = {need}"), &component);
    setup.start().get("at.test", "/count").expect(200, "count: 1\n");
}

#[test]
fn memory_and_tables_at_under_and_over_what_a_component_starts_with() {
    // A memory section: one memory, of 0 pages.
    let two_memories = with_module(&std::fs::read(built("state")).expect("a guest"), &[5, 3, 1, 0, 0]);
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("two-memories.wasm");
    std::fs::write(&path, two_memories).expect("room for a guest");
    let cases = [
        (path, "max_memories", "1", 1),
        (guest("state"), "max_memory", "'64KiB'", 1024),
        // Most components that are linked directly have only one table.
        (entire("state"), "max_tables", "1", 1),
        (guest("state"), "max_table_elements", "1", 1),
    ];
    each(&cases, |(component, key, least, unit)| check_need(component, key, least, *unit));
}

/// The number of core instances of a component is only known when it is instantiated. Linked directly, it is one.
#[test]
fn instances_at_under_and_over() {
    let hosts: Vec<String> = (1..=8).map(|most| format!("{most}.test")).collect();
    let component = entire("service03").display().to_string();
    let setup = hosts.iter().zip(1..).fold(Setup::new(), |setup, (host, most)| {
        setup.route_with(&format!("host = '{host}'\nmax_instances = {most}"), &component)
    });
    let server = setup.start();
    let statuses: Vec<u16> = hosts.iter().map(|host| server.get(host, "/").status).collect();
    let need = statuses.iter().position(|&status| status == 200).expect("eight are enough");
    assert!(need > 0, "one is not enough for a component with its adapters");
    for (host, at) in hosts.iter().zip(0..) {
        match at < need {
            true => drop(server.get(host, "/").expect_refusal(503, "cannot create an instance")),
            false => drop(server.get(host, "/").expect(200, "Hello World\n")),
        }
    }
}

#[test]
fn cpu_time_under_and_over() {
    let server = SERVER.get();
    server.get("brief.test", "/ms?n=150").expect(200, "done\n");
    for (host, target) in [("brief.test", "/loop"), ("brief.test", "/ms?n=60000"), ("brief03.test", "/loop")] {
        let (before, start) = (server.process().cpu_time(), Instant::now());
        server.get(host, target).expect_refusal(504, "CPU time limit exceeded");
        let used = server.process().cpu_time() - before;
        assert!(used >= Duration::from_millis(250), "{host}{target} was stopped after {used:?} of its 300 ms");
        assert!(start.elapsed() < Duration::from_secs(10), "{host}{target} ran for {:?}", start.elapsed());
        expect_healthy(&server);
    }
}

#[test]
fn waiting_costs_no_cpu_time() {
    let server = SERVER.get();
    let response = server.get("brief-stream.test", "/n?chunks=6&size=10&pause_ms=150");
    assert_eq!((response.body.len(), response.ending), (60, Ending::Complete));
}

#[test]
fn cpu_time_after_the_head_cuts_the_response() {
    let server = SERVER.get();
    for (host, target) in [("brief.test", "/after-head"), ("brief03.test", "/loop-after")] {
        let response = server.get(host, target);
        assert_eq!((response.status, response.ending), (200, Ending::Truncated), "{host}");
    }
}

#[test]
fn wall_time_under_and_over() {
    let server = SERVER.get();
    server.get("burn-wall.test", "/ms?n=50").expect(200, "done\n");
    server.get("stream-wall.test", "/silent?ms=100").expect(200, "done\n");
    let cases = [
        ("burn-wall.test", "/loop"),
        ("burn-wall.test", "/ms?n=60000"),
        ("stream-wall.test", "/silent?ms=60000"),
        ("wall03.test", "/loop"),
        ("wall03.test", "/wait?ms=60000"),
    ];
    each(&cases, |(host, target)| {
        let start = Instant::now();
        server.get(host, target).expect_refusal(504, "wall time limit exceeded");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(350) && took < Duration::from_secs(10), "it took {took:?}");
        expect_healthy(&server);
    });
}

#[test]
fn wall_time_counts_to_the_end_of_the_response() {
    let server = SERVER.get();
    let whole = server.get("stream-wall.test", "/n?chunks=3&size=10&pause_ms=30");
    assert_eq!((whole.body.len(), whole.ending), (30, Ending::Complete));
    let cut = server.get("stream-wall.test", "/n?chunks=200&size=10&pause_ms=100");
    assert_eq!((cut.status, cut.ending), (200, Ending::Truncated));
    assert!(cut.body.len() < 200 * 10 / 2, "{} bytes in 700 ms", cut.body.len());
}

#[test]
fn wall_time_counts_while_the_client_does_not_read() {
    let server = Setup::new()
        .server("max_concurrency = 1\nmax_queue = 1\nqueue_timeout = '20s'")
        .route("stream.test", "stream", "wall_time = '700ms'")
        .route("hello.test", "hello", "")
        .start();
    let mut idle = Connection::open_narrow(server.address());
    idle.send(&Request::get("stream.test", "/n?chunks=64&size=1000000&pause_ms=0").bytes());
    idle.some_bytes();
    // The only permit is held until the other request's time is up.
    expect_healthy(&server);
    let mut response = idle.head();
    idle.finish(&mut response, "GET", &mut |_| {});
    assert_eq!(response.ending, Ending::Truncated);
}
