//! Which outgoing requests guests may send, and the errors that they get for denied and failed ones.

use std::net::ToSocketAddrs;

use crate::harness::{Daylily, Request, Setup, Shared, Upstream, each};

/// The text of the guest's response after it has fetched `url`, for P2 and for P3.
fn fetch(server: &Daylily, host: &str, url: &str, options: &str) -> [String; 2] {
    let url: String = url.bytes().map(|byte| format!("%{byte:02x}")).collect();
    ["", "03."].map(|prefix| {
        let response = server.get(&format!("{prefix}{host}"), &format!("/send?url={url}{options}"));
        assert_eq!(response.status, 200, "{response:?}");
        response.text()
    })
}

/// Adds a route for each of the two guests.
fn with_routes(setup: Setup, host: &str, keys: &str) -> Setup {
    setup.route(host, "outgoing", keys).route(&format!("03.{host}"), "service03", keys)
}

#[track_caller]
fn expect_each(answers: &[String; 2], start: &str) {
    for (answer, guest) in answers.iter().zip(["0.2", "0.3"]) {
        assert!(answer.starts_with(start), "{guest}: want {start:?}, got {answer:?}");
    }
}

const OK: &str = "status: 200\n";
const DENIED: &str = "error: ErrorCode::HttpRequestDenied";
const PROHIBITED: &str = "error: ErrorCode::DestinationIpProhibited";

/// A name of this machine other than `localhost` that resolves to an address of its own.
fn own_name() -> Option<String> {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let listed =
        hosts.lines().filter_map(|line| line.split('#').next()).flat_map(|line| line.split_whitespace().skip(1));
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let names = listed.map(str::to_owned).chain([hostname.trim().to_owned()]);
    let is_loopback = |name: &String| {
        let addresses = (name.as_str(), 80).to_socket_addrs().ok();
        addresses.is_some_and(|mut all| all.all(|address| address.ip().to_canonical().is_loopback()))
    };
    names.filter(|name| !name.starts_with("localhost") && !name.is_empty()).find(is_loopback)
}

#[test]
fn what_the_list_permits_and_what_not() {
    let upstream = Upstream::echo();
    let port = upstream.port();
    let lists = [
        ("nothing.test", String::new()),
        ("exact.test", format!("'http://127.0.0.1:{port}'")),
        ("any-port.test", "'http://127.0.0.1:*'".to_owned()),
        ("localhost.test", "'http://localhost:*'".to_owned()),
        ("https.test", format!("'127.0.0.1:{port}', 'https://localhost:*'")),
        ("default-port.test", "'http://127.0.0.1'".to_owned()),
        ("other.test", "'http://example.com:*', '*.example.org', 'http://127.0.0.2:*'".to_owned()),
    ];
    let server = lists
        .iter()
        .fold(Setup::new(), |setup, (host, list)| with_routes(setup, host, &format!("allow_http = [{list}]")));
    let server = server.start();
    let cases = [
        ("nothing.test", format!("http://127.0.0.1:{port}/"), DENIED),
        ("nothing.test", format!("http://localhost:{port}/"), DENIED),
        ("nothing.test", "https://example.com/".to_owned(), DENIED),
        ("exact.test", format!("http://127.0.0.1:{port}/"), OK),
        ("exact.test", format!("http://localhost:{port}/"), DENIED),
        ("exact.test", format!("http://127.0.0.1:{}/", port ^ 1), DENIED),
        ("exact.test", "http://127.0.0.1/".to_owned(), DENIED),
        ("exact.test", format!("https://127.0.0.1:{port}/"), DENIED),
        ("exact.test", format!("http://127.0.0.2:{port}/"), DENIED),
        ("any-port.test", format!("http://127.0.0.1:{port}/"), OK),
        ("localhost.test", format!("http://localhost:{port}/"), OK),
        ("localhost.test", format!("http://LOCALHOST:{port}/"), OK),
        ("localhost.test", format!("http://127.0.0.1:{port}/"), DENIED),
        ("https.test", format!("http://127.0.0.1:{port}/"), DENIED),
        ("https.test", format!("http://localhost:{port}/"), DENIED),
        ("default-port.test", format!("http://127.0.0.1:{port}/"), DENIED),
        ("other.test", format!("http://127.0.0.1:{port}/"), DENIED),
        // Other spellings of a listed address, or of one that is not listed.
        ("any-port.test", format!("http://127.1:{port}/"), DENIED),
        ("any-port.test", format!("http://2130706433:{port}/"), DENIED),
        ("any-port.test", format!("http://0x7f000001:{port}/"), DENIED),
        ("any-port.test", format!("http://0177.0.0.1:{port}/"), DENIED),
        ("any-port.test", format!("http://[::ffff:127.0.0.1]:{port}/"), DENIED),
        ("any-port.test", format!("http://[::1]:{port}/"), DENIED),
        ("localhost.test", format!("http://0.0.0.0:{port}/"), DENIED),
        ("localhost.test", "http://169.254.169.254/latest/meta-data/".to_owned(), DENIED),
        ("localhost.test", format!("http://localhost.example.com:{port}/"), DENIED),
        ("any-port.test", format!("http://127.0.0.1.example.com:{port}/"), DENIED),
    ];
    each(&cases, |(host, url, expected)| {
        let before = upstream.seen().len();
        expect_each(&fetch(&server, host, url, ""), expected);
        let reached = upstream.seen().len() - before;
        assert_eq!(reached, if *expected == OK { 2 } else { 0 }, "requests that reached the upstream");
    });
    assert_eq!(upstream.connections(), 6, "one connection for each of the six routes that may");
}

