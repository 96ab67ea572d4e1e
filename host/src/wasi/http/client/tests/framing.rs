//! The scan of a response before hyper parses it.

use super::harness::{Route, Server, fetch, get, read};
use crate::message::transfer_coding::chunked::Error::{BareCr, ChunkEnd, ChunkSize, Extension, Trailer};
use crate::wasi::http::client::framing::{Scanner, Violation};

/// Scans `bytes` in one piece and in pieces of every size up to 7, each with the same result.
fn check(is_head_request: bool, bytes: &str, expected: Result<(), (usize, Violation)>) {
    for size in [bytes.len(), 1, 2, 3, 4, 5, 6, 7] {
        let mut scanner = Scanner::response_to(is_head_request);
        let mut scanned = 0;
        let mut result = Ok(());
        for piece in bytes.as_bytes().chunks(size) {
            result = scanner.scan(piece).map_err(|(valid, violation)| (scanned + valid, violation));
            if result.is_err() {
                break;
            }
            scanned += piece.len();
        }
        let shown: String = bytes.chars().take(200).collect();
        assert_eq!(result, expected, "in pieces of {size}: {shown:?}");
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\n\r\n";

fn check_chunks(chunks: &str, expected: Result<(), (usize, Violation)>) {
    let expected = expected.map_err(|(valid, violation)| (CHUNKED.len() + valid, violation));
    check(false, &format!("{CHUNKED}{chunks}"), expected);
}

#[test]
fn heads() {
    for fine in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        // Not chunked: counted or rejected by hyper.
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nzz",
        "HTTP/1.1 200 OK\r\nx-transfer-encoding: chunked\r\n\r\nzz",
        "HTTP/1.1 200 OK\r\ntransfer-encodin: chunked\r\n\r\nzz",
        "HTTP/1.1 200 OK\r\ntransfer-encoding-x: chunked\r\n\r\nzz",
        "HTTP/1.1 200 transfer-encoding: chunked\r\n\r\nzz",
        "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\nzz",
        "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\nzz",
        "HTTP/1.1 101 Switching Protocols\r\n\r\nzz",
        "SSH-2.0-OpenSSH_9.9\r\n",
    ] {
        check(false, fine, Ok(()));
    }
    check(true, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz", Ok(()));
    for coded in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nTRANSFER-ENCODING:chunked\n\n",
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\ntransfer-encoding:\r\n chunked\r\nd: e\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        check(false, &format!("{coded}zz"), Err((coded.len(), Violation::Malformed(ChunkSize))));
    }
    check(false, "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Err((3, Violation::EmptyLines)));
}

#[test]
fn interim_responses() {
    let ok = "HTTP/1.1 200 OK\r\n\r\n";
    check(false, &format!("{}{ok}", INTERIM.repeat(64)), Ok(()));
    let over = INTERIM.repeat(65);
    check(false, &over, Err((over.len() - 1, Violation::InterimResponses)));
    let large = format!("HTTP/1.1 102 Processing\r\nx: {}\r\n\r\n", "x".repeat(16_000));
    check(false, &format!("{}{ok}", large.repeat(4)), Ok(()));
    let over = large.repeat(5);
    check(false, &over, Err((over.len() - 1, Violation::InterimResponses)));
    // A field of an interim response does not apply to the final response.
    let coded = "HTTP/1.1 103 Early Hints\r\ntransfer-encoding: chunked\r\n\r\n";
    check(false, &format!("{coded}{ok}zz"), Ok(()));
}

#[test]
fn chunks() {
    for fine in [
        "0\r\n\r\n",
        "2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK",
        "000000000000000A\r\n0123456789\r\n0000000000000000\r\n\r\n",
        "2;a=b;c=\"d\"\r\nok\r\n0 \t;e\r\n\r\n",
        "2 \r\nok\r\n0\t\r\n\r\n",
        "2;\0\x7f\r\nok\r\n0\r\n\r\n",
        "0\r\nx: a\r\ny: b\r\n\r\nzz",
        "ffffffffffffffff\r\nthe rest",
    ] {
        check_chunks(fine, Ok(()));
    }
    for (bytes, valid, violation) in [
        ("zz", 0, Violation::Malformed(ChunkSize)),
        ("\r\n", 0, Violation::Malformed(ChunkSize)),
        ("-1\r\n", 0, Violation::Malformed(ChunkSize)),
        ("0x2\r\n", 1, Violation::Malformed(ChunkSize)),
        ("2\nok", 1, Violation::Malformed(ChunkSize)),
        ("2\r\r\n", 2, Violation::Malformed(BareCr)),
        ("2 2\r\n", 2, Violation::Malformed(ChunkSize)),
        ("2;a\nok", 3, Violation::Malformed(Extension)),
        ("2\r\nok\n", 5, Violation::Malformed(ChunkEnd)),
        ("2\r\nokk\r\n", 5, Violation::Malformed(ChunkEnd)),
        ("2\r\nok\rx", 6, Violation::Malformed(ChunkEnd)),
        ("00000000000000000\r\n\r\n", 16, Violation::ChunkSize),
        ("10000000000000000\r\n", 16, Violation::ChunkSize),
        ("0\r\n\n", 3, Violation::Malformed(Trailer)),
        ("0\r\nx: a\n\r\n", 7, Violation::Malformed(Trailer)),
        ("0\r\nx: a\rb\r\n\r\n", 8, Violation::Malformed(BareCr)),
        ("0\r\n\rx", 4, Violation::Malformed(BareCr)),
    ] {
        check_chunks(bytes, Err((valid, violation)));
    }
}

#[test]
fn what_chunks_carry_besides_has_limits() {
    for extension in [";", " ", "\t"] {
        check_chunks(&format!("2{}\r\nok\r\n0\r\n\r\n", extension.repeat(16_383)), Ok(()));
        check_chunks(&format!("2{}", extension.repeat(16_385)), Err((16_384, Violation::ChunkExtensions)));
        // The limit is for all chunks together.
        let half = format!("1{}\r\nx\r\n", extension.repeat(8_192));
        let valid = half.len() + 1 + 8_191;
        check_chunks(&half.repeat(2), Err((valid, Violation::ChunkExtensions)));
    }
    // The empty line at the end counts.
    check_chunks(&format!("0\r\nx:{}\r\n\r\n", "x".repeat(16_377)), Ok(()));
    check_chunks(&format!("0\r\nx:{}\r\n\r\n", "x".repeat(16_378)), Err((3 + 16_383, Violation::Trailers)));
    check_chunks(&format!("0\r\n{}\r\n", "x:\r\n".repeat(1024)), Ok(()));
    check_chunks(&format!("0\r\n{}\r\n", "x:\r\n".repeat(1025)), Err((3 + 4096, Violation::Trailers)));
}

/// Checks what a guest receives of a response, and whether the connection is reused: the outcome of two requests and
/// the number of connections.
async fn check_exchange(response: String, expected: &str, connections: usize) {
    let shown: String = response.chars().take(200).collect();
    let server = Server::answering(response.leak()).await;
    let mut hooks = Route::loopback().hooks();
    for _ in 0..2 {
        assert_eq!(fetch(&mut hooks, &server.url("/")).await, expected, "{shown:?}");
    }
    assert_eq!(server.accepted(), connections, "{shown:?}");
}

#[tokio::test]
async fn hyper_takes_what_is_within_the_limits() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    check_exchange(format!("{}{ok}", INTERIM.repeat(64)), "200 ok", 1).await;
    let whole = "2;a=b \r\nok\r\n0\r\nx: a\r\n\r\n";
    check_exchange(format!("{CHUNKED}{whole}"), "200 ok", 1).await;
    check_exchange(format!("{CHUNKED}2 \r\nok\r\n0 \t\r\n\r\n"), "200 ok", 1).await;
    check_exchange(format!("{CHUNKED}2;\x01\r\nok\r\n0\r\n\r\n"), "200 ok", 1).await;
    check_exchange(format!("{CHUNKED}0000000000000002\r\nok\r\n0\r\n\r\n"), "200 ok", 1).await;
    check_exchange(format!("{CHUNKED}2\r\nok\r\n0\r\n{}\r\n", "x:\r\n".repeat(1024)), "200 ok", 1).await;
    let fields: String = (0..1023).map(|number| format!("x-{number}: 1\r\n")).collect();
    check_exchange(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok"), "200 ok", 1).await;
}

#[tokio::test]
async fn guests_are_told_what_is_not() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    for (response, expected) in [
        (format!("{}{ok}", INTERIM.repeat(65)), "HttpProtocolError"),
        (INTERIM.repeat(40_000), "HttpProtocolError"),
        ("\r\n".repeat(40_000), "HttpProtocolError"),
        (format!("{CHUNKED}2\r\nok\r\n{}", "0".repeat(100_000)), "HttpProtocolError"),
        (format!("{CHUNKED}2{}", " ".repeat(100_000)), "HttpProtocolError"),
        (format!("{CHUNKED}2\r\nok\r\n0\r\nx: a\n\r\n"), "HttpProtocolError"),
        (format!("{CHUNKED}2\r\nok\r\n0\r\nx: a\r\n b\r\n\r\n"), "HttpProtocolError"),
        (format!("{CHUNKED}2\r\nok\r\n0\r\nx\r\n\r\n"), "HttpProtocolError"),
        (format!("{CHUNKED}2\r\nok\r\n0\r\n{}", "x: a\r\n".repeat(4000)), "HttpResponseTrailerSectionSize(None)"),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: 1\r\n".repeat(1025)), "HttpResponseHeaderSectionSize(None)"),
        (CHUNKED.replace("chunked", "gzip"), "HttpResponseTransferCoding(Some(\"gzip\"))"),
        (CHUNKED.replace("chunked", "gzip, chunked"), "HttpResponseTransferCoding(Some(\"gzip, chunked\"))"),
        (CHUNKED.replace("chunked", ", chunked"), "HttpResponseTransferCoding(Some(\", chunked\"))"),
        (CHUNKED.replace("chunked", "chunked, chunked"), "HttpResponseTransferCoding(Some(\"chunked, chunked\"))"),
        (
            CHUNKED.replace("chunked", "chunked\r\ntransfer-encoding: chunked"),
            "HttpResponseTransferCoding(Some(\"chunked, chunked\"))",
        ),
    ] {
        check_exchange(response, expected, 2).await;
    }
}

#[tokio::test]
async fn lengths_as_guests_see_them() {
    for (fields, body, length, connections) in [
        ("content-length: 2", "ok", Some("2"), 1),
        ("content-length: 2, 2", "ok", Some("2"), 1),
        ("content-length: 2\r\ncontent-length: 2", "ok", Some("2"), 1),
        // The chunks determine the length. The connection is closed, so that their rest is not taken for a response.
        ("content-length: 1\r\ntransfer-encoding: chunked", "2\r\nok\r\n0\r\n\r\n", None, 2),
        ("transfer-encoding: Chunked", "2\r\nok\r\n0\r\n\r\n", None, 1),
        ("transfer-encoding:\r\n chunked", "2\r\nok\r\n0\r\n\r\n", None, 1),
    ] {
        let server = Server::answering(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}").leak()).await;
        let mut hooks = Route::loopback().hooks();
        for _ in 0..2 {
            let response = get(&mut hooks, &server.url("/")).await.unwrap();
            let seen: Vec<_> = response.headers().get_all("content-length").iter().cloned().collect();
            assert_eq!(seen, length.into_iter().collect::<Vec<_>>(), "{fields}");
            assert_eq!(read(response).await.unwrap().0, "ok", "{fields}");
        }
        assert_eq!(server.accepted(), connections, "{fields}");
    }
}

/// RFC 9112 §5.2: a user agent replaces a fold with spaces.
#[tokio::test]
async fn folded_fields_are_unfolded() {
    for (field, value) in [
        ("x: a\r\n b\r\n\tc", "a b c"),
        ("x:\r\n a", "a"),
        ("x: a\r\n  \t b", "a b"),
        ("x: a \r\n b", "a b"),
        ("x: a\r\n \r\n b", "a b"),
        ("x: a\r\n ", "a"),
        ("x: a\n b", "a b"),
    ] {
        let server =
            Server::answering_once(format!("HTTP/1.1 200 OK\r\n{field}\r\ncontent-length: 2\r\n\r\nok").leak()).await;
        let response = get(&mut Route::loopback().hooks(), &server.url("/")).await.unwrap();
        let seen = response.headers()["x"].to_str().unwrap_or("not text").to_owned();
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>().join(" "), value, "{field:?}: {seen:?}");
        assert!(!seen.contains(['\r', '\n']), "{field:?}: {seen:?}");
        assert_eq!(read(response).await.unwrap().0, "ok", "{field:?}");
    }
}
