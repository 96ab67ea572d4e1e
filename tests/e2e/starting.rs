//! Starting: finding a configuration, reporting all errors at once, and the clients that connect meanwhile.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::harness::{Daylily, PATIENCE, Setup, each, eventually, guest, run, run_in};

/// Not one of the kernel's ephemeral ports: a client on such a port may connect to itself before the server listens.
fn free_address() -> SocketAddr {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("a port");
    let mut addresses = (first..30_000).chain(20_000..first).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

fn remove(server: &Daylily, path: &str) {
    fs::remove_file(server.directory().join(path)).expect("the file");
}

fn hello() -> Setup {
    Setup::new().route("hello.test", "hello", "")
}

fn config() -> String {
    format!("[[route]]\npath = '/v1/*'\ncomponent = '{}'\n", guest("hello").display())
}

/// Serves the configuration file that it finds in its directory, which is not named on the command line.
fn found() -> Setup {
    Setup::bare(&["serve"]).file("daylily.toml", config().as_bytes())
}

#[track_caller]
fn expect_required(server: &Daylily) {
    server.command(&["reload"]).expect(78, &["failed to read the configuration `daylily.toml`", "is required since"]);
    server.get("any.test", "/v1/x").expect(200, "Hello World\n");
    server.get("any.test", "/").expect_refusal(404, "no such route");
}

/// If the file is removed later, the Hello World component is not served instead.
#[test]
fn a_configuration_that_was_found_is_required_from_then_on() {
    let server = found().own_program().start();
    let config = server.config();
    remove(&server, "daylily.toml");
    expect_required(&server);
    symlink("nowhere", server.directory().join("daylily.toml")).expect("a link");
    expect_required(&server);
    server.signal(Signal::HUP);
    assert!(eventually(PATIENCE, || server.status().total("reloads_failed") == 3), "{:?}", server.status());
    expect_required(&server);
    // A program that takes over reads the file and requires it, too; and so do later reloads of that program.
    server.signal(Signal::USR2);
    server.log().wait_for(&["upgrade failed", "exit status: 78"]);
    server.put("daylily.toml", &config);
    server.signal(Signal::USR2);
    let old = server.supervisor();
    assert!(eventually(PATIENCE, || server.status().supervisor() != old), "{:?}", server.status());
    remove(&server, "daylily.toml");
    expect_required(&server);
}

/// A file that is created later is used by a reload, and required from then on.
#[test]
fn a_configuration_that_comes_is_found_by_a_reload() {
    let server = Setup::bare(&["serve"]).start();
    server.get("any.test", "/").expect(200, "Hello World\n");
    server.reload();
    server.put("daylily.toml", config());
    server.reload();
    server.get("any.test", "/").expect_refusal(404, "no such route");
    remove(&server, "daylily.toml");
    expect_required(&server);
}

/// A file that cannot be read is not treated as missing.
#[test]
fn a_configuration_that_cannot_be_read_is_not_taken_for_none() {
    let directory = TempDir::new().expect("a directory");
    symlink("nowhere", directory.path().join("daylily.toml")).expect("a link");
    let script = format!("cd {}; exec \"$@\"", directory.path().display());
    for command in ["check", "serve"] {
        let server = Setup::bare(&[command]).without("--workers").through(&script).spawn();
        server.expect_exit(78, &["failed to read the configuration `daylily.toml`", "No such file"]);
    }
}

/// A configuration, the exit code, and all errors that are printed.
#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let config = format!(
        "listen = ['{address}', '192.0.2.1:80']\ncontrol = '/proc/nothing/control.sock'\n\
         [[route]]\npath = '/a'\ncomponent = 'missing.wasm'\n\
         [[route]]\npath = '/b'\ncomponent = 'text.wasm'\n\
         [[route]]\npath = '/c'\ncomponent = '{}'\ndirs = ['nowhere::/data']\n",
        guest("hello").display()
    );
    let files: &[(&str, &[u8])] = &[("daylily.toml", config.as_bytes()), ("text.wasm", b"Hello World")];
    run_in(files, &[], &["serve"]).expect(
        69,
        &[
            &format!("failed to listen on {address}: Address already in use"),
            "failed to listen on 192.0.2.1:80: ",
            "failed to open the control socket",
            "failed to read component `missing.wasm`",
            "failed to load component `text.wasm`",
            "failed to open the directory `nowhere`",
        ],
    );
    // Each error alone is printed in the same way.
    let socket = "control = '/proc/nothing/control.sock'\nlisten = '127.0.0.1:0'\n";
    let component = "[[route]]\ncomponent = 'missing.wasm'\n";
    let config = format!("{socket}{component}");
    run_in(&[("daylily.toml", config.as_bytes())], &[], &["serve"])
        .expect(69, &["failed to open the control socket", "failed to read component `missing.wasm`"]);
}

/// An address, the command that runs daylily, and the hint in the error.
type Hint = (&'static str, &'static [&'static str], &'static str);

const HINTS: &[Hint] = &[
    ("192.0.2.1:3000", &[], "no network interface of this machine has this address"),
    ("nosuchhost.invalid:3000", &[], "the name does not resolve on this machine"),
    ("127.0.0.1:1", &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], "setcap cap_net_bind_service"),
];

