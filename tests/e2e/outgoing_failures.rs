//! Outgoing requests that fail: time-outs, broken upstreams, certificates. The guest gets the wasi:http error code for
//! the failure, and no partial response looks complete.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::harness::{Certificates, Daylily, PATIENCE, Setup, Shared, Upstream, each};

static SERVER: Shared = Shared::new(|| {
    let allow = "allow_http = ['http://127.0.0.1:*', 'http://localhost:*']";
    let brief = "connect_timeout = '400ms'\nfirst_byte_timeout = '400ms'\nbetween_bytes_timeout = '400ms'";
    Setup::new()
        .route("patient.test", "outgoing", allow)
        .route("03.patient.test", "service03", allow)
        .route("brief.test", "outgoing", &format!("{allow}\n{brief}"))
        .route("03.brief.test", "service03", &format!("{allow}\n{brief}"))
});

const GUESTS: [&str; 2] = ["", "03."];

/// Time-outs set by the operator, set by the guest, and a guest that requests longer ones than the operator allows.
const TIMEOUTS: [(&str, &str); 3] = [
    ("brief.test", ""),
    ("patient.test", "&connect_ms=400&first_byte_ms=400&between_ms=400"),
    ("brief.test", "&connect_ms=60000&first_byte_ms=60000&between_ms=60000"),
];

fn fetch(server: &Daylily, host: &str, url: &str, options: &str) -> String {
    let response = server.get(host, &format!("/send?url={url}{options}"));
    assert_eq!(response.status, 200, "{response:?}");
    response.text()
}

/// Each guest gets one of `errors` after about 400 ms, for every way to set the time-out.
fn check_timeout(url: &str, errors: &[&str]) {
    let server = SERVER.get();
    for guest in GUESTS {
        each(&TIMEOUTS, |(host, options)| {
            let start = Instant::now();
            let text = fetch(&server, &format!("{guest}{host}"), url, options);
            let took = start.elapsed();
            assert!(errors.iter().any(|error| text.contains(&format!("error: ErrorCode::{error}"))), "{text}");
            assert!(took >= Duration::from_millis(350) && took < Duration::from_secs(10), "it took {took:?}");
        });
    }
}

/// A listener whose backlog is full: the kernel drops further connection attempts.
fn deaf() -> (socket2::Socket, Vec<socket2::Socket>, SocketAddr) {
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let listener = new();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    listener.listen(0).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let fillers = (0..8).map(|_| {
        let filler = new();
        filler.set_nonblocking(true).expect("a flag");
        let _in_progress = filler.connect(&address);
        filler
    });
    let fillers = fillers.collect();
    (listener, fillers, address.as_socket().expect("an IP address"))
}

#[test]
fn connecting_has_a_time_out() {
    let (_listener, _fillers, address) = deaf();
    check_timeout(&format!("http://{address}/"), &["ConnectionTimeout"]);
}

#[test]
fn the_first_byte_has_a_time_out() {
    let silent = Upstream::start(|_, _| {
        std::thread::sleep(PATIENCE);
        false
    });
    check_timeout(&silent.url("/"), &["ConnectionReadTimeout", "HttpResponseTimeout"]);
}

#[test]
fn the_bytes_between_have_a_time_out() {
    let stalling = Upstream::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").expect("the client reads");
        stream.flush().expect("the client reads");
        std::thread::sleep(PATIENCE);
        false
    });
    check_timeout(&stalling.url("/"), &["ConnectionReadTimeout", "HttpResponseTimeout"]);
}

#[test]
fn an_answer_that_moves_may_take_longer_than_the_time_outs() {
    let server = SERVER.get();
    let slow = Upstream::start(|_, stream| {
        let mut write = |bytes: &[u8]| stream.write_all(bytes).and_then(|()| stream.flush()).is_ok();
        let mut ok = write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n");
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(100));
            ok = ok && write(b"x");
        }
        ok
    });
    for guest in GUESTS {
        let text = fetch(&server, &format!("{guest}brief.test"), &slow.url("/"), "");
        assert_eq!(text, "status: 200\nxxxxxxxx", "{guest}");
    }
}

#[test]
fn broken_upstreams_have_their_error_codes() {
    let server = SERVER.get();
    let closed_port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let raw = |bytes: &'static [u8]| {
        Upstream::start(move |_, stream| {
            stream.write_all(bytes).expect("the client reads");
            false
        })
    };
    let silent = raw(b"");
    let part = raw(b"HTTP/1.1 200 OK\r\ncontent-le");
    let nonsense = raw(b"SSH-2.0-OpenSSH_9.6\r\n");
    let cut = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    let cut_chunks = raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    let bad_chunks = raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n");
    let cases = [
        (format!("http://{closed_port}/"), &["ConnectionRefused"][..]),
        (silent.url("/"), &["ConnectionTerminated", "HttpResponseIncomplete"]),
        (part.url("/"), &["ConnectionTerminated", "HttpResponseIncomplete"]),
        (nonsense.url("/"), &["HttpProtocolError"]),
        (cut.url("/"), &["HttpResponseIncomplete", "ConnectionTerminated"]),
        (cut_chunks.url("/"), &["HttpResponseIncomplete", "ConnectionTerminated"]),
        (bad_chunks.url("/"), &["HttpProtocolError"]),
    ];
    each(&cases, |(url, errors)| {
        for guest in GUESTS {
            let text = fetch(&server, &format!("{guest}patient.test"), url, "");
            assert!(errors.iter().any(|error| text.contains(&format!("error: ErrorCode::{error}"))), "{guest}: {text}");
        }
    });
}

