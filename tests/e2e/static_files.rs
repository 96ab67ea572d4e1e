//! Static files: what is served and what is not, conditions, ranges, compressed siblings, the fallback, and files that
//! change while they are served.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Daylily, Ending, Load, PATIENCE, Request, Response, Setup, Shared, built, each, eventually, guest, make_pipe,
    run_in,
};

const PAGE: &[u8] = b"<h1>home</h1>\n";
const STYLE: &[u8] = b"body { color: red }\n";

/// More than any socket buffer holds.
const LARGE_BYTES: usize = 24 << 20;

fn site(setup: Setup) -> Setup {
    setup
        .file("public/index.html", PAGE)
        .file("public/style.css", STYLE)
        .file("public/docs/index.html", b"docs")
        .file("public/docs/a b/ü.txt", b"umlaut")
        .file("public/empty/other.txt", b"no index")
        .file("public/.env", b"SECRET=1")
        .file("public/.git/config", b"secret")
        .file("public/.well-known/security.txt", b"Contact: mailto:a@example.com")
        .file("public/data", b"bytes")
        .file("secret.txt", b"outside")
}

fn files_route(host: &str, keys: &str) -> String {
    format!("\n[[route]]\nname = '{host}'\nhost = '{host}'\nfiles = 'public'\n{keys}\n")
}

static SERVER: Shared = Shared::new(|| {
    let echo = format!("component = '{}'", guest("echo").display());
    site(Setup::new())
        .raw_route(&files_route("files.test", ""))
        .raw_route(&files_route("app.test", "fallback = 'index.html'\ncache_control = 'no-cache'"))
        .raw_route(&files_route("both.test", &echo))
        .raw_route(&files_route("below.test", "path = '/static/v1/*'"))
        .raw_route(&files_route(
            "cached.test",
            "cache_control = { 'docs/*' = 'max-age=1', '*.css' = 'max-age=2', 'index.html' = 'max-age=3' }",
        ))
});

fn get(host: &str, target: &str) -> Response {
    SERVER.get().get(host, target)
}

#[test]
fn files_have_their_bytes_and_types() {
    let _keep = SERVER.get();
    let cases: &[(&str, &str, &[u8], &str)] = &[
        ("files.test", "/", PAGE, "text/html; charset=utf-8"),
        ("files.test", "/index.html", PAGE, "text/html; charset=utf-8"),
        ("files.test", "/style.css?v=2", STYLE, "text/css; charset=utf-8"),
        ("files.test", "/docs/", b"docs", "text/html; charset=utf-8"),
        ("files.test", "/docs/a%20b/%C3%BC.txt", b"umlaut", "text/plain; charset=utf-8"),
        ("files.test", "/.well-known/security.txt", b"Contact: mailto:a@example.com", "text/plain; charset=utf-8"),
        ("files.test", "/data", b"bytes", "application/octet-stream"),
        ("below.test", "/static/v1/style.css", STYLE, "text/css; charset=utf-8"),
        ("below.test", "/static/v1/", PAGE, "text/html; charset=utf-8"),
        ("both.test", "/style.css", STYLE, "text/css; charset=utf-8"),
    ];
    each(cases, |(host, target, bytes, content_type)| {
        let response = get(host, target);
        assert_eq!((response.status, response.body.as_slice()), (200, *bytes), "{response:?}");
        assert_eq!(response.values("content-type"), [*content_type]);
        assert_eq!(response.values("content-length"), [bytes.len().to_string()]);
        assert_eq!(response.values("vary"), ["accept-encoding"]);
        assert_eq!(response.values("accept-ranges"), ["bytes"]);
        assert!(response.has("etag") && response.has("last-modified") && !response.has("cache-control"));
        let head = SERVER.get().exchange(&Request::new("HEAD", host, target));
        assert_eq!((head.status, head.body.len()), (200, 0), "{head:?}");
        assert_eq!(head.values("content-length"), [bytes.len().to_string()]);
        assert_eq!(head.values("etag"), response.values("etag"));
    });
}

