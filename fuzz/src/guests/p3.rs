//! A 0.3 guest: streams, futures, waitable sets, subtasks, cancellation, and bodies that are passed on.
//!
//! When the guest has both ends of a stream or future, the result of every operation is determined. When the host has
//! the other end, an operation may complete at once or later. Such ends are used only with operations that wait
//! (`…-all`, `…-wait`), whose result is determined, too. Any other use is a race, which is recorded.

use super::Gives::{Ends, Handle, Nothing, Number};
use super::{Op, code, op, then};

const TYPES: &str = "wasi:http/types@0.3.0";
const ROOT: &str = "$root";

/// For an operation on the fields, whether there is a body, the body and the trailers of a message. Records that the
/// host has the other ends of the body and the trailers, and stores the message and its transmission future in
/// registers.
const HOST_BODY: &str = "
    (if (call $is-one (local.get $w) (i32.const 2)) (then (call $to-host (call $reg (local.get $w) (i32.const 3)) (i32.const 1))))
    (call $to-host (call $reg (local.get $w) (i32.const 4)) (i32.const 1))
    (call $to-reg (local.get $w) (i32.load (i32.const 1152)))
    (call $to-next (local.get $w) (i32.load (i32.const 1156)))
    (call $mark (i32.load (i32.const 1156)) (i32.const 1))";
const CONSUMED: &str = "
    (call $to-host (call $reg (local.get $w) (i32.const 2)) (i32.const 1))
    (call $to-reg (local.get $w) (i32.load (i32.const 1152)))
    (call $to-next (local.get $w) (i32.load (i32.const 1156)))
    (call $mark (i32.load (i32.const 1152)) (i32.const 1))
    (call $mark (i32.load (i32.const 1156)) (i32.const 1))";

