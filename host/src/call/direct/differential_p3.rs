//! The same as [`differential`](super::differential) for P3 guests and concurrent operations. The forms may differ in whether
//! an operation completes at once or later, and in the order of completions, but not in the results.

use super::differential::{check_all, outcome};
use crate::artifact::Form;
use crate::engine::call_outcome::CallOutcome;
use crate::engine::pool::WasiVersion;

const GUEST: &str = include_str!("differential_p3.wat");

pub(crate) const FIELDS: &str = "(local.set $a (call $fields))";
const APPEND: &str =
    "(call $append (local.get $a) (i32.const 16) (i32.const 6) (i32.const 22) (i32.const 10) (i32.const 256))";
pub(crate) const STREAM: &str = "(call $ends (call $stream))";
pub(crate) const TRAILERS: &str = "(call $ends (call $trailers))";
pub(crate) const INPUT: &str = "(call $input (local.get $request))";
pub(crate) const SET: &str = "(local.set $a (call $set-new))";
pub(crate) const FAR: &str = "(local.set $b (i32.shr_u (call $wait-for (i64.const 3600000000000)) (i32.const 4)))";
pub(crate) const SOON: &str = "(local.set $b (i32.shr_u (call $wait-for (i64.const 1000000)) (i32.const 4)))";

/// Returns a response with a content-length of six bytes.
pub(crate) const SIZED: &str = "(local.set $a (call $fields))
    (call $append (local.get $a) (i32.const 34) (i32.const 14) (i32.const 48) (i32.const 1) (i32.const 256))
    (call $make-with (local.get $a)) (call $send-made)";
/// Returns a response whose body is the request's.
pub(crate) const PASS: &str = "(call $new-response (call $fields) (i32.const 1) (call $body) (call $body-trailers) (i32.const 136)) \
    (call $send-made)";
/// Waits until the response has been sent.
pub(crate) const END: &str = "(call $end (i32.const 256) (i32.load (i32.const 140)) (call $read-sent (i32.load (i32.const 140)) (i32.const 288)))";

