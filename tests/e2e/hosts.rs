//! `Host` and the request target, as RFC 9112 §3.2 and RFC 3986 §3.2.2 require.

use crate::harness::{Request, Setup, Shared, each};

static SERVER: Shared = Shared::new(|| {
    Setup::new().route_at("name = 'hello'\npath = '/hello'", "hello").route_at("name = 'report'", "report")
});

#[track_caller]
fn check_refused(bytes: &[u8]) {
    let server = SERVER.get();
    let mut connection = server.connect();
    connection.send(bytes);
    connection.response("GET").expect_refusal(400, "malformed request");
}

/// Checks what the guest sees: scheme, authority, path.
#[track_caller]
fn check_seen(bytes: &[u8], authority: &str, path: &str) {
    let server = SERVER.get();
    let mut connection = server.connect();
    connection.send(bytes);
    let response = connection.response("GET");
    let text = response.text();
    assert_eq!(response.status, 200, "{text}");
    let told = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("nothing").to_owned();
    assert_eq!([told("scheme: "), told("authority: "), told("path: ")], ["http", authority, path], "{text}");
    assert!(!text.to_lowercase().contains("header: host"), "{text}");
}

#[test]
fn a_missing_repeated_or_invalid_host_is_400() {
    let _keep = SERVER.get();
    let hosts = [
        "",
        "Host: a.test\r\nHost: a.test\r\n",
        "Host: a.test\r\nHost: b.test\r\n",
        "host: a.test\r\nHOST: b.test\r\n",
        "Host:\r\n",
        "Host: \r\n",
        "Host: a.test, b.test\r\n",
        "Host: a b\r\n",
        "Host: a.test b\r\n",
        "Host: user@a.test\r\n",
        "Host: user:password@a.test\r\n",
        "Host: a.test/\r\n",
        "Host: a.test/path\r\n",
        "Host: http://a.test\r\n",
        "Host: a.test?x\r\n",
        "Host: a.test#x\r\n",
        "Host: a.test\\\r\n",
        "Host: :80\r\n",
        "Host: a.test:x\r\n",
        "Host: a.test:80:80\r\n",
        "Host: a.test:65536\r\n",
        "Host: a.test:-1\r\n",
        "Host: a.test:+80\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: []\r\n",
        "Host: [::1]x\r\n",
        "Host: [a.test]\r\n",
        "Host: a%zz.test\r\n",
        "Host: a%.test\r\n",
        "Host: <a.test>\r\n",
        "Host: \"a.test\"\r\n",
        "Host: a\u{e9}.test\r\n",
        "Host: a\x7f.test\r\n",
    ];
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let hosts = hosts.iter().filter(|host| !(version == "HTTP/1.0" && host.is_empty())).collect::<Vec<_>>();
        each(&hosts, |host| {
            check_refused(format!("GET /hello {version}\r\n{host}\r\n").as_bytes());
        });
    }
}

#[test]
fn a_valid_host_is_what_the_guest_is_told() {
    let _keep = SERVER.get();
    let cases = [
        ("a.test", "a.test"),
        ("a.test:8080", "a.test:8080"),
        ("a_b-c~d.test", "a_b-c~d.test"),
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("[::1]:3000", "[::1]:3000"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("a%41.test", "a%41.test"),
        ("!$&'()*+;=.test", "!$&'()*+;=.test"),
    ];
    each(&cases, |(host, authority)| {
        check_seen(format!("GET /x?y=z HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), authority, "/x?y=z");
        check_seen(format!("GET /x?y=z HTTP/1.1\r\nhOsT:   {host}  \r\n\r\n").as_bytes(), authority, "/x?y=z");
    });
}

#[test]
fn http_1_0_may_omit_the_host() {
    let _keep = SERVER.get();
    let server = SERVER.get();
    server.exchange(&Request::get("", "/hello").http10()).expect(200, "Hello World\n");
    let named = Request::get("", "/").http10().header("Host", "a.test");
    assert!(server.exchange(&named).text().contains("authority: a.test\n"));
}

#[test]
fn the_authority_of_an_absolute_target_wins() {
    let _keep = SERVER.get();
    let cases = [
        ("http://real.test/x", "other.test", "real.test", "/x"),
        ("http://real.test:8080/x?y", "real.test", "real.test:8080", "/x?y"),
        ("http://real.test", "other.test", "real.test", "/"),
        ("http://real.test?y", "other.test", "real.test", "/?y"),
        ("HTTP://real.test/x", "other.test", "real.test", "/x"),
        ("http://[::1]:80/x", "other.test", "[::1]:80", "/x"),
    ];
    each(&cases, |(target, host, authority, path)| {
        check_seen(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), authority, path);
    });
}

#[test]
fn an_absolute_target_excuses_no_host() {
    let _keep = SERVER.get();
    let cases = [
        "GET http://real.test/ HTTP/1.1\r\n\r\n",
        "GET http://real.test/ HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
        "GET http://real.test/ HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET http://user@real.test/ HTTP/1.1\r\nHost: real.test\r\n\r\n",
        "GET http:///x HTTP/1.1\r\nHost: real.test\r\n\r\n",
        "GET http://real.test:99999/ HTTP/1.1\r\nHost: real.test\r\n\r\n",
    ];
    each(&cases, |case| check_refused(case.as_bytes()));
}

#[test]
fn a_tunnel_is_never_opened() {
    let server = SERVER.get();
    for target in ["a.test:443", "a.test:80", "/"] {
        let response = server.exchange(&Request::new("CONNECT", "a.test:443", target));
        assert!((400..=501).contains(&response.status), "{target}: {response:?}");
    }
}
