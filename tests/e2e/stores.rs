//! Key-value stores: the same data through each interface, in both forms of linking, and their limits.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::harness::{Daylily, Setup, as_component, binary, built, eventually, run_at};

/// A server with two stores, and the guest linked in both ways.
pub fn setup(keys: &str) -> Setup {
    setup_with("store = { visits = { backend = 'sqlite' }, other = { durability = 'power' } }", keys)
}

/// The same with these stores, `visits` and `other`.
pub fn setup_with(stores: &str, keys: &str) -> Setup {
    let component = std::fs::read(built("store")).expect("a guest");
    Setup::new()
        .top(&format!("state_dir = 'state'\n{stores}"))
        .file("direct.wasm", &component)
        .file("entire.wasm", &as_component(&component))
        .route_with(&format!("host = 'direct.test'\nstores = ['visits', 'cache=other']\n{keys}"), "direct.wasm")
        .route_with(&format!("host = 'entire.test'\nstores = ['visits', 'cache=other']\n{keys}"), "entire.wasm")
}

pub const FORMS: [&str; 2] = ["direct.test", "entire.test"];

/// What the guest finds, for requests one after the other, each beginning with its target. The order of a listing is
/// that of the backend.
fn check(server: &Daylily, host: &str, rows: &[(&str, &str)]) {
    let sorted = |text: &str| {
        let (keys, end) = text.split_once(' ').unwrap_or((text, ""));
        let mut keys: Vec<_> = keys.split(',').map(str::to_owned).collect();
        keys.sort();
        (keys, end.to_owned())
    };
    for (target, expected) in rows {
        let response = server.get(host, target);
        if target.starts_with("/list") {
            assert_eq!(sorted(&response.text()), sorted(expected), "{target}");
        } else {
            response.expect(200, expected);
        }
    }
}

#[test]
fn every_interface_does_the_same_on_the_same_data() {
    check_interfaces(&setup("").start());
}

pub fn check_interfaces(server: &Daylily) {
    for host in FORMS {
        check(
            server,
            host,
            &[
                ("/exists?key=n", "false"),
                ("/get?key=n", "none"),
                ("/increment?key=n", "1"),
                ("/increment?key=n&delta=-3", "-2"),
                ("/get?key=n&via=draft", "some -2"),
                ("/get?key=n&via=spin", "some -2"),
                ("/increment?key=n&delta=10&via=draft", "8"),
                ("/set?key=n&value=x&via=spin", "()"),
                ("/get?key=n", "some x"),
                ("/exists?key=n&via=draft", "true"),
                ("/exists?key=n&via=spin", "true"),
                ("/set?key=%c3%a9%00%25&value=&via=draft", "()"),
                ("/get?key=%c3%a9%00%25", "some "),
                ("/delete?key=%c3%a9%00%25", "()"),
                ("/delete?key=%c3%a9%00%25&via=spin", "()"),
                ("/set?key=&value=empty", "()"),
                ("/get?key=", "some empty"),
                ("/delete?key=&via=draft", "()"),
                ("/set-many?key=a,b&value=v", "()"),
                ("/get-many?key=a,none,b", "a=some v,none=none,b=some v"),
                ("/get-many?key=a,none,b&via=draft", "a=some v,none,b=some v"),
                ("/list", "n,a,b end"),
                ("/list?via=draft", "n,a,b end"),
                ("/list?via=spin", "n,a,b"),
                ("/delete-many?key=a,none,b&via=draft", "()"),
                ("/list", "n end"),
                // The other store has data of its own, whatever the guest calls it.
                ("/get?key=n&store=cache", "none"),
                ("/set?key=n&value=other&store=cache", "()"),
                ("/get?key=n", "some x"),
                ("/delete?key=n&store=cache", "()"),
                ("/delete?key=n", "()"),
                ("/list", " end"),
            ],
        );
    }
}

