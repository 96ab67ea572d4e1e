//! The same as [`differential_p3`](super::differential_p3) for how much of its response a guest has passed on when it traps or
//! exits.

use super::differential::outcome;
use super::differential_p3::{END, FAR, INPUT, PASS, SET, SIZED, SOON, STREAM, component};
use crate::artifact::Form;
use crate::engine::outcome::Outcome;
use crate::engine::pool::WasiVersion;

/// How much of a response the host has when its guest ends by a trap or an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    /// No response: the guest has returned one, but has not waited since.
    Nothing,
    /// The head, and perhaps a part of the body.
    Head,
    /// All of it.
    Whole,
}
use Passed::{Head, Nothing, Whole};

const BEGIN: &str = "(call $begin)";
/// Returns a response without a stream for its body.
const BARE: &str = "(call $ends (call $trailers)) (i32.store (i32.const 148) (call $writer))
    (call $new-response (call $fields) (i32.const 0) (i32.const 0) (call $reader) (i32.const 136)) (call $send-made)";
/// The same with a stream, and with the request's trailers.
const WITH_TRAILERS: &str = "(call $ends (call $stream)) (i32.store (i32.const 144) (call $writer))
    (call $new-response (call $fields) (i32.const 1) (call $reader) (call $body-trailers) (i32.const 136))
    (call $send-made)";
const PUT: &str = "(call $put (i32.const 16) (i32.const 6))";
const PUT_MORE: &str = "(call $put (i32.const 22) (i32.const 10))";
const DROP_WRITER: &str = "(call $drop-writer (i32.load (i32.const 144)))";
const FINISH: &str = "(call $finish)";
const END_TRAILERS: &str = "(call $end (i32.const 152) (i32.load (i32.const 148))
    (call $write-trailers (i32.load (i32.const 148)) (i32.const 160)))";
const READ: &str = "(call $end (i32.const 256) (call $body) (call $read (call $body) (i32.const 280) (i32.const 100)))";
const READ_TRAILERS: &str = "(call $end (i32.const 400) (call $body-trailers)
    (call $read-trailers (call $body-trailers) (i32.const 408)))";
const READ_WRITTEN: &str =
    "(call $end (i32.const 264) (local.get $b) (call $read-written (local.get $b) (i32.const 268)))";
/// Sends the request at 240, which is denied.
const SEND: &str = "(call $end-call (i32.const 256) (call $send (call $to-send) (i32.const 264)))";
const READ_SENT: &str = "(call $end (i32.const 256) (i32.load (i32.const 244))
    (call $read-sent (i32.load (i32.const 244)) (i32.const 288)))";
/// Reads the body of the response at 136, and says that all is well with it.
const CONSUME: &str = "(call $ends (call $sent))
    (call $consume-response (i32.load (i32.const 136)) (call $reader) (i32.const 256))
    (call $end (i32.const 280) (call $writer) (call $write-sent (call $writer) (i32.const 160)))";
const EXIT: &str = "(call $exit (i32.const 0))";
const EXIT_7: &str = "(call $exit (i32.const 7))";