/// A listed name may resolve to an address that is not allowed.
#[test]
fn a_listed_name_opens_no_way_to_the_machines_own_addresses() {
    let upstream = Upstream::echo();
    let port = upstream.port();
    let name = own_name().expect("a name of 127.0.0.1 or 127.0.1.1 beside localhost in /etc/hosts; add one");
    let setup = with_routes(Setup::new(), "name.test", &format!("allow_http = ['http://{name}:*']"));
    let both =
        format!("allow_http = ['http://{name}:*', 'http://127.0.0.1:*', 'http://127.0.1.1:*', 'http://[::1]:*']");
    let server = with_routes(setup, "both.test", &both).start();
    let url = format!("http://{name}:{port}/");
    expect_each(&fetch(&server, "name.test", &url, ""), PROHIBITED);
    assert_eq!(upstream.connections(), 0);
    expect_each(&fetch(&server, "both.test", &url, ""), OK);
}

#[test]
fn a_flag_grants_too() {
    let upstream = Upstream::echo();
    let allow = format!("http://127.0.0.1:{}", upstream.port());
    let setup = with_routes(Setup::new(), "a.test", "");
    let server = setup.flags(&["--allow-http", "https://example.com", "--allow-http", &allow]).start();
    expect_each(&fetch(&server, "a.test", &upstream.url("/"), ""), OK);
}

static ANY: Shared = Shared::new(|| {
    let keys = "allow_http = ['http://127.0.0.1:*', 'http://localhost:*']\nmax_body = '64MiB'\ncpu_time = '20s'";
    with_routes(Setup::new(), "any.test", keys)
});

