//! Interfaces beyond WASI's releases: those of Spin's SDK, `wasi:config`, and imports that no host provides.

use std::collections::BTreeSet;

use crate::harness::{Setup, StoreServer, as_component, built, guest, run_at};

/// A server with a store, a variable, and a guest in both ways of linking.
fn in_both_forms(package: &str) -> Setup {
    let component = std::fs::read(built(package)).expect("a guest");
    let keys = "stores = ['visits']\nvars = { who = 'you', empty = '' }\nmax_store_operations = 10000";
    Setup::new()
        .top("state_dir = 'state'\nlog = 'debug'\nstore = { visits = {}, other = {} }")
        .file("direct.wasm", &component)
        .file("entire.wasm", &as_component(&component))
        .route_with(&format!("host = 'direct.test'\n{keys}"), "direct.wasm")
        .route_with(&format!("host = 'entire.test'\n{keys}"), "entire.wasm")
}

fn check(package: &str, rows: &[(&str, &str)]) {
    let server = in_both_forms(package).start();
    if std::env::var_os("DAYLILY_E2E_AS_COMPONENTS").is_none() {
        server.log().wait_for(&["direct.wasm", "is linked directly"]);
    }
    for host in ["direct.test", "entire.test"] {
        for (target, expected) in rows {
            server.get(host, target).expect(200, expected);
        }
    }
}

#[test]
fn guests_of_spins_sdk_have_stores_and_variables() {
    check(
        "spin",
        &[
            ("/get?key=a", "None"),
            ("/exists?key=a", "Ok(false)"),
            ("/set?key=a&value=1", "Ok(())"),
            ("/get?key=a", "Some(\"1\")"),
            ("/exists?key=a", "Ok(true)"),
            ("/delete?key=a", "Ok(())"),
            ("/get?key=a", "None"),
            // A key, a value and the store are more parameters than an asynchronous call has registers for.
            ("/set?key=%c3%a9%00&value=%e2%82%ac", "Ok(())"),
            ("/get?key=%c3%a9%00", "Some(\"€\")"),
            ("/delete?key=%c3%a9%00", "Ok(())"),
            ("/at-once?key=many&count=200", "200 set, 200 found"),
            ("/get?key=a&store=other", "Error::AccessDenied"),
            ("/var?key=who", "Ok(\"you\")"),
            ("/var?key=empty", "Ok(\"\")"),
            ("/var?key=PATH", "Err(Error::Undefined(\"PATH\"))"),
        ],
    );
}

/// What is passed to a store is charged until it is there.
#[test]
fn values_on_their_way_to_a_store_are_charged() {
    let server = in_both_forms("spin").start();
    for host in ["direct.test", "entire.test"] {
        server.get(host, "/set-at-once?key=big&count=10&bytes=1000000").expect(200, "10 set");
        let id = server.get(host, "/set-at-once?key=big&count=30&bytes=1000000").expect_refusal(500, "guest trapped");
        server.log().wait_for(&[&id, "max_host_memory = 16MiB"]);
    }
}

/// Answers that the guest has not taken yet have a part of its memory on the host. The other operations wait.
#[test]
fn answers_do_not_arrive_faster_than_the_guest_takes_them() {
    let server = in_both_forms("spin").defaults("cpu_time = '30s'").start();
    server.get("direct.test", "/set-at-once?key=big&count=1&bytes=1000000").expect(200, "1 set");
    for host in ["direct.test", "entire.test"] {
        let process = server.process();
        process.forget_peak();
        let before = process.resident_kib();
        server.get(host, "/get-at-once?key=big0&count=200&steps=50000000").expect(200, "200000000 bytes");
        let peak = process.peak_resident_kib();
        assert!(peak < before + 80 * 1024, "{host}: from {before} KiB to {peak} KiB");
    }
}

#[test]
fn a_guest_of_spins_sdk_lists_keys_as_a_stream() {
    let server = Setup::new()
        .top("state_dir = 'state'\nstore = { visits = {}, empty = {} }")
        .route("keys.test", "spin-keys", "stores = ['visits', 'empty']")
        .route("store.test", "store", "stores = ['visits']\nmax_store_operations = 10000")
        .start();
    server.get("keys.test", "/?store=empty").expect(200, "");
    let keys: Vec<String> = (0..2_500).map(|number| format!("key-{number}")).collect();
    for some in keys.chunks(500) {
        server.get("store.test", &format!("/set-many?key={}&value=1", some.join(","))).expect(200, "()");
    }
    server.get("keys.test", "/").expect(200, &keys.join(","));
    let bytes: usize = keys.iter().map(String::len).sum();
    server.get("keys.test", "/count").expect(200, &format!("2500 keys, {bytes} bytes"));
    // It stops in the middle of a page.
    server
        .get("keys.test", "/count?most=1700")
        .expect(200, &format!("1700 keys, {} bytes", keys[..1_700].concat().len()));
    server.get("keys.test", "/?store=other").expect(200, "Error::AccessDenied");
}