/// The guest's code from its response to a trap or an exit, and how much of the response has been passed on by then.
/// Linked directly, a guest often does not wait where one in a component does.
#[rustfmt::skip]
const ANSWERS: &[(&[&str], Passed)] = &[
    (&[BEGIN, "unreachable"], Nothing),
    (&[BEGIN, EXIT], Nothing),
    (&[BEGIN, EXIT_7], Nothing),
    (&[BEGIN, SET, "(drop (call $set-poll (local.get $a) (i32.const 256)))", "(call $sleep (i64.const 0))", "unreachable"], Nothing),
    (&[BEGIN, "(drop (call $yield))", "unreachable"], Head),
    (&[BEGIN, "(drop (call $yield))", EXIT], Head),
    (&[BEGIN, "(call $sleep (i64.const 1000000))", "unreachable"], Head),
    (&[BEGIN, FAR, "(drop (call $subtask-cancel (local.get $b)))", "unreachable"], Head),
    (&[BEGIN, "(drop (call $read-sent (i32.load (i32.const 140)) (i32.const 288)))",
       "(drop (call $cancel-sent (i32.load (i32.const 140))))", "unreachable"], Head),
    (&["(call $make)", "(drop (call $write (i32.load (i32.const 144)) (i32.const 16) (i32.const 6)))", "(call $send-made)", EXIT], Nothing),
    // What the guest returns to the host is invalid: a set that does not exist, and an unknown code.
    (&[BEGIN, "(return (i32.const 2))"], Nothing),
    (&[BEGIN, "(return (i32.const 0x7f2))"], Nothing),
    (&[BEGIN, "(return (i32.const 7))"], Nothing),
    // The callback returns a response again, which traps.
    (&[BEGIN, "(return (i32.const 1))"], Head),
    (&[BEGIN, SET, SOON, "(call $join (local.get $b) (local.get $a))", "(return (i32.or (i32.const 2) (i32.shl (local.get $a) (i32.const 4))))"], Head),
    (&[BEGIN, STREAM, SET, "(call $join (call $writer) (local.get $a))", "(call $drop-reader (call $reader))",
       "(return (i32.or (i32.const 2) (i32.shl (local.get $a) (i32.const 4))))"], Head),
    (&[BEGIN, STREAM, SET, "(call $join (call $writer) (local.get $a))", "(call $drop-reader (call $reader))",
       "(drop (call $set-wait (local.get $a) (i32.const 280)))", EXIT], Nothing),
    (&[BEGIN, DROP_WRITER, EXIT], Nothing),
    (&[BEGIN, DROP_WRITER, "unreachable"], Nothing),
    (&[BEGIN, "(call $end (i32.const 152) (i32.load (i32.const 144)) (call $write (i32.load (i32.const 144)) (i32.const 0) (i32.const 0)))", EXIT], Head),
    (&[BEGIN, PUT, EXIT], Head),
    (&[BEGIN, PUT, EXIT_7], Head),
    (&[BEGIN, PUT, "unreachable"], Head),
    (&[BEGIN, PUT, DROP_WRITER, EXIT], Head),
    (&[BEGIN, END_TRAILERS, EXIT], Head),
    (&[BEGIN, END_TRAILERS, "unreachable"], Head),
    (&[BEGIN, FINISH, EXIT], Whole),
    (&[BEGIN, FINISH, EXIT_7], Whole),
    (&[BEGIN, FINISH, "unreachable"], Whole),
    (&[BEGIN, PUT, FINISH, EXIT], Whole),
    (&[BEGIN, PUT, FINISH, EXIT_7], Whole),
    (&[BEGIN, PUT, FINISH, "unreachable"], Whole),
    (&[BEGIN, PUT, PUT_MORE, PUT, FINISH, EXIT], Whole),
    (&[BEGIN, PUT, PUT_MORE, PUT, FINISH, "unreachable"], Whole),
    (&[BARE, EXIT], Nothing),
    (&[BARE, END_TRAILERS, EXIT], Whole),
    (&[BARE, END_TRAILERS, "unreachable"], Whole),
    (&[SIZED, EXIT], Nothing),
    (&[SIZED, PUT, EXIT], Head),
    (&[SIZED, PUT, FINISH, EXIT], Whole),
    (&[SIZED, PUT_MORE, EXIT], Head),
    (&[SIZED, DROP_WRITER, EXIT], Nothing),
    // The guest learns that its body is too short.
    (&[SIZED, DROP_WRITER, END, EXIT], Head),
    (&[INPUT, PASS, EXIT], Nothing),
    (&[INPUT, PASS, "unreachable"], Nothing),
    // The trailers are those of the request.
    (&[INPUT, "(call $drop-reader (call $body))", WITH_TRAILERS, EXIT], Nothing),
    (&[INPUT, "(call $drop-reader (call $body))", WITH_TRAILERS, PUT, EXIT], Head),
    (&[INPUT, "(call $drop-reader (call $body))", WITH_TRAILERS, PUT, DROP_WRITER, EXIT], Whole),
    (&[INPUT, "(call $drop-reader (call $body))", WITH_TRAILERS, PUT, DROP_WRITER, EXIT_7], Whole),
    (&[INPUT, "(call $drop-reader (call $body))", WITH_TRAILERS, PUT, DROP_WRITER, "unreachable"], Whole),
    (&[INPUT, READ, READ, WITH_TRAILERS, PUT, PUT_MORE, DROP_WRITER, EXIT], Whole),
    (&[INPUT, "(call $drop-reader (call $body))", "(call $new-response (call $fields) (i32.const 0) (i32.const 0) (call $body-trailers) (i32.const 136))",
       "(call $send-made) (drop (call $yield))", EXIT], Whole),
    // Operations on other streams and futures.
    (&[BEGIN, STREAM, "(drop (call $write (call $writer) (i32.const 16) (i32.const 6)))",
       "(drop (call $read (call $reader) (i32.const 280) (i32.const 4)))", EXIT], Nothing),
    (&[BEGIN, INPUT, READ, EXIT], Nothing),
    (&[BEGIN, INPUT, READ, READ, EXIT], Nothing),
    (&[BEGIN, STREAM, "(local.set $b (call $stdout (call $reader)))",
       "(call $end (i32.const 256) (call $writer) (call $write (call $writer) (i32.const 22) (i32.const 10)))", EXIT], Nothing),
    (&[BEGIN, "(call $stdin (i32.const 256))", "(call $end (i32.const 264) (i32.load (i32.const 256)) (call $read (i32.load (i32.const 256)) (i32.const 272) (i32.const 4)))", EXIT], Nothing),
    (&[BEGIN, "(call $end-call (i32.const 256) (call $wait-for (i64.const 0)))", EXIT], Nothing),
    (&[BEGIN, "(call $outgoing)", SEND, EXIT], Nothing),
    (&[BEGIN, "(call $make)", CONSUME, EXIT], Nothing),
    // In a component, a guest waits for each value of a future whose type has strings or lists, and for no other value
    // that is already known.
    (&[BEGIN, INPUT, "(call $drop-reader (call $body))", READ_TRAILERS, EXIT], Head),
    (&[BEGIN, INPUT, READ, READ, READ_TRAILERS, EXIT], Head),
    (&[BEGIN, "(call $make)", "(call $drop-response (i32.load (i32.const 136)))", END, EXIT], Head),
    (&[BEGIN, "(call $make)", CONSUME, END, EXIT], Head),
    (&[BEGIN, INPUT, "(call $new-response (call $fields) (i32.const 1) (call $body) (call $body-trailers) (i32.const 136))",
       "(call $drop-response (i32.load (i32.const 136)))", END, EXIT], Head),
    (&[BEGIN, "(call $outgoing)", "(call $drop-request (call $to-send))", READ_SENT, EXIT], Head),
    (&[BEGIN, "(call $outgoing)", SEND, READ_SENT, EXIT], Head),
    (&[BEGIN, STREAM, "(local.set $b (call $stdout (call $reader)))", "(call $drop-writer (call $writer))", READ_WRITTEN, EXIT], Nothing),
    (&[BEGIN, INPUT, "(local.set $b (call $stdout (call $body)))", READ_WRITTEN, EXIT], Head),
    (&[BEGIN, "(call $stdin (i32.const 256))", "(call $drop-reader (i32.load (i32.const 256)))", "(local.set $b (i32.load (i32.const 260)))", READ_WRITTEN, EXIT], Nothing),
];

#[tokio::test]
async fn as_much_of_an_answer_is_passed_on_in_both_forms() {
    let mut failures = Vec::new();
    for (code, passed) in ANSWERS {
        let component = component(&code.join("\n"), "", "");
        let (ended, direct) = outcome(WasiVersion::P2, &component, Form::Module).await;
        let (ended_whole, whole) = outcome(WasiVersion::P3, &component, Form::Component).await;
        let has_ended = |outcome: &Outcome| matches!(outcome, Outcome::Trap(_) | Outcome::Exit(_));
        // The unfinished body of a component ends without an error here, because the ended store was dropped.
        let is_as_expected = match passed {
            Nothing => direct == "none" && whole == "none",
            Head => direct.starts_with("200 ") && whole.starts_with("200 ") && direct.contains(" Err("),
            Whole => direct.starts_with("200 ") && direct == whole && !direct.contains(" Err("),
        };
        if !is_as_expected || !has_ended(&ended) || !has_ended(&ended_whole) {
            failures.push(format!("{passed:?}: {code:?}\n  {ended:?} {direct}\n  {ended_whole:?} {whole}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