#[test]
fn the_request_arrives_as_the_guest_made_it() {
    let (server, upstream) = (ANY.get(), Upstream::echo());
    let cases = [
        ("/path?query=1&more=%20", "GET /path?query=1&more=%20 HTTP/1.1"),
        ("/", "GET / HTTP/1.1"),
        // A URL without a path is sent as `/`.
        ("", "GET / HTTP/1.1"),
    ];
    let expect_arrival = |url: &str, options: &str, line: &str| {
        let before = upstream.seen().len();
        expect_each(&fetch(&server, "any.test", url, options), OK);
        let seen = upstream.seen().split_off(before);
        assert_eq!(seen.len(), 2);
        for request in seen {
            assert_eq!(request.head.start, line);
            assert_eq!(request.head.values("host"), [format!("127.0.0.1:{}", upstream.port())]);
            assert!(request.body.is_empty());
            for name in ["connection", "keep-alive", "te", "upgrade", "proxy-connection"] {
                assert!(request.head.values(name).is_empty(), "{name}: {request:?}");
            }
        }
    };
    each(&cases, |(path, line)| expect_arrival(&upstream.url(path), "", line));
    // RFC 9112 §3.2.1, for the path that a guest sets.
    let cases =
        [("", "GET / HTTP/1.1"), ("?", "GET /? HTTP/1.1"), ("?x", "GET /?x HTTP/1.1"), ("//x", "GET //x HTTP/1.1")];
    each(&cases, |(path, line)| {
        expect_arrival(&upstream.url("/other"), &format!("&path={}", path.replace('?', "%3f")), line);
    });
    each(&["x", "*", "/a%23b", "?a%23b", "%23", "/a%20b", "/a%0d%0ab:c", "http://a/"], |path| {
        let answers = fetch(&server, "any.test", &upstream.url("/"), &format!("&path={path}"));
        expect_each(&answers, "error: path refused");
    });
}

#[test]
fn bodies_stream_through_both_ways() {
    let (server, upstream) = (ANY.get(), Upstream::echo());
    let url = upstream.url("/");
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    for host in ["any.test", "03.any.test"] {
        let request = Request::post(host, &format!("/send?url={url}&method=POST")).body(&body);
        let response = server.exchange(&request);
        assert_eq!(response.status, 200, "{host}");
        let seen = upstream.seen().pop().expect("a request");
        assert!(seen.head.start.starts_with("POST / "), "{:?}", seen.head);
        assert!(seen.body == body, "{host}: {} bytes arrived", seen.body.len());
        assert!(response.body.starts_with(OK.as_bytes()));
        // The P3 guest writes the body as text.
        assert!(
            host.starts_with("03.") || response.body.ends_with(&body),
            "{host}: {} bytes came back",
            response.body.len()
        );
    }
}

#[test]
fn statuses_and_redirects_are_the_guests_to_handle() {
    let server = ANY.get();
    for status in [204, 301, 404, 503] {
        let upstream = Upstream::start(move |_, stream| {
            let head = format!("HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:1/\r\n");
            let length = if status == 204 { "" } else { "content-length: 0\r\n" };
            stream.write_all(format!("{head}{length}\r\n").as_bytes()).is_ok()
        });
        expect_each(&fetch(&server, "any.test", &upstream.url("/"), ""), &format!("status: {status}\n"));
    }
}

#[test]
fn connections_are_used_again() {
    let (server, upstream) = (ANY.get(), Upstream::echo());
    for _ in 0..10 {
        expect_each(&fetch(&server, "any.test", &upstream.url("/"), ""), OK);
    }
    assert_eq!(upstream.seen().len(), 20);
    assert_eq!(upstream.connections(), 2, "one for each route");
}

#[test]
fn a_connection_that_the_upstream_closed_is_no_error() {
    let server = ANY.get();
    let upstream = Upstream::start(|seen, stream| {
        crate::harness::echo(seen, stream);
        false
    });
    for _ in 0..5 {
        expect_each(&fetch(&server, "any.test", &upstream.url("/"), ""), OK);
    }
    assert_eq!(upstream.seen().len(), 10);
}

#[test]
fn the_number_of_open_requests_has_a_limit() {
    let upstream = Upstream::echo();
    let allow = "allow_http = ['http://127.0.0.1:*']";
    let server = Setup::new()
        .route("two.test", "outgoing", &format!("{allow}\nmax_outgoing = 2"))
        .route("default.test", "outgoing", allow)
        .start();
    for (host, times, most) in [
        ("two.test", 1_usize, 2),
        ("two.test", 2, 2),
        ("two.test", 3, 2),
        ("default.test", 16, 16),
        ("default.test", 20, 16),
    ] {
        let text = server.get(host, &format!("/?times={times}&url={}", upstream.url("/"))).text();
        let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        let (answered, refused) = (count("status: 200"), count("error: ErrorCode::ConnectionLimitReached"));
        assert_eq!((answered, refused), (times.min(most), times.saturating_sub(most)), "{host} {times}: {text}");
    }
}