#[test]
fn a_swap_fails_if_anything_was_written_since() {
    // The same bytes are another revision.
    check_swaps(&setup("").start(), "some x, now some x");
}

/// `same` is what a swap finds if the same value was written since.
pub fn check_swaps(server: &Daylily, same: &str) {
    for host in FORMS {
        check(
            server,
            host,
            &[
                ("/swap?key=s&value=1", "none, swapped"),
                ("/swap?key=s&value=2", "some 1, swapped"),
                ("/swap?key=s&value=3&between=x", "some 2, now some x"),
                ("/swap?key=s&value=4&between=x", same),
                ("/swap?key=s2&value=1&between=x", "none, now some x"),
                ("/delete-many?key=s,s2", "()"),
            ],
        );
    }
}

#[test]
fn limits_have_errors_that_name_them() {
    check_limits(&setup(LIMITS).start());
}

/// The keys of a route for [`check_limits`].
pub const LIMITS: &str = "max_open_stores = 2\nmax_store_operations = 3";

pub fn check_limits(server: &Daylily) {
    let other = |text: &str| format!("error: Error::Other({text:?})");
    for host in FORMS {
        for (target, expected) in [
            ("/open?count=2", "opened 2".to_owned()),
            ("/open?count=3", other("the instance has max_open_stores = 2 open")),
            ("/often?count=3&key=a", "3 times".to_owned()),
            (
                "/often?count=4&key=a",
                "error: after 3: Error::Other(\"the request has done max_store_operations = 3\")".to_owned(),
            ),
            ("/set?key=big&bytes=1048576", "()".to_owned()),
            ("/get?key=big", "1048576 bytes".to_owned()),
            ("/set-many?key=big,big2,big3&bytes=600000", "()".to_owned()),
            (
                "/get-many?key=big,big2,big3,big,big2",
                other("the values are more than 2 MiB together; read fewer at a time"),
            ),
            ("/set?key=big&bytes=1048577", other("the value has 1048577 bytes, and max_value is 1MiB")),
            ("/delete-many?key=big,big2,big3", "()".to_owned()),
            ("/set?key=text&value=1x", "()".to_owned()),
            ("/increment?key=text", other("the value is not a whole number of 64 bits in decimal digits")),
            ("/set?key=text&value=9223372036854775807", "()".to_owned()),
            ("/increment?key=text", other("the number would be out of the range of 64 bits")),
            (
                "/increment?key=text&via=draft&delta=9223372036854775808",
                other("the number would be out of the range of 64 bits"),
            ),
            ("/set?key=text&value=-5", "()".to_owned()),
            (
                "/increment?key=text&via=draft",
                other(
                    "the number would be negative, which this interface cannot express; wasi:keyvalue@0.2.0-draft2 can",
                ),
            ),
            ("/get?key=text", "some -5".to_owned()),
            ("/delete?key=text", "()".to_owned()),
            ("/list?cursor=x", other("the cursor is not one that `list-keys` has returned")),
            ("/get?key=a&store=secret", "error: Error::AccessDenied".to_owned()),
            // Its name, but not what this route calls it.
            ("/get?key=a&store=other&via=spin", "error: Error::AccessDenied".to_owned()),
        ] {
            server.get(host, target).expect(200, &expected);
        }
        let long = "k".repeat(1_025);
        let expected = other("the key has 1025 bytes, and max_key is 1KiB");
        server.get(host, &format!("/get?key={long}")).expect(200, &expected);
        server.get(host, &format!("/get?key={}", &long[1..])).expect(200, "none");
    }
    server.log().wait_for(&["WARN daylily::storage: ", "opened the store \"secret\"", "add it to `stores`"]);
}

/// What an unfinished swap keeps counts against the guest's memory on the host.
#[test]
fn values_that_are_kept_are_charged() {
    let server = setup("").start();
    server.get("direct.test", "/set?key=big&bytes=1000000").expect(200, "()");
    for host in FORMS {
        server.get(host, "/hold?key=big&count=5").expect(200, "held 5");
        server.get(host, "/hold?key=big&count=30").expect_refusal(500, "guest trapped");
        server.log().wait_for(&[host, "host memory for this instance exceeds max_host_memory"]);
    }
}