/// The guest's code before it responds, and whether that traps.
#[rustfmt::skip]
const CASES: &[(&[&str], bool)] = &[
    (&[], false),
    // Fields.
    (&[FIELDS, APPEND, APPEND, "(call $copy-all (local.get $a) (i32.const 280))"], false),
    (&[FIELDS, APPEND, "(call $get (local.get $a) (i32.const 16) (i32.const 6) (i32.const 280))"], false),
    (&[FIELDS, APPEND, "(call $take (local.get $a) (i32.const 16) (i32.const 6) (i32.const 280))",
       "(i32.store (i32.const 320) (call $has (local.get $a) (i32.const 16) (i32.const 6)))"], false),
    (&[FIELDS, "(call $set (local.get $a) (i32.const 16) (i32.const 6) (i32.const 96) (i32.const 2) (i32.const 280))",
       "(call $copy-all (local.get $a) (i32.const 320))"], false),
    (&[FIELDS, "(call $append (local.get $a) (i32.const 22) (i32.const 10) (i32.const 16) (i32.const 6) (i32.const 280))"], false),
    (&["(local.set $a (call $headers (local.get $request)))", APPEND, "(call $copy-all (local.get $a) (i32.const 280))",
       "(call $delete (local.get $a) (i32.const 16) (i32.const 6) (i32.const 320))"], false),
    (&["(call $from-list (i32.const 64) (i32.const 2) (i32.const 256))", "(call $drop-fields (i32.load (i32.const 260)))"], false),
    // The request's head.
    (&["(call $method (local.get $request) (i32.const 256))", "(call $path (local.get $request) (i32.const 272))",
       "(call $scheme (local.get $request) (i32.const 288))", "(call $authority (local.get $request) (i32.const 304))",
       "(call $get-options (local.get $request) (i32.const 320))", "(i32.store (i32.const 336) (call $headers (local.get $request)))"], false),
    (&["(call $drop-request (local.get $request))", "(call $method (local.get $request) (i32.const 256))"], true),
    (&["(call $method (call $set-new) (i32.const 256))"], true),
    // Its body.
    (&[INPUT, "(call $end (i32.const 256) (call $body) (call $read (call $body) (i32.const 264) (i32.const 4)))",
       "(call $end (i32.const 260) (call $body) (call $read (call $body) (i32.const 272) (i32.const 100)))",
       "(call $end (i32.const 304) (call $body) (call $read (call $body) (i32.const 308) (i32.const 100)))",
       "(call $drop-reader (call $body))",
       "(call $end (i32.const 400) (call $body-trailers) (call $read-trailers (call $body-trailers) (i32.const 408)))"], false),
    (&[INPUT, "(drop (call $read (call $body) (i32.const 264) (i32.const 100)))",
       "(call $end (i32.const 304) (call $body) (call $read (call $body) (i32.const 308) (i32.const 100)))",
       "(drop (call $read (call $body) (i32.const 264) (i32.const 100)))"], true),
    (&[INPUT, "(drop (call $read (call $body) (i32.const 131072) (i32.const 1)))"], true),
    (&[INPUT, "(drop (call $read (call $body) (i32.const 131060) (i32.const 100)))"], true),
    (&[INPUT, "(drop (call $read (call $body) (i32.const 256) (i32.const 0x10000000)))"], true),
    (&[INPUT, "(drop (call $read-trailers (call $body) (i32.const 256)))"], true),
    (&[INPUT, "(drop (call $read (call $body-trailers) (i32.const 256) (i32.const 1)))"], true),
    (&[INPUT, "(drop (call $write (call $body) (i32.const 256) (i32.const 1)))"], true),
    (&[INPUT, "(call $drop-reader (call $body))",
       "(call $end (i32.const 400) (call $body-trailers) (call $read-trailers (call $body-trailers) (i32.const 260)))"], true),
    (&[INPUT, "(call $drop-reader (call $body))", "(call $drop-reader (call $body))"], true),
    (&[INPUT, "(call $drop-reader (call $body))",
       "(call $end (i32.const 400) (call $body-trailers) (call $read-trailers (call $body-trailers) (i32.const 408)))",
       "(drop (call $read-trailers (call $body-trailers) (i32.const 408)))"], true),
    (&[INPUT, "(drop (call $cancel-read (call $body)))"], true),
    (&[INPUT, "(i32.store (i32.const 256) (call $read-trailers (call $body-trailers) (i32.const 264)))",
       "(i32.store (i32.const 256) (call $cancel-trailers (call $body-trailers)))",
       "(call $drop-trailers (call $body-trailers))", "(call $drop-reader (call $body))"], false),
    (&[INPUT, "(drop (call $read-trailers (call $body-trailers) (i32.const 264)))", "(call $drop-trailers (call $body-trailers))"], true),
    (&["(call $consume-response (local.get $request) (local.get $request) (i32.const 256))"], true),
    // Streams within the guest.
    (&[STREAM, "(i64.store (i32.const 256) (i64.load (i32.const 120)))",
       "(i32.store (i32.const 264) (call $write (call $writer) (i32.const 16) (i32.const 6)))",
       "(i32.store (i32.const 268) (call $read (call $reader) (i32.const 280) (i32.const 4)))",
       "(i32.store (i32.const 272) (call $read (call $reader) (i32.const 290) (i32.const 4)))",
       "(call $end (i32.const 276) (call $writer) (i32.const -1))",
       "(call $drop-writer (call $writer))",
       "(call $end (i32.const 300) (call $reader) (call $read (call $reader) (i32.const 310) (i32.const 4)))"], false),
    (&[STREAM, "(i32.store (i32.const 264) (call $read (call $reader) (i32.const 280) (i32.const 10)))",
       "(i32.store (i32.const 268) (call $write (call $writer) (i32.const 16) (i32.const 6)))",
       "(i32.store (i32.const 272) (call $write (call $writer) (i32.const 22) (i32.const 10)))",
       "(call $end (i32.const 276) (call $reader) (i32.const -1))",
       "(call $drop-reader (call $reader))", "(call $drop-writer (call $writer))"], false),
    (&[STREAM, "(drop (call $cancel-write (call $writer)))"], true),
    (&[STREAM, "(i32.store (i32.const 264) (call $write (call $writer) (i32.const 16) (i32.const 6)))",
       "(i32.store (i32.const 268) (call $read (call $reader) (i32.const 280) (i32.const 4)))",
       "(i32.store (i32.const 272) (call $cancel-write (call $writer)))",
       "(i32.store (i32.const 276) (call $write (call $writer) (i32.const 16) (i32.const 0)))",
       "(i32.store (i32.const 284) (call $read (call $reader) (i32.const 290) (i32.const 0)))"], false),
    (&[STREAM, "(i32.store (i32.const 264) (call $read (call $reader) (i32.const 280) (i32.const 0)))",
       "(i32.store (i32.const 268) (call $write (call $writer) (i32.const 16) (i32.const 0)))",
       "(i32.store (i32.const 272) (call $write (call $writer) (i32.const 16) (i32.const 3)))",
       "(call $end (i32.const 276) (call $reader) (i32.const -1))",
       "(i32.store (i32.const 280) (call $read (call $reader) (i32.const 284) (i32.const 9)))",
       "(call $end (i32.const 300) (call $writer) (i32.const -1))"], false),
    (&[STREAM, "(drop (call $write (call $writer) (i32.const 16) (i32.const 6)))", "(call $drop-reader (call $reader))",
       "(call $end (i32.const 256) (call $writer) (i32.const -1))", "(drop (call $write (call $writer) (i32.const 16) (i32.const 6)))"], true),
    (&[STREAM, "(call $drop-reader (call $reader))", "(i32.store (i32.const 256) (call $write (call $writer) (i32.const 16) (i32.const 6)))",
       "(call $drop-writer (call $writer))"], false),
    (&[STREAM, "(drop (call $write (call $writer) (i32.const 16) (i32.const 6)))", "(drop (call $write (call $writer) (i32.const 16) (i32.const 6)))"], true),
    (&[STREAM, "(drop (call $write (call $writer) (i32.const 16) (i32.const 6)))", "(call $drop-writer (call $writer))"], true),
    (&[STREAM, "(drop (call $read (call $reader) (i32.const 256) (i32.const 6)))", "(i32.store (i32.const 272) (call $cancel-read (call $reader)))",
       "(call $drop-reader (call $reader))", "(call $drop-writer (call $writer))"], false),
    (&[STREAM, "(drop (call $read (call $writer) (i32.const 256) (i32.const 6)))"], true),
    (&[STREAM, "(call $drop-reader (call $writer))"], true),
    (&[STREAM, "(drop (call $cancel-write (call $reader)))"], true),
    // A stream with an operation in progress, in a set, or at its end cannot be transferred.
    (&[STREAM, "(drop (call $read (call $reader) (i32.const 256) (i32.const 6)))", "(drop (call $stdout (call $reader)))"], true),
    (&[STREAM, SET, "(call $join (call $reader) (local.get $a))", "(drop (call $stdout (call $reader)))"], true),
    (&[STREAM, "(drop (call $stdout (call $writer)))"], true),
    (&[STREAM, "(call $drop-writer (call $writer))", "(drop (call $read (call $reader) (i32.const 256) (i32.const 6)))",
       "(drop (call $stdout (call $reader)))"], true),
    (&[STREAM, "(call $drop-writer (call $writer))", "(local.set $b (call $stdout (call $reader)))",
       "(call $end (i32.const 256) (local.get $b) (call $read-written (local.get $b) (i32.const 260)))"], false),
    (&[STREAM, "(local.set $b (call $stdout (call $reader)))",
       "(call $end (i32.const 256) (call $writer) (call $write (call $writer) (i32.const 22) (i32.const 10)))", "(call $drop-writer (call $writer))",
       "(call $end (i32.const 264) (local.get $b) (call $read-written (local.get $b) (i32.const 268)))"], false),
    (&[INPUT, "(local.set $b (call $stdout (call $body)))",
       "(call $end (i32.const 264) (local.get $b) (call $read-written (local.get $b) (i32.const 268)))"], false),
    (&["(call $stdin (i32.const 256))", "(call $end (i32.const 264) (i32.load (i32.const 256)) (call $read (i32.load (i32.const 256)) (i32.const 272) (i32.const 4)))"], false),
    // Futures within the guest.
    (&[TRAILERS, "(call $drop-trailers-writer (call $writer))"], true),
    (&[TRAILERS, "(call $drop-trailers (call $reader))", "(call $drop-trailers-writer (call $writer))"], true),
    (&[TRAILERS, "(call $drop-trailers (call $reader))", "(i32.store (i32.const 256) (call $write-trailers (call $writer) (i32.const 160)))",
       "(call $drop-trailers-writer (call $writer))"], false),
    (&[TRAILERS, "(drop (call $read-trailers (call $reader) (i32.const 256)))", "(drop (call $write-trailers (call $writer) (i32.const 160)))"], true),
    (&[TRAILERS, "(drop (call $write-trailers (call $writer) (i32.const 160)))", "(i32.store (i32.const 256) (call $cancel-write-trailers (call $writer)))",
       "(call $drop-trailers (call $reader))", "(i32.store (i32.const 260) (call $write-trailers (call $writer) (i32.const 160)))"], false),
    // Alignment is only checked when a value is copied.
    (&[TRAILERS, "(drop (call $write-trailers (call $writer) (i32.const 164)))"], false),
    (&["(call $begin)", "(drop (call $write-trailers (i32.load (i32.const 148)) (i32.const 164)))"], true),
    // Sets.
    (&[SET, "(i32.store (i32.const 256) (call $set-poll (local.get $a) (i32.const 260)))", "(call $set-drop (local.get $a))"], false),
    (&[SET, "(call $set-drop (local.get $a))", "(call $set-drop (local.get $a))"], true),
    (&[SET, "(drop (call $set-poll (local.get $a) (i32.const 258)))"], true),
    (&[SET, "(drop (call $set-poll (local.get $a) (i32.const 131068)))"], true),
    (&[SET, "(call $join (local.get $a) (local.get $a))"], true),
    (&[STREAM, SET, "(call $join (call $reader) (call $writer))"], true),
    (&[STREAM, SET, "(call $join (call $reader) (i32.const 77))"], true),
    (&["(drop (call $set-wait (i32.const 77) (i32.const 256)))"], true),
    (&[SET, SOON, "(call $join (local.get $b) (local.get $a))", "(i32.store (i32.const 256) (call $set-wait (local.get $a) (i32.const 260)))",
       "(i32.store (i32.const 272) (call $set-poll (local.get $a) (i32.const 276)))", "(call $subtask-drop (local.get $b))"], false),
    (&[SET, SOON, "(call $join (local.get $b) (local.get $a))", STREAM, "(call $join (call $writer) (local.get $a))",
       "(drop (call $write (call $writer) (i32.const 16) (i32.const 6)))", "(call $drop-reader (call $reader))",
       "(i32.store (i32.const 256) (call $set-wait (local.get $a) (i32.const 260)))",
       "(i32.store (i32.const 272) (call $set-wait (local.get $a) (i32.const 276)))"], false),
    // Calls.
    (&["(i32.store (i32.const 256) (call $wait-for (i64.const 0)))", "(i32.store (i32.const 260) (call $wait-until (i64.const 0)))",
       "(call $sleep (i64.const 0))", "(call $sleep (i64.const 1000000))"], false),
    (&[FAR, "(call $subtask-drop (local.get $b))"], true),
    (&[FAR, "(i32.store (i32.const 256) (call $subtask-cancel (local.get $b)))", "(call $subtask-drop (local.get $b))"], false),
    (&[FAR, "(drop (call $subtask-cancel (local.get $b)))", "(drop (call $subtask-cancel (local.get $b)))"], true),
    (&[FAR, SET, "(call $join (local.get $b) (local.get $a))", "(drop (call $subtask-cancel (local.get $b)))"], true),
    (&[SOON, "(call $end (i32.const 256) (local.get $b) (i32.const -1))", "(drop (call $subtask-cancel (local.get $b)))"], true),
    (&[SOON, "(call $end (i32.const 256) (local.get $b) (i32.const -1))", "(call $subtask-drop (local.get $b))", "(call $subtask-drop (local.get $b))"], true),
    (&["(call $subtask-drop (local.get $request))"], true),
    (&["(i32.store (i32.const 256) (call $context))", "(call $set-context (i32.const 7))", "(i32.store (i32.const 260) (call $context))",
       "(i32.store (i32.const 264) (call $yield))", "(call $more-pressure)", "(call $less-pressure)"], false),
    (&["(call $less-pressure)"], true),
    (&["(call $task-cancel)"], true),
    // Outgoing requests.
    (&["(call $outgoing)", "(i32.store (i32.const 256) (call $set-method (call $to-send) (i32.const 9) (i32.const 16) (i32.const 6)))",
       "(call $method (call $to-send) (i32.const 264))", "(i32.store (i32.const 260) (call $set-method (call $to-send) (i32.const 9) (i32.const 22) (i32.const 10)))",
       "(i32.store (i32.const 280) (call $set-scheme (call $to-send) (i32.const 1) (i32.const 2) (i32.const 16) (i32.const 1)))",
       "(call $scheme (call $to-send) (i32.const 284))",
       "(i32.store (i32.const 300) (call $set-authority (call $to-send) (i32.const 1) (i32.const 16) (i32.const 6)))",
       "(call $authority (call $to-send) (i32.const 304))", "(i32.store (i32.const 316) (call $set-path (call $to-send) (i32.const 1) (i32.const 16) (i32.const 6)))",
       "(i32.store (i32.const 320) (call $set-path (call $to-send) (i32.const 1) (i32.const 16) (i32.const 0)))", "(call $path (call $to-send) (i32.const 324))",
       "(call $get-options (call $to-send) (i32.const 340))", "(call $timeout (i32.load (i32.const 344)) (i32.const 352))",
       "(call $set-timeout (i32.load (i32.const 344)) (i32.const 1) (i64.const 5) (i32.const 368))",
       "(local.set $a (call $clone-options (i32.load (i32.const 344))))", "(call $set-timeout (local.get $a) (i32.const 1) (i64.const 5) (i32.const 400))",
       "(call $timeout (local.get $a) (i32.const 432))"], false),
    (&["(call $outgoing)", "(call $drop-request (call $to-send))", "(call $end (i32.const 256) (i32.load (i32.const 244)) (call $read-sent (i32.load (i32.const 244)) (i32.const 264)))",
       "(i32.store (i32.const 320) (call $write-trailers (i32.load (i32.const 248)) (i32.const 160)))", "(call $drop-trailers-writer (i32.load (i32.const 248)))"], false),
    (&["(call $outgoing)", "(call $end-call (i32.const 256) (call $send (call $to-send) (i32.const 264)))"], false),
    (&["(call $outgoing)", "(drop (call $set-authority (call $to-send) (i32.const 1) (i32.const 16) (i32.const 6)))",
       "(call $end-call (i32.const 256) (call $send (call $to-send) (i32.const 264)))",
       "(call $end (i32.const 320) (i32.load (i32.const 244)) (call $read-sent (i32.load (i32.const 244)) (i32.const 328)))"], false),
    (&["(call $outgoing)", "(drop (call $set-scheme (call $to-send) (i32.const 1) (i32.const 2) (i32.const 16) (i32.const 1)))",
       "(call $end-call (i32.const 256) (call $send (call $to-send) (i32.const 264)))"], false),
    (&["(call $outgoing)", "(drop (call $send (call $to-send) (i32.const 268)))"], true),
    (&["(call $outgoing)", "(memory.fill (i32.const 4096) (i32.const 97) (i32.const 2000))",
       "(i32.store (i32.const 256) (call $set-authority (call $to-send) (i32.const 1) (i32.const 4096) (i32.const 1024)))",
       "(i32.store (i32.const 260) (call $set-authority (call $to-send) (i32.const 1) (i32.const 4096) (i32.const 1025)))"], false),
    // Responses.
    (&["(call $make)", "(i32.store (i32.const 256) (call $set-status (i32.load (i32.const 136)) (i32.const 404)))",
       "(i32.store (i32.const 260) (call $set-status (i32.load (i32.const 136)) (i32.const 99)))",
       "(i32.store (i32.const 264) (call $set-status (i32.load (i32.const 136)) (i32.const 600)))",
       "(i32.store (i32.const 268) (call $status (i32.load (i32.const 136))))", "(i32.store (i32.const 272) (call $response-headers (i32.load (i32.const 136))))",
       "(call $drop-response (i32.load (i32.const 136)))", "(i32.store (i32.const 276) (call $write (i32.load (i32.const 144)) (i32.const 16) (i32.const 6)))",
       "(call $end (i32.const 280) (i32.load (i32.const 140)) (call $read-sent (i32.load (i32.const 140)) (i32.const 288)))"], false),
    (&["(call $make)", "(call $ends (call $sent))", "(call $consume-response (i32.load (i32.const 136)) (call $reader) (i32.const 256))",
       "(drop (call $write (i32.load (i32.const 144)) (i32.const 16) (i32.const 6)))",
       "(i32.store (i32.const 264) (call $read (i32.load (i32.const 256)) (i32.const 268) (i32.const 6)))",
       "(call $end (i32.const 280) (call $writer) (call $write-sent (call $writer) (i32.const 160)))",
       "(call $end (i32.const 288) (i32.load (i32.const 140)) (call $read-sent (i32.load (i32.const 140)) (i32.const 296)))"], false),
    (&["(call $return (i32.const 1) (i32.const 36) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", "(return (i32.const 0))"], false),
    (&["(call $return (i32.const 1) (i32.const 38) (i32.const 1) (i64.const 16) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0))", "(return (i32.const 0))"], false),
    (&["(call $return (i32.const 1) (i32.const 39) (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"], true),
    (&["(call $return (i32.const 0) (local.get $request) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"], true),
    (&["(call $begin)", "(call $begin)"], true),
    (&["(return (i32.const 0))"], true),
    (&["(return (i32.const 3))"], true),
    (&["(return (i32.const 0x22))"], true),
    (&["(call $begin)", "(call $put (i32.const 16) (i32.const 6))", "(call $finish)",
       "(call $end (i32.const 256) (i32.load (i32.const 140)) (call $read-sent (i32.load (i32.const 140)) (i32.const 288)))", "(return (i32.const 0))"], false),
    (&["(call $begin)", "(call $put (i32.const 16) (i32.const 6))", "(i32.store8 (i32.const 160) (i32.const 1))", "(call $finish)", "(return (i32.const 0))"], false),
    (&["(call $begin)", "(call $put (i32.const 16) (i32.const 6))", "(i32.store8 (i32.const 160) (i32.const 2))", "(call $finish)"], true),
    (&["(call $begin)", FIELDS, APPEND, "(i32.store8 (i32.const 168) (i32.const 1))", "(i32.store (i32.const 172) (local.get $a))", "(call $finish)", "(return (i32.const 0))"], false),
    // A body of the length in its content-length, and a longer one.
    (&[SIZED, "(call $put (i32.const 16) (i32.const 6))", "(call $finish)", END, "(return (i32.const 0))"], false),
    (&[SIZED, "(call $put (i32.const 16) (i32.const 7))", "(call $finish)", END, "(return (i32.const 0))"], false),
    // The host buffers one chunk at a time.
    (&["(call $begin)", "(call $put (i32.const 16) (i32.const 6))", "(call $put (i32.const 22) (i32.const 10))",
       "(call $put (i32.const 16) (i32.const 6))", "(call $finish)", "(return (i32.const 0))"], false),
    // A write that is started before there is a reader, and not waited for.
    (&["(call $make)", "(call $drop-writer (i32.load (i32.const 144)))", "(drop (call $write-trailers (i32.load (i32.const 148)) (i32.const 160)))",
       "(call $send-made)", "(return (i32.const 0))"], false),
    // A body that the guest has read a part of, and passes on as its response's: the rest of it is sent.
    (&[INPUT, "(drop (call $read (call $body) (i32.const 264) (i32.const 0)))", PASS, "(return (i32.const 0))"], false),
    (&[INPUT, "(drop (call $read (call $body) (i32.const 264) (i32.const 4)))", PASS, "(return (i32.const 0))"], false),
    (&[INPUT, "(drop (call $read (call $body) (i32.const 264) (i32.const 100)))", PASS, "(return (i32.const 0))"], false),
    // Other interfaces.
    (&["(call $environment (i32.const 256))", "(call $terminal (i32.const 272))", "(call $random (i64.const 0) (i32.const 288))"], false),
    (&["(call $exit (i32.const 0))"], false),
    (&["(call $exit (i32.const 7))"], false),
];

