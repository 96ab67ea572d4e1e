//! The same as [`differential_p3`](super::differential_p3) for streams' and futures' ends, waitable sets and memory in states
//! that ordinary guests do not cause.

use super::differential::check_all;
use super::differential_p3::{FAR, FIELDS, INPUT, SET, STREAM, TRAILERS, check_programs, component, direct};
use crate::engine::call_outcome::CallOutcome;
use crate::engine::pool::WasiVersion;

const JOIN_READER: &str = "(local.set $a (call $set-new)) (call $join (call $reader) (local.get $a))";
const JOIN_WRITER: &str = "(local.set $a (call $set-new)) (call $join (call $writer) (local.get $a))";
/// Polls for the next two events of the set.
const POLL: &str = "(i32.store (i32.const 400) (call $set-poll (local.get $a) (i32.const 404)))
    (i32.store (i32.const 412) (call $set-poll (local.get $a) (i32.const 416)))";
const WRITE: &str = "(i32.store (i32.const 264) (call $write (call $writer) (i32.const 16) (i32.const 6)))";
const READ: &str = "(i32.store (i32.const 268) (call $read (call $reader) (i32.const 280) (i32.const 4)))";
const DIRTY: &str = "(memory.fill (i32.const 256) (i32.const 0xaa) (i32.const 512))";