#[test]
fn what_is_not_a_file_is_not_found() {
    let server = SERVER.get();
    let public = server.directory().join("public");
    symlink("../secret.txt", public.join("link-out")).expect("a link");
    symlink(server.directory().join("secret.txt"), public.join("link-absolute")).expect("a link");
    symlink("..", public.join("link-up")).expect("a link");
    symlink("style.css", public.join("link-in")).expect("a link");
    make_pipe(&public.join("pipe"));
    fs::create_dir(public.join("private")).expect("a directory");
    let targets = [
        "/none",
        "/style.css/",
        "/empty/",
        "/empty",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/docs/.well-known",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/docs/../../secret.txt",
        "/docs/..%2f..%2fsecret.txt",
        "/docs%2findex.html",
        "//index.html",
        "/docs//index.html",
        "/index.html%00",
        "/docs\\index.html",
        "/link-out",
        "/link-absolute",
        "/link-up/secret.txt",
        "/pipe",
        "/private/x",
        "/index.html%",
        "/%ZZ",
    ];
    each(&targets, |target| {
        get("files.test", target).expect_refusal(404, "no such file");
    });
    assert_eq!(get("files.test", "/link-in").body, STYLE, "a link within the directory");
    let long = format!("/{}", "a".repeat(5_000));
    get("files.test", &long).expect_refusal(404, "no such file");
    get("below.test", "/static/v1").expect_refusal(404, "no such route");
}

#[test]
fn directories_redirect_to_their_slash() {
    let _keep = SERVER.get();
    for (target, location) in [("/docs", "/docs/"), ("/docs?a=b&c", "/docs/?a=b&c")] {
        let response = get("files.test", target);
        assert_eq!((response.status, response.values("location")), (301, vec![location]), "{response:?}");
    }
    // A path that begins with two slashes would lead to another host.
    get("files.test", "//docs").expect_refusal(404, "no such file");
}

#[test]
fn other_methods_are_not_for_files() {
    let server = SERVER.get();
    let response = server.exchange(&Request::post("files.test", "/style.css").body(b"x"));
    response.expect_refusal(405, "method not allowed");
    assert_eq!(response.values("allow"), ["GET, HEAD"]);
    let response = server.exchange(&Request::post("both.test", "/style.css").body(b"to the guest"));
    assert_eq!((response.status, response.body.as_slice()), (200, b"to the guest".as_slice()));
    let response = server.exchange(&Request::post("both.test", "/none").body(b"to the guest"));
    assert_eq!((response.status, response.body.as_slice()), (200, b"to the guest".as_slice()));
}

#[test]
fn a_component_gets_what_is_not_a_file() {
    let _keep = SERVER.get();
    let response = get("both.test", "/none");
    assert_eq!((response.status, response.has("etag")), (200, false), "{response:?}");
    assert!(!get("both.test", "/.env").has("etag"));
}

#[test]
fn navigations_get_the_fallback() {
    let server = SERVER.get();
    let page = "text/html,application/xhtml+xml";
    let ask = |target: &str, fields: &[(&str, &str)]| {
        let request =
            fields.iter().fold(Request::get("app.test", target), |request, (name, value)| request.header(name, value));
        server.exchange(&request)
    };
    for fields in [&[("accept", page)][..], &[("accept", page), ("sec-fetch-mode", "navigate")]] {
        let response = ask("/users/7", fields);
        assert_eq!((response.status, response.body.as_slice()), (200, PAGE), "{response:?}");
        assert_eq!(response.values("cache-control"), ["no-cache"]);
        assert_eq!(response.values("vary"), ["accept-encoding, accept, sec-fetch-mode"]);
    }
    for fields in [&[][..], &[("accept", "*/*")], &[("accept", page), ("sec-fetch-mode", "no-cors")]] {
        ask("/assets/missing.js", fields).expect_refusal(404, "no such file");
    }
    assert_eq!(ask("/style.css", &[("accept", page)]).body, STYLE);
}

#[test]
fn the_first_pattern_has_the_cache_control() {
    let _keep = SERVER.get();
    let cases =
        [("/docs/", Some("max-age=1")), ("/style.css", Some("max-age=2")), ("/", Some("max-age=3")), ("/data", None)];
    for (target, value) in cases {
        assert_eq!(get("cached.test", target).values("cache-control"), Vec::from_iter(value), "{target}");
    }
}