/// Endless or ambiguous input from an origin ends with an error code.
#[test]
fn what_an_origin_sends_has_limits() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    // A separate server, whose log contains nothing else.
    let allow = "allow_http = ['http://127.0.0.1:*']";
    let server = Setup::new().route("patient.test", "outgoing", allow).route("03.patient.test", "service03", allow);
    let server = server.start();
    let fields = |count: usize| (0..count).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    let whole = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok");
    // The start of a response, what is then sent repeatedly, and the result.
    let cases = [
        (whole("x: a\r\n b\r\n\tc\r\n"), "", "status: 200\nok"),
        (whole(&fields(1023)), "", "status: 200\nok"),
        (whole(&fields(1024)), "", "error: ErrorCode::HttpResponseHeaderSectionSize"),
        (String::new(), "HTTP/1.1 103 Early Hints\r\n\r\n", "error: ErrorCode::HttpProtocolError"),
        (String::new(), "HTTP/1.1 100 Continue\r\nx: y\r\n\r\n", "error: ErrorCode::HttpProtocolError"),
        (String::new(), "HTTP/1.1 101 Switching Protocols\r\n\r\n", "error: ErrorCode::HttpProtocolError"),
        (String::new(), "\r\n", "error: ErrorCode::HttpProtocolError"),
        ("HTTP/1.1 200 OK\r\n".to_owned(), "x: y\r\n", "error: ErrorCode::HttpResponseHeaderSectionSize"),
        (CHUNKED.to_owned(), "0", "status: 200\nerror: ErrorCode::HttpProtocolError"),
        (format!("{CHUNKED}2"), " ", "status: 200\nerror: ErrorCode::HttpProtocolError"),
        (format!("{CHUNKED}2;"), "a", "status: 200\nerror: ErrorCode::HttpProtocolError"),
        (
            format!("{CHUNKED}2\r\nok\r\n0\r\n"),
            "x: y\r\n",
            "status: 200\nokerror: ErrorCode::HttpResponseTrailerSectionSize",
        ),
        (format!("{CHUNKED}2\r\nok\r\n0\r\nx: y\n\r\n"), "", "status: 200\nokerror: ErrorCode::HttpProtocolError"),
        (CHUNKED.replace("chunked", "gzip, chunked"), "", "error: ErrorCode::HttpResponseTransferCoding"),
    ];
    each(&cases, |(head, again, expected)| {
        let bytes = [head.as_bytes(), &again.repeat(200_000 / again.len().max(1)).into_bytes()].concat();
        // The guest may stop reading before the end.
        let upstream = Upstream::start(move |_, stream| {
            let _ = stream.write_all(&bytes);
            true
        });
        for guest in GUESTS {
            let text = fetch(&server, &format!("{guest}patient.test"), &upstream.url("/"), "");
            // The P2 guest does not send what it received before an error.
            let got = text.replace("status: 200\nok", "status: 200\n");
            let expected = expected.replace("status: 200\nok", "status: 200\n");
            assert!(got.starts_with(&expected), "{guest}: want {expected:?}, got {text:?}");
        }
    });
    server.log().wait_for(&["WARN", "outgoing request to http://127.0.0.1:", "MAX_INTERIM_RESPONSES"]);
}

#[test]
fn https_trusts_only_whom_the_machine_trusts() {
    let [known, unknown] = ["localhost"; 2].map(Certificates::of);
    let upstream = Upstream::with_tls(Some(known.server()), crate::harness::echo);
    let stranger = Upstream::with_tls(Some(unknown.server()), crate::harness::echo);
    let keys = "allow_http = ['localhost:*', '127.0.0.1:*']";
    let server = Setup::new()
        .route("a.test", "outgoing", keys)
        .route("03.a.test", "service03", keys)
        .file("ca.pem", known.authority.as_bytes())
        .env("SSL_CERT_FILE", "ca.pem")
        .start();
    let cases = [
        (format!("https://localhost:{}/x", upstream.port()), "status: 200\n"),
        (format!("https://localhost:{}/", stranger.port()), "error: ErrorCode::TlsCertificateError"),
        // The certificate is for another name.
        (format!("https://127.0.0.1:{}/", upstream.port()), "error: ErrorCode::TlsCertificateError"),
    ];
    each(&cases, |(url, start)| {
        for guest in GUESTS {
            let text = fetch(&server, &format!("{guest}a.test"), url, "");
            assert!(text.starts_with(start), "{guest}: {text}");
        }
    });
    let paths: Vec<String> = upstream.seen().iter().map(|seen| seen.head.start.clone()).collect();
    assert_eq!(paths, ["GET /x HTTP/1.1", "GET /x HTTP/1.1"]);
    assert_eq!(stranger.seen().len(), 0, "a request was sent before the certificate was checked");
}