/// The guest's code before it responds, and whether that traps.
#[rustfmt::skip]
const CASES: &[(&[&str], bool)] = &[
    // When one end is dropped, the other is notified, whatever operation it has in progress.
    (&[STREAM, JOIN_WRITER, "(call $drop-reader (call $reader))", POLL, WRITE, POLL], false),
    (&[STREAM, JOIN_WRITER, "(call $drop-reader (call $reader))", WRITE, POLL], false),
    (&[STREAM, JOIN_WRITER, "(call $drop-reader (call $reader))", POLL, WRITE, WRITE], true),
    (&[STREAM, JOIN_READER, "(call $drop-writer (call $writer))", POLL, READ, POLL], false),
    (&[STREAM, JOIN_READER, "(call $drop-writer (call $writer))", READ, POLL, "(call $drop-reader (call $reader))"], false),
    (&[STREAM, JOIN_READER, READ, WRITE, "(call $drop-writer (call $writer))", POLL], false),
    (&[STREAM, READ, "(call $drop-writer (call $writer))", "(i32.store (i32.const 272) (call $cancel-read (call $reader)))",
       "(drop (call $read (call $reader) (i32.const 280) (i32.const 4)))"], true),
    (&[TRAILERS, JOIN_WRITER, "(call $drop-trailers (call $reader))", POLL,
       "(i32.store (i32.const 264) (call $write-trailers (call $writer) (i32.const 160)))", POLL,
       "(call $drop-trailers-writer (call $writer))"], false),
    (&[TRAILERS, JOIN_WRITER, "(call $drop-trailers (call $reader))", POLL, "(call $drop-trailers-writer (call $writer))"], true),
    (&["(call $make)", SET, "(call $join (i32.load (i32.const 144)) (local.get $a))",
       "(call $join (i32.load (i32.const 148)) (local.get $a))", "(call $drop-response (i32.load (i32.const 136)))", POLL], false),
    (&["(call $begin)", "(call $put (i32.const 16) (i32.const 6))", "(call $finish)", "(return (i32.const 0))"], false),
    // A set with members cannot be dropped.
    (&[STREAM, JOIN_READER, "(call $set-drop (local.get $a))"], true),
    (&[STREAM, JOIN_READER, "(call $join (call $reader) (i32.const 0))", "(call $set-drop (local.get $a))"], false),
    (&[STREAM, JOIN_READER, "(call $drop-reader (call $reader))", "(call $set-drop (local.get $a))"], false),
    (&[FAR, SET, "(call $join (local.get $b) (local.get $a))", "(call $set-drop (local.get $a))"], true),
    (&[FAR, "(drop (call $subtask-cancel (local.get $b)))", SET, "(call $join (local.get $b) (local.get $a))",
       "(call $subtask-drop (local.get $b))", "(call $set-drop (local.get $a))"], false),
    // Cancelling an operation through the handle of the other end.
    (&[STREAM, WRITE, "(i32.store (i32.const 272) (call $cancel-read (call $writer)))"], false),
    (&[STREAM, WRITE, "(i32.store (i32.const 272) (call $cancel-read (call $writer)))", READ,
       "(i32.store (i32.const 272) (call $read (call $reader) (i32.const 290) (i32.const 2)))"], false),
    (&[STREAM, WRITE, "(drop (call $cancel-read (call $writer)))", WRITE], true),
    (&[STREAM, WRITE, "(drop (call $cancel-read (call $writer)))", "(drop (call $cancel-write (call $writer)))"], true),
    (&[STREAM, WRITE, "(drop (call $cancel-read (call $writer)))", "(call $drop-writer (call $writer))"], true),
    (&[STREAM, WRITE, "(drop (call $cancel-read (call $writer)))", "(call $drop-reader (call $writer))"], false),
    (&[STREAM, WRITE, "(drop (call $cancel-read (call $writer)))", "(call $drop-reader (call $writer))",
       "(call $drop-reader (call $reader))"], false),
    (&[STREAM, WRITE, "(drop (call $cancel-read (call $writer)))",
       "(i32.store (i32.const 272) (call $read (call $writer) (i32.const 290) (i32.const 2)))"], false),
    (&[STREAM, READ, "(i32.store (i32.const 272) (call $cancel-write (call $reader)))"], false),
    (&[STREAM, READ, "(drop (call $cancel-write (call $reader)))", READ], true),
    (&[STREAM, READ, "(drop (call $cancel-write (call $reader)))", "(drop (call $stdout (call $reader)))"], true),
    (&[STREAM, READ, JOIN_WRITER, "(drop (call $cancel-write (call $reader)))"], true),
    (&[STREAM, WRITE, JOIN_READER, "(drop (call $cancel-read (call $writer)))"], true),
    (&[STREAM, WRITE, JOIN_WRITER, "(drop (call $cancel-write (call $writer)))"], true),
    // Cancelling an operation that has completed.
    (&[STREAM, WRITE, READ, "(i32.store (i32.const 272) (call $cancel-write (call $writer)))", WRITE], false),
    (&[STREAM, WRITE, "(call $drop-reader (call $reader))", "(i32.store (i32.const 272) (call $cancel-write (call $writer)))"], false),
    (&[STREAM, WRITE, "(call $drop-reader (call $reader))", "(drop (call $cancel-write (call $writer)))", WRITE], true),
    (&[STREAM, READ, WRITE, "(i32.store (i32.const 272) (call $cancel-read (call $reader)))", READ], false),
    // A count of 0 asks whether the other end is ready.
    (&[INPUT, "(i32.store (i32.const 256) (call $read (call $body) (i32.const 0) (i32.const 0)))",
       "(i32.store (i32.const 260) (call $read (call $body) (i32.const 0) (i32.const 0)))",
       "(call $end (i32.const 264) (call $body) (call $read (call $body) (i32.const 272) (i32.const 100)))",
       "(call $end (i32.const 268) (call $body) (call $read (call $body) (i32.const 0) (i32.const 0)))"], false),
    (&["(call $stdin (i32.const 256))", "(i32.store (i32.const 264) (call $read (i32.load (i32.const 256)) (i32.const 0) (i32.const 0)))",
       "(i32.store (i32.const 268) (call $read (i32.load (i32.const 256)) (i32.const 272) (i32.const 1)))"], false),
    // The result of standard input is known when the guest has dropped the stream or has read its end.
    (&["(call $stdin (i32.const 256))", "(i32.store (i32.const 264) (call $read-written (i32.load (i32.const 260)) (i32.const 272)))",
       "(call $drop-reader (i32.load (i32.const 256)))", "(call $end (i32.const 268) (i32.load (i32.const 260)) (i32.const -1))"], false),
    (&[STREAM, "(local.set $b (call $stdout (call $reader)))", "(i32.store (i32.const 256) (call $write (call $writer) (i32.const 0) (i32.const 0)))",
       "(call $end (i32.const 260) (call $writer) (call $write (call $writer) (i32.const 22) (i32.const 4)))"], false),
    (&["(call $make)", "(call $ends (call $sent))", "(call $consume-response (i32.load (i32.const 136)) (call $reader) (i32.const 256))",
       "(i32.store (i32.const 264) (call $read (i32.load (i32.const 256)) (i32.const 0) (i32.const 0)))",
       "(i32.store (i32.const 268) (call $write (i32.load (i32.const 144)) (i32.const 0) (i32.const 0)))",
       "(i32.store (i32.const 272) (call $write (i32.load (i32.const 144)) (i32.const 16) (i32.const 6)))",
       "(i32.store (i32.const 276) (call $cancel-read (i32.load (i32.const 256))))"], false),
    (&["(call $begin)", "(call $end (i32.const 256) (i32.load (i32.const 144)) (call $write (i32.load (i32.const 144)) (i32.const 0) (i32.const 0)))",
       "(call $put (i32.const 256) (i32.const 4))", "(call $finish)", "(return (i32.const 0))"], false),
    (&[STREAM, "(i32.store (i32.const 256) (call $write (call $writer) (i32.const 0) (i32.const 0)))",
       "(i32.store (i32.const 260) (call $read (call $reader) (i32.const 0) (i32.const 0)))", JOIN_WRITER, POLL,
       "(i32.store (i32.const 272) (call $write (call $writer) (i32.const 16) (i32.const 6)))", POLL], false),
    // A reader that is transferred while a write is partly complete.
    (&[STREAM, "(drop (call $write (call $writer) (i32.const 16) (i32.const 10)))",
       "(drop (call $read (call $reader) (i32.const 280) (i32.const 4)))", "(call $drop-written (call $stdout (call $reader)))",
       "(drop (call $yield))", "(call $end (i32.const 256) (call $writer) (i32.const -1))"], false),
    // Polling does not advance operations.
    (&["(call $make)", "(drop (call $read-sent (i32.load (i32.const 140)) (i32.const 288)))", SET,
       "(call $join (i32.load (i32.const 140)) (local.get $a))", "(call $drop-response (i32.load (i32.const 136)))", POLL], false),
    (&["(call $make)", "(drop (call $read-sent (i32.load (i32.const 140)) (i32.const 288)))", SET,
       "(call $join (i32.load (i32.const 140)) (local.get $a))", "(call $drop-response (i32.load (i32.const 136)))",
       "(drop (call $yield))", POLL], false),
    // The result of a body's transmission is passed on as the verdict on the same body, and is never known.
    (&["(call $make)", "(call $consume-response (i32.load (i32.const 136)) (i32.load (i32.const 140)) (i32.const 256))"], false),
    // Events are delivered in the order in which the waitables were created.
    (&[STREAM, SET, "(i64.store (i32.const 240) (i64.load (i32.const 120)))", STREAM,
       "(call $join (call $writer) (local.get $a))", "(call $join (i32.load (i32.const 244)) (local.get $a))",
       "(call $drop-reader (call $reader))", "(call $drop-reader (i32.load (i32.const 240)))", POLL], false),
    // Alignment is only checked when a value is written.
    (&["(call $make)", "(i32.store (i32.const 256) (call $read-sent (i32.load (i32.const 140)) (i32.const 289)))",
       "(i32.store (i32.const 260) (call $cancel-sent (i32.load (i32.const 140))))"], false),
    (&["(call $make)", "(i32.store (i32.const 256) (call $read-sent (i32.load (i32.const 140)) (i32.const 289)))",
       "(call $drop-response (i32.load (i32.const 136)))", "(drop (call $yield))"], true),
    // Padding and memory after a result are left unchanged.
    (&[DIRTY, "(call $get-options (local.get $request) (i32.const 256))", "(call $terminal (i32.const 272))",
       "(call $method (local.get $request) (i32.const 288))", "(call $scheme (local.get $request) (i32.const 304))",
       "(call $authority (local.get $request) (i32.const 320))"], false),
    (&[DIRTY, "(call $outgoing)", "(call $path (call $to-send) (i32.const 256))", "(call $authority (call $to-send) (i32.const 272))",
       "(call $scheme (call $to-send) (i32.const 288))", "(call $timeout (call $options) (i32.const 304))",
       "(call $set-timeout (call $options) (i32.const 1) (i64.const 5) (i32.const 336))"], false),
    (&[DIRTY, FIELDS, "(call $append (local.get $a) (i32.const 16) (i32.const 6) (i32.const 22) (i32.const 10) (i32.const 256))",
       "(call $append (local.get $a) (i32.const 22) (i32.const 10) (i32.const 16) (i32.const 6) (i32.const 280))",
       "(call $get (local.get $a) (i32.const 16) (i32.const 6) (i32.const 304))"], false),
    (&[DIRTY, "(call $outgoing)", "(call $end-call (i32.const 256) (call $send (call $to-send) (i32.const 264)))"], false),
    (&[DIRTY, INPUT, "(call $drop-reader (call $body))",
       "(call $end (i32.const 256) (call $body-trailers) (call $read-trailers (call $body-trailers) (i32.const 264)))"], false),
];

