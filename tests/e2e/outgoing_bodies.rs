//! Bodies that P3 guests pass on, from a client or an origin, linked in both ways. They have the length that their head
//! announces, or do not look complete; and an early response does not cut them.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::harness::{
    Daylily, Ending, Framing, PATIENCE, Request, Response, Setup, Shared, Upstream, Wire, as_component, built,
    chunk_bytes, each,
};

static SERVER: Shared = Shared::new(|| {
    let component = std::fs::read(built("service03")).expect("a guest");
    let keys = "allow_http = ['http://127.0.0.1:*', 'http://name.invalid']";
    Setup::new()
        .file("direct.wasm", &component)
        .file("entire.wasm", &as_component(&component))
        .route_with(&format!("host = 'direct.test'\n{keys}"), "direct.wasm")
        .route_with(&format!("host = 'entire.test'\n{keys}"), "entire.wasm")
});

const HOSTS: [&str; 2] = ["direct.test", "entire.test"];

/// The chunks of a body, and its length if it is not the announced 5.
const BODIES: [(&[&[u8]], Option<u64>); 9] = [
    (&[b"abcde"], None),
    (&[b"ab", b"cde"], None),
    (&[b"a", b"b", b"c", b"d", b"e"], None),
    (&[], Some(0)),
    (&[b"ab"], Some(2)),
    (&[b"ab", b"cd"], Some(4)),
    (&[b"abcdef"], Some(6)),
    // The end of the chunk is not the end of the body.
    (&[b"abcde", b"f"], Some(6)),
    (&[b"abcd", b"efg"], Some(7)),
];

fn post(host: &str, target: &str) -> Request {
    Request::post(host, target).header("Transfer-Encoding", "chunked")
}

/// Sends the body in one piece, or one chunk at a time.
fn exchange(server: &Daylily, request: &Request, chunks: &[&[u8]], in_one_piece: bool) -> Response {
    let mut connection = server.connect();
    let mut pieces: Vec<_> = std::iter::once(request.head_bytes())
        .chain(chunks.iter().map(|chunk| chunk_bytes(chunk)))
        .chain([b"0\r\n\r\n".to_vec()])
        .collect();
    if in_one_piece {
        pieces = vec![pieces.concat()];
    }
    for piece in pieces {
        connection.try_send(&piece);
    }
    connection.response("POST")
}

/// Fails unless a response with a content-length of 5 is complete, or visibly cut if the body has another length.
#[track_caller]
fn expect_whole_or_cut(response: &Response, chunks: &[&[u8]], wrong: Option<u64>) {
    if wrong.is_none() {
        assert_eq!((response.status, &response.ending), (200, &Ending::Complete), "{response:?}");
        assert_eq!(response.body, chunks.concat());
    } else {
        let is_cut = response.status == 200 && response.ending == Ending::Truncated;
        assert!(is_cut || response.status == 500, "{response:?}");
    }
}

#[test]
fn a_response_of_the_requests_body() {
    static TAG: AtomicUsize = AtomicUsize::new(0);
    let server = SERVER.get();
    for host in HOSTS {
        each(&BODIES, |(chunks, wrong)| {
            for in_one_piece in [true, false] {
                let tag = format!("{}-{host}", TAG.fetch_add(1, Ordering::SeqCst));
                let response =
                    exchange(&server, &post(host, &format!("/pass?length=5&tag={tag}")), chunks, in_one_piece);
                expect_whole_or_cut(&response, chunks, *wrong);
                // A guest whose response is cut, or replaced by an error response, has ended and logs nothing more.
                if wrong.is_none() {
                    server.log().wait_for(&[&format!("passed {tag}: Ok(())")]);
                }
            }
        });
    }
}

#[test]
fn a_response_of_an_origins_body() {
    let server = SERVER.get();
    for host in HOSTS {
        each(&BODIES, |(chunks, wrong)| {
            let body: Vec<u8> = chunks.iter().flat_map(|chunk| chunk_bytes(chunk)).collect();
            let upstream = Upstream::start(move |_, stream| {
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                stream.write_all(&[head, &*body, b"0\r\n\r\n"].concat()).is_ok()
            });
            let target = format!("/relay?answer_length=5&url={}", upstream.url("/"));
            let response = server.exchange(&Request::get(host, &target));
            expect_whole_or_cut(&response, chunks, *wrong);
        });
    }
}

