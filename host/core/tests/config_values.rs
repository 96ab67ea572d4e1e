//! Values from outside of the configuration: from the environment, files, credentials and `env_file`.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use common::{Fixed, overrides};
use daylily_core::config::{self, ComponentSource, Config, MAX_VALUE_FILE_BYTES, Overrides};

mod common;

fn around() -> Fixed {
    let mut around = Fixed::new(
        &[("TOKEN", "s3cret-token"), ("EMPTY", ""), ("PORT", "8080"), ("CREDENTIALS_DIRECTORY", "/creds")],
        &[
            ("/conf/.env", b"A=file\nB='file b'\n"),
            ("/conf/other.env", b"C=other\n"),
            ("/conf/bad.env", b"A=1\ns3cret\nB=${s3cret}\n"),
            ("flag.env", b"A=flag\n"),
            ("/conf/key", b"s3cret-key\n"),
            ("/conf/crlf", b"one\r\ntwo\r\n\r\n"),
            ("/conf/bare", b"bare"),
            ("/conf/empty", b""),
            ("/conf/newline", b"\n"),
            ("/conf/nul", b"a\0s3cret"),
            ("/conf/latin1", b"s3cret \xe9"),
            ("/creds/api", b"s3cret-credential\n"),
        ],
    );
    around.variables.insert("LATIN1".to_owned(), OsString::from_vec(b"s3cret \xe9".to_vec()));
    around.files.insert("/conf/full".into(), vec![b'x'; MAX_VALUE_FILE_BYTES as usize]);
    around.files.insert("/conf/large".into(), vec![b'x'; MAX_VALUE_FILE_BYTES as usize + 1]);
    around
}

fn parse(text: &str, flags: &[(&str, &str)]) -> Result<Config, String> {
    let read = config::parse_in(&around(), Path::new("/conf/daylily.toml"), text, &overrides(flags));
    read.map_err(|errors| errors.to_string())
}

/// `NAME=value` for each variable of the first route, and of its `vars`, in the order of their names.
fn granted(config: &Config) -> String {
    let mut granted = String::new();
    let grants = &config.routes.first().unwrap().grants;
    for (name, value) in grants.env.iter().chain(&grants.vars) {
        write!(granted, "{name}={} ", value.text()).unwrap();
    }
    granted.pop();
    granted
}

#[test]
fn values_and_where_they_come_from() {
    fn check(route: &str, flags: &[(&str, &str)], expected: &str) {
        let config = parse(&format!("[[route]]\ncomponent = 'a.wasm'\n{route}\n"), flags).unwrap();
        assert_eq!(granted(&config), expected, "{route} {flags:?}");
    }
    check("env = { T = { env = 'TOKEN' }, E = { env = 'EMPTY' } }", &[], "E= T=s3cret-token");
    check("env.T.env = 'TOKEN'", &[], "T=s3cret-token");
    check("vars = { T = { env = 'TOKEN' }, K = { file = 'key' } }", &[], "K=s3cret-key T=s3cret-token");
    check("env = { K = { file = '/conf/key' }, L = { file = 'bare' } }", &[], "K=s3cret-key L=bare");
    check("env = { K = { file = 'empty' }, L = { file = 'newline' } }", &[], "K= L=");
    // One line end is removed, and no more.
    check("vars = { K = { file = 'crlf' } }", &[], "K=one\r\ntwo\r\n");
    check("vars = { K = { file = 'nul' } }", &[], "K=a\0s3cret");
    check("env = { C = { credential = 'api' } }", &[], "C=s3cret-credential");
    check("env = { A = 'a$${B}', B = '$C' }", &[], "A=a${B} B=$C");
    check("", &[("env", "TOKEN"), ("env", "A=b")], "A=b TOKEN=s3cret-token");
    // `env` goes over `env_file`, wherever it is from.
    check("env_file = '.env'", &[], "A=file B=file b");
    check("env_file = '.env'\nenv = { A = 'env' }", &[], "A=env B=file b");
    check("env_file = '.env'", &[("env", "A=flag")], "A=flag B=file b");
    check("env_file = '.env'", &[("env_file", "flag.env")], "A=file B=file b");
    check("", &[("env_file", "flag.env")], "A=flag");
    check("env = { A = 'route' }", &[("env", "A=flag"), ("env_file", "flag.env")], "A=route");
    // What is overridden need not exist.
    check("env = { MISSING = 'here' }", &[("env", "MISSING")], "MISSING=here");
}