/// Code that causes an internal error in wasmtime: it traps as well, but panics in a build with debug assertions.
#[rustfmt::skip]
const FAULTS: &[&[&str]] = &[
    &[STREAM, WRITE, "(drop (call $cancel-read (call $writer)))",
      "(drop (call $read (call $writer) (i32.const 290) (i32.const 2)))", JOIN_WRITER, POLL],
    &["(call $begin)", "(drop (call $write (i32.load (i32.const 144)) (i32.const 16) (i32.const 6)))",
      "(drop (call $write (i32.load (i32.const 144)) (i32.const 16) (i32.const 6)))",
      "(drop (call $cancel-read (i32.load (i32.const 144))))"],
];

/// The code of the guest's `realloc`, and whether its calls of the host trap.
const REALLOCS: &[(&str, bool)] = &[
    ("(i32.store (i32.const 400) (call $context)) (call $set-context (i32.const 9))", false),
    ("(call $more-pressure) (call $less-pressure)", false),
    ("(call $less-pressure)", true),
    ("(drop (call $yield))", true),
    ("(call $task-cancel)", true),
];

#[tokio::test]
async fn ends_and_sets_are_the_same_in_both_forms() {
    check_programs(CASES).await;
}

#[tokio::test]
async fn what_wasmtime_does_not_expect_traps() {
    for code in FAULTS {
        let (outcome, answer) = direct(&code.join("\n")).await;
        assert!(matches!(outcome, CallOutcome::Trap(_)), "{code:?}: {outcome:?} {answer}");
    }
}

#[tokio::test]
async fn allocating_has_a_context_of_its_own_in_both_forms() {
    let code = "(call $set-context (i32.const 7)) (call $path (local.get $request) (i32.const 256))
        (call $authority (local.get $request) (i32.const 272)) (i32.store (i32.const 404) (call $context))";
    let guests =
        REALLOCS.iter().map(|(in_realloc, traps)| ((*in_realloc).to_owned(), component(code, "", in_realloc), *traps));
    check_all(WasiVersion::P3, guests).await;
}
