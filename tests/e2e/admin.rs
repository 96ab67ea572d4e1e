//! The admin listener: its paths, who may use it, and its limits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    Connection, Daylily, HeldFile, PATIENCE, Request, Response, Setup, Silence, each, eventually, guest, run, run_in,
};
use crate::unix_sockets::Place;

const PATHS: &str = "/livez, /readyz, /startupz, /metrics, /status";

/// How long the admin listener waits for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections of the admin listener.
const CONNECTIONS: usize = 64;

pub fn setup(admin: &str) -> Setup {
    Setup::new().top(&format!("[admin]\n{admin}")).route("hello.test", "hello", "").route("stream.test", "stream", "")
}

pub fn start() -> Daylily {
    setup("listen = '127.0.0.1:0'").start()
}

#[track_caller]
pub fn address(server: &Daylily) -> SocketAddr {
    let status = server.status();
    let url = status.0["admin"].as_str().and_then(|url| url.strip_prefix("http://")?.strip_suffix('/'));
    url.unwrap_or_else(|| panic!("no admin address in {status:?}")).parse().expect("an address")
}

pub fn request(path: &str) -> Request {
    Request::get("localhost", path)
}

#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Response {
    Connection::open(address).exchange(&request(path))
}

#[track_caller]
pub fn status(address: SocketAddr) -> Value {
    let response = get(address, "/status");
    assert_eq!((response.status, response.values("content-type")), (200, vec!["application/json"]), "{response:?}");
    serde_json::from_slice(&response.body).expect("JSON")
}

/// What all responses have in common.
#[track_caller]
fn expect_form(response: &Response) {
    assert_eq!(response.values("cache-control"), ["no-store"], "{response:?}");
    assert_eq!(response.values("content-type").len(), 1, "{response:?}");
}