#[test]
fn a_listing_that_fails_says_so_at_its_end() {
    let server = Setup::new()
        .top("state_dir = 'state'\nstore = { visits = {} }")
        .route("keys.test", "spin-keys", "stores = ['visits']\nmax_store_operations = 1")
        .route("store.test", "store", "stores = ['visits']\nmax_store_operations = 10000")
        .start();
    let keys: Vec<String> = (0..1_500).map(|number| number.to_string()).collect();
    for some in keys.chunks(500) {
        server.get("store.test", &format!("/set-many?key={}&value=1", some.join(","))).expect(200, "()");
    }
    let expected = "Error::Other(\"the request has done max_store_operations = 1\")";
    server.get("keys.test", "/").expect(200, expected);
}

/// A page of a listing is empty if none of the keys that Redis has looked at for it is the store's.
#[test]
#[ignore = "needs redis-server"]
fn a_stream_of_keys_goes_on_after_an_empty_page() {
    let redis = StoreServer::redis(&[]);
    redis.ask("EVAL \"for i=1,60000 do redis.call('SET','elsewhere:'..i,'1') end\" 0");
    assert_eq!(redis.ask("DBSIZE"), ":60000\r\n");
    let server = Setup::new()
        .top(&format!("state_dir = 'state'\nstore = {{ visits = {{ backend = '{}' }} }}", redis.url()))
        .route("keys.test", "spin-keys", "stores = ['visits']")
        .route("store.test", "store", "stores = ['visits']")
        .start();
    server.get("keys.test", "/").expect(200, "");
    let keys: Vec<String> = (10..30).map(|number| format!("key-{number}")).collect();
    server.get("store.test", &format!("/set-many?key={}&value=1", keys.join(","))).expect(200, "()");
    let text = server.get("keys.test", "/").text();
    // Redis may list a key twice, and has an order of its own.
    let found: BTreeSet<&str> = text.split(',').collect();
    assert_eq!(found, keys.iter().map(String::as_str).collect());
}

#[test]
fn variables_are_the_same_through_every_interface() {
    let all = "Ok([(\"empty\", \"\"), (\"who\", \"you\")])";
    check(
        "vars",
        &[
            ("/?via=rc1", all),
            ("/?via=draft", all),
            ("/who?via=rc1", "Ok(Some(\"you\"))"),
            ("/who?via=draft", "Ok(Some(\"you\"))"),
            ("/who?via=spin", "Ok(\"you\")"),
            ("/empty?via=rc1", "Ok(Some(\"\"))"),
            ("/empty?via=spin", "Ok(\"\")"),
            // What the environment has is not among them.
            ("/PATH?via=rc1", "Ok(None)"),
            ("/PATH?via=draft", "Ok(None)"),
            ("/PATH?via=spin", "Err(Error::Undefined(\"PATH\"))"),
        ],
    );
}

#[test]
fn a_component_with_missing_imports_is_served_if_that_is_wanted() {
    let server = Setup::new().top("missing_imports = 'trap'\ndev = true").route("a.test", "wants", "").start();
    let missing = ["example:missing/thing", "wasi:blobstore/blobstore@0.2.0-draft"];
    let listed = missing.join(", ");
    server.log().wait_for(&["WARN", "has imports that daylily does not provide", &listed]);
    let answer = server.get("a.test", "/");
    assert_eq!(answer.status, 500, "{answer:?}");
    let called =
        "the component called `get-container` of wasi:blobstore/blobstore@0.2.0-draft, which daylily does not provide";
    assert!(answer.text().contains(called), "{}", answer.text());
    server.log().wait_for(&["guest failed", called]);
}