/// The guest's code before it first returns to the host, the code of its callback, and whether either traps.
#[rustfmt::skip]
const CALLBACKS: &[(&[&str], &str, bool)] = &[
    (&["(return (i32.const 1))"], "", false),
    (&[SET, SOON, "(call $join (local.get $b) (local.get $a))", "(return (i32.or (i32.const 2) (i32.shl (local.get $a) (i32.const 4))))"], "", false),
    // An event with a result that needs memory.
    (&["(call $outgoing)", "(drop (call $read-sent (i32.load (i32.const 244)) (i32.const 400)))", "(call $drop-request (call $to-send))",
       SET, "(call $join (i32.load (i32.const 244)) (local.get $a))", "(return (i32.or (i32.const 2) (i32.shl (local.get $a) (i32.const 4))))"],
     "", false),
    (&[SET, "(return (i32.or (i32.const 2) (i32.shl (i32.const 77) (i32.const 4))))"], "", true),
    // The callback is called several times.
    (&["(return (i32.const 1))"],
     "(if (i32.lt_u (call $context) (i32.const 5)) (then (call $set-context (i32.add (call $context) (i32.const 1))) (return (i32.const 1))))", false),
    (&["(return (i32.const 1))"], "unreachable", true),
];

/// The code of the guest's `realloc`, which may not call the host, and must return memory within bounds; and whether it
/// traps.
const REALLOCS: &[(&str, bool)] = &[
    ("", false),
    ("(drop (call $fields))", true),
    ("(drop (call $set-new))", true),
    ("(call $join (i32.const 1) (i32.const 0))", true),
    ("(drop (call $stream))", true),
    ("(global.set $free (i32.const 131071))", true),
    ("unreachable", true),
];

