//! Values of `env` and `vars` from outside of the configuration: where they come from, that they are read again, and that
//! they are shown nowhere.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::{Daylily, PATIENCE, Setup, as_component, built, each, eventually, run_in};

const CONFIG: i32 = 78;

/// What the guest has of its environment and of the variables `one` and `two`.
fn granted(server: &Daylily, host: &str) -> Vec<String> {
    let response = server.get(host, "/?var=one&var=two");
    assert_eq!(response.status, 200, "{response:?}");
    let is_granted = |line: &&str| line.starts_with("env ") || line.starts_with("var ");
    response.text().lines().filter(is_granted).map(str::to_owned).collect()
}

const ROUTE: &str = "env_file = '.env'\n\
    env = { STAGE = 'dev', TOKEN = { env = 'SHOP_TOKEN' }, KEY = { file = 'key' }, API = { credential = 'api' } }\n\
    vars = { one = { file = 'key' }, two = { env = 'SHOP_TOKEN' } }";

fn shop() -> Setup {
    Setup::new()
        .env("SHOP_TOKEN", "s3cret-token")
        .env("PASSED_ON", "s3cret-flag")
        .env("CREDENTIALS_DIRECTORY", "credentials")
        .file(".env", b"# Of the shop\nexport STAGE=s3cret-stage\nFROM_FILE='s3cret file'\n")
        .file("key", b"s3cret-key\n")
        .file("credentials/api", b"s3cret-credential\n")
        .flags(&["--env", "PASSED_ON"])
        .route("shop.test", "env", ROUTE)
}

const GRANTED: [&str; 8] = [
    "env API=s3cret-credential",
    "env FROM_FILE=s3cret file",
    "env KEY=s3cret-key",
    "env PASSED_ON=s3cret-flag",
    "env STAGE=dev",
    "env TOKEN=s3cret-token",
    "var one: s3cret-key",
    "var two: s3cret-token",
];

#[test]
fn values_come_from_where_the_configuration_says() {
    let server = shop().start();
    assert_eq!(granted(&server, "shop.test"), GRANTED);
}

/// Nor does the environment of daylily reach a route that does not name it, or the file of another one.
#[test]
fn other_routes_do_not_get_them() {
    let server = Setup::new()
        .env("SHOP_TOKEN", "s3cret-token")
        .file("key", b"s3cret-key")
        .route("shop.test", "env", "env = { TOKEN = { env = 'SHOP_TOKEN' } }")
        .route("other.test", "env", "env = { KEY = { file = 'key' } }")
        .start();
    assert_eq!(granted(&server, "shop.test"), ["env TOKEN=s3cret-token", "var one: none", "var two: none"]);
    assert_eq!(granted(&server, "other.test"), ["env KEY=s3cret-key", "var one: none", "var two: none"]);
}

#[test]
fn secrets_are_shown_nowhere() {
    let server = shop().flags(&["--log", "trace", "--dev"]).start();
    assert_eq!(granted(&server, "shop.test"), GRANTED);
    server.reload();
    for arguments in [&["status"][..], &["status", "--json"], &["reload"]] {
        let shown = server.command(arguments);
        shown.expect(0, &[]);
        assert!(!shown.stdout.contains("s3cret") && !shown.stderr.contains("s3cret"), "{shown:?}");
    }
    // Neither in the command line of a process, nor in the errors of a start and a reload that fail for other reasons.
    for process in server.processes() {
        let command = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&command).contains("s3cret"), "{}", process.pid);
    }
    server.put(".env", "s3cret\nA='s3cret\n");
    server.put("key", b"s3cret\xff");
    let refused = server.command(&["reload"]);
    refused.expect(CONFIG, &["line 1: there is no `=`", "line 2: the value has no closing quote", "not valid UTF-8"]);
    assert!(!refused.stderr.contains("s3cret"), "{refused:?}");
    let log = server.log().lines().join("\n");
    assert!(log.contains("reload failed") && !log.contains("s3cret"), "{log}");
}

#[test]
fn check_reads_them_and_does_not_show_them() {
    let config = "[[route]]\ncomponent = 'missing.wasm'\nenv_file = '.env'\nenv = { K = { file = 'key' } }\n";
    let files: &[(&str, &[u8])] =
        &[("daylily.toml", config.as_bytes()), (".env", b"A=s3cret-a\n"), ("key", b"s3cret-key\n")];
    let checked = run_in(files, &[], &["check"]);
    checked.expect(66, &["failed to read component"]);
    let whole = run_in(
        &[("key", b"s3cret-key\n"), (".env", b"A=s3cret\n")],
        &[("TOKEN", "s3cret")],
        &["check", "--env", "TOKEN", "--env-file", ".env", "--log", "trace"],
    );
    whole.expect(0, &[]);
    for finished in [checked, whole] {
        assert!(!finished.stdout.contains("s3cret") && !finished.stderr.contains("s3cret"), "{finished:?}");
    }
}

