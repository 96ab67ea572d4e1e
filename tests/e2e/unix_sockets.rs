//! Listening on Unix sockets: requests and responses, and what the output says. `unix_files` tests the life of the files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Connection, Ending, PATIENCE, Request, Setup, eventually};

/// A directory for sockets, which exists before the server does.
pub struct Place(pub TempDir);

impl Place {
    pub fn new() -> Self {
        Self(TempDir::with_prefix("daylily-unix-").expect("a directory"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The socket as `listen` names it.
    pub fn listen(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }
}

pub fn setup(listen: &[String]) -> Setup {
    let listed: Vec<String> = listen.iter().map(|listen| format!("'{listen}'")).collect();
    Setup::new()
        .route("hello.test", "hello", "")
        .route("stream.test", "stream", "")
        .route("echo.test", "echo", "")
        .route_at("name = 'any-report'\npath = '/report'", "report")
        .route_at("name = 'any-stream'\npath = '/'", "stream")
        .without("--listen")
        .top(&format!("listen = [{}]", listed.join(", ")))
}

pub fn hello(path: &Path) {
    Connection::open_unix(path).exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
}

pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("a file").permissions().mode() & 0o7777
}

#[test]
fn requests_are_answered_as_on_any_connection() {
    let place = Place::new();
    let server = setup(&[place.listen("a.sock")]).workers(2).start();
    let path = place.path("a.sock");
    let mut connection = Connection::open_unix(&path);
    for _ in 0..3 {
        connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
    }
    // A body of many reads, and chunks that are sent back while they arrive.
    let body = vec![b'x'; 1 << 20];
    connection.exchange(&Request::post("echo.test", "/count").body(&body)).expect(200, "1048576 bytes\n");
    let body = &body[..50_000];
    let pieces: Vec<&[u8]> = body.chunks(7000).collect();
    let response = connection.exchange(&Request::post("echo.test", "/").chunked(&pieces));
    assert_eq!((response.status, response.body == body, response.ending), (200, true, Ending::Complete));
    let response = connection.exchange(&Request::get("stream.test", "/?chunks=5&size=3&pause_ms=5"));
    assert_eq!((response.text(), response.ending.clone()), ("xxxxxxxxxxxxxxx".to_owned(), Ending::Complete));
    // Two requests in one write.
    let both = [Request::get("hello.test", "/").bytes(), Request::get("hello.test", "/").bytes()].concat();
    connection.send(&both);
    connection.response("GET").expect(200, "Hello World\n");
    connection.response("GET").expect(200, "Hello World\n");
    drop(server);
}

/// HTTP/1.0 is what nginx speaks to a server unless it is told otherwise.
#[test]
fn http_1_0_is_answered_with_and_without_host() {
    let place = Place::new();
    let _server = setup(&[place.listen("a.sock")]).start();
    let path = place.path("a.sock");
    let report = Connection::open_unix(&path).exchange(&Request::get("", "/report").http10());
    let text = report.text();
    assert!(text.contains("scheme: http\n") && text.contains("authority: localhost\n"), "{text}");
    // Several requests on one connection, each with a body in pieces.
    let mut connection = Connection::open_unix(&path);
    let request = Request::post("", "/report").http10().header("Connection", "keep-alive").body(&[b'y'; 3000]);
    for _ in 0..3 {
        let bytes = request.bytes();
        for piece in bytes.chunks(777) {
            connection.send(piece);
        }
        let response = connection.response("POST");
        assert_eq!((response.status, response.ending), (200, Ending::Complete));
    }
    // A response of unknown length that is complete ends in an orderly close.
    let response = Connection::open_unix(&path).exchange(&Request::get("", "/?chunks=3&size=2&pause_ms=5").http10());
    assert_eq!((response.text(), response.ending.clone()), ("xxxxxx".to_owned(), Ending::Complete));
}

/// Only an error behind the last byte shows an HTTP/1.0 client that a response of unknown length is incomplete.
#[test]
fn a_cut_response_to_http_1_0_is_reset() {
    let place = Place::new();
    let server = setup(&[place.listen("a.sock")]).defaults("wall_time = '300ms'").start();
    let long = Request::get("", "/?chunks=1000&size=10&pause_ms=20").http10();
    let response = Connection::open_unix(&place.path("a.sock")).exchange(&long);
    assert_eq!((response.status, response.has("content-length"), response.ending), (200, false, Ending::Truncated));
    // Also when the kernel closes the socket, because the worker was killed.
    let mut connection = Connection::open_unix(&place.path("a.sock"));
    connection.send(&long.bytes());
    let mut response = connection.head();
    connection.some_bytes();
    server.workers().iter().for_each(|worker| worker.signal(Signal::KILL));
    connection.finish(&mut response, "GET", &mut |_| {});
    assert_eq!(response.ending, Ending::Truncated);
}

/// After an HTTP/1.1 request, a connection of a Unix socket can no longer be reset.
#[test]
fn http_1_0_after_http_1_1_is_refused() {
    let place = Place::new();
    let _server = setup(&[place.listen("a.sock")]).start();
    for together in [true, false] {
        let mut connection = Connection::open_unix(&place.path("a.sock"));
        let (first, second) = (Request::get("hello.test", "/"), Request::get("", "/?chunks=9&pause_ms=5").http10());
        if together {
            connection.send(&[first.bytes(), second.bytes()].concat());
        } else {
            connection.send(&first.bytes());
        }
        connection.response("GET").expect(200, "Hello World\n");
        if !together {
            connection.send(&second.bytes());
        }
        connection.response("GET").expect_refusal(400, "malformed request");
        connection.expect_closed();
    }
}

#[test]
fn a_client_that_leaves_ends_its_guest() {
    let place = Place::new();
    let server = setup(&[place.listen("a.sock")]).start();
    for request in [Request::get("stream.test", "/silent?ms=60000"), Request::get("", "/?pause_ms=60000").http10()] {
        let mut connection = Connection::open_unix(&place.path("a.sock"));
        connection.send(&request.bytes());
        let begun = eventually(PATIENCE, || server.status().total("requests_in_progress") == 1);
        assert!(begun, "{:?}", server.status());
        drop(connection);
        let gone = eventually(PATIENCE, || server.status().total("requests_in_progress") == 0);
        assert!(gone, "the guest goes on: {:?}", server.status());
    }
}

/// An idle connection is closed without an error, whichever version it spoke.
#[test]
fn an_idle_connection_is_closed_in_an_orderly_way() {
    let place = Place::new();
    let _server = setup(&[place.listen("a.sock")]).server("idle_timeout = '100ms'").start();
    let old = Request::get("", "/report").http10().header("Connection", "keep-alive");
    for request in [Request::get("hello.test", "/"), old] {
        let mut connection = Connection::open_unix(&place.path("a.sock"));
        assert_eq!(connection.exchange(&request).status, 200);
        let end = std::io::Read::read(&mut connection.writer(), &mut [0]);
        assert_eq!(end.map_err(|error| error.to_string()), Ok(0));
    }
}

#[test]
fn output_names_the_socket_and_how_to_use_it() {
    let place = Place::new();
    let (listen, path) = (place.listen("a.sock"), place.path("a.sock"));
    let server = setup(&[listen.clone(), "127.0.0.1:0".to_owned()]).start();
    hello(&path);
    server.get("hello.test", "/").expect(200, "Hello World\n");
    let line = server.stdout().wait_for(&["Server running at "]);
    assert!(line.starts_with(&format!("Server running at {listen} and http://127.0.0.1:")), "{line}");
    server.stdout().wait_for(&[&format!("curl --unix-socket {} http://localhost/", path.display())]);
    assert_eq!(server.status().0["listen"][0], listen.as_str());
    let shown = server.command(&["status"]);
    assert!(shown.expect(0, &[]).stdout.contains(&format!("listening on {listen}\n")), "{}", shown.stdout);
    let checked = crate::harness::run_at(server.directory(), &["check", "-c", "daylily.toml"]);
    assert!(checked.expect(0, &[]).stdout.contains(&listen), "{}", checked.stdout);
}

/// The control socket that is named after a Unix socket.
fn control_in(dir: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(dir)
        .expect("a directory")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok());
    names.into_iter().find(|name| name.starts_with("unix-")).map(|name| dir.join(name))
}

/// Without `control`, the control socket is named after the first listener.
#[test]
fn a_server_without_a_tcp_port_has_a_control_socket() {
    let place = Place::new();
    let runtime = place.0.path().display().to_string();
    let begin = || setup(&[place.listen("a.sock")]).env("RUNTIME_DIRECTORY", &runtime);
    let server = begin().without("--control").start();
    hello(&place.path("a.sock"));
    let control = control_in(place.0.path()).expect("a control socket");
    let shown = server.command_at(&control.display().to_string(), &["status"]);
    assert!(shown.expect(0, &[]).stdout.contains(&place.listen("a.sock")), "{}", shown.stdout);
    // A second one finds the path in use, and says how to stop the first.
    let second = begin().spawn();
    second.expect_exit(69, &["another daylily server runs there", &control.display().to_string()]);
}

#[test]
fn the_flag_and_the_variable_take_it_too() {
    let place = Place::new();
    let path = place.path("a.sock");
    let server = Setup::new().route("hello.test", "hello", "").flags(&["--listen", &place.listen("a.sock")]).start();
    hello(&path);
    drop(server);
    let both = format!("127.0.0.1:0,{}?mode=0600", place.listen("b.sock"));
    let server = Setup::new().route("hello.test", "hello", "").env("DAYLILY_LISTEN", &both).start();
    hello(&place.path("b.sock"));
    server.get("hello.test", "/").expect(200, "Hello World\n");
    assert_eq!(mode(&place.path("b.sock")), 0o600);
}
