//! Flags override environment variables, these the file, and the file the defaults; and invalid configurations.

use crate::harness::{Daylily, Request, Setup, each, guest, run_in};

const USAGE: i32 = 2;
const CONFIG: i32 = 78;

/// The largest accepted body, of sizes that are multiples of 10 bytes up to 60.
fn body_limit(server: &Daylily) -> usize {
    let fits = |size: &usize| server.exchange(&Request::post("a.test", "/").body(&vec![b'x'; *size])).status == 200;
    (10..=60).step_by(10).filter(fits).max().unwrap_or(0)
}

#[test]
fn flags_over_environment_over_file_over_defaults() {
    let cases: [(&str, Option<&str>, Option<&str>, usize); 6] = [
        ("", None, None, 60),
        ("max_body = 10", None, None, 10),
        ("max_body = 10", Some("20"), None, 20),
        ("max_body = 10", Some("20"), Some("30"), 30),
        ("max_body = 10", None, Some("30"), 30),
        ("", Some("20"), Some("30"), 30),
    ];
    each(&cases, |&(file, environment, flag, expected)| {
        let mut setup = Setup::new().defaults(file).route("a.test", "echo", "");
        if let Some(size) = environment {
            setup = setup.env("DAYLILY_MAX_BODY", size);
        }
        if let Some(size) = flag {
            setup = setup.flags(&["--max-body", size]);
        }
        assert_eq!(body_limit(&setup.start()), expected);
    });
}

#[test]
fn what_a_route_sets_for_itself_stays() {
    let server = Setup::new()
        .defaults("max_body = 10")
        .route("a.test", "echo", "max_body = 40")
        .env("DAYLILY_MAX_BODY", "20")
        .flags(&["--max-body", "30"])
        .start();
    assert_eq!(body_limit(&server), 40);
}

/// Each flag and its environment variable change the setting that they name.
#[test]
fn every_flag_and_variable_works() {
    type Probe = fn(&Daylily) -> String;
    type Flags = &'static [(&'static str, &'static str)];
    let status: Probe = |server| server.get("a.test", "/grow?mib=8").status.to_string();
    let burn: Probe =
        |server| server.get("burn.test", "/ms?n=900").text().split(" limit").next().unwrap_or_default().into();
    let held: Probe = |server| {
        let mut first = server.connect();
        first.send(&Request::post("echo.test", "/").header("Transfer-Encoding", "chunked").head_bytes());
        first.send(b"1\r\nx\r\n").head();
        first.read_chunk(b"x");
        server.get("hello.test", "/").text().split(" (").next().unwrap_or_default().into()
    };
    let dev: Probe =
        |server| server.get("a b", "/").text().split(" (").next().unwrap_or_default().chars().take(18).collect();
    let cases: [(&str, Flags, Probe, &str); 5] = [
        ("max memory", &[("--max-memory", "4MiB")], status, "500"),
        ("cpu time", &[("--cpu-time", "100ms")], burn, "CPU time"),
        ("wall time", &[("--wall-time", "200ms")], burn, "wall time"),
        ("concurrency and queue", &[("--max-concurrency", "1"), ("--max-queue", "0")], held, "request queue full"),
        ("dev", &[("--dev", "true")], dev, "malformed request:"),
    ];
    let setup = || {
        Setup::new().route("a.test", "memory", "").route("burn.test", "burn", "").route("echo.test", "echo", "").route(
            "hello.test",
            "hello",
            "",
        )
    };
    each(&cases, |(_, flags, probe, expected)| {
        let by_flag = flags.iter().fold(setup(), |setup, (flag, value)| match *flag {
            "--dev" => setup.flags(&["--dev"]),
            flag => setup.flags(&[flag, value]),
        });
        assert_eq!(probe(&by_flag.start()), *expected, "by flag");
        let by_variable = flags.iter().fold(setup(), |setup, (flag, value)| {
            let name = format!("DAYLILY_{}", flag.trim_start_matches("--").replace('-', "_").to_uppercase());
            setup.env(&name, value)
        });
        assert_eq!(probe(&by_variable.start()), *expected, "by variable");
    });
    assert_ne!(status(&setup().start()), "500", "without the flag it is otherwise");
}

#[test]
fn the_log_has_a_level() {
    for (level, told) in [("error", false), ("warn", true), ("info", true)] {
        let server = Setup::new().route("a.test", "trap", "").flags(&["--log", level]).start();
        server.get("a.test", "/before").expect_refusal(500, "guest trapped");
        match told {
            true => drop(server.log().wait_for(&["WARN", "guest trapped"])),
            // The response was sent after the request was logged, so no later line can follow.
            false => assert_eq!(server.log().matching(|line| line.contains("WARN")), Vec::<String>::new()),
        }
    }
    let server = Setup::new().route("a.test", "hello", "").env("DAYLILY_LOG", "debug").start();
    server.get("nowhere.test", "/").expect_refusal(404, "no such route");
    server.log().wait_for(&["DEBUG", "no such route"]);
}