/// With the errors of the file, at once.
#[test]
fn what_is_missing_is_an_error_with_its_place() {
    let config = "[defaults]\nenv = { STAGE = { env = 'STAGE' } }\nmax_bdy = 1\n\
        [[route]]\nname = 'api'\ncomponent = 'a.wasm'\nvars = { key = { file = '/nowhere/key' } }\n";
    let parts = [
        "route `api` has no value for `STAGE` of `env`: there is no variable `STAGE` in the environment of daylily",
        "daylily.toml:2:17",
        "set STAGE where daylily is started",
        "unknown key `max_bdy`",
        "route `api` has no value for `key` of `vars`: `/nowhere/key` cannot be read: No such file",
        "daylily.toml:7:16",
        "create the file, or correct the path; it is a regular file of at most 64KiB",
    ];
    for command in ["check", "serve"] {
        run_in(&[("daylily.toml", config.as_bytes())], &[], &[command]).expect(CONFIG, &parts);
    }
    run_in(&[], &[], &["check", "--env", "STAGE", "--env-file", "/dev/zero"]).expect(
        CONFIG,
        &["no variable `STAGE`", "cannot use its `env_file`: `/dev/zero` cannot be read: it is a device"],
    );
}

fn keys() -> Setup {
    Setup::new().file("a.env", b"A=one\n").file("..one/key", b"first\n").route(
        "keys.test",
        "env",
        "env_file = 'a.env'\nenv = { KEY = { file = 'key' } }",
    )
}

/// Mounts the secret as Kubernetes does: the file is a link through a directory, which is a link that is replaced.
fn mount(server: &Daylily, version: &str) {
    let path = |name: &str| server.directory().join(name);
    let _ = fs::remove_file(path("..data_tmp"));
    symlink(version, path("..data_tmp")).expect("a link");
    fs::rename(path("..data_tmp"), path("..data")).expect("a link");
    if !path("key").exists() {
        symlink("..data/key", path("key")).expect("a link");
    }
}

/// Starts a server whose secret is mounted.
fn mounted(setup: Setup) -> Daylily {
    setup.through("ln -s ..one ..data; ln -s ..data/key key; exec \"$@\"").start()
}

fn expect(server: &Daylily, a: &str, key: &str) {
    assert_eq!(granted(server, "keys.test")[..2], [format!("env A={a}"), format!("env KEY={key}")]);
}

#[test]
fn a_reload_reads_them_again() {
    let server = mounted(keys());
    expect(&server, "one", "first");
    server.put("a.env", "A=two\n");
    fs::create_dir(server.directory().join("..two")).expect("a directory");
    server.put("..two/key", "second\n");
    mount(&server, "..two");
    // Nothing is read while there is no reload, also not for a worker that is replaced.
    expect(&server, "one", "first");
    server.reload();
    expect(&server, "two", "second");
    // What cannot be read changes nothing.
    server.put("a.env", "A\n");
    fs::remove_file(server.directory().join("..two/key")).expect("a file");
    server.command(&["reload"]).expect(CONFIG, &["line 1: there is no `=`", "has no value for `KEY` of `env`"]);
    expect(&server, "two", "second");
}

#[test]
fn a_replaced_worker_has_the_values_of_its_generation() {
    let server = mounted(keys());
    server.put("a.env", "A=two\n");
    let old = server.workers();
    old[0].signal(rustix::process::Signal::KILL);
    let replaced = eventually(PATIENCE, || server.workers().first().is_some_and(|worker| *worker != old[0]));
    assert!(replaced, "the worker is not replaced");
    expect(&server, "one", "first");
}

#[test]
fn files_with_values_are_watched() {
    fn expect_soon(server: &Daylily, a: &str, key: &str) {
        let expected = [format!("env A={a}"), format!("env KEY={key}")];
        let came = eventually(PATIENCE, || granted(server, "keys.test").get(..2) == Some(&expected[..]));
        assert!(came, "not {expected:?}: {:?}", granted(server, "keys.test"));
    }
    let server = mounted(keys().flags(&["--watch"]));
    expect(&server, "one", "first");
    server.put("a.env", "A=two\n");
    expect_soon(&server, "two", "first");
    fs::create_dir(server.directory().join("..two")).expect("a directory");
    server.put("..two/key", "second\n");
    mount(&server, "..two");
    expect_soon(&server, "two", "second");
    // A configuration that names a missing file fails, and is tried again when the file is there.
    server.configure(|config| config.replace("'a.env'", "'late.env'"));
    server.log().wait_for(&["cannot use its `env_file`: `late.env` cannot be read"]);
    server.put("late.env", "A=three\n");
    expect_soon(&server, "three", "second");
}

