use daylily_core::error_response::ErrorResponse;
use daylily_core::secret::Secret;

use super::*;

#[test]
fn one_call_brings_so_many_lines_into_the_log() {
    fn check(bytes: &[u8], expected: usize) {
        assert_eq!(of_one_call(bytes).len(), expected);
    }
    check(b"", 0);
    check(b"one\ntwo", 7);
    check(&b"x\n".repeat(MAX_LINES_OF_CALL), 2 * MAX_LINES_OF_CALL);
    check(&b"x\n".repeat(MAX_LINES_OF_CALL + 1), 2 * MAX_LINES_OF_CALL);
    check(&vec![b'x'; 2 << 20], WRITE_BUDGET_BYTES);
}

/// What exceeds one call is logged in several steps, and then the stream accepts more.
#[tokio::test]
async fn the_rest_takes_turns() {
    let output = GuestOutput::new("under test".into(), RequestId::next(), 1 << 30, None, None);
    let mut stream = output.stream(Stream::Stdout);
    let lines = b"x\n".repeat(10 * MAX_LINES_OF_CALL);
    stream.write(lines.into()).expect("room");
    assert_eq!(stream.check_write().expect("open"), 0);
    assert_eq!(lock(&output.0).left_bytes, (1 << 30) - 129 * MAX_LINES_OF_CALL as u64);
    stream.ready().await;
    assert_eq!(stream.check_write().expect("open"), WRITE_BUDGET_BYTES);
    assert_eq!(lock(&output.0).left_bytes, (1 << 30) - 10 * 129 * MAX_LINES_OF_CALL as u64);
}

#[test]
fn a_line_costs_what_is_printed_of_it() {
    fn check(limit_bytes: u64, written: &[u8], left_bytes: u64, is_cut: bool) {
        let output = GuestOutput::new("under test".into(), RequestId::next(), limit_bytes, None, None);
        let mut lines = lock(&output.0);
        lines.write(Stream::Stderr, Bytes::copy_from_slice(written));
        lines.end();
        assert_eq!((lines.left_bytes, lines.is_cut), (left_bytes, is_cut), "{written:?} of {limit_bytes}");
    }
    check(1_000, b"", 1_000, false);
    check(1_000, b"\n\r\n\n", 1_000, false);
    check(1_000, b"abc\n", 1_000 - 131, false);
    check(1_000, b"abc\ndef", 1_000 - 262, false);
    // An escape counts with its printed length, and an invalid byte as one replacement character (3 bytes).
    check(1_000, b"\x01\n", 1_000 - 128 - 5, false);
    check(1_000, b"\xff\n", 1_000 - 128 - 3, false);
    // At the limit, and over it: the start of a line still fits.
    check(131, b"abc\n", 0, false);
    check(131, b"abcd\n", 0, true);
    check(128, b"a\n", 128, true);
    check(0, b"a\n", 0, true);
}

#[test]
fn a_line_with_fields_costs_them_as_well() {
    fn check(limit_bytes: u64, line: &str, fields: &str, expected: Option<&str>, left_bytes: u64) {
        let output = GuestOutput::new("under test".into(), RequestId::next(), limit_bytes, None, None);
        let mut written = None;
        output.log(line, fields, |_, _, line| written = Some(line.to_owned()));
        let is_whole = expected == Some(line);
        assert_eq!(written.as_deref(), expected, "{line:?} and {fields:?} of {limit_bytes}");
        let is_cut = output.is_cut();
        assert_eq!((lock(&output.0).left_bytes, is_cut), (left_bytes, !is_whole));
    }
    check(1_000, "abc", "", Some("abc"), 1_000 - 131);
    check(1_000, "abc", "defg", Some("abc"), 1_000 - 135);
    check(135, "abc", "defg", Some("abc"), 0);
    check(134, "abc", "defg", Some("ab"), 0);
    check(132, "abc", "defg", None, 132);
    check(131, "abc", "defg", None, 131);
    // An empty line is one as well, if there is room for its fields.
    check(132, "", "defg", Some(""), 0);
    check(131, "", "defg", None, 131);
}

/// What is shown of writes to both streams, in the order of its lines, and what a developer is shown of each.
#[test]
fn secrets_are_masked_in_lines_and_for_developers() {
    fn check(writes: &[(Stream, &str)], stdout: &str, stderr: &str) {
        let secrets = ["hunter22", "first line\nsecond line"].map(|text| Secret::new(text.to_owned()));
        let diagnosis = CallDiagnosis::begin(true, None, None).expect("for a developer");
        let mask = Mask::of(secrets.iter());
        let output = GuestOutput::new("under test".into(), RequestId::next(), 1 << 20, Some(diagnosis.clone()), mask);
        for (number, (stream, text)) in writes.iter().enumerate() {
            let mut stream = output.stream(*stream);
            // Both ways to write.
            if number % 2 == 0 {
                stream.write(text.as_bytes().to_vec().into()).expect("room");
            } else {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                let written = Pin::new(&mut stream).poll_write(&mut cx, text.as_bytes());
                assert!(matches!(written, Poll::Ready(Ok(bytes)) if bytes == text.len()), "{written:?}");
            }
        }
        let lines = || lock(&output.0).stdout.clone();
        let pending = String::from_utf8(lines()).expect("text");
        assert!(!pending.contains("hunter22"), "{pending}");
        drop(output);
        let shown = diagnosis.explain(&ErrorResponse::NoResponse, RequestId::next());
        let expected = [("stderr", stderr), ("stdout", stdout)]
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| format!("\n{name}:\n{text}\n"));
        assert!(shown.ends_with(&expected.collect::<String>()), "{shown}");
    }
    use Stream::{Stderr, Stdout};
    check(&[(Stdout, "token hunter22.\n"), (Stderr, "hunter22")], "token ***.", "***");
    check(&[(Stdout, "a hunt"), (Stderr, "hun"), (Stdout, "er22\n"), (Stdout, "hunt")], "a ***\nhunt", "hun");
    check(&[(Stdout, "a first li"), (Stdout, "ne\nsecond"), (Stdout, " line\nb")], "a ***\nb", "");
    check(&[(Stdout, "nothing\n"), (Stderr, "to hide")], "nothing", "to hide");
}