#[test]
fn a_route_takes_over_what_the_defaults_have() {
    fn check(defaults: &str, route: &str, expected: &str) {
        let text = format!("[defaults]\n{defaults}\n[[route]]\ncomponent = 'a.wasm'\n{route}\n");
        assert_eq!(granted(&parse(&text, &[]).unwrap()), expected, "{defaults} {route}");
    }
    check("env_file = '.env'", "", "A=file B=file b");
    check("env_file = '.env'", "env_file = 'other.env'", "C=other");
    check("env_file = 'missing'", "env_file = 'other.env'", "C=other");
    check(
        "env_file = '.env'\nenv = { A = 'defaults' }",
        "env = { T = { env = 'TOKEN' } }",
        "A=defaults B=file b T=s3cret-token",
    );
    check("env = { A = { file = 'missing' } }", "env = { A = 'route' }", "A=route");
}

#[test]
fn no_value_from_outside_is_printed() {
    let text = "[[route]]\ncomponent = 'a.wasm'\nenv_file = '.env'\nenv = { T = { env = 'TOKEN' }, W = 'written' }\n\
        vars = { K = { file = 'key' }, C = { credential = 'api' } }";
    let config = parse(text, &[("env", "TOKEN")]).unwrap();
    let shown = format!("{config:?} {config:#?} {:?}", overrides(&[("env", "TOKEN")]));
    for secret in ["s3cret", "file b"] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
    assert!(shown.contains("written") && shown.contains("***"), "{shown}");
    let grants = &config.routes.first().unwrap().grants;
    let secrets = grants.env.values().chain(grants.vars.values()).filter(|value| value.secret().is_some());
    assert_eq!(secrets.count(), 6);
}

#[test]
fn what_is_missing_or_invalid() {
    fn check(route: &str, flags: &[(&str, &str)], expected: &[&str]) {
        let text = format!("[[route]]\nname = 'api'\ncomponent = 'a.wasm'\n{route}\n");
        let errors = parse(&text, flags).expect_err(route);
        for part in expected {
            assert!(errors.contains(part), "{route}: no {part:?} in {errors}");
        }
        assert!(!errors.contains("s3cret"), "{errors}");
    }
    let of_env = "route `api` has no value for `K` of `env`: ";
    check("env = { K = { env = 'NONE' } }", &[], &[of_env, "no variable `NONE`", "set NONE", "daylily.toml:4:13"]);
    check("env = { K = { env = 'LATIN1' } }", &[], &[of_env, "`LATIN1` is not valid UTF-8"]);
    check("vars = { K = { file = 'none' } }", &[], &["`K` of `vars`: `/conf/none` cannot be read", "create the file"]);
    check("env = { K = { file = 'nul' } }", &[], &[of_env, "NUL", "with `vars`"]);
    check("env = { K = { file = 'latin1' } }", &[], &[of_env, "`/conf/latin1` is not valid UTF-8"]);
    check("env = { K = { file = 'large' } }", &[], &[of_env, "it is too large", "at most 64KiB"]);
    check(
        "env = { K = { credential = 'db' } }",
        &[],
        &[of_env, "the credential `db` cannot", "LoadCredential=db:PATH"],
    );
    check(
        "env_file = 'none.env'",
        &[],
        &["route `api` cannot use its `env_file`: `/conf/none.env` cannot be read", "daylily.toml:4:12"],
    );
    check(
        "env_file = 'bad.env'",
        &[],
        &["`env_file`: `/conf/bad.env`, line 2: there is no `=`", "`/conf/bad.env`, line 3: "],
    );
    // Those of flags have no place in the file.
    check(
        "",
        &[("env", "NONE")],
        &["error: route `api` has no value for `NONE` of `env`: there is no variable `NONE`"],
    );
    check("", &[("env_file", "none")], &["error: route `api` cannot use its `env_file`: `none` cannot be read"]);
    // All at once, with other errors of the same route and of the file.
    let both = "env = { K = { env = 'NONE' } }\nhost = 'a b'\nmax_body = 0\n[server]\nx = 1";
    check(both, &[], &[of_env, "invalid host name", "`max_body`", "unknown key `x`"]);
    assert!(parse("[[route]]\ncomponent = 'a.wasm'\nenv = { K = { file = 'full' } }", &[]).is_ok());
}