/// The guests write these texts whatever they are granted.
#[test]
fn secrets_in_what_guests_write_are_masked() {
    let secret = |route: &str| {
        format!("name = '{route}'\nhost = '{route}'\nenv = {{ SECRET = {{ env = 'OF_{}' }} }}", &route[..3])
    };
    let server = Setup::new()
        .env("OF_out", "no newline")
        .env("OF_log", "logged after it")
        .env("OF_dev", "counting the")
        .env("OF_err", "giving up")
        .env("OF_sho", "newline")
        .route_at(&secret("out.test"), "output")
        .route_at(&secret("log.test"), "logging")
        .route_at(&secret("dev.test"), "fails")
        .route_at(&secret("err.test"), "fails")
        .route_at(&secret("sho.test"), "output")
        .route("plain.test", "output", "env = { SECRET = 'no newline' }")
        .flags(&["--dev"])
        .start();
    server.get("out.test", "/partial").expect(200, "ok\n");
    server.log().wait_for(&["guest: ***", "route=out.test"]);
    server.get("log.test", "/stdout-first").expect(200, "ok\n");
    server.log().wait_for(&["guest: ***", "route=log.test"]);
    let failed = server.get("dev.test", "/nested").text();
    assert!(failed.contains("\nstdout:\n*** items\n"), "{failed}");
    server.log().wait_for(&["guest: *** items", "route=dev.test"]);
    let failed = server.get("err.test", "/exit").text();
    assert!(failed.contains("\nstderr:\n***\n"), "{failed}");
    server.log().wait_for(&["guest: ***", "route=err.test", "stream=\"stderr\""]);
    // Shorter than 8 bytes, and not from outside.
    for route in ["sho.test", "plain.test"] {
        server.get(route, "/partial").expect(200, "ok\n");
        server.log().wait_for(&["guest: no newline", &format!("route={route}")]);
    }
    let log = server.log().lines();
    for text in ["logged after it", "counting the", "giving up"] {
        assert!(!log.iter().any(|line| line.contains(text)), "{text} is in the log");
    }
    assert_eq!(log.iter().filter(|line| line.contains("no newline")).count(), 2);
}

#[test]
fn the_port_of_the_environment_is_listened_on_where_it_is_asked_for() {
    let server = Setup::new()
        .without("--listen")
        .top("listen = '127.0.0.1:$PORT'")
        .env("PORT", "0")
        .route("a.test", "hello", "")
        .start();
    server.get("a.test", "/").expect(200, "Hello World\n");
    run_in(&[], &[], &["check", "--listen", "127.0.0.1:${PORT}"])
        .expect(CONFIG, &["`listen` has `$PORT`, and there is no variable `PORT` in the environment", "set PORT"]);
    let checked = run_in(&[], &[("PORT", "8080")], &["check", "--listen", "127.0.0.1:${PORT}"]);
    assert_eq!(checked.stdout, "route /*: the built-in Hello World\nok: 1 route on 127.0.0.1:8080\n", "{checked:?}");
}

/// The text of an error code is eight bytes, which no terminal shows, many times.
#[test]
fn secrets_in_error_codes_are_masked() {
    let secret = "\u{1}".repeat(8);
    let forms = ["trap", "service03"].into_iter().fold(Setup::new().env("TEXT", &secret), |setup, name| {
        let component = std::fs::read(built(name)).expect("a guest");
        let whole = as_component(&component);
        [("direct", &component), ("entire", &whole)].into_iter().fold(setup, |setup, (form, component)| {
            let (host, file) = (format!("{form}-{name}.test"), format!("{form}-{name}.wasm"));
            let keys = format!("name = '{host}'\nhost = '{host}'\nenv = {{ SECRET = {{ env = 'TEXT' }} }}");
            setup.file(&file, component).route_with(&keys, &file)
        })
    });
    let server = forms.start();
    let cases = [
        ("direct-trap.test", "/error-long?kib=1", "guest returned an error code"),
        ("entire-trap.test", "/error-long?kib=1", "guest returned an error code"),
        ("direct-service03.test", "/error-long?kib=1", "guest returned an error code"),
        // It is longer than a log line may be.
        ("entire-service03.test", "/error-long?kib=100", "guest returned an error code"),
        ("direct-service03.test", "/error-long-after?kib=100", "internal error"),
        ("entire-service03.test", "/error-long-after?kib=1", "internal error"),
    ];
    each(&cases, |(host, target, reason)| {
        let path = target.split_once('?').expect("a query").0;
        server.get(host, target);
        let line = server.log().wait_for(&[host, reason, &format!("path={path}")]);
        assert!(line.contains("***") && !line.contains(r"u{1}"), "{line}");
    });
}
