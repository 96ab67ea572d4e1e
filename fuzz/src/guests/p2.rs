//! A 0.2 guest: resources, lists, strings, polls and errors.

use super::Gives::{Handle, Nothing, Number, Result};
use super::{Op, op};

const TYPES: &str = "wasi:http/types@0.2.12";
const STREAMS: &str = "wasi:io/streams@0.2.12";
const POLL: &str = "wasi:io/poll@0.2.12";
const ERROR: &str = "wasi:io/error@0.2.12";
const ENVIRONMENT: &str = "wasi:cli/environment@0.2.12";

pub(super) const OPS: &[Op] = &[
    op("fields", (TYPES, "[constructor]fields"), "", Handle),
    op("from-list", (TYPES, "[static]fields.from-list"), "fp", Result),
    op("get", (TYPES, "[method]fields.get"), "hsp", Nothing),
    op("has", (TYPES, "[method]fields.has"), "hs", Number),
    op("set", (TYPES, "[method]fields.set"), "hsvp", Nothing),
    op("delete", (TYPES, "[method]fields.delete"), "hsp", Nothing),
    op("append", (TYPES, "[method]fields.append"), "hssq", Nothing),
    op("append-bytes", (TYPES, "[method]fields.append"), "hsbq", Nothing),
    op("entries", (TYPES, "[method]fields.entries"), "hp", Nothing),
    op("clone", (TYPES, "[method]fields.clone"), "h", Handle),
    op("drop-fields", (TYPES, "[resource-drop]fields"), "h", Nothing),
    op("method", (TYPES, "[method]incoming-request.method"), "hp", Nothing),
    op("path", (TYPES, "[method]incoming-request.path-with-query"), "hp", Nothing),
    op("scheme", (TYPES, "[method]incoming-request.scheme"), "hp", Nothing),
    op("authority", (TYPES, "[method]incoming-request.authority"), "hp", Nothing),
    op("headers", (TYPES, "[method]incoming-request.headers"), "h", Handle),
    op("consume", (TYPES, "[method]incoming-request.consume"), "hp", Result),
    op("drop-request", (TYPES, "[resource-drop]incoming-request"), "h", Nothing),
    op("body-stream", (TYPES, "[method]incoming-body.stream"), "hp", Result),
    op("body-finish", (TYPES, "[static]incoming-body.finish"), "h", Handle),
    op("drop-body", (TYPES, "[resource-drop]incoming-body"), "h", Nothing),
    op("trailers-subscribe", (TYPES, "[method]future-trailers.subscribe"), "h", Handle),
    op("trailers-get", (TYPES, "[method]future-trailers.get"), "hp", Nothing),
    op("drop-trailers", (TYPES, "[resource-drop]future-trailers"), "h", Nothing),
    op("response", (TYPES, "[constructor]outgoing-response"), "h", Handle),
    op("status", (TYPES, "[method]outgoing-response.status-code"), "h", Number),
    op("set-status", (TYPES, "[method]outgoing-response.set-status-code"), "hc", Number),
    op("response-headers", (TYPES, "[method]outgoing-response.headers"), "h", Handle),
    op("response-body", (TYPES, "[method]outgoing-response.body"), "hp", Result),
    op("drop-response", (TYPES, "[resource-drop]outgoing-response"), "h", Nothing),
    op("respond", (TYPES, "[static]response-outparam.set"), "hzhzZzzzz", Nothing),
    op("respond-error", (TYPES, "[static]response-outparam.set"), "huiuZiuzi", Nothing),
    op("respond-odd", (TYPES, "[static]response-outparam.set"), "htiijziii", Nothing),
    op("drop-outparam", (TYPES, "[resource-drop]response-outparam"), "h", Nothing),
    op("body-write", (TYPES, "[method]outgoing-body.write"), "hp", Result),
    op("finish", (TYPES, "[static]outgoing-body.finish"), "hthp", Nothing),
    op("drop-outgoing-body", (TYPES, "[resource-drop]outgoing-body"), "h", Nothing),
    op("error-code", (TYPES, "http-error-code"), "hp", Nothing),
    op("request", (TYPES, "[constructor]outgoing-request"), "h", Handle),
    op("request-body", (TYPES, "[method]outgoing-request.body"), "hp", Result),
    op("set-method", (TYPES, "[method]outgoing-request.set-method"), "his", Number),
    op("get-method", (TYPES, "[method]outgoing-request.method"), "hp", Nothing),
    op("set-scheme", (TYPES, "[method]outgoing-request.set-scheme"), "htts", Number),
    op("get-scheme", (TYPES, "[method]outgoing-request.scheme"), "hp", Nothing),
    op("set-authority", (TYPES, "[method]outgoing-request.set-authority"), "hts", Number),
    op("get-authority", (TYPES, "[method]outgoing-request.authority"), "hp", Nothing),
    op("set-path", (TYPES, "[method]outgoing-request.set-path-with-query"), "hts", Number),
    op("get-path", (TYPES, "[method]outgoing-request.path-with-query"), "hp", Nothing),
    op("request-headers", (TYPES, "[method]outgoing-request.headers"), "h", Handle),
    op("drop-outgoing-request", (TYPES, "[resource-drop]outgoing-request"), "h", Nothing),
    op("options", (TYPES, "[constructor]request-options"), "", Handle),
    op("set-connect", (TYPES, "[method]request-options.set-connect-timeout"), "htn", Number),
    op("connect", (TYPES, "[method]request-options.connect-timeout"), "hp", Nothing),
    op("set-first", (TYPES, "[method]request-options.set-first-byte-timeout"), "htn", Number),
    op("first", (TYPES, "[method]request-options.first-byte-timeout"), "hp", Nothing),
    op("set-between", (TYPES, "[method]request-options.set-between-bytes-timeout"), "htn", Number),
    op("between", (TYPES, "[method]request-options.between-bytes-timeout"), "hp", Nothing),
    op("drop-options", (TYPES, "[resource-drop]request-options"), "h", Nothing),
    op("send", ("wasi:http/outgoing-handler@0.2.12", "handle"), "hthp", Nothing),
    op("future-subscribe", (TYPES, "[method]future-incoming-response.subscribe"), "h", Handle),
    op("future-get", (TYPES, "[method]future-incoming-response.get"), "hp", Nothing),
    op("drop-future", (TYPES, "[resource-drop]future-incoming-response"), "h", Nothing),
    op("read", (STREAMS, "[method]input-stream.read"), "hnp", Nothing),
    op("blocking-read", (STREAMS, "[method]input-stream.blocking-read"), "hnp", Nothing),
    op("skip", (STREAMS, "[method]input-stream.skip"), "hnp", Nothing),
    op("blocking-skip", (STREAMS, "[method]input-stream.blocking-skip"), "hnp", Nothing),
    op("input-subscribe", (STREAMS, "[method]input-stream.subscribe"), "h", Handle),
    op("drop-input", (STREAMS, "[resource-drop]input-stream"), "h", Nothing),
    op("check-write", (STREAMS, "[method]output-stream.check-write"), "hp", Nothing),
    op("write", (STREAMS, "[method]output-stream.write"), "hbp", Nothing),
    op("flush", (STREAMS, "[method]output-stream.flush"), "hp", Nothing),
    op("blocking-flush", (STREAMS, "[method]output-stream.blocking-flush"), "hp", Nothing),
    op("output-subscribe", (STREAMS, "[method]output-stream.subscribe"), "h", Handle),
    op("blocking-write", (STREAMS, "[method]output-stream.blocking-write-and-flush"), "hbp", Nothing),
    op("write-zeroes", (STREAMS, "[method]output-stream.write-zeroes"), "hnp", Nothing),
    op("blocking-zeroes", (STREAMS, "[method]output-stream.blocking-write-zeroes-and-flush"), "hnp", Nothing),
    op("splice", (STREAMS, "[method]output-stream.splice"), "hhnp", Nothing),
    op("blocking-splice", (STREAMS, "[method]output-stream.blocking-splice"), "hhnp", Nothing),
    op("drop-output", (STREAMS, "[resource-drop]output-stream"), "h", Nothing),
    op("describe", (ERROR, "[method]error.to-debug-string"), "hp", Nothing),
    op("drop-error", (ERROR, "[resource-drop]error"), "h", Nothing),
    op("poll", (POLL, "poll"), "lp", Nothing),
    op("ready", (POLL, "[method]pollable.ready"), "h", Number),
    op("block", (POLL, "[method]pollable.block"), "h", Nothing),
    op("drop-pollable", (POLL, "[resource-drop]pollable"), "h", Nothing),
    op("timer", ("wasi:clocks/monotonic-clock@0.2.12", "subscribe-duration"), "d", Handle),
    op("environment", (ENVIRONMENT, "get-environment"), "p", Nothing),
    op("arguments", (ENVIRONMENT, "get-arguments"), "p", Nothing),
    op("cwd", (ENVIRONMENT, "initial-cwd"), "p", Nothing),
    op("exit", ("wasi:cli/exit@0.2.12", "exit"), "t", Nothing),
    op("stdin", ("wasi:cli/stdin@0.2.12", "get-stdin"), "", Handle),
    op("stdout", ("wasi:cli/stdout@0.2.12", "get-stdout"), "", Handle),
    op("terminal", ("wasi:cli/terminal-stdout@0.2.12", "get-terminal-stdout"), "p", Nothing),
];

/// The results of these depend on how much the client has read meanwhile. `write` traps when there is no room.
pub(super) const RACES: [&str; 5] = ["check-write", "write", "write-zeroes", "flush", "splice"];

/// Further imports of the guest.
pub(super) const MORE: &str = "";

/// The handler: the request is in register 0, and its response-outparam in register 1.
pub(super) const TEXT: &str = r#"
(func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
  (i32.store (i32.const 1024) (local.get $request))
  (i32.store (i32.const 1028) (local.get $out))
  (drop (call $run)))
"#;