#[test]
fn conditions_and_ranges() {
    let server = SERVER.get();
    // Its tag is weak in the first second.
    let is_settled = || get("files.test", "/style.css").values("etag")[0].starts_with('"');
    assert!(eventually(PATIENCE, is_settled), "a tag that stays weak");
    let whole = get("files.test", "/style.css");
    let (tag, date) = (whole.values("etag")[0], whole.values("last-modified")[0]);
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Fields<'_>, u16, &[u8], Option<&str>)] = &[
        (&[("if-none-match", tag)], 304, b"", None),
        (&[("if-none-match", "\"x\"")], 200, STYLE, None),
        (&[("if-modified-since", date)], 304, b"", None),
        (&[("if-match", "\"x\"")], 412, b"", None),
        (&[("range", "bytes=5-9")], 206, &STYLE[5..10], Some("bytes 5-9/20")),
        (&[("range", "bytes=-4")], 206, &STYLE[16..], Some("bytes 16-19/20")),
        (&[("range", "bytes=20-")], 416, b"", Some("bytes */20")),
        (&[("range", "bytes=0-0,5-5")], 200, STYLE, None),
        (&[("range", "bytes=5-9"), ("if-range", tag)], 206, &STYLE[5..10], Some("bytes 5-9/20")),
        (&[("range", "bytes=5-9"), ("if-range", "\"x\"")], 200, STYLE, None),
    ];
    // One connection for all: each response ends where it should.
    let mut connection = server.connect();
    for (fields, status, bytes, range) in cases {
        let request = fields
            .iter()
            .fold(Request::get("files.test", "/style.css"), |request, (name, value)| request.header(name, value));
        let response = connection.exchange(&request);
        assert_eq!((response.status, response.body.as_slice()), (*status, *bytes), "{fields:?}");
        assert_eq!(response.values("content-range"), Vec::from_iter(*range), "{fields:?}");
        assert_eq!(response.values("etag"), [tag], "{fields:?}");
    }
}

#[test]
fn compressed_siblings_are_sent_to_those_who_accept_them() {
    let server = site(Setup::new())
        .raw_route(&files_route("files.test", ""))
        .file("public/app.js", b"plain")
        .file("public/app.js.br", b"brotli")
        .file("public/app.js.gz", b"gzip")
        .file("public/old.js", b"plain")
        .file("public/old.js.gz", b"stale")
        .file("public/photo.png", b"png")
        .file("public/photo.png.gz", b"gzip")
        .start();
    let old = server.directory().join("public/old.js.gz");
    let before = std::time::SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(old).and_then(|file| file.set_modified(before)).expect("an older file");
    let cases: &[(&str, &str, &[u8], Option<&str>)] = &[
        ("/app.js", "gzip, deflate, br, zstd", b"brotli", Some("br")),
        ("/app.js", "gzip", b"gzip", Some("gzip")),
        ("/app.js", "br;q=0.1, gzip", b"gzip", Some("gzip")),
        ("/app.js", "zstd", b"plain", None),
        ("/app.js", "br;q=0, gzip;q=0", b"plain", None),
        ("/old.js", "gzip", b"plain", None),
        ("/photo.png", "gzip", b"png", None),
    ];
    let mut tags = Vec::new();
    for (target, accepted, bytes, coding) in cases {
        let response = server.exchange(&Request::get("files.test", target).header("accept-encoding", accepted));
        assert_eq!((response.status, response.body.as_slice()), (200, *bytes), "{target} {accepted}");
        assert_eq!(response.values("content-encoding"), Vec::from_iter(*coding), "{target} {accepted}");
        assert_eq!(response.values("vary"), ["accept-encoding"]);
        tags.push((response.body.clone(), response.values("etag")[0].to_owned()));
    }
    tags.sort();
    tags.dedup_by_key(|(body, _)| body.clone());
    let mut only: Vec<_> = tags.iter().map(|(_, tag)| tag).collect();
    only.dedup();
    assert_eq!(only.len(), tags.len(), "each form has a tag of its own: {tags:?}");
}

/// A file that answers slowly, because its client does.
fn large(server: &Daylily) -> crate::harness::Connection {
    let mut connection = crate::harness::Connection::open_narrow(server.address());
    connection.send(&Request::get("files.test", "/large").bytes());
    connection
}

fn large_site() -> Setup {
    site(Setup::new()).raw_route(&files_route("files.test", "")).file("public/large", &vec![b'x'; LARGE_BYTES])
}

#[test]
fn a_file_that_becomes_shorter_is_cut() {
    let server = large_site().start();
    let mut connection = large(&server);
    let mut response = connection.head();
    assert_eq!((response.status, response.values("content-length")), (200, vec![LARGE_BYTES.to_string().as_str()]));
    let file = fs::File::options().write(true).open(server.directory().join("public/large")).expect("the file");
    file.set_len(1 << 20).expect("a shorter file");
    connection.finish(&mut response, "GET", &mut |_| {});
    assert_ne!(response.ending, Ending::Complete, "what is not whole passes for whole");
    server.log().wait_for(&["response cut: a file became shorter while it was sent", "/large"]);
}