#[test]
fn what_is_typed_wrong_is_a_usage_error() {
    let hello = guest("hello").display().to_string();
    let cases: [(&[&str], &str); 11] = [
        (&["--no-such-flag"], "--no-such-flag"),
        (&["serve", "--max-bodi", "1"], "--max-body"),
        (&[&hello, "second.wasm"], "second.wasm"),
        (&[&hello, "-c", "daylily.toml"], "--config"),
        (&["check", &hello, "-c", "daylily.toml"], "--config"),
        (&["--max-body", "many"], "many"),
        (&["--max-memory", "1KiB"], "64KiB"),
        (&["--cpu-time", "5"], "5"),
        (&["--listen", "nowhere"], "nowhere"),
        (&["--allow-http", "http://a/b"], "http://a/b"),
        (&["--log", "loud"], "loud"),
    ];
    each(&cases, |(arguments, part)| {
        let finished = run_in(&[("daylily.toml", b"")], &[], arguments);
        finished.expect(USAGE, &["error:", part]);
        assert_eq!(finished.stdout, "");
    });
    run_in(&[], &[("DAYLILY_MAX_BODY", "many")], &[]).expect(USAGE, &["many"]);
}

#[test]
fn errors_of_the_file_come_all_at_once_with_line_and_caret() {
    let config = "listen = 'nowhere'\n[server]\nmax_hed = 1\n[defaults]\ncpu_time = 5\n[[route]]\npath = 'x'\n";
    for arguments in [&["check"][..], &["serve"], &["check", "-c", "daylily.toml"]] {
        let finished = run_in(&[("daylily.toml", config.as_bytes())], &[], arguments);
        let places = ["daylily.toml:1:10", "daylily.toml:3:1", "daylily.toml:5:12", "daylily.toml:7:8"];
        finished.expect(CONFIG, &places).expect(CONFIG, &["^", "max_head", "component"]);
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn a_file_that_is_no_configuration() {
    let cases: [(&str, &[u8], &str); 5] = [
        ("no toml", b"[server\n", "daylily.toml:1"),
        ("no text", b"\xff\xfe", "UTF-8"),
        ("no routes", b"dev = true\n", "route"),
        ("equal routes", b"[[route]]\ncomponent = 'a.wasm'\n[[route]]\ncomponent = 'b.wasm'\n", "line 1"),
        ("unknown table", b"[sever]\n[[route]]\ncomponent = 'a.wasm'\n", "server"),
    ];
    each(&cases, |(_, contents, part)| {
        run_in(&[("daylily.toml", contents)], &[], &["check"]).expect(CONFIG, &["daylily.toml", part]);
    });
    run_in(&[], &[], &["check", "-c", "missing.toml"]).expect(CONFIG, &["missing.toml"]);
}

/// Each is one error with its line, wherever the configuration is read: by `check`, at the start and at a reload.
#[test]
fn errors_of_stores_chains_and_schedules_have_a_line_everywhere() {
    let [hello, middleware] = ["hello", "middleware03"].map(|name| guest(name).display().to_string());
    let route = |keys: &str| format!("[[route]]\nname = 'app'\ncomponent = '{hello}'\n{keys}");
    let same = "backend = 'redis://127.0.0.1:1/0'\nprefix = 'same:'\n";
    let cases = [
        (route("stores = ['visits']"), "there is no store `visits`", "5:11"),
        (format!("{}\n[store.visits]\nbackend = 'mysql'", route("")), "unknown backend \"mysql\"", "7:11"),
        (
            format!("[[route]]\ncomponent = '{middleware}'"),
            "the handler that follows a middleware, and none follows",
            "3:13",
        ),
        (route(&format!("middleware = ['{hello}']")), "is of WASI 0.2, whose middleware can pass", "5:15"),
        (
            format!("[store.a]\n{same}[store.b]\n{same}{}", route("")),
            "the store `a` has the same server and prefix",
            "7:10",
        ),
        (
            format!("{}\n[[schedule]]\nname = 'x'\nroute = 'app'\npath = '/'\ncron = '61 * * * *'", route("")),
            "invalid cron line",
            "10:8",
        ),
    ];
    let server = Setup::new().route("hello.test", "hello", "").start();
    each(&cases, |(keys, said, place)| {
        let config = format!("listen = '127.0.0.1:0'\n{keys}\n");
        let parts = [*said, &format!("--> daylily.toml:{place}"), "^^^"];
        for command in ["check", "serve"] {
            let finished = run_in(&[("daylily.toml", config.as_bytes())], &[], &[command]);
            finished.expect(CONFIG, &parts);
            assert_eq!(finished.stderr.matches("error: ").count(), 1, "{}", finished.stderr);
        }
        server.put("daylily.toml", &config);
        let finished = server.command(&["reload"]);
        assert_ne!(finished.code, 0);
        for part in [*said, &format!("daylily.toml:{place}"), "^^^"] {
            assert!(finished.stderr.contains(part), "no {part:?}: {}", finished.stderr);
        }
        assert_eq!(finished.stderr.matches("error: ").count(), 1, "{}", finished.stderr);
        server.get("hello.test", "/").expect(200, "Hello World\n");
    });
}