/// A component with a missing interface that uses a resource of a provided one, and a resource of another missing one.
const USES_PROVIDED: &str = r#"(component
  (import "wasi:io/streams@0.2.0" (instance $streams (export "input-stream" (type (sub resource)))))
  (alias export $streams "input-stream" (type $stream))
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $out))
  (import "example:missing/things" (instance $things (export "thing" (type (sub resource)))))
  (alias export $things "thing" (type $thing))
  (import "wasi:blobstore/container@0.2.0-draft" (instance $container
    (alias outer 1 $stream (type $outer-stream))
    (export "input-stream" (type $stream (eq $outer-stream)))
    (alias outer 1 $thing (type $outer-thing))
    (export "thing" (type $thing (eq $outer-thing)))
    (type $own (own $stream))
    (type $own-thing (own $thing))
    (export "make" (func (result $own-thing)))
    (export "read" (func (result $own)))))
  (alias export $container "read" (func $read))
  (core func $read (canon lower (func $read)))
  (core module $m
    (import "" "read" (func $read (result i32)))
    (func (export "handle") (param i32 i32) (drop (call $read))))
  (core instance $host (export "read" (func $read)))
  (core instance $i (instantiate $m (with "" (instance $host))))
  (type $own-request (own $request))
  (type $own-out (own $out))
  (func $handle (param "request" $own-request) (param "response-out" $own-out) (canon lift (core func $i "handle")))
  (component $handler
    (import "request" (type $request (sub resource)))
    (import "out" (type $out (sub resource)))
    (type $own-request (own $request))
    (type $own-out (own $out))
    (import "handle" (func $handle (param "request" $own-request) (param "response-out" $own-out)))
    (export $exported-request "incoming-request" (type $request))
    (export $exported-out "response-outparam" (type $out))
    (type $of-request (own $exported-request))
    (type $of-out (own $exported-out))
    (export "handle" (func $handle) (func (param "request" $of-request) (param "response-out" $of-out))))
  (instance $handler (instantiate $handler
    (with "request" (type $request)) (with "out" (type $out)) (with "handle" (func $handle))))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;

#[test]
fn a_missing_interface_may_use_resources_of_others() {
    let component = wat::parse_str(USES_PROVIDED).expect("a component");
    let server = Setup::new()
        .top("missing_imports = 'trap'")
        .file("uses.wasm", &component)
        .route_with("host = 'a.test'", "uses.wasm")
        .start();
    server.get("a.test", "/").expect_refusal(500, "guest trapped");
    let called = "the component called `read` of wasi:blobstore/container@0.2.0-draft, which daylily does not provide";
    server.log().wait_for(&["guest failed", called]);
}

#[test]
fn missing_imports_are_an_error_that_names_the_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let component = guest("wants").display().to_string();
    let finished = run_at(directory.path(), &["check", &component]);
    finished.expect(
        65,
        &["wasi:blobstore/blobstore@0.2.0-draft", "set missing_imports = \"trap\" (--missing-imports trap)"],
    );
    run_at(directory.path(), &["check", &component, "--missing-imports", "trap"]).expect(0, &[]);
    run_at(directory.path(), &["check", &component, "--missing-imports", "ignore"])
        .expect(2, &["unknown word \"ignore\" for missing imports", "\"trap\""]);
}

#[test]
fn the_cache_does_not_make_missing_imports_acceptable() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = directory.path().join("cache").display().to_string();
    let setup = || Setup::new().flags(&["--cache-dir", &cache]).route("a.test", "wants", "");
    setup().top("missing_imports = 'trap'").start().stop();
    let component = guest("wants").display().to_string();
    run_at(directory.path(), &["serve", &component, "--cache-dir", &cache, "--listen", "127.0.0.1:0"])
        .expect(65, &["daylily does not provide these imports"]);
}

#[test]
fn check_names_the_key_that_grants_each_import() {
    let directory = tempfile::tempdir().expect("a directory");
    let component = guest("store").display().to_string();
    let import =
        |version: &str, interface: &str| format!("  imports {interface}@{version}: nothing is granted (`stores`)\n");
    let lines = [
        import("0.2.0-draft2", "wasi:keyvalue/store"),
        import("0.2.0-draft", "wasi:keyvalue/store"),
        import("2.0.0", "fermyon:spin/key-value"),
    ];
    let bare = run_at(directory.path(), &["check", &component, "--state-dir", "state"]);
    let granting = run_at(directory.path(), &["check", &component, "--state-dir", "state", "--store", "visits"]);
    assert_eq!((bare.code, granting.code), (0, 0));
    for line in lines {
        assert!(bare.stdout.contains(&line), "no {line:?} in {}", bare.stdout);
        assert!(!granting.stdout.contains(&line), "{}", granting.stdout);
    }
}
