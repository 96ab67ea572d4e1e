//! The first steps of a new user.

use crate::harness::{Daylily, Request, Setup, each, guest};

#[track_caller]
fn check_hello(server: &Daylily) {
    let response = server.get("127.0.0.1", "/");
    response.expect(200, "Hello World\n");
    assert_eq!(response.values("content-type"), ["text/plain"]);
}

/// Every way to name the Hello World component, and no component at all.
#[test]
fn every_way_to_start_it() {
    let hello = guest("hello").display().to_string();
    let config = format!("[[route]]\ncomponent = '{hello}'\n");
    type Way = fn(&str) -> Setup;
    let cases: &[(&str, Way)] = &[
        ("no arguments", |_| Setup::bare(&[])),
        ("serve", |_| Setup::bare(&["serve"])),
        ("a component", |hello| Setup::bare(&[hello])),
        ("serve a component", |hello| Setup::bare(&["serve", hello])),
        ("the address from the environment", |_| Setup::bare(&[]).env("DAYLILY_LISTEN", "127.0.0.1:0")),
    ];
    each(cases, |(_, setup)| check_hello(&setup(&hello).start()));
    check_hello(&Setup::bare(&["-c", "other.toml"]).file("other.toml", config.as_bytes()).start());
}

#[test]
fn a_configuration_file_in_the_directory_is_used() {
    let config = format!("[[route]]\nhost = 'named.test'\ncomponent = '{}'\n", guest("hello").display());
    for arguments in [&[][..], &["serve"]] {
        let server = Setup::bare(arguments).file("daylily.toml", config.as_bytes()).start();
        server.get("named.test", "/").expect(200, "Hello World\n");
        server.get("other.test", "/").expect_refusal(404, "no such route");
    }
}

const BUILT_IN: &str = "There is no daylily.toml in this directory, so this is the built-in Hello World; \
    `daylily COMPONENT.wasm` serves a component";

/// Only if neither a configuration nor a component is served.
#[test]
fn the_start_says_that_the_built_in_component_is_served() {
    let component = guest("hello").display().to_string();
    let config = format!("[[route]]\ncomponent = '{component}'\n");
    for server in [
        Setup::bare(&[&component]).start(),
        Setup::bare(&[]).file("daylily.toml", config.as_bytes()).start(),
        Setup::new().route("a.test", "hello", "").start(),
    ] {
        let printed = server.stop();
        assert_eq!(printed.lines().count(), 1, "{printed}");
    }
}

#[test]
fn stdout_has_the_address_and_nothing_else() {
    let server = Setup::bare(&["--log", "trace"]).start();
    check_hello(&server);
    server.get("bad host", "/").expect_refusal(400, "malformed request");
    let address = server.address();
    assert_eq!(server.stop(), format!("Server running at http://{address}/ with 1 worker\n{BUILT_IN}\n"));
}

#[test]
fn every_method_and_path_gets_the_same_answer() {
    let server = Setup::bare(&[]).start();
    let cases = [
        Request::get("a.test", "/"),
        Request::get("a.test", "/any/path?with=a&query"),
        Request::new("DELETE", "a.test", "/"),
        Request::new("OPTIONS", "a.test", "*"),
        Request::new("BREW", "a.test", "/pot"),
        Request::post("a.test", "/").body(b"unread"),
        Request::post("a.test", "/").chunked(&[b"un", b"read"]),
    ];
    each(&cases, |request| {
        let response = server.exchange(request);
        response.expect(200, "Hello World\n");
        let known = ["content-type", "content-length", "transfer-encoding", "date", "connection", "x-request-id"];
        for (name, _) in &response.headers {
            assert!(known.contains(&name.to_lowercase().as_str()), "the guest did not send {name}");
        }
        assert_eq!(response.values("date").len(), 1);
    });
}

#[test]
fn one_connection_carries_many_requests() {
    let server = Setup::bare(&[]).start();
    let mut connection = server.connect();
    for _ in 0..200 {
        connection.exchange(&Request::get("a.test", "/")).expect(200, "Hello World\n");
    }
}
