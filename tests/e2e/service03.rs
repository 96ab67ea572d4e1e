//! Behaviour that is specific to wasi:http 0.3 and required by its specification.

use crate::harness::{Ending, Request, Setup, Shared, Upstream, each, without_ids};

static SERVER: Shared = Shared::new(|| {
    Setup::new()
        .route("a.test", "service03", "allow_http = ['http://127.0.0.1:*']\ncpu_time = '500ms'")
        .route("hello.test", "hello", "")
        .route("mixed.test", "mixed02", "")
});

#[test]
fn hello() {
    let server = SERVER.get();
    let mut connection = server.connect();
    for _ in 0..50 {
        let response = connection.exchange(&Request::get("a.test", "/"));
        response.expect(200, "Hello World\n");
        assert_eq!(response.values("content-type"), ["text/plain"]);
    }
}

#[test]
fn several_minors_of_0_2_in_one_component() {
    SERVER.get().get("mixed.test", "/").expect(200, "ok\n");
}

/// Requests in origin-form have a scheme and an authority, too.
#[test]
fn the_guest_is_told_scheme_authority_and_path() {
    let server = SERVER.get();
    let cases = [
        ("/report?x=y", "a.test", "method: GET\nscheme: http\nauthority: a.test\npath: /report?x=y\n"),
        ("/report", "A.test:81", "method: GET\nscheme: http\nauthority: A.test:81\npath: /report\n"),
        ("http://a.test:80/report", "b.test", "method: GET\nscheme: http\nauthority: a.test:80\npath: /report\n"),
    ];
    each(&cases, |(target, host, expected)| {
        let response = server.get(host, target);
        assert_eq!((response.status, response.ending.clone()), (200, Ending::Complete), "{response:?}");
        assert_eq!(without_ids(&response.text()), *expected);
    });
    // The same without `Host`: the authority is the address that the client connected to.
    let server = Setup::new().route_at("name = 'any'", "service03").start();
    let text = server.exchange(&Request::get("", "/report").http10()).text();
    assert!(text.contains("scheme: http\n"), "{text}");
    assert!(text.contains(&format!("authority: {}\n", server.address())), "{text}");
}

#[test]
fn bodies_pass_with_and_without_the_guests_help() {
    let server = SERVER.get();
    let body = "some bytes ".repeat(10_000);
    for target in ["/echo", "/pass"] {
        server.exchange(&Request::post("a.test", target).body(body.as_bytes())).expect(200, &body);
        let chunks: Vec<&[u8]> = body.as_bytes().chunks(777).collect();
        server.exchange(&Request::post("a.test", target).chunked(&chunks)).expect(200, &body);
        server.get("a.test", target).expect(200, "");
    }
}

#[test]
fn a_stream_comes_whole() {
    let response = SERVER.get().get("a.test", "/stream?chunks=100&size=1000");
    assert_eq!((response.body.len(), response.ending), (100_000, Ending::Complete));
}

#[test]
fn head_to_a_guest_that_writes_a_body() {
    let server = SERVER.get();
    let mut connection = server.connect();
    for target in ["/head", "/", "/stream?chunks=10&size=100000", "/echo", "/status/204"] {
        let response = connection.exchange(&Request::new("HEAD", "a.test", target));
        assert_eq!((response.ending, response.body.len()), (Ending::Complete, 0), "{target}");
        connection.exchange(&Request::get("a.test", "/")).expect(200, "Hello World\n");
    }
    server.get("hello.test", "/").expect(200, "Hello World\n");
    let harmed = server.log().matching(|line| line.contains("WARN") && line.contains("a.test"));
    assert_eq!(harmed, Vec::<String>::new(), "the guest was harmed");
}

#[test]
fn a_request_without_a_path_goes_out_as_a_slash() {
    let (server, upstream) = (SERVER.get(), Upstream::echo());
    let text = server.get("a.test", &format!("/send?url={}", upstream.url(""))).text();
    assert!(text.starts_with("status: 200\nGET / HTTP/1.1\n"), "{text}");
}

#[test]
fn a_request_that_was_never_sent_was_not_transmitted() {
    let text = SERVER.get().get("a.test", "/unsent").text();
    assert!(text.starts_with("err: "), "{text}");
}

#[test]
fn std_output_of_the_guest_is_logged_too() {
    let server = SERVER.get();
    server.get("a.test", "/print").expect(200, "ok\n");
    server.log().wait_for(&["guest", "printed", "a.test"]);
}

/// Work of a guest after its response is under the same limits.
#[test]
fn late_work_has_limits_too() {
    let server = Setup::new()
        .server("max_concurrency = 1\nmax_queue = 1\nqueue_timeout = '20s'")
        .route("a.test", "service03", "wall_time = '700ms'")
        .start();
    let before = std::time::Instant::now();
    server.get("a.test", "/late?ms=600000").expect(200, "early\n");
    // The only permit is released when the wall time has ended the work.
    server.get("a.test", "/").expect(200, "Hello World\n");
    let took = before.elapsed();
    assert!(took < std::time::Duration::from_secs(15), "it took {took:?}");
    assert_eq!(server.log().matching(|line| line.contains("late done")), Vec::<String>::new());
}