pub(crate) fn component(code: &str, in_callback: &str, in_realloc: &str) -> Vec<u8> {
    let text = format!(
        r#"(module {GUEST}
          (func $in-realloc {in_realloc})
          (func (export "[async-lift]wasi:http/handler@0.3.0#handle") (param $request i32) (result i32)
            (local $a i32) (local $b i32)
            {code}
            (call $answer)
            (i32.const 0))
          (func (export "[callback][async-lift]wasi:http/handler@0.3.0#handle")
            (param $code i32) (param $waitable i32) (param $status i32) (result i32)
            (i32.store (i32.const 256) (local.get $code))
            (i32.store (i32.const 260) (local.get $waitable))
            (i32.store (i32.const 264) (local.get $status))
            {in_callback}
            (call $answer)
            (i32.const 0)))"#
    );
    residue_guest::encode(&text, residue_guest::Wasi::P3).unwrap_or_else(|error| panic!("{code}: {error:#}"))
}

/// [`check_all`] for the bodies of handlers, each with whether it traps.
pub(super) async fn check_programs(programs: &[(&[&str], bool)]) {
    let guests = programs.iter().map(|(code, traps)| {
        let code = code.join("\n");
        let component = component(&code, "", "");
        (code, component, *traps)
    });
    check_all(WasiVersion::P3, guests).await;
}