/// The port that a platform wants is not taken without being asked for.
#[test]
fn a_port_in_the_environment_that_is_not_listened_on_is_named_at_start() {
    let said = |line: &str| line.contains("the variable PORT is ");
    let server = hello().env("PORT", "18080").start();
    let line = server.log().wait_for(&["INFO", "the variable PORT is 18080", "listen = \"0.0.0.0:$PORT\""]);
    assert!(line.contains("--listen '0.0.0.0:$PORT'"), "{line}");
    server.reload();
    server.log().wait_for(&["reloaded"]);
    assert_eq!(server.log().matching(said).len(), 1);
    let address = free_address();
    for (listen, port) in [("$PORT".to_owned(), address.port().to_string()), ("0".to_owned(), "http".to_owned())] {
        let listen = format!("127.0.0.1:{listen}");
        let server = hello().flags(&["--listen", &listen]).env("PORT", &port).start();
        server.get("hello.test", "/").expect(200, "Hello World\n");
        server.reload();
        server.log().wait_for(&["reloaded"]);
        assert_eq!(server.log().matching(said), Vec::<String>::new(), "{listen}");
    }
}

/// Only the error for an address in use asks whether another server is running.
#[test]
fn what_helps_depends_on_why_an_address_cannot_be_had() {
    each(HINTS, |(address, wrapper, hint)| {
        let script = if wrapper.is_empty() || !geteuid().is_root() { "" } else { &wrapper.join(" ") };
        let script = format!("cd /; exec {script} \"$@\"");
        let server = Setup::bare(&["serve"])
            .flags(&["--listen", address])
            .without("--control")
            .without("--cache-dir")
            .through(&script)
            .spawn();
        server.expect_exit(69, &[&format!("failed to listen on {address}: "), hint]);
        assert!(!server.log().to_end().contains("another server"), "{}", server.log().to_end());
    });
}

/// A restarted supervisor does not have to wait until the dead one's workers have released its address.
#[test]
fn a_server_is_started_again_at_once_after_its_supervisor_was_killed() {
    for _ in 0..5 {
        let first = hello().workers(2).start();
        let address = first.address().to_string();
        first.signal(Signal::KILL);
        let second = hello().flags(&["--listen", &address]).start();
        first.expect_no_process(PATIENCE);
        second.get("hello.test", "/").expect(200, "Hello World\n");
    }
}

/// Waiting for an address in use ends soon; if a daylily that responds on its control socket uses it, it does not wait.
#[test]
fn an_address_that_is_in_use_is_refused() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("an address").to_string();
    let start = Instant::now();
    run(&["serve", "--listen", &address])
        .expect(69, &[&format!("failed to listen on {address}: "), "is another server running there?"]);
    assert!(start.elapsed() >= Duration::from_secs(2), "it was not tried again: {:?}", start.elapsed());

    let runtime = TempDir::new().expect("a directory");
    let runtime = runtime.path().display().to_string();
    let server = hello().without("--control").env("RUNTIME_DIRECTORY", &runtime).start();
    let address = server.address().to_string();
    let refused = run_in(&[], &[("RUNTIME_DIRECTORY", &runtime)], &["serve", "--listen", &address]);
    refused.expect(
        69,
        &["another daylily server runs there", &format!("daylily stop --control {runtime}/{address}.sock")],
    );
}

/// A component that takes long to compile and is then rejected: until then the kernel accepts no connection, which
/// would be reset.
#[test]
fn nobody_is_let_in_before_there_is_somebody_to_answer() {
    let address = free_address();
    let refused = Setup::bare(&["serve", &guest("state").display().to_string(), "--max-memory", "64KiB"])
        .flags(&["--listen", &address.to_string(), "--cache-dir", "fresh"])
        .spawn();
    let mut tries = 0;
    while refused.try_wait().is_none() {
        let client = TcpStream::connect_timeout(&address, Duration::from_millis(20));
        assert!(client.is_err(), "a client was let in, at try {tries}");
        tries += 1;
    }
    refused.expect_exit(78, &["failed to load component", "max_memory"]);
    // The same for an address that a reload adds.
    let server = hello().without("--listen").top("listen = ['127.0.0.1:0']").start();
    let address = free_address();
    server.configure(|config| {
        let config = config.replace("['127.0.0.1:0']", &format!("['127.0.0.1:0', '{address}']"));
        config
            + &format!("\n[[route]]\npath = '/more'\ncomponent = '{}'\n", guest("state").display())
            + "max_memory = '64KiB'\n"
    });
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| server.command(&["reload"]));
        while !reload.is_finished() {
            let client = TcpStream::connect_timeout(&address, Duration::from_millis(20));
            assert!(client.is_err(), "a client was let in before the reload failed");
        }
        reload.join().expect("a reload").expect(78, &["max_memory"]);
    });
}

/// Two servers that both find an address free, and compile for a while before they listen there, do not share it.
#[test]
fn of_two_that_start_at_once_one_serves() {
    let address = free_address();
    let start = || {
        Setup::bare(&["serve", &guest("state").display().to_string()])
            .flags(&["--listen", &address.to_string(), "--cache-dir", "fresh"])
            .spawn()
    };
    let both = [start(), start()];
    let ended = || both.iter().find(|server| server.try_wait().is_some());
    assert!(eventually(PATIENCE, || ended().is_some()), "both serve");
    ended().expect("one of them").expect_exit(69, &[&format!("failed to listen on {address}: Address already in use")]);
    let serves = both.iter().find(|server| server.try_wait().is_none()).expect("the other");
    assert!(eventually(PATIENCE, || serves.workers().len() == 1), "it does not serve");
}