/// Several routes may have it from `[defaults]`.
#[test]
fn a_value_of_the_defaults_that_is_missing_is_one_error() {
    let text = "[defaults]\nenv_file = 'none'\nenv = { K = { env = 'NONE' } }\n\
        [[route]]\npath = '/a'\ncomponent = 'a.wasm'\n[[route]]\npath = '/b'\ncomponent = 'a.wasm'\n";
    let errors = config::parse_in(&around(), Path::new("daylily.toml"), text, &Overrides::default()).unwrap_err();
    assert_eq!(errors.len(), 2, "{errors}");
    assert!(errors.to_string().contains("route `/a` has no value"), "{errors}");
}

#[test]
fn each_file_is_read_once_for_all_routes() {
    let text = "[defaults]\nenv_file = '.env'\nenv = { K = { file = 'key' } }\n\
        [[route]]\npath = '/a'\ncomponent = 'a.wasm'\n[[route]]\npath = '/b'\ncomponent = 'a.wasm'\n\
        vars = { K = { file = 'key' }, L = { file = 'bare' } }";
    let around = around();
    let config = config::parse_in(&around, Path::new("/conf/daylily.toml"), text, &Overrides::default()).unwrap();
    let mut read = around.read.take();
    read.sort_unstable();
    assert_eq!(read, ["/conf/.env", "/conf/bare", "/conf/key"].map(PathBuf::from));
    let mut named: Vec<&Path> = config.value_files().collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named, ["/conf/.env", "/conf/bare", "/conf/key"].map(Path::new));
}

#[test]
fn without_a_file() {
    let single = |flags| config::single(&around(), ComponentSource::HelloWorld, &overrides(flags));
    let config = single(&[("env", "TOKEN"), ("env_file", "flag.env"), ("listen", "0.0.0.0:$PORT")]).unwrap();
    assert_eq!(granted(&config), "A=flag TOKEN=s3cret-token");
    let errors = single(&[("env", "NONE"), ("env_file", "none")]).unwrap_err();
    assert_eq!(errors.len(), 2, "{errors}");
    assert!(errors.to_string().starts_with("error: route `/*` has no value for `NONE` of `env`"), "{errors}");
}

#[test]
fn the_port_of_the_environment() {
    fn check(port: Option<&str>, listen: &str, flags: &[&str], expected: Result<&str, &str>) {
        let mut around = around();
        around.variables.remove("PORT");
        around.variables.extend(port.map(|port| ("PORT".to_owned(), port.into())));
        let text = format!("listen = {listen}\n[[route]]\ncomponent = 'a.wasm'\n");
        let flags: Vec<_> = flags.iter().map(|flag| ("listen", *flag)).collect();
        let read = config::parse_in(&around, Path::new("daylily.toml"), &text, &overrides(&flags));
        let places =
            |config: Config| config.listen.unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match (read.map(places), expected) {
            (Err(errors), Err(part)) => assert!(errors.to_string().contains(part), "{listen}: {errors}"),
            (read, expected) => assert_eq!(read.ok().as_deref(), expected.ok(), "{port:?} {listen} {flags:?}"),
        }
    }
    check(Some("8080"), "'0.0.0.0:$PORT'", &[], Ok("0.0.0.0:8080"));
    check(Some("0"), "['[::1]:${PORT}', 'a:1']", &[], Ok("[::1]:0 a:1"));
    check(Some("8080"), "['a:$PORT', 'a:8080', 'b:${PORT}']", &[], Ok("a:8080 b:8080"));
    check(Some("8080"), "'a:1'", &["b:$PORT"], Ok("b:8080"));
    check(Some("8080"), "'a:1'", &[], Ok("a:1"));
    // What a flag overrides needs no variable.
    check(None, "'0.0.0.0:$PORT'", &["a:1"], Ok("a:1"));
    check(None, "'0.0.0.0:$PORT'", &[], Err("no variable `PORT` in the environment"));
    check(None, "'0.0.0.0:$PORT'", &[], Err("daylily.toml:1:10"));
    check(None, "'a:1'", &["b:$PORT"], Err("error: `listen` has `$PORT`"));
    for port in ["", "65536", "http", "+80", "-1", "tcp://10.0.0.1:80"] {
        check(Some(port), "'0.0.0.0:$PORT'", &[], Err("the variable `PORT` is not a port"));
    }
}