pub(super) const OPS: &[Op] = &[
    op("fields", (TYPES, "[constructor]fields"), "", Handle),
    op("from-list", (TYPES, "[static]fields.from-list"), "fp", super::Gives::Result),
    op("get", (TYPES, "[method]fields.get"), "hsp", Nothing),
    op("has", (TYPES, "[method]fields.has"), "hs", Number),
    op("set", (TYPES, "[method]fields.set"), "hsvp", Nothing),
    op("delete", (TYPES, "[method]fields.delete"), "hsp", Nothing),
    op("take", (TYPES, "[method]fields.get-and-delete"), "hsp", Nothing),
    op("append", (TYPES, "[method]fields.append"), "hssq", Nothing),
    op("copy-all", (TYPES, "[method]fields.copy-all"), "hp", Nothing),
    op("clone", (TYPES, "[method]fields.clone"), "h", Handle),
    op("drop-fields", (TYPES, "[resource-drop]fields"), "h", Nothing),
    then(op("request", (TYPES, "[static]request.new"), "hthhthq", Nothing), HOST_BODY),
    op("method", (TYPES, "[method]request.get-method"), "hp", Nothing),
    op("set-method", (TYPES, "[method]request.set-method"), "his", Number),
    op("path", (TYPES, "[method]request.get-path-with-query"), "hp", Nothing),
    op("set-path", (TYPES, "[method]request.set-path-with-query"), "hts", Number),
    op("scheme", (TYPES, "[method]request.get-scheme"), "hp", Nothing),
    op("set-scheme", (TYPES, "[method]request.set-scheme"), "htts", Number),
    op("authority", (TYPES, "[method]request.get-authority"), "hp", Nothing),
    op("set-authority", (TYPES, "[method]request.set-authority"), "hts", Number),
    op("get-options", (TYPES, "[method]request.get-options"), "hp", Nothing),
    op("headers", (TYPES, "[method]request.get-headers"), "h", Handle),
    then(op("consume", (TYPES, "[static]request.consume-body"), "hhq", Nothing), CONSUMED),
    op("drop-request", (TYPES, "[resource-drop]request"), "h", Nothing),
    op("options", (TYPES, "[constructor]request-options"), "", Handle),
    op("first", (TYPES, "[method]request-options.get-first-byte-timeout"), "hp", Nothing),
    op("set-first", (TYPES, "[method]request-options.set-first-byte-timeout"), "htnp", Nothing),
    op("clone-options", (TYPES, "[method]request-options.clone"), "h", Handle),
    op("drop-options", (TYPES, "[resource-drop]request-options"), "h", Nothing),
    then(op("response", (TYPES, "[static]response.new"), "hthhq", Nothing), HOST_BODY),
    op("status", (TYPES, "[method]response.get-status-code"), "h", Number),
    op("set-status", (TYPES, "[method]response.set-status-code"), "hc", Number),
    op("response-headers", (TYPES, "[method]response.get-headers"), "h", Handle),
    then(op("consume-response", (TYPES, "[static]response.consume-body"), "hhq", Nothing), CONSUMED),
    op("drop-response", (TYPES, "[resource-drop]response"), "h", Nothing),
    op("environment", ("wasi:cli/environment@0.3.0", "get-environment"), "p", Nothing),
    op("exit", ("wasi:cli/exit@0.3.0", "exit-with-code"), "i", Nothing),
    op("terminal", ("wasi:cli/terminal-stdout@0.3.0", "get-terminal-stdout"), "p", Nothing),
    op("sleep", ("wasi:clocks/monotonic-clock@0.3.0", "wait-for"), "k", Nothing),
    // Streams and futures: of bytes, of trailers, and of the result of a transmission.
    op("stream", (TYPES, "[stream-new-0][static]response.new"), "", Ends),
    op("trailers", (TYPES, "[future-new-1][static]response.new"), "", Ends),
    op("sent", (TYPES, "[future-new-2][static]response.new"), "", Ends),
    code("read", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $stream-read (call $reg (local.get $w) (i32.const 1))
            (call $buffer (local.get $w) (i32.const 2)) (call $count (local.get $w) (i32.const 3))))"),
    code("write", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $stream-write (call $reg (local.get $w) (i32.const 1))
            (call $buffer (local.get $w) (i32.const 2)) (call $count (local.get $w) (i32.const 3))))"),
    code("cancel-read", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $stream-cancel-read (call $reg (local.get $w) (i32.const 1))))"),
    code("cancel-write", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $stream-cancel-write (call $reg (local.get $w) (i32.const 1))))"),
    op("drop-reader", (TYPES, "[stream-drop-readable-0][static]response.new"), "h", Nothing),
    op("drop-writer", (TYPES, "[stream-drop-writable-0][static]response.new"), "h", Nothing),
    code("read-all", "(call $read-all (call $reg (local.get $w) (i32.const 1)) (i32.and (call $o (local.get $w) (i32.const 2)) (i32.const 127)))"),
    code("write-all", "(call $write-all (call $reg (local.get $w) (i32.const 1)) (i32.and (call $o (local.get $w) (i32.const 2)) (i32.const 127)))"),
    code("read-trailers", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $future-read (call $reg (local.get $w) (i32.const 1)) (call $results (call $o (local.get $w) (i32.const 2)))))"),
    code("write-trailers", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $future-write (call $reg (local.get $w) (i32.const 1)) (call $value (local.get $w) (i32.const 2))))"),
    code("cancel-trailers", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $future-cancel-read (call $reg (local.get $w) (i32.const 1))))"),
    code("cancel-write-trailers", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $future-cancel-write (call $reg (local.get $w) (i32.const 1))))"),
    op("drop-trailers", (TYPES, "[future-drop-readable-1][static]response.new"), "h", Nothing),
    op("drop-trailers-writer", (TYPES, "[future-drop-writable-1][static]response.new"), "h", Nothing),
    code("wait-trailers", "(call $settle-host (call $reg (local.get $w) (i32.const 1)) (i32.const 0))"),
    code("put-trailers", "(call $settle-host (call $reg (local.get $w) (i32.const 1)) (i32.const 1))"),
    code("write-sent", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $sent-write (call $reg (local.get $w) (i32.const 1)) (call $value (local.get $w) (i32.const 2))))"),
    code("read-sent", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $sent-read (call $reg (local.get $w) (i32.const 1)) (call $results (call $o (local.get $w) (i32.const 2)))))"),
    code("cancel-sent", "(call $race (call $reg (local.get $w) (i32.const 1)))
        (i64.extend_i32_u (call $sent-cancel-read (call $reg (local.get $w) (i32.const 1))))"),
    op("drop-sent", (TYPES, "[future-drop-readable-2][static]response.new"), "h", Nothing),
    op("drop-sent-writer", (TYPES, "[future-drop-writable-2][static]response.new"), "h", Nothing),
    code("wait-sent", "(call $settle-host (call $reg (local.get $w) (i32.const 1)) (i32.const 2))"),
    code("put-sent", "(call $settle-host (call $reg (local.get $w) (i32.const 1)) (i32.const 3))"),
    // The value that is written to a future: a number, or a handle in a register.
    code("value", "(i32.store8 (i32.add (i32.const 1536) (i32.and (call $o (local.get $w) (i32.const 1)) (i32.const 31)))
        (call $o (local.get $w) (i32.const 2))) (i64.const 0)"),
    code("value-handle", "(i32.store (i32.const 1548) (call $reg (local.get $w) (i32.const 1)))
        (i64.store (i32.const 1536) (i64.const 0)) (i32.store (i32.const 1544) (i32.const 1)) (i64.const 0)"),
    code("no-value", "(memory.fill (i32.const 1536) (i32.const 0) (i32.const 32)) (i64.const 0)"),
    // Waitable sets.
    op("set-new", (ROOT, "[waitable-set-new]"), "", Handle),
    op("join", (ROOT, "[waitable-join]"), "hh", Nothing),
    op("set-drop", (ROOT, "[waitable-set-drop]"), "h", Nothing),
    op("poll", (ROOT, "[waitable-set-poll]"), "hp", Number),
    code("poll-all", "(call $poll-all (call $reg (local.get $w) (i32.const 1)))"),
    op("wait", (ROOT, "[waitable-set-wait]"), "hp", Number),
    // Calls.
    code("far", "(local $r i32) (local.set $r (call $wait-for (i64.const 3600000000000)))
        (call $to-reg (local.get $w) (i32.shr_u (local.get $r) (i32.const 4))) (i64.extend_i32_u (local.get $r))"),
    code("soon", "(call $end-call (call $wait-for (i64.mul (i64.const 1000) (i64.extend_i32_u (call $o (local.get $w) (i32.const 1))))))"),
    code("send", "(call $end-call (call $client-send (call $reg (local.get $w) (i32.const 1)) (call $results (i32.const 0))))"),
    op("subtask-drop", (ROOT, "[subtask-drop]"), "h", Nothing),
    op("subtask-cancel", (ROOT, "[subtask-cancel]"), "h", Number),
    op("context", (ROOT, "[context-get-0]"), "", Number),
    op("set-context", (ROOT, "[context-set-0]"), "i", Nothing),
    op("yield", (ROOT, "[thread-yield]"), "", Number),
    op("more-pressure", (ROOT, "[backpressure-inc]"), "", Nothing),
    op("less-pressure", (ROOT, "[backpressure-dec]"), "", Nothing),
    op("task-cancel", ("[export]$root", "[task-cancel]"), "", Nothing),
    // Return values.
    code("return", "(call $task-return (i32.const 0) (call $reg (local.get $w) (i32.const 1))
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
        (global.set $returned (i32.const 1)) (i64.const 0)"),
    code("return-error", "(call $task-return (i32.const 1) (call $o (local.get $w) (i32.const 1))
        (call $o (local.get $w) (i32.const 2)) (i64.extend_i32_u (call $o (local.get $w) (i32.const 3)))
        (call $o (local.get $w) (i32.const 4)) (i32.const 1) (i32.const 0) (i32.const 6)) (i64.const 0)"),
    then(op("stdout", ("wasi:cli/stdout@0.3.0", "write-via-stream"), "h", Handle),
        "(call $to-host (call $reg (local.get $w) (i32.const 1)) (i32.const 3)) (call $mark (i32.wrap_i64 (local.get $r)) (i32.const 1))"),
    then(op("stdin", ("wasi:cli/stdin@0.3.0", "read-via-stream"), "q", Nothing),
        "(call $to-reg (local.get $w) (i32.load (i32.const 1152))) (call $to-next (local.get $w) (i32.load (i32.const 1156)))
         (call $mark (i32.load (i32.const 1152)) (i32.const 1)) (call $mark (i32.load (i32.const 1156)) (i32.const 1))"),
    // Leave the handler: to be called again after a yield, to be called again after an event of a set, or for good.
    code("leave", "(global.set $leave (i32.and (call $o (local.get $w) (i32.const 1)) (i32.const 3))) (i64.const 0)"),
    code("leave-wait", "(global.set $leave (i32.or (i32.const 2) (i32.shl (call $reg (local.get $w) (i32.const 1)) (i32.const 4)))) (i64.const 0)"),
];

/// Further imports of the guest, some of them called by its own code.
pub(super) const MORE: &str = r#"
(import "wasi:http/types@0.3.0" "[async-lower][stream-read-0][static]response.new" (func $stream-read (param i32 i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[async-lower][stream-write-0][static]response.new" (func $stream-write (param i32 i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[stream-cancel-read-0][static]response.new" (func $stream-cancel-read (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[stream-cancel-write-0][static]response.new" (func $stream-cancel-write (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[async-lower][future-read-1][static]response.new" (func $future-read (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[async-lower][future-write-1][static]response.new" (func $future-write (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[future-cancel-read-1][static]response.new" (func $future-cancel-read (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[future-cancel-write-1][static]response.new" (func $future-cancel-write (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[async-lower][future-read-2][static]response.new" (func $sent-read (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[async-lower][future-write-2][static]response.new" (func $sent-write (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[future-cancel-read-2][static]response.new" (func $sent-cancel-read (param i32) (result i32)))
(import "wasi:http/client@0.3.0" "[async-lower]send" (func $client-send (param i32 i32) (result i32)))
(import "wasi:clocks/monotonic-clock@0.3.0" "[async-lower]wait-for" (func $wait-for (param i64) (result i32)))
(import "$root" "[waitable-set-new]" (func $set-new (result i32)))
(import "$root" "[waitable-set-wait]" (func $set-wait (param i32 i32) (result i32)))
(import "$root" "[waitable-set-poll]" (func $set-poll (param i32 i32) (result i32)))
(import "$root" "[waitable-set-drop]" (func $set-drop (param i32)))
(import "$root" "[waitable-join]" (func $join (param i32 i32)))
(import "$root" "[subtask-drop]" (func $subtask-drop (param i32)))
(import "[export]wasi:http/handler@0.3.0" "[task-return]handle" (func $task-return (param i32 i32 i32 i64 i32 i32 i32 i32)))
"#;

/// The handler: the request is in register 0.
pub(super) const TEXT: &str = include_str!("p3.wat");