#[test]
fn a_file_that_is_replaced_is_sent_to_its_end() {
    let server = large_site().start();
    let mut connection = large(&server);
    let mut response = connection.head();
    let place = server.directory().join("public");
    fs::write(place.join("next"), b"new")
        .and_then(|()| fs::rename(place.join("next"), place.join("large")))
        .expect("a file");
    let mut bytes = 0;
    connection.finish(&mut response, "GET", &mut |piece| {
        assert!(piece.iter().all(|byte| *byte == b'x'), "bytes of another file");
        bytes += piece.len();
    });
    assert_eq!((bytes, response.ending), (LARGE_BYTES, Ending::Complete));
    assert_eq!(server.get("files.test", "/large").body, b"new");
}

#[test]
fn a_stop_waits_for_a_transfer_and_cuts_it_at_its_limit() {
    let server = large_site().server("shutdown_timeout = '30s'").start();
    let mut connection = large(&server);
    let mut response = connection.head();
    server.signal(Signal::TERM);
    let mut bytes = 0;
    connection.finish(&mut response, "GET", &mut |piece| bytes += piece.len());
    assert_eq!((bytes, response.ending), (LARGE_BYTES, Ending::Complete));
    assert_eq!(server.wait_exit(), 0);

    let server = large_site().server("shutdown_timeout = '1s'").start();
    let mut connection = large(&server);
    let mut response = connection.head();
    server.signal(Signal::TERM);
    // The client reads nothing until the limit is over.
    assert_eq!(server.wait_exit(), 75, "requests were cut");
    connection.finish(&mut response, "GET", &mut |_| {});
    assert_ne!(response.ending, Ending::Complete);
}

#[test]
fn reloads_during_transfers_lose_nothing() {
    let server = large_site().workers(2).start();
    let load = Load::start(server.address(), 4, &Request::get("files.test", "/large"));
    for _ in 0..3 {
        load.expect_more(4);
        server.reload();
    }
    load.end().expect_no_failure();
}

/// Files take no permits: they are served while all of them are taken.
#[test]
fn files_are_served_while_all_permits_are_taken() {
    let setup = site(Setup::new()).server("max_concurrency = 1\nmax_queue = 1");
    let server =
        setup.raw_route(&files_route("files.test", "")).route("silent.test", "stream", "wall_time = '10m'").start();
    let mut busy = server.connect();
    busy.send(&Request::get("silent.test", "/silent?ms=600000").bytes());
    assert!(eventually(PATIENCE, || server.status().total("requests_in_progress") == 1));
    assert_eq!(server.get("files.test", "/").body, PAGE);
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let hello = built("hello");
    let cases = [
        ("files = 'none'", "failed to open the static files of route `/*` in `none`: No such file or directory"),
        ("files = 'file'", "failed to open the static files of route `/*` in `file`: Not a directory"),
        ("files = '.'\nfallback = 'none.html'", "there is no file `none.html`, which is its `fallback`"),
    ];
    for (keys, expected) in cases {
        let config = format!("[[route]]\n{keys}\n");
        for command in ["serve", "check"] {
            let files: &[(&str, &[u8])] = &[("daylily.toml", config.as_bytes()), ("file", b"x")];
            run_in(files, &[], &[command]).expect(78, &[expected, "check `files`"]);
        }
    }
    let config =
        format!("[[route]]\npath = '/a/*'\nfiles = '.'\n[[route]]\nfiles = '.'\ncomponent = '{}'\n", hello.display());
    let files: &[(&str, &[u8])] = &[("daylily.toml", config.as_bytes())];
    let checked = run_in(files, &[], &["check"]);
    checked.expect(0, &[]);
    assert!(checked.stdout.contains("route /a/*: files in "), "{}", checked.stdout);
}

/// A file that daylily may not read is as good as none. (Not as root, who may read everything.)
#[test]
fn unreadable_files_are_not_found() {
    let server = site(Setup::new()).raw_route(&files_route("files.test", "")).start();
    let path = server.directory().join("public/style.css");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("permissions");
    let response = server.get("files.test", "/style.css");
    if fs::File::open(&path).is_ok() {
        assert_eq!(response.status, 200, "root reads everything");
    } else {
        response.expect_refusal(404, "no such file");
    }
}
