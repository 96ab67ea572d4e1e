//! Responses before, during and after the request's body: 100-continue, early responses, work after the response.

use std::time::Duration;

use crate::harness::{Connection, Ending, Log, PATIENCE, Request, Setup, Shared, Silence, eventually};

static SERVER: Shared = Shared::new(|| {
    Setup::new()
        .route("hello.test", "hello", "")
        .route("echo.test", "echo", "")
        .route("early.test", "early", "")
        .route("service03.test", "service03", "")
        .route("small.test", "echo", "max_body = 10")
});

fn expecting(host: &str, target: &str, length: usize) -> Vec<u8> {
    let length = length.to_string();
    Request::post(host, target).header("Expect", "100-continue").header("Content-Length", &length).head_bytes()
}

#[test]
fn a_body_that_is_wanted_is_asked_for() {
    let server = SERVER.get();
    // This guest reads the whole body before it responds.
    let mut connection = server.connect();
    connection.send(&expecting("echo.test", "/count", 4));
    connection.expect_continue();
    connection.send(b"body");
    connection.response("POST").expect(200, "4 bytes\n");
    connection.exchange(&Request::get("hello.test", "/")).expect(200, "Hello World\n");
}

/// A guest that responds before it reads: the final head permits sending the body as a 100 does.
#[test]
fn a_body_that_is_wanted_after_the_head_still_passes() {
    let server = SERVER.get();
    for (host, target) in [("echo.test", "/"), ("service03.test", "/echo")] {
        let mut connection = server.connect();
        connection.send(&expecting(host, target, 4));
        let mut response = connection.head();
        assert_eq!(response.status, 200, "{host}");
        connection.send(b"body");
        let mut body = Vec::new();
        connection.finish(&mut response, "POST", &mut |piece| body.extend_from_slice(piece));
        assert_eq!((response.ending, body.as_slice()), (Ending::Complete, &b"body"[..]), "{host}");
    }
}

#[test]
fn a_body_that_is_not_wanted_is_not_asked_for() {
    let server = SERVER.get();
    let mut connection = server.connect();
    connection.send(&expecting("small.test", "/", 11));
    let response = connection.response("POST");
    response.expect_refusal(413, "request body too large");
    assert_eq!(response.interim, Vec::<u16>::new());

    let mut connection = server.connect();
    connection.send(&expecting("early.test", "/", 4));
    let response = connection.response("POST");
    response.expect(200, "early\n");
    assert_eq!(response.interim, Vec::<u16>::new(), "the guest never reads the body");
}

#[test]
fn http_1_0_never_hears_continue() {
    let server = Setup::new().route_at("name = 'any'", "echo").start();
    let mut connection = server.connect();
    let request = Request::post("", "/").http10().header("Expect", "100-continue").body(b"body");
    let response = connection.exchange(&request);
    response.expect(200, "body");
    assert_eq!(response.interim, Vec::<u16>::new());
}

#[test]
fn an_early_answer_comes_while_the_body_is_still_arriving() {
    let server = SERVER.get();
    for head in [
        Request::post("early.test", "/").header("Content-Length", "1000000"),
        Request::post("early.test", "/").header("Transfer-Encoding", "chunked"),
    ] {
        for first_bytes in [&b""[..], b"3\r\nabc\r\n"] {
            let mut connection = server.connect();
            connection.send(&head.head_bytes()).send(first_bytes);
            connection.response("POST").expect(200, "early\n");
        }
    }
}

/// After an early response, the rest of the body must never be read as a request.
#[test]
fn the_rest_of_an_unread_body_is_no_request() {
    let server = SERVER.get();
    let smuggled = Request::get("hello.test", "/").bytes();
    let mut connection = server.connect();
    let head = Request::post("early.test", "/").header("Content-Length", &smuggled.len().to_string());
    connection.send(&head.head_bytes());
    connection.response("POST").expect(200, "early\n");
    connection.try_send(&smuggled);
    match connection.try_response("GET", PATIENCE) {
        Err(silence) => assert_eq!(silence, Silence::Closed),
        Ok(response) => panic!("the body was answered: {response:?}"),
    }
}

fn expect_late_work(mut connection: Connection, host: &str, log: &Log) {
    let done = |line: &str| line.contains("late done") && line.contains(host);
    let before = log.matching(done).len();
    connection.send(&Request::get(host, "/late?ms=1500").bytes());
    let response = connection.response("GET");
    assert_eq!((response.status, response.ending), (200, Ending::Complete));
    assert_eq!(log.matching(done).len(), before, "the response waited for the work after it");
    let told = eventually(PATIENCE, || log.matching(done).len() > before);
    assert!(told, "the work after the response of {host} was not finished");
}

#[test]
fn a_guest_may_work_on_after_its_response() {
    let server = SERVER.get();
    for host in ["early.test", "service03.test"] {
        expect_late_work(server.connect(), host, server.log());
    }
}

#[test]
fn late_work_does_not_hold_up_the_connection() {
    let server = SERVER.get();
    for host in ["early.test", "service03.test"] {
        let mut connection = server.connect();
        let late = Request::get(host, "/late?ms=20000");
        assert_eq!(connection.exchange(&late).ending, Ending::Complete);
        connection.send(&Request::get("hello.test", "/").bytes());
        let next = connection.try_response("GET", Duration::from_secs(10));
        next.expect("an answer before the late work is done").expect(200, "Hello World\n");
    }
}
