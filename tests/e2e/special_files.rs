//! Files of the wrong type or size: each gives one clear error at once, and blocks nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Daylily, Setup, Upstream, each, guest, make_pipe, run_at};

/// Far below the time limit for reading a file.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A name, what replaces the file, and the error.
type Case = (&'static str, fn(&Path), &'static str);

const CASES: &[Case] = &[
    ("a named pipe", make_pipe, "it is a named pipe (FIFO), not a regular file"),
    ("a directory", |path| fs::create_dir(path).expect("a directory"), "it is a directory, not a regular file"),
    (
        "a device without an end",
        |path| symlink("/dev/zero", path).expect("a link"),
        "it is a device, not a regular file",
    ),
    ("a socket", |path| drop(UnixListener::bind(path).expect("a socket")), "it is a socket, not a regular file"),
    ("a file without an end", make_huge, "it is larger than"),
];

/// A sparse file, which takes no disk space.
fn make_huge(path: &Path) {
    fs::File::create(path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
}

fn remove(path: &Path) {
    if fs::remove_file(path).is_err() {
        fs::remove_dir(path).expect("a directory");
    }
}

fn expect_quick(start: Instant) {
    assert!(start.elapsed() < AT_ONCE, "it took {:?}", start.elapsed());
}

fn app() -> Setup {
    let component = fs::read(guest("hello")).expect("a built guest");
    Setup::new().route_to("app.test", "app.wasm").file("app.wasm", &component)
}

fn hello(server: &Daylily) {
    server.get("app.test", "/").expect(200, "Hello World\n");
}

/// A file that the server reads, the exit code when it cannot be read, and how the error begins.
const FILES: &[(&str, i32, &str)] = &[
    ("app.wasm", 66, "failed to read component `app.wasm`"),
    ("daylily.toml", 78, "failed to read the configuration `daylily.toml`"),
];

#[test]
fn a_reload_refuses_them_and_the_next_one_works() {
    let server = app().start();
    for (file, code, begin) in FILES {
        let path = server.directory().join(file);
        let contents = fs::read(&path).expect("a file");
        each(CASES, |(_, make, expected)| {
            remove(&path);
            make(&path);
            let start = Instant::now();
            let before = server.status().generation();
            server.command(&["reload"]).expect(*code, &[begin, expected]);
            expect_quick(start);
            hello(&server);
            remove(&path);
            server.put(file, &contents);
            server.reload();
            assert!(server.status().generation() > before);
            hello(&server);
        });
    }
}

#[test]
fn a_start_and_a_check_refuse_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("special");
    each(CASES, |(_, make, expected)| {
        make(&path);
        for command in ["serve", "check"] {
            for (arguments, code) in [(&["special"][..], 66), (&["-c", "special"], 78)] {
                let start = Instant::now();
                let arguments = [&[command], arguments].concat();
                run_at(directory.path(), &arguments).expect(code, &[expected]);
                expect_quick(start);
            }
        }
        remove(&path);
    });
}

#[test]
fn certificates_are_not_waited_for() {
    let server = Setup::new()
        .route("a.test", "outgoing", "allow_http = ['https://127.0.0.1:*']")
        .env("SSL_CERT_FILE", "certificates.pem")
        .env("PATH", "/usr/bin:/bin")
        .through("mkfifo certificates.pem; exec \"$@\"")
        .start();
    let upstream = Upstream::echo();
    let https = format!("/?url=https://127.0.0.1:{}/", upstream.port());
    for _ in 0..3 {
        let start = Instant::now();
        let response = server.get("a.test", &https);
        assert_eq!(response.text(), "error: ErrorCode::ConfigurationError\n");
        expect_quick(start);
    }
    server.log().wait_for(&["failed to read the trusted certificates in SSL_CERT_FILE", "named pipe"]);
}
