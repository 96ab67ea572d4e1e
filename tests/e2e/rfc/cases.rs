//! Bytes that a client sends, and the responses that it expects.

/// One connection.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    /// The status of each response, and its body if it matters. `HEAD ` in front means that the request was a HEAD.
    pub(super) answers: &'static [&'static str],
    pub(super) end: End,
}

/// The state of the connection after the responses.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// Another request on it is answered.
    Open,
    Closed,
}

use End::{Closed, Open};

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const HELLO: &str = "200 Hello World\n";

/// A request to a route whose guest ignores its details.
fn get(request_line: &str, fields: &str) -> Vec<u8> {
    format!("{request_line}\r\nHost: hello.test\r\n{fields}\r\n").into_bytes()
}

/// A request whose body is sent back.
fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: echo.test\r\n{fields}\r\n{body}").into_bytes()
}

/// A request with a chunked body; the guest reads all of it before it responds.
fn chunks(body: &str) -> Vec<u8> {
    format!("POST /count HTTP/1.1\r\nHost: echo.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
}

fn coded(codings: &str) -> Vec<u8> {
    post(&format!("Transfer-Encoding: {codings}\r\n"), "5\r\nhello\r\n0\r\n\r\n")
}

fn with_length(length: &str) -> Vec<u8> {
    post(&format!("Content-Length:{length}\r\n"), "hello")
}

/// Two requests, one after the other.
fn then_get(first: &[u8]) -> Vec<u8> {
    [first, &get("GET / HTTP/1.1", "")].concat()
}

pub(super) fn cases() -> Vec<Case> {
    let case: Make = |name, bytes, answers, end| Case { name, bytes, answers, end };
    [lines, targets, fields, lengths, codings, chunked, connections].into_iter().flat_map(|part| part(case)).collect()
}

type Make = fn(&'static str, Vec<u8>, &'static [&'static str], End) -> Case;

fn lines(case: Make) -> Vec<Case> {
    let empty = |count: usize| ["\r\n".repeat(count).into_bytes(), get("GET / HTTP/1.1", "")].concat();
    vec![
        case("lines_end_in_lf", b"GET / HTTP/1.1\nHost: hello.test\nX: y\n\n".to_vec(), &[HELLO], Open),
        case("cr_in_request_line", get("GET /\r HTTP/1.1", ""), &["400"], Closed),
        case("cr_in_value", get("GET / HTTP/1.1", "X: a\rb\r\n"), &["400"], Closed),
        case("cr_before_line_end", get("GET / HTTP/1.1", "X: a\r\r\n"), &["400"], Closed),
        case("cr_before_request_line", [b"\r".to_vec(), get("GET / HTTP/1.1", "")].concat(), &["400"], Closed),
        case("empty_line_before", empty(1), &[HELLO], Open),
        case("empty_lines_before", empty(16), &[HELLO], Open),
        case("too_many_empty_lines_before", empty(17), &["400"], Closed),
        case("empty_lines_between", [empty(0), empty(16), empty(16)].concat(), &[HELLO, HELLO, HELLO], Open),
        case(
            "too_many_empty_lines_behind",
            [get("GET / HTTP/1.1", ""), "\n".repeat(17).into_bytes()].concat(),
            &[HELLO, "400"],
            Closed,
        ),
        case(
            "space_before_first_field",
            b"GET / HTTP/1.1\r\n X: y\r\nHost: hello.test\r\n\r\n".to_vec(),
            &["400"],
            Closed,
        ),
        case("no_http", b"nonsense\r\n\r\n".to_vec(), &["400"], Closed),
        case(
            "octets_in_value",
            [&b"GET / HTTP/1.1\r\nHost: hello.test\r\nX: \xff\x80\r\n\r\n"[..]].concat(),
            &[HELLO],
            Open,
        ),
        case("two_spaces_in_request_line", get("GET  / HTTP/1.1", ""), &["400"], Closed),
        case("version_1_0", get("GET / HTTP/1.0", ""), &[HELLO], Closed),
        case("version_2_0", get("GET / HTTP/2.0", ""), &["400"], Closed),
    ]
}

fn targets(case: Make) -> Vec<Case> {
    let long = |bytes: usize| get(&format!("GET /{} HTTP/1.1", "a".repeat(bytes - 1)), "");
    vec![
        case("target_of_8000_bytes", long(8000), &[HELLO], Open),
        case("target_too_long", long(65_600), &["414"], Closed),
        case("head_too_long", get("GET / HTTP/1.1", &format!("X: {}\r\n", "y".repeat(65_600))), &["431"], Closed),
        case("too_many_fields", get("GET / HTTP/1.1", &"X: y\r\n".repeat(100)), &["431"], Closed),
        case(
            "body_too_long",
            b"POST / HTTP/1.1\r\nHost: small.test\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
            &["413"],
            Open,
        ),
        case("fragment", get("GET /a#b HTTP/1.1", ""), &["400"], Closed),
        case("fragment_of_root", get("GET /# HTTP/1.1", ""), &["400"], Closed),
        case("fragment_after_query", get("GET /?a#b HTTP/1.1", ""), &["400"], Closed),
        case("fragment_of_absolute_target", get("GET http://hello.test/a#b HTTP/1.1", ""), &["400"], Closed),
        case("number_sign_in_method", get("G#T / HTTP/1.1", "X: #\r\n"), &[HELLO], Open),
        case("no_host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), &["400"], Closed),
        case("two_hosts", get("GET / HTTP/1.1", "Host: hello.test\r\n"), &["400"], Closed),
        case("invalid_host", b"GET / HTTP/1.1\r\nHost: hello.test/\r\n\r\n".to_vec(), &["400"], Closed),
        case(
            "absolute_target",
            b"GET http://hello.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n".to_vec(),
            &[HELLO],
            Open,
        ),
        case("absolute_target_without_host", b"GET http://hello.test/ HTTP/1.1\r\n\r\n".to_vec(), &["400"], Closed),
        case("connect", get("CONNECT hello.test:80 HTTP/1.1", ""), &["400"], Closed),
        case("connect_without_port", get("CONNECT hello.test HTTP/1.1", ""), &["400"], Closed),
        case("authority_as_target", get("GET hello.test:80 HTTP/1.1", ""), &["400"], Closed),
        case("asterisk_for_get", get("GET * HTTP/1.1", ""), &["400"], Closed),
    ]
}

fn fields(case: Make) -> Vec<Case> {
    vec![
        case("space_before_colon", get("GET / HTTP/1.1", "X : y\r\n"), &["400"], Closed),
        case("folded", get("GET / HTTP/1.1", "X: y\r\n z\r\n"), &["400"], Closed),
        case("folded_by_tab", get("GET / HTTP/1.1", "X: y\r\n\tz\r\n"), &["400"], Closed),
        case("nul_in_value", get("GET / HTTP/1.1", "X: a\0b\r\n"), &["400"], Closed),
        case("name_of_any_case", b"GET / HTTP/1.1\r\nhOsT: hello.test\r\n\r\n".to_vec(), &[HELLO], Open),
        case("space_around_value", with_length(" \t5\t "), &["200 hello"], Open),
        case("empty_elements", get("GET / HTTP/1.1", "Connection: ,, x,,close ,\r\n"), &[HELLO], Closed),
    ]
}

fn lengths(case: Make) -> Vec<Case> {
    vec![
        case("length", with_length("5"), &["200 hello"], Open),
        case("length_with_zeros", with_length("0005"), &["200 hello"], Open),
        case("length_twice", with_length("5\r\nContent-Length: 5"), &["200 hello"], Open),
        case("lengths_that_differ", with_length("5\r\nContent-Length: 6"), &["400"], Closed),
        case("length_as_list", with_length("5, 5"), &["400"], Closed),
        case("length_with_sign", with_length("+5"), &["400"], Closed),
        case("length_in_hexadecimal", with_length("0x5"), &["400"], Closed),
        case("empty_length", with_length(""), &["400"], Closed),
        case("length_of_65_bits", with_length("18446744073709551616"), &["400"], Closed),
        case(
            "body_of_get",
            b"GET / HTTP/1.1\r\nHost: echo.test\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
            &["200 hello"],
            Open,
        ),
        case("no_length", b"POST / HTTP/1.1\r\nHost: echo.test\r\n\r\n".to_vec(), &["200 "], Open),
        case(
            "length_and_coding",
            then_get(&post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")),
            &["200 hello"],
            Closed,
        ),
        case(
            "coding_and_length",
            then_get(&post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "5\r\nhello\r\n0\r\n\r\n")),
            &["200 hello"],
            Closed,
        ),
    ]
}

fn codings(case: Make) -> Vec<Case> {
    vec![
        case("coding_chunked", coded("chunked"), &["200 hello"], Open),
        case("coding_of_any_case", coded("cHUNKED"), &["200 hello"], Open),
        case("coding_unknown", coded("gzip, chunked"), &["501"], Closed),
        case("coding_of_no_name", coded("x, chunked"), &["501"], Closed),
        case("coding_identity", coded("identity, chunked"), &["501"], Closed),
        case("coding_unknown_with_parameter", coded("gzip;q=\"a,b\", chunked"), &["501"], Closed),
        case("coding_unknown_in_a_field_before", coded("gzip\r\nTransfer-Encoding: chunked"), &["501"], Closed),
        case("coding_chunked_twice", coded("chunked, chunked"), &["400"], Closed),
        case("coding_chunked_twice_in_two_fields", coded("chunked\r\nTransfer-Encoding: chunked"), &["400"], Closed),
        case("coding_after_chunked", coded("chunked, gzip"), &["400"], Closed),
        case("coding_after_chunked_in_a_field", coded("chunked\r\nTransfer-Encoding: gzip"), &["400"], Closed),
        case("coding_not_chunked", coded("gzip"), &["400"], Closed),
        case("coding_chunked_with_parameter", coded("chunked;a=b"), &["400"], Closed),
        case("coding_empty_element", coded(", chunked"), &["400"], Closed),
        case("coding_empty_element_at_the_end", coded("chunked,"), &["400"], Closed),
        case("coding_empty_field", coded("\r\nTransfer-Encoding: chunked"), &["400"], Closed),
        case(
            "coding_in_1_0",
            then_get(b"POST / HTTP/1.0\r\nHost: echo.test\r\nConnection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            &["400"],
            Closed,
        ),
    ]
}

fn chunked(case: Make) -> Vec<Case> {
    let endless = |from: &str, byte: &str| chunks(&format!("{from}{}", byte.repeat(40_000)));
    vec![
        case("chunks", chunks("5\r\nhello\r\n0\r\n\r\n"), &["200 5 bytes\n"], Open),
        case(
            "chunk_size_of_16_digits",
            chunks("0000000000000001\r\nx\r\n0000000000000000\r\n\r\n"),
            &["200 1 bytes\n"],
            Open,
        ),
        case("chunk_size_of_17_digits", chunks("00000000000000001\r\nx\r\n0\r\n\r\n"), &["400"], Closed),
        case("chunk_size_of_endless_zeros", endless("", "0"), &["400"], Closed),
        case("chunk_size_of_65_bits", chunks("10000000000000000\r\nx"), &["400"], Closed),
        case("chunk_size_ends_in_lf", chunks("1\nx\r\n0\r\n\r\n"), &["400"], Closed),
        case("chunk_size_with_space", chunks("1 \r\nx\r\n0\r\n\r\n"), &["400"], Closed),
        case("chunk_ends_in_lf", chunks("1\r\nx\n0\r\n\r\n"), &["400"], Closed),
        case("chunk_too_long", chunks("1\r\nxx\r\n0\r\n\r\n"), &["400"], Closed),
        case("many_chunks", chunks(&format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(10_000))), &["200 10000 bytes\n"], Open),
        case("extensions", chunks("1;a;b=c;d=\"e;\\\"\"\r\nx\r\n0;f\r\n\r\n"), &["200 1 bytes\n"], Open),
        case("extension_with_space", chunks("1 ; a = b\r\nx\r\n0\t;f\r\n\r\n"), &["200 1 bytes\n"], Open),
        case("extension_ends_in_lf", chunks("1;a\nx\r\n0\r\n\r\n"), &["400"], Closed),
        case("endless_extension", endless("1;", "x"), &["400"], Closed),
        case("endless_space_before_extension", endless("1", " "), &["400"], Closed),
        case("trailers", chunks("0\r\nX: a\r\ny:\r\n\r\n"), &["200 0 bytes\n"], Open),
        case("trailer_lf", chunks("0\r\n\n"), &["400"], Closed),
        case("trailer_lf_crlf", then_get(&chunks("0\r\nX: a\n\r\n")), &["400"], Closed),
        case("trailer_lf_lf", then_get(&chunks("0\r\nX: a\n\n")), &["400"], Closed),
        case("trailer_crlf_lf", then_get(&chunks("0\r\nX: a\r\n\n")), &["400"], Closed),
        case("trailer_folded", chunks("0\r\nX: a\r\n b\r\n\r\n"), &["400"], Closed),
        case("trailer_without_colon", chunks("0\r\nX\r\n\r\n"), &["400"], Closed),
        case("endless_trailer", endless("0\r\nX: ", "x"), &["400"], Closed),
        case("endless_trailers", endless("0\r\n", "X: y\r\n"), &["400"], Closed),
    ]
}

fn connections(case: Make) -> Vec<Case> {
    let status =
        |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: status.test\r\n\r\n").into_bytes();
    vec![
        case("persistent", [get("GET / HTTP/1.1", ""), get("GET / HTTP/1.1", "")].concat(), &[HELLO, HELLO], Open),
        case("close", then_get(&get("GET / HTTP/1.1", "Connection: close\r\n")), &[HELLO], Closed),
        case(
            "close_then_keep_alive",
            then_get(&get("GET / HTTP/1.1", "Connection: close\r\nConnection: keep-alive\r\n")),
            &[HELLO],
            Closed,
        ),
        case("close_after_refusal", then_get(&get("GET /#x HTTP/1.1", "")), &["400"], Closed),
        case("upgrade", get("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"), &[HELLO], Open),
        case(
            "upgrade_in_1_0",
            get("GET / HTTP/1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            &[HELLO],
            Closed,
        ),
        case("expectation_without_body", get("GET / HTTP/1.1", "Expect: 100-continue\r\n"), &[HELLO], Open),
        case(
            "expectation_of_any_case",
            post("Expect: 100-CONTINUE\r\nContent-Length: 5\r\n", "hello"),
            &["200 hello"],
            Open,
        ),
        case("expectation_unknown", get("GET / HTTP/1.1", "Expect: miracles\r\n"), &[HELLO], Open),
        case("head", status("HEAD", "/200"), &["HEAD 200 "], Open),
        case("no_content", status("GET", "/204"), &["204 "], Open),
        case("reset_content", status("GET", "/205"), &["205 "], Open),
        case("not_modified", status("GET", "/304"), &["304 "], Open),
        case("switching_protocols", status("GET", "/101"), &["500"], Open),
        case("trace", get("TRACE / HTTP/1.1", ""), &[HELLO], Open),
    ]
}