#[test]
fn keys_are_listed_in_pages() {
    let server = setup("").start();
    server.get("direct.test", "/fill?key=p&count=2500").expect(200, "()");
    for (host, via) in [("direct.test", "draft2"), ("entire.test", "draft2"), ("direct.test", "draft")] {
        let (mut keys, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        while cursor != "end" {
            let text = server.get(host, &format!("/list?via={via}{cursor}")).text();
            let (listed, next) = text.split_once(' ').expect("keys and a cursor");
            keys.extend(listed.split(',').map(str::to_owned));
            pages += 1;
            cursor = if next == "end" { next.to_owned() } else { format!("&cursor={next}") };
        }
        let expected: Vec<_> = (0..2_500).map(|number| format!("p{number:05}")).collect();
        assert_eq!((keys, pages), (expected, 3), "{host} {via}");
    }
    let all = server.get("direct.test", "/list?via=spin").text();
    assert_eq!(all.split(',').count(), 2_500);
}

/// The record of a request has the operations of its guest, and the metrics have their sums.
#[test]
fn operations_are_counted() {
    let fields = "fields = ['path', 'store_operations', 'store_failed', 'store_us']";
    let log = format!("access_log = {{ format = 'json', to = 'stdout', {fields} }}");
    let server = setup("").top(&log).start();
    server.get("direct.test", "/often?key=a&count=5").expect(200, "5 times");
    server.get("direct.test", "/set?key=a&value=x").expect(200, "()");
    server.get("direct.test", "/increment?key=a");
    let line = server.stdout().wait_for(&["/increment"]);
    assert!(line.contains("\"store_operations\":1,\"store_failed\":1,\"store_us\":"), "{line}");
    let line = server.stdout().wait_for(&["/often"]);
    assert!(line.contains("\"store_operations\":5,\"store_failed\":0,\"store_us\":"), "{line}");
}

pub fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_full_store_refuses_what_does_not_fit() {
    let component = std::fs::read(built("store")).expect("a guest");
    let server = Setup::new()
        .top("state_dir = 'state'\n[store.visits]\nmax_store = '256KiB'")
        .file("a.wasm", &component)
        .route_with("host = 'a.test'\nstores = ['visits']", "a.wasm")
        .start();
    let full = "error: Error::Other(\"the store is full: it has reached max_store, or the disk is full\")";
    server.get("a.test", "/set?key=a&bytes=100000").expect(200, "()");
    server.get("a.test", "/set?key=b&bytes=200000").expect(200, full);
    // All of them or none.
    server.get("a.test", "/set-many?key=a,c,d&bytes=90000").expect(200, full);
    server.get("a.test", "/get-many?key=a,b,c,d").expect(200, "a=100000 bytes,b=none,c=none,d=none");
    server.get("a.test", "/delete?key=a").expect(200, "()");
    server.get("a.test", "/set?key=b&bytes=100000").expect(200, "()");
}

#[test]
fn entries_expire() {
    let server = Setup::new()
        .top("state_dir = 'state'\n[store.visits]\nttl = '1s'")
        .route("a.test", "store", "stores = ['visits']")
        .start();
    server.get("a.test", "/set?key=a&value=1").expect(200, "()");
    server.get("a.test", "/increment?key=n").expect(200, "1");
    let is_gone = || server.get("a.test", "/get-many?key=a,n").text() == "a=none,n=none";
    assert!(eventually(Duration::from_secs(10), is_gone), "they do not expire");
    server.get("a.test", "/list").expect(200, " end");
    server.get("a.test", "/increment?key=n").expect(200, "1");
}

/// Without a configuration file, the store is in a directory of the component's.
#[test]
fn a_flag_gives_a_component_a_store_of_its_own() {
    let component = built("store").display().to_string();
    let states = tempfile::tempdir().expect("a directory");
    let start = |component: &str| {
        let home = states.path().display().to_string();
        Setup::bare(&["serve", component, "--store", "visits"]).env("XDG_STATE_HOME", &home).start()
    };
    let server = start(&component);
    server.get("any.test", "/increment?key=n").expect(200, "1");
    server.stop();
    let server = start(&component);
    server.get("any.test", "/increment?key=n").expect(200, "2");
    let other = tempfile::tempdir().expect("a directory");
    let copy = other.path().join("store.wasm");
    std::fs::copy(&component, &copy).expect("a copy");
    let another = start(&copy.display().to_string());
    another.get("any.test", "/increment?key=n").expect(200, "1");
    assert_eq!(files(&states.path().join("daylily")).len(), 2);
}

/// `daylily store`, beside the server that uses the store.
#[test]
fn stores_can_be_looked_at_and_changed_from_outside() {
    let server = setup("").start();
    let store = |arguments: &[&str], code: i32, expected: &str| {
        let done = run_at(server.directory(), &[&["store"], arguments].concat());
        done.expect(code, &[expected]);
        done.stdout
    };
    store(&["set", "visits", "greeting", "hello"], 0, "");
    server.get("direct.test", "/get?key=greeting").expect(200, "some hello");
    server.get("direct.test", "/set?key=n%0a&value=1").expect(200, "()");
    assert_eq!(store(&["list", "visits"], 0, ""), "greeting\nn\\n\n");
    assert_eq!(store(&["get", "visits", "greeting"], 0, "").trim_end(), "hello");
    store(&["get", "visits", "none"], 1, "there is no key \"none\"");
    let exported = store(&["export", "visits"], 0, "");
    assert_eq!(exported, "{\"key\":\"greeting\",\"value\":\"hello\"}\n{\"key\":\"n\\n\",\"value\":\"1\"}\n");
    let mode = std::fs::metadata(server.directory().join("state/visits.sqlite")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "other users can read the file");
    let backup = server.directory().join("backup");
    std::fs::create_dir(&backup).expect("a directory");
    store(&["backup", "visits", "backup/visits.sqlite"], 0, "");
    store(&["backup", "visits", "backup/visits.sqlite"], 1, "output file already exists");
    store(&["delete", "visits", "greeting", "n\n"], 0, "");
    assert_eq!(store(&["export", "visits"], 0, ""), "");
    assert_eq!(store(&["export", "visits", "--state-dir", "backup"], 0, ""), exported);
    store(&["set", "visits", &"k".repeat(1_025), "x"], 1, "the key has 1025 bytes, and max_key is 1KiB");
    store(&["list", "visit"], 78, "there is no store `visit`; did you mean `visits`?");
    let piped = |script: &str| {
        let script = script.replace("daylily", binary());
        let done = std::process::Command::new("sh").args(["-c", &script]).current_dir(server.directory()).output();
        let done = done.expect("a shell");
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let import = "daylily store export visits --state-dir backup | daylily store import visits";
    assert_eq!(piped(import), (Some(0), String::new()));
    assert_eq!(store(&["export", "visits"], 0, ""), exported);
    // Without a line end that the value does not have.
    assert_eq!(piped("test $(daylily store get visits greeting | wc -c) = 5"), (Some(0), String::new()));
    assert_eq!(piped("printf 'a\\377' | daylily store set visits bytes").0, Some(0));
    assert!(store(&["export", "visits"], 0, "").contains("{\"key\":\"bytes\",\"hex\":\"61ff\"}"));
    let (code, error) = piped("echo '{\"key\":\"a\"}' | daylily store import visits");
    assert_eq!(code, Some(65), "{error}");
    assert!(error.contains("standard input, line 1: an entry has either `value` or `hex`"), "{error}");
}