#[tokio::test]
async fn whatever_a_guest_calls_is_the_same_in_both_forms() {
    check_programs(CASES).await;
}

#[tokio::test]
async fn being_called_again_is_the_same_in_both_forms() {
    let guests = CALLBACKS.iter().map(|(code, in_callback, traps)| {
        let code = code.join("\n");
        let component = component(&code, in_callback, "");
        (code, component, *traps)
    });
    check_all(WasiVersion::P3, guests).await;
}

#[tokio::test]
async fn allocating_is_the_same_in_both_forms() {
    let code = "(call $outgoing) (call $end-call (i32.const 256) (call $send (call $to-send) (i32.const 264))) \
        (call $path (local.get $request) (i32.const 320)) (call $authority (local.get $request) (i32.const 340))";
    let guests =
        REALLOCS.iter().map(|(in_realloc, traps)| ((*in_realloc).to_owned(), component(code, "", in_realloc), *traps));
    check_all(WasiVersion::P3, guests).await;
}

/// The result of a guest that is linked directly.
pub(crate) async fn direct(code: &str) -> (CallOutcome, String) {
    outcome(WasiVersion::P2, &component(code, "", ""), Form::Module).await
}

/// Traps of the direct form only: deadlocks, and too many resources of one kind.
#[tokio::test]
async fn what_leads_nowhere_traps() {
    let forever = "(loop $more (drop (call $stream)) (br $more))";
    let passing = "(loop $more
        (call $stdin (i32.const 256)) (call $drop-written (i32.load (i32.const 260)))
        (call $drop-written (call $stdout (i32.load (i32.const 256)))) (br $more))";
    for (code, says) in [
        ("(local.set $a (call $set-new)) (drop (call $set-wait (local.get $a) (i32.const 256)))", "deadlock"),
        ("(return (i32.or (i32.const 2) (i32.shl (call $set-new) (i32.const 4))))", "deadlock"),
        (forever, "more than 10000 handles"),
        (passing, "more than 100 streams"),
    ] {
        let (outcome, _) = direct(code).await;
        assert!(matches!(&outcome, CallOutcome::Trap(detail) if detail.as_str().contains(says)), "{code}: {outcome:?}");
    }
}