#[test]
fn a_request_of_the_requests_body() {
    let server = SERVER.get();
    let upstream = Upstream::echo();
    for host in HOSTS {
        each(&BODIES, |(chunks, wrong)| {
            for in_one_piece in [true, false] {
                let before = upstream.seen().len();
                let target = format!("/sent?method=POST&length=5&url={}", upstream.url("/"));
                let text = exchange(&server, &post(host, &target), chunks, in_one_piece).text();
                let (answer, sent) = text.split_once("sent: ").expect("what became of it");
                let seen = upstream.seen().split_off(before);
                if let Some(bytes) = wrong {
                    let error = format!("HttpRequestBodySize(Some({bytes}))");
                    assert!(answer.starts_with("error: ") && answer.contains(&error), "{text}");
                    assert!(sent.contains(&error), "{text}");
                    assert!(seen.is_empty(), "the upstream took it for complete: {seen:?}");
                } else {
                    assert!(answer.starts_with("status: 200\n") && sent == "Ok(())\n", "{text}");
                    assert_eq!(seen.first().expect("a request").body, chunks.concat());
                }
            }
        });
    }
}

#[test]
fn what_became_of_a_request() {
    let server = SERVER.get();
    let upstream = Upstream::echo();
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let cases = [
        (upstream.url("/"), "", "status: 200", "Ok(())"),
        ("http://127.0.0.2:80/".to_owned(), "", "ErrorCode::HttpRequestDenied", "ErrorCode::HttpRequestDenied"),
        (format!("http://{closed}/"), "", "ErrorCode::ConnectionRefused", "ErrorCode::ConnectionRefused"),
        ("http://name.invalid/".to_owned(), "", "ErrorCode::Dns", "ErrorCode::Dns"),
        (upstream.url("/"), "&method=CONNECT", "HttpRequestMethodInvalid", "HttpRequestMethodInvalid"),
    ];
    for host in HOSTS {
        each(&cases, |(url, more, answer, sent)| {
            let text = server.get(host, &format!("/sent?url={url}{more}")).text();
            let (said, of_it) = text.split_once("sent: ").expect("what became of it");
            assert!(said.contains(answer) && of_it.contains(sent), "{host}: {text}");
        });
    }
}

/// An origin that responds with `head` before it reads the body. It sends the body that it received over the channel;
/// None if the body was incomplete.
fn early(head: &'static str) -> (String, mpsc::Receiver<Option<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a connection");
        let mut wire = Wire::new(socket.try_clone().expect("a second handle"), socket);
        wire.within(PATIENCE);
        wire.head().expect("a request");
        std::io::Write::write_all(wire.stream(), head.as_bytes()).expect("the guest reads");
        let mut body = Vec::new();
        let ending = wire.body(Framing::Chunked, &mut |piece| body.extend_from_slice(piece));
        let _ = tell.send(ending.is_ok().then_some(body));
    });
    (url, told)
}

const EARLY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// RFC 9112 §9.5: sending the body stops only when the origin responds with an error and closes the connection.
#[test]
fn an_early_answer_does_not_end_the_body_that_is_passed_on() {
    let server = SERVER.get();
    for host in HOSTS {
        for path in ["/relay", "/send", "/sent"] {
            let (url, body) = early(EARLY);
            let mut connection = server.connect();
            connection.send(&post(host, &format!("{path}?method=POST&url={url}")).head_bytes());
            connection.send(&chunk_bytes(b"first "));
            // A guest that waits for the end of the transmission responds after it.
            let early_answer = (path != "/sent").then(|| connection.response("POST"));
            connection.send(&chunk_bytes(b"second")).send(b"0\r\n\r\n");
            let response = early_answer.unwrap_or_else(|| connection.response("POST"));
            assert!(response.status == 200 && response.text().contains("ok"), "{host}{path}: {response:?}");
            assert!(path != "/sent" || response.text().ends_with("sent: Ok(())\n"), "{host}{path}: {response:?}");
            let body = body.recv_timeout(PATIENCE).expect("an end");
            assert_eq!(body.as_deref(), Some(&b"first second"[..]), "{host}{path}");
            // The client's connection stays usable.
            let next = connection.exchange(&Request::get(host, "/"));
            assert_eq!(next.status, 200, "{host}{path}: {next:?}");
        }
    }
}

#[test]
fn an_origin_may_refuse_the_rest_of_the_body() {
    let server = SERVER.get();
    for host in HOSTS {
        let (url, body) = early("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno");
        let mut connection = server.connect();
        connection.send(&post(host, &format!("/sent?method=POST&url={url}")).head_bytes());
        let response = connection.response("POST");
        assert_eq!(response.text(), "status: 413\nno\nsent: Err(ErrorCode::ConnectionTerminated)\n", "{host}");
        assert_eq!(body.recv_timeout(PATIENCE).expect("an end"), None, "{host}");
    }
}
