//! What the supervisor hands to a worker arrives as it was, to the last byte of a path.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::Fixed;
use daylily_core::config::{self, ComponentSource, Config, DirGrant, NoSurroundings, Overrides, Store};

mod common;

const FULL: &str = include_str!("../../../tests/cases/config/full.toml");

fn check(config: &Config) {
    let bytes = postcard::to_stdvec(config).unwrap();
    let (arrived, rest): (Config, &[u8]) = postcard::take_from_bytes(&bytes).unwrap();
    let mut expected = config.clone();
    for server in expected.stores.iter_mut().filter_map(Store::server_mut) {
        // What only the storage process needs.
        if let Some(secret) = server.secret.take() {
            let secret = secret.secret.expose().as_bytes();
            assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        }
    }
    assert_eq!(arrived, expected);
    assert!(rest.is_empty());
}

/// A path that no string is.
fn not_utf8(name: &[u8]) -> PathBuf {
    let path = PathBuf::from(OsStr::from_bytes(name));
    assert_eq!(path.to_str(), None);
    path
}

#[test]
fn from_a_file() {
    check(
        &config::parse_in(
            &Fixed::of_the_example(),
            Path::new("/etc/daylily/daylily.toml"),
            FULL,
            &Overrides::default(),
        )
        .unwrap(),
    );
}

#[test]
fn every_kind_of_value() {
    let text = r#"
        listen = ["systemd", "systemd:a b", "[::1]:0", "unix:/run/a", "unix:/run/b?mode=0600"]
        workers = 256
        log = "warn,guest=off,daylily::request=trace"
        cache_max = 0
        [[route]]
        component = "a.wasm"
        host = "127.0.0.1"
        path = "/a"
        allow_http = ["http://localhost:*", "https://[::1]", "*.example.org", "10.0.0.1:8443"]
        [[route]]
        component = "b.wasm"
        host = "[::1]"
        [[route]]
        component = "c.wasm"
        host = "example.com"
        max_concurrency = 1
    "#;
    check(&config::parse(Path::new("daylily.toml"), text, &Overrides::default()).unwrap());
}

#[test]
fn without_a_file() {
    check(&config::single(&NoSurroundings, ComponentSource::HelloWorld, &Overrides::default()).unwrap());
}

#[test]
fn paths_that_are_not_utf8() {
    let dir = DirGrant { host: not_utf8(b"dir\xff"), guest: "/data".to_owned(), read_only: true };
    let mut flags = Overrides::default();
    flags.general.control = Some(Some(not_utf8(b"/run/\x80.sock")));
    flags.general.cache_dir = Some(Some(not_utf8(b"\xc3")));
    flags.grants.dirs = Some(vec![dir]);
    check(&config::single(&NoSurroundings, ComponentSource::File(not_utf8(b"\xfe.wasm")), &flags).unwrap());
}