#[test]
fn each_path_is_answered() {
    let server = setup("listen = '127.0.0.1:0'").workers(2).start();
    let address = address(&server);
    assert!(server.stdout().lines().contains(&format!("Admin listener at http://{address}/")));
    let mut connection = Connection::open(address);
    for path in ["/livez", "/readyz", "/startupz", "/readyz?verbose"] {
        let response = connection.exchange(&request(path));
        response.expect(200, "ok\n");
        expect_form(&response);
        assert_eq!(response.values("content-type"), ["text/plain; charset=utf-8"]);
        let head = connection.exchange(&Request::new("HEAD", "localhost", path));
        head.expect(200, "");
        assert_eq!(head.values("content-length"), ["3"]);
    }
    expect_form(&connection.exchange(&request("/status")));
    let seen = status(address);
    let pids: Vec<u64> = server.workers().iter().map(|worker| worker.pid.into()).collect();
    assert_eq!((&seen["state"], &seen["ready"], &seen["generation"]), (&"serving".into(), &true.into(), &1.into()));
    assert_eq!((&seen["workers_expected"], &seen["workers_ready"]), (&2.into(), &2.into()));
    for (worker, pid) in pids.iter().enumerate() {
        assert_eq!(seen["workers"][worker], serde_json::json!({"worker": worker, "pid": pid, "state": "ready"}));
    }
    assert_eq!((&seen["reasons"], &seen["draining"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert_eq!(seen["pid"], server.supervisor().pid);
    assert_eq!(seen["version"], env!("CARGO_PKG_VERSION"));
    let first = seen["uptime_ms"].as_u64().expect("a number");
    assert!(eventually(PATIENCE, || status(address)["uptime_ms"].as_u64().expect("a number") > first));
}

/// The bytes of a request, the status, and the text.
type Refused = (&'static str, u16, &'static str);

const REFUSED: &[Refused] = &[
    ("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", 404, "not found; the paths are PATHS\n"),
    ("GET /readyz/ HTTP/1.1\r\nhost: localhost\r\n\r\n", 404, "not found; the paths are PATHS\n"),
    ("POST /x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n", 404, "not found; the paths are PATHS\n"),
    (
        "POST /readyz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
        405,
        "only GET and HEAD are allowed here\n",
    ),
    ("OPTIONS /status HTTP/1.1\r\nhost: localhost\r\n\r\n", 405, "only GET and HEAD are allowed here\n"),
    ("GET /readyz HTTP/1.1\r\n\r\n", 400, "malformed request: no host\n"),
    (
        "GET /readyz HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
        400,
        "malformed request: more than one host\n",
    ),
    ("GET /readyz HTTP/1.1\r\nhost: \u{e9}\r\n\r\n", 400, "malformed request: the host is not valid\n"),
    ("GET /readyz\r\n\r\n", 400, "malformed request\n"),
    ("nonsense\r\n\r\n", 400, "malformed request\n"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed request\n"),
];

#[test]
fn errors_say_why_in_one_form() {
    let server = start();
    let address = address(&server);
    each(REFUSED, |(bytes, status, text)| {
        let mut connection = Connection::open(address);
        connection.send(bytes.as_bytes());
        let response = connection.response("GET");
        response.expect(*status, &text.replace("PATHS", PATHS));
        expect_form(&response);
        assert_eq!(response.values("content-type"), ["text/plain; charset=utf-8"]);
        assert_eq!(response.values("allow"), if *status == 405 { vec!["GET, HEAD"] } else { vec![] });
    });
}

/// A host, and whether a browser could be made to send it by another machine's web page.
const HOSTS: &[(&str, bool)] = &[
    ("localhost", true),
    ("LocalHost:3001", true),
    ("127.0.0.1", true),
    ("127.1.2.3:1", true),
    ("[::1]", true),
    ("[::1]:3001", true),
    ("", false),
    ("localhost.", false),
    ("localhost.evil.example", false),
    ("evil.example", false),
    ("127.0.0.1.evil.example", false),
    ("0.0.0.0", false),
    ("10.0.0.1", false),
    ("[::ffff:127.0.0.1]", false),
    ("user@localhost", false),
];

#[test]
fn a_host_of_another_name_is_refused_on_a_loopback_address() {
    let server = start();
    let address = address(&server);
    each(HOSTS, |(host, is_local)| {
        let response = Connection::open(address).exchange(&Request::get(host, "/readyz"));
        if *is_local {
            response.expect(200, "ok\n");
        } else {
            assert_eq!(response.status, 421, "{response:?}");
            assert!(response.text().contains("DNS rebinding"), "{response:?}");
            expect_form(&response);
        }
    });
    let mut other = Connection::open(address);
    other.send(b"GET http://evil.example/readyz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(other.response("GET").status, 421);
    // No browser sends a request without a host.
    Connection::open(address).exchange(&request("/readyz").http10()).expect(200, "ok\n");
}

const TOKEN: &str = "s3cret-t0ken";

/// The value of `authorization`, and whether it is enough.
const AUTHORIZATIONS: &[(Option<&str>, bool)] = &[
    (None, false),
    (Some("Bearer s3cret-t0ken"), true),
    (Some("bearer   s3cret-t0ken"), true),
    (Some("Bearer s3cret-t0keN"), false),
    (Some("Bearer s3cret-t0ken2"), false),
    (Some("Bearer s3cret"), false),
    (Some("Bearer"), false),
    (Some("s3cret-t0ken"), false),
    (Some("Basic czNjcmV0LXQwa2Vu"), false),
];

#[test]
fn with_a_token_the_state_is_for_those_who_have_it() {
    let server = setup("listen = '0.0.0.0:0'\ntoken_file = 'token'")
        .file("token", format!("\n {TOKEN}\r\n").as_bytes())
        .through("chmod 600 token; exec \"$@\"")
        .unaudited("its metrics need the token")
        .start();
    let address = SocketAddr::from(([127, 0, 0, 1], address(&server).port()));
    // Other machines have other names for this one.
    Connection::open(address).exchange(&Request::get("server.example", "/readyz")).expect(200, "ok\n");
    each(AUTHORIZATIONS, |(authorization, is_enough)| {
        let mut request = request("/status");
        if let Some(value) = authorization {
            request = request.header("Authorization", value);
        }
        let response = Connection::open(address).exchange(&request);
        expect_form(&response);
        if *is_enough {
            assert_eq!(response.status, 200, "{response:?}");
        } else {
            response.expect(401, "this path needs the token: send it as `authorization: Bearer TOKEN`\n");
            assert_eq!(response.values("www-authenticate"), ["Bearer"]);
        }
    });
    let twice = request("/status").header("Authorization", "Bearer x").header("Authorization", "Bearer s3cret-t0ken");
    assert_eq!(Connection::open(address).exchange(&twice).status, 401);
    for path in ["/livez", "/readyz", "/startupz"] {
        get(address, path).expect(200, "ok\n");
    }
    assert_eq!(server.log().matching(|line| line.contains("chmod")), Vec::<String>::new());
    // A reload reads the token again.
    server.put("token", "another");
    server.reload();
    let with = |token: &str| request("/status").header("Authorization", &format!("Bearer {token}"));
    assert_eq!(Connection::open(address).exchange(&with(TOKEN)).status, 401);
    assert_eq!(Connection::open(address).exchange(&with("another")).status, 200);
    server.log().wait_for(&["every user of this machine may read the token file", "chmod o-r"]);
}

#[test]
fn what_is_wrong_with_the_configuration_is_said() {
    let config = |admin: &str| format!("listen = '127.0.0.1:0'\n[admin]\n{admin}\n[[route]]\ncomponent = 'no.wasm'\n");
    let check = |admin: &str, files: &[(&str, &[u8])], parts: &[&str]| {
        let config = config(admin);
        let files = [files, &[("daylily.toml", config.as_bytes())]].concat();
        for command in ["check", "serve"] {
            run_in(&files, &[], &[command]).expect(78, parts);
        }
    };
    let token = "listen = '127.0.0.1:0'\ntoken_file = 'token'";
    check(token, &[], &["token of the admin listener from `token`: No such file", "token_file", "no.wasm"]);
    check(token, &[("token", b" \n")], &["`token`: it is empty"]);
    check(token, &[("token", &[b'x'; 4097])], &["`token`: it is larger than 4KiB"]);
    check(token, &[("token", b"a b")], &["`token`: the token has other characters than printable ASCII"]);
    check("listen = '0.0.0.0:0'", &[], &["--> daylily.toml:3:10", "needs a token", "set `token_file` in [admin]"]);
    // Flags have no line.
    run(&["serve", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"]).expect(78, &["error: the admin listener at"]);
    run(&["serve", "--listen", "127.0.0.1:9", "--admin", "127.0.0.1:9"]).expect(78, &["is also in `listen`"]);
    run_in(&[], &[("DAYLILY_ADMIN", "systemd")], &["serve"]).expect(2, &["daylily opens this socket itself"]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let failed = run(&["serve", "--listen", "192.0.2.1:80", "--admin", &taken, "no.wasm"]);
    failed.expect(
        69,
        &[
            "failed to listen on 192.0.2.1:80: ",
            &format!("failed to listen on {taken} (the admin listener): Address already in use"),
            "choose an address with --admin",
            "no.wasm",
        ],
    );
}

/// The default address of guests, and sockets from systemd, are known only when they are opened.
#[test]
fn the_port_of_guests_is_refused_also_if_systemd_chose_it() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("an address").port();
    let server = Setup::new()
        .route("hello.test", "hello", "")
        .without("--listen")
        .flags(&["--admin", &format!("[::1]:{port}")])
        .passed(vec![socket.into()], "")
        .spawn();
    server.expect_exit(69, &["(the admin listener): guests are served at this port; choose another port with --admin"]);
}

#[test]
fn guests_and_the_admin_listener_never_mix() {
    let server = start();
    let address = address(&server);
    for path in ["/", "/livez", "/status"] {
        server.get("hello.test", path).expect(200, "Hello World\n");
    }
    let response = Connection::open(address).exchange(&request("/hello"));
    response.expect(404, &format!("not found; the paths are {PATHS}\n"));
    let requests = server.status().total("requests");
    get(address, "/readyz").expect(200, "ok\n");
    assert_eq!(server.status().total("requests"), requests);
}

#[test]
fn a_unix_socket_has_its_mode_and_is_removed_at_a_stop() {
    let place = Place::new();
    let path = place.path("admin.sock");
    let server = setup(&format!("listen = '{}?mode=0600'", place.listen("admin.sock"))).start();
    assert_eq!(path.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
    let mut connection = Connection::open_unix(&path);
    // No browser can be made to use it.
    connection.exchange(&Request::get("any.name", "/readyz")).expect(200, "ok\n");
    assert_eq!(connection.exchange(&Request::get("", "/status")).status, 200);
    server.command(&["stop"]).expect(0, &[]);
    assert!(!path.exists(), "the file is left behind");
}

#[test]
fn a_server_that_starts_is_alive_and_not_ready() {
    let place = Place::new();
    let path = place.path("admin.sock");
    let component = place.path("held.wasm");
    let held = HeldFile::new(&component, &std::fs::read(guest("hello")).expect("a component"));
    let mut server = Setup::new()
        .top(&format!("[admin]\nlisten = '{}'", place.listen("admin.sock")))
        .route_with("", &component.display().to_string())
        .spawn();
    held.wait_for_reader();
    let check = |path: &Path, wanted: [u16; 3]| {
        let statuses = ["/livez", "/readyz", "/startupz"]
            .map(|check| Connection::open_unix(path).exchange(&request(check)).status);
        assert_eq!(statuses, wanted);
    };
    check(&path, [200, 503, 503]);
    let seen: Value =
        serde_json::from_slice(&Connection::open_unix(&path).exchange(&request("/status")).body).expect("JSON");
    assert_eq!((&seen["state"], &seen["workers_expected"]), (&"starting".into(), &1.into()));
    assert_eq!(seen["reasons"], serde_json::json!(["the first workers are not ready yet", "worker 0 is starting"]));
    drop(held);
    server.announced();
    check(&path, [200, 200, 200]);
}

#[test]
fn one_connection_more_than_there_may_be_closes_the_one_that_waits_longest() {
    let server = start();
    let address = address(&server);
    let mut idle: Vec<Connection> = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(address);
        connection.exchange(&request("/livez")).expect(200, "ok\n");
        idle.push(connection);
    }
    // The first one is no longer the one that waits longest.
    idle[0].exchange(&request("/livez")).expect(200, "ok\n");
    get(address, "/readyz").expect(200, "ok\n");
    idle[1].expect_closed();
    for (at, connection) in idle.iter_mut().enumerate().filter(|(at, _)| *at != 1) {
        connection.exchange(&request("/livez")).expect(200, "ok\n");
        assert!(at < CONNECTIONS);
    }
    server.get("hello.test", "/").expect(200, "Hello World\n");
}

#[test]
fn heads_that_are_too_large_or_too_slow_end_the_connection() {
    let server = start();
    let address = address(&server);
    let sized = |size: usize| {
        let head = "GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ";
        format!("{head}{}\r\n\r\n", "x".repeat(size - head.len() - 4))
    };
    let mut connection = Connection::open(address);
    connection.send(sized(8 << 10).as_bytes());
    connection.response("GET").expect(200, "ok\n");
    let mut connection = Connection::open(address);
    connection.try_send(sized((8 << 10) + 1).as_bytes());
    let response = connection.response("GET");
    response.expect(431, "the request head is too large\n");
    expect_form(&response);

    let begun = Instant::now();
    let mut silent = Connection::open(address);
    let mut idle = Connection::open(address);
    idle.exchange(&request("/livez")).expect(200, "ok\n");
    let mut trickling = TcpStream::connect(address).expect("a connection");
    trickling.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
    trickling.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ").expect("it reads");
    let ended = eventually(PATIENCE, || {
        let _ = trickling.write_all(b"x");
        matches!(trickling.read(&mut [0]), Ok(0)) || trickling.take_error().is_ok_and(|error| error.is_some())
    });
    assert!(ended, "a head may take forever");
    silent.expect_closed();
    idle.expect_closed();
    let took = begun.elapsed();
    assert!(took >= REQUEST_TIMEOUT.mul_f32(0.9) && took < REQUEST_TIMEOUT * 2, "{took:?}");
    assert_eq!(Connection::open(address).try_response("GET", Duration::from_millis(5)).err(), Some(Silence::Waiting));
}
