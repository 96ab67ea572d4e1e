//! `daylily build` runs the command of `[build]`, and `serve`, `check` and `reload` do not.

use std::fs;

use crate::harness::{Setup, guest, run_at, run_in};

#[test]
fn only_build_and_dev_run_commands() {
    let config = "[build]\ncommand = 'touch ran'\n[[route]]\ncomponent = 'hello.wasm'\n";
    let hello = fs::read(guest("hello")).expect("a built guest");
    let server = Setup::bare(&["serve"])
        .file("daylily.toml", config.as_bytes())
        .file("hello.wasm", &hello)
        .flags(&["--watch", "--dev"])
        .start();
    server.get("localhost", "/").expect(200, "Hello World\n");
    server.reload();
    assert!(run_at(server.directory(), &["check"]).expect(0, &[]).stdout.contains("ok: 1 route"));
    assert!(!server.directory().join("ran").exists());
    // Nor have they what only `dev` adds.
    assert_eq!(server.get("localhost", "/.daylily/dev.js").text(), "Hello World\n");
    assert_eq!(server.get("elsewhere.example", "/").status, 200);
}

#[test]
fn builds_in_the_foreground() {
    fn check(config: &str, code: i32, parts: &[&str]) {
        run_in(&[("daylily.toml", config.as_bytes())], &[], &["build"]).expect(code, parts);
    }
    let route = "[[route]]\ncomponent = 'app.wasm'\n";
    // Values of guests need not exist where components are built.
    let secrets = "env = { A = { env = 'MISSING' }, B = { file = 'missing' } }\nenv_file = 'missing.env'\n";
    check(
        &format!("listen = '0.0.0.0:$PORT'\n[build]\ncommand = 'echo made > app.wasm'\n{route}{secrets}"),
        0,
        &["building: echo made > app.wasm"],
    );
    check(&format!("[build]\ncommand = 'exit 3'\n{route}"), 70, &["the build failed: `exit 3`: exit code 3"]);
    check(&format!("[build]\ncommand = 'kill -9 $$'\n{route}"), 70, &["signal: 9"]);
    check(&format!("[build]\ncommand = 'true'\n{route}"), 70, &["it made no `app.wasm`"]);
    check(route, 78, &["there is nothing to build", "[build]"]);
    check("[build]\n", 78, &["[build] has no `command`"]);
}

#[test]
fn nobody_starts_a_guard_by_hand() {
    run_in(&[], &[], &["build-guard", "true"]).expect(2, &["this command is internal"]);
}