/// If the guest ends before its body has ended, the body fails, however the guest ends.
#[tokio::test]
async fn a_body_that_is_not_finished_fails() {
    let begun = "(call $begin) (call $put (i32.const 16) (i32.const 6)) (drop (call $yield))";
    for left in [
        "unreachable",
        "(call $exit (i32.const 0))",
        "(return (i32.const 0))",
        "(call $drop-writer (i32.load (i32.const 144))) (return (i32.const 0))",
        "(call $drop-writer (i32.load (i32.const 144))) unreachable",
    ] {
        let (_, answer) = direct(&format!("{begun} {left} unreachable")).await;
        assert!(answer.ends_with("Err(HttpResponseIncomplete)"), "{left}: {answer}");
    }
}

/// In a component, the body just ends, and is found to be too short when it is sent.
#[tokio::test]
async fn a_body_that_is_too_short_fails() {
    let (outcome, answer) = direct(&format!(
        "{SIZED} (call $put (i32.const 16) (i32.const 5)) (call $finish) {END} (return (i32.const 0))"
    ))
    .await;
    assert_eq!(outcome, CallOutcome::Done);
    assert!(answer.ends_with("Err(HttpResponseBodySize(Some(5)))"), "{answer}");
}

/// A body that is repeatedly passed to a new request and read again keeps its contents.
#[tokio::test]
async fn a_body_goes_round_and_round() {
    let code = format!(
        "(i32.store (i32.const 240) (local.get $request))
        (local.set $a (i32.const 10000))
        (loop $more
            (call $input (call $to-send))
            (drop (call $read (call $body) (i32.const 0) (i32.const 0)))
            (call $new-request (call $fields) (i32.const 1) (call $body) (call $body-trailers) (i32.const 0) (i32.const 0)
                (i32.const 240))
            (call $drop-sent (i32.load (i32.const 244)))
            (br_if $more (local.tee $a (i32.sub (local.get $a) (i32.const 1)))))
        (call $input (call $to-send))
        {}",
        "(call $end (i32.const 256) (call $body) (call $read (call $body) (i32.const 264) (i32.const 100)))"
    );
    let (outcome, answer) = direct(&code).await;
    assert_eq!(outcome, CallOutcome::Done);
    assert!(answer.contains("0123456789"), "{answer}");
}
