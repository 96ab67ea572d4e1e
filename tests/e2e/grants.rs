//! A guest can use only what its route grants by name.

use std::net::TcpListener;

use crate::harness::{Daylily, Setup, each};

/// The lines of the response for `query`.
fn lines(server: &Daylily, host: &str, query: &str) -> Vec<String> {
    let response = server.get(host, &format!("/?{query}"));
    assert_eq!(response.status, 200, "{response:?}");
    response.text().lines().map(str::to_owned).collect()
}

#[test]
fn nothing_is_granted_by_default() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a flag");
    let address = listener.local_addr().expect("an address");
    let server = Setup::new().env("SECRET", "leaked").env("PATH", "/bin").route("a.test", "env", "").start();
    let query = format!("read=/etc/passwd&read=daylily.toml&write=/tmp/x&tcp={address}&resolve=localhost&var=SECRET");
    let lines = lines(&server, "a.test", &query);
    for what in ["env ", "dir "] {
        assert!(!lines.iter().any(|line| line.starts_with(what)), "{lines:?}");
    }
    assert!(!lines.iter().any(|line| line.contains("leaked")), "{lines:?}");
    for what in
        ["read /etc/passwd", "read daylily.toml", "write /tmp/x", &format!("tcp {address}"), "resolve localhost"]
    {
        let prefix = format!("{what}: error: ");
        assert!(lines.iter().any(|line| line.starts_with(&prefix)), "no {prefix:?} in {lines:?}");
    }
    assert!(lines.contains(&"var SECRET: none".to_owned()), "{lines:?}");
    let arguments = lines.iter().find_map(|line| line.strip_prefix("args ")).expect("a number of arguments");
    assert!(["0", "1"].contains(&arguments), "{arguments}");
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn environment_and_variables_come_from_file_and_flags() {
    let setup = || {
        Setup::new()
            .defaults("env = { A = 'file', B = 'file' }\nvars = { V = 'file', W = 'file' }")
            .route("a.test", "env", "")
            .route("own.test", "env", "env = { A = 'route' }\nvars = { V = 'route' }")
    };
    let query = "var=V&var=W&var=X";
    let told = |server: &Daylily, host: &str| -> Vec<String> {
        lines(server, host, query)
            .into_iter()
            .filter(|line| line.starts_with("env") || line.starts_with("var"))
            .collect()
    };
    let server = setup().start();
    assert_eq!(told(&server, "a.test"), ["env A=file", "env B=file", "var V: file", "var W: file", "var X: none"]);
    assert_eq!(told(&server, "own.test"), ["env A=route", "env B=file", "var V: route", "var W: file", "var X: none"]);
    let flags = ["--env", "A=flag", "--env", "C=a=b", "--var", "W=flag", "--var", "X=flag"];
    let server = setup().flags(&flags).start();
    let expected = ["env A=flag", "env B=file", "env C=a=b", "var V: file", "var W: flag", "var X: flag"];
    assert_eq!(told(&server, "a.test"), expected);
    let expected = ["env A=route", "env B=file", "env C=a=b", "var V: route", "var W: flag", "var X: flag"];
    assert_eq!(told(&server, "own.test"), expected);
}

fn with_files(setup: Setup) -> Setup {
    setup
        .file("site/page.txt", b"a page")
        .file("scratch/old.txt", b"old")
        .file("secret.txt", b"a secret")
        .file("site/deep/inner.txt", b"inner")
}

/// Guest paths, the result of using them, and the files on disk afterwards.
#[test]
fn directories_are_what_was_granted_and_no_more() {
    let dirs = "dirs = ['site::/site:ro', 'scratch::/scratch']";
    let by_file = with_files(Setup::new()).route("a.test", "env", dirs).start();
    let flags = ["--dir", "site::/site:ro", "--dir", "scratch::/scratch"];
    let by_flag = with_files(Setup::new()).route("a.test", "env", "").flags(&flags).start();
    let none = with_files(Setup::new()).route("a.test", "env", "").route("b.test", "env", dirs).start();
    assert!(!lines(&none, "a.test", "").iter().any(|line| line.starts_with("dir")), "another route's grant");
    for server in [by_file, by_flag] {
        std::os::unix::fs::symlink("../secret.txt", server.directory().join("site/link.txt")).expect("a link");
        let absolute = server.directory().join("secret.txt");
        std::os::unix::fs::symlink(&absolute, server.directory().join("scratch/link.txt")).expect("a link");
        let granted = lines(&server, "a.test", "");
        let dirs: Vec<&String> = granted.iter().filter(|line| line.starts_with("dir")).collect();
        assert_eq!(dirs, ["dir /site", "dir /scratch"]);
        let cases = [
            ("read", "/site/page.txt", "a page"),
            ("read", "/site/deep/inner.txt", "inner"),
            ("read", "/site/deep/../page.txt", "a page"),
            ("read", "/scratch/old.txt", "old"),
            ("write", "/scratch/new.txt", "done"),
            ("read", "/scratch/new.txt", "written"),
            ("write", "/site/new.txt", "error: "),
            ("write", "/site/page.txt", "error: "),
            ("read", "/site/../secret.txt", "error: "),
            ("read", "/scratch/../site/page.txt", "error: "),
            ("read", "/site/link.txt", "error: "),
            ("read", "/scratch/link.txt", "error: "),
            ("write", "/scratch/link.txt", "error: "),
            ("read", "/secret.txt", "error: "),
            ("read", "/etc/passwd", "error: "),
        ];
        each(&cases, |(what, path, expected)| {
            let answer = lines(&server, "a.test", &format!("{what}={path}"));
            let prefix = format!("{what} {path}: {expected}");
            assert!(answer.iter().any(|line| line.starts_with(&prefix)), "no {prefix:?} in {answer:?}");
        });
        let on_disk = |path: &str| std::fs::read_to_string(server.directory().join(path)).ok();
        assert_eq!(on_disk("scratch/new.txt").as_deref(), Some("written"));
        assert_eq!(on_disk("site/page.txt").as_deref(), Some("a page"));
        assert_eq!(on_disk("site/new.txt"), None);
        assert_eq!(on_disk("secret.txt").as_deref(), Some("a secret"));
    }
}

#[test]
fn a_directory_that_is_not_there_is_told_at_start() {
    let component = crate::harness::guest("env").display().to_string();
    let finished = crate::harness::run(&["check", "--dir", "missing::/x", &component]);
    assert_ne!(finished.code, 0, "{finished:?}");
    assert!(finished.stderr.contains("missing"), "{}", finished.stderr);
}
