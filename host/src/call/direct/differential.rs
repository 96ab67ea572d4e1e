//! Differential tests: a guest cannot tell whether it is linked directly or as a component. Whatever functions it calls
//! with whatever arguments, it finds the same data in its memory, or traps in both forms. Handles have the same
//! numbers, and memory is allocated in the same order.

use std::time::Duration;

use bytes::Bytes;
use daylily_core::config::RouteLimits;
use http_body_util::{BodyExt, Full};

use crate::artifact::Form;
use crate::call::testing::app;
use crate::call::{Call, Received};
use crate::engine::call_outcome::CallOutcome;
use crate::engine::pool::{PoolKind, Reset, WasiVersion};
use crate::observe::request_id::RequestId;

const GUEST: &str = include_str!("differential.wat");

const FIELDS: &str = "(local.set $a (call $fields))";
const APPEND: &str =
    "(call $append (local.get $a) (i32.const 16) (i32.const 6) (i32.const 22) (i32.const 10) (i32.const 256))";
const SENT: &str = "(local.set $a (call $request (call $fields)))";
const INPUT: &str = "(local.set $a (call $input (local.get $request)))";
const BEGIN: &str = "(local.set $a (call $begin (local.get $out)))";

const DIRTY: &str = "(memory.fill (i32.const 256) (i32.const 0xaa) (i32.const 512))";

/// The guest's code before it responds, and whether that traps.
#[rustfmt::skip]
const CASES: &[(&[&str], bool)] = &[
    (&[], false),
    // Fields.
    (&[FIELDS, APPEND, APPEND, "(call $entries (local.get $a) (i32.const 272))"], false),
    (&[FIELDS, APPEND, "(call $get (local.get $a) (i32.const 16) (i32.const 6) (i32.const 272))"], false),
    (&[FIELDS, "(call $get (local.get $a) (i32.const 32) (i32.const 2) (i32.const 272))"], true),
    (&[FIELDS, "(call $get (local.get $a) (i32.const 0) (i32.const 0) (i32.const 272))"], false),
    (&[FIELDS, APPEND, "(i32.store (i32.const 272) (call $has (local.get $a) (i32.const 16) (i32.const 6)))"], false),
    (&[FIELDS, "(call $set (local.get $a) (i32.const 16) (i32.const 6) (i32.const 96) (i32.const 2) (i32.const 272))",
       "(call $entries (local.get $a) (i32.const 288))"], false),
    (&[FIELDS, "(call $set (local.get $a) (i32.const 16) (i32.const 6) (i32.const 97) (i32.const 2) (i32.const 272))"], true),
    (&[FIELDS, "(call $set (local.get $a) (i32.const 16) (i32.const 6) (i32.const 131072) (i32.const 1) (i32.const 272))"], true),
    (&[FIELDS, APPEND, "(call $delete (local.get $a) (i32.const 16) (i32.const 6) (i32.const 272))"], false),
    (&[FIELDS, "(call $append (local.get $a) (i32.const 22) (i32.const 10) (i32.const 16) (i32.const 6) (i32.const 272))"], false),
    (&[FIELDS, APPEND, "(local.set $b (call $clone (local.get $a)))", "(call $drop-fields (local.get $a))",
       "(call $entries (local.get $b) (i32.const 272))"], false),
    (&["(call $from-list (i32.const 64) (i32.const 2) (i32.const 256))", "(call $entries (i32.load (i32.const 260)) (i32.const 272))"], false),
    (&["(call $from-list (i32.const 64) (i32.const 0x10000000) (i32.const 256))"], true),
    (&["(call $from-list (i32.const 0) (i32.const 0) (i32.const 131071))"], true),
    (&["(call $from-list (i32.const 0) (i32.const 0) (i32.const 131072))"], true),
    // Handles.
    (&["(i32.store (i32.const 256) (call $fields))", "(call $drop-fields (i32.load (i32.const 256)))",
       "(i32.store (i32.const 260) (call $fields))", "(i32.store (i32.const 264) (call $fields))"], false),
    (&[FIELDS, "(call $drop-fields (local.get $a))", "(call $drop-fields (local.get $a))"], true),
    (&["(call $drop-fields (local.get $request))"], true),
    (&["(call $drop-fields (i32.const 0))"], true),
    (&["(call $drop-fields (i32.const -1))"], true),
    (&["(call $entries (local.get $out) (i32.const 256))"], true),
    (&[FIELDS, "(drop (call $response (local.get $a)))", APPEND], true),
    (&["(local.set $a (call $headers (local.get $request)))", APPEND, "(call $entries (local.get $a) (i32.const 272))"], false),
    (&["(call $drop-request (local.get $request))", "(call $path (local.get $request) (i32.const 256))"], true),
    // The request.
    (&["(call $method (local.get $request) (i32.const 256))", "(call $path (local.get $request) (i32.const 272))",
       "(call $scheme (local.get $request) (i32.const 288))", "(call $authority (local.get $request) (i32.const 304))"], false),
    (&["(call $path (local.get $request) (i32.const 258))"], true),
    (&["(call $path (local.get $request) (i32.const 131068))"], true),
    (&["(call $consume (local.get $request) (i32.const 256))", "(call $consume (local.get $request) (i32.const 264))"], false),
    (&[INPUT, "(call $blocking-read (local.get $a) (i64.const 3) (i32.const 256))",
       "(call $blocking-skip (local.get $a) (i64.const 1) (i32.const 272))",
       "(call $read (local.get $a) (i64.const 0) (i32.const 288))"], false),
    (&[INPUT, "(call $stream (i32.load (i32.const 148)) (i32.const 256))"], false),
    (&[INPUT, "(call $drop-body (i32.load (i32.const 148)))"], true),
    (&[INPUT, "(local.set $b (call $await-input (local.get $a)))", "(call $drop-input (local.get $a))"], true),
    (&[INPUT, "(call $block (call $await-input (local.get $a)))", "(i32.store (i32.const 256) (i32.const 5))"], false),
    (&[INPUT, "(call $drop-input (local.get $a))", "(local.set $b (call $trailers (i32.load (i32.const 148))))",
       "(call $block (call $await-trailers (local.get $b)))", "(call $get-trailers (local.get $b) (i32.const 256))",
       "(call $get-trailers (local.get $b) (i32.const 320))"], false),
    // The response.
    (&["(local.set $a (call $response (call $fields)))", "(i32.store (i32.const 256) (call $set-status (local.get $a) (i32.const 404)))",
       "(i32.store (i32.const 260) (call $set-status (local.get $a) (i32.const 99)))",
       "(i32.store (i32.const 264) (call $set-status (local.get $a) (i32.const 0x100c8)))",
       "(i32.store (i32.const 268) (call $status (local.get $a)))",
       "(call $body (local.get $a) (i32.const 272))", "(call $body (local.get $a) (i32.const 280))",
       "(i32.store (i32.const 288) (call $response-headers (local.get $a)))"], false),
    (&["(local.set $a (call $response (call $fields)))", "(call $body (local.get $a) (i32.const 256))", "(call $drop-response (local.get $a))",
       "(call $drop-outgoing (i32.load (i32.const 260)))"], false),
    (&[BEGIN, "(call $check-write (local.get $a) (i32.const 256))",
       "(call $write (local.get $a) (i32.const 16) (i32.const 6) (i32.const 272))",
       "(call $flush (local.get $a) (i32.const 288))", "(call $write-zeroes (local.get $a) (i64.const 9) (i32.const 304))",
       "(call $blocking-write (local.get $a) (i32.const 256) (i32.const 64) (i32.const 320))",
       "(call $drop-output (local.get $a))", "(call $finish (i32.load (i32.const 132)) (i32.const 0) (i32.const 0) (i32.const 336))",
       "(return)"], false),
    (&[BEGIN, "(call $blocking-write (local.get $a) (i32.const 0) (i32.const 4097) (i32.const 256))"], true),
    (&[BEGIN, "(call $write (local.get $a) (i32.const 16) (i32.const 6) (i32.const 272))"], true),
    (&[BEGIN, "(call $finish (i32.load (i32.const 132)) (i32.const 0) (i32.const 0) (i32.const 336))"], true),
    (&[BEGIN, "(call $finish (i32.load (i32.const 132)) (i32.const 2) (i32.const 0) (i32.const 336))"], true),
    (&[BEGIN, "(call $drop-output (local.get $a))",
       "(call $finish (i32.load (i32.const 132)) (i32.const 1) (call $fields) (i32.const 336))", "(return)"], false),
    (&["(call $drop-out (local.get $out))", "(return)"], false),
    (&["(call $drop-out (local.get $out))"], true),
    (&["(call $respond (local.get $out) (i32.const 1) (i32.const 36) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", "(return)"], false),
    (&["(call $respond (local.get $out) (i32.const 1) (i32.const 38) (i32.const 1) (i64.const 16) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0))", "(return)"], false),
    (&["(call $respond (local.get $out) (i32.const 1) (i32.const 22) (i32.const 1) (i64.const 1) (i32.const 16) (i32.const 6) (i32.const 1) (i32.const 7))", "(return)"], false),
    (&["(call $respond (local.get $out) (i32.const 1) (i32.const 39) (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"], true),
    (&["(call $respond (local.get $out) (i32.const 2) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"], true),
    (&[INPUT, BEGIN, "(call $splice (local.get $a) (i32.load (i32.const 156)) (i64.const 4) (i32.const 256))",
       "(call $blocking-write (local.get $a) (i32.const 256) (i32.const 64) (i32.const 320))",
       "(call $drop-output (local.get $a))", "(call $finish (i32.load (i32.const 132)) (i32.const 0) (i32.const 0) (i32.const 336))", "(return)"], false),
    // Outgoing requests.
    (&[SENT, "(i32.store (i32.const 256) (call $set-method (local.get $a) (i32.const 9) (i32.const 16) (i32.const 6)))",
       "(call $sent-method (local.get $a) (i32.const 272))",
       "(i32.store (i32.const 260) (call $set-method (local.get $a) (i32.const 9) (i32.const 22) (i32.const 10)))"], false),
    (&[SENT, "(drop (call $set-method (local.get $a) (i32.const 10) (i32.const 0) (i32.const 0)))"], true),
    (&[SENT, "(i32.store (i32.const 256) (call $set-scheme (local.get $a) (i32.const 1) (i32.const 2) (i32.const 16) (i32.const 1)))",
       "(call $sent-scheme (local.get $a) (i32.const 272))",
       "(i32.store (i32.const 260) (call $set-scheme (local.get $a) (i32.const 0) (i32.const 7) (i32.const -1) (i32.const -1)))",
       "(call $sent-scheme (local.get $a) (i32.const 288))"], false),
    (&[SENT, "(i32.store (i32.const 256) (call $set-authority (local.get $a) (i32.const 1) (i32.const 16) (i32.const 6)))",
       "(call $sent-authority (local.get $a) (i32.const 272))",
       "(i32.store (i32.const 260) (call $set-path (local.get $a) (i32.const 1) (i32.const 16) (i32.const 0)))",
       "(call $sent-path (local.get $a) (i32.const 288))"], false),
    (&[SENT, "(memory.fill (i32.const 4096) (i32.const 97) (i32.const 2000))",
       "(i32.store (i32.const 256) (call $set-authority (local.get $a) (i32.const 1) (i32.const 4096) (i32.const 1024)))",
       "(i32.store (i32.const 260) (call $set-authority (local.get $a) (i32.const 1) (i32.const 4096) (i32.const 1025)))"], false),
    (&[SENT, "(call $send (local.get $a) (i32.const 0) (i32.const 0) (i32.const 256))"], false),
    (&[SENT, "(drop (call $set-authority (local.get $a) (i32.const 1) (i32.const 16) (i32.const 6)))",
       "(call $send (local.get $a) (i32.const 1) (call $options) (i32.const 256))"], false),
    (&[SENT, "(call $send (local.get $a) (i32.const 1) (local.get $a) (i32.const 256))"], true),
    (&["(local.set $a (call $options))", "(call $timeout (local.get $a) (i32.const 256))",
       "(i32.store (i32.const 272) (call $set-timeout (local.get $a) (i32.const 1) (i64.const 1234567890123)))",
       "(call $timeout (local.get $a) (i32.const 288))"], false),
    // Polling.
    (&["(i32.store (i32.const 240) (call $timer (i64.const 0)))", "(i32.store (i32.const 244) (call $timer (i64.const 3600000000000)))",
       "(call $poll (i32.const 240) (i32.const 2) (i32.const 256))",
       "(i32.store (i32.const 272) (call $ready (i32.load (i32.const 244))))", "(call $drop-pollable (i32.load (i32.const 240)))"], false),
    (&["(call $poll (i32.const 240) (i32.const 0) (i32.const 256))"], true),
    (&["(i32.store (i32.const 240) (i32.const 77))", "(call $poll (i32.const 240) (i32.const 1) (i32.const 256))"], true),
    // Padding and memory after a result are left unchanged.
    (&[DIRTY, "(call $method (local.get $request) (i32.const 256))", "(call $path (local.get $request) (i32.const 272))",
       "(call $scheme (local.get $request) (i32.const 288))", "(call $terminal (i32.const 304))", "(call $cwd (i32.const 320))"], false),
    (&[DIRTY, SENT, "(call $sent-scheme (local.get $a) (i32.const 256))", "(call $sent-path (local.get $a) (i32.const 272))",
       "(call $timeout (call $options) (i32.const 288))", "(call $consume (local.get $request) (i32.const 304))",
       "(call $send (local.get $a) (i32.const 0) (i32.const 0) (i32.const 312))"], false),
    (&[DIRTY, INPUT, "(call $read (local.get $a) (i64.const 0) (i32.const 256))", "(call $drop-input (local.get $a))",
       "(local.set $b (call $trailers (i32.load (i32.const 148))))", "(call $block (call $await-trailers (local.get $b)))",
       "(call $get-trailers (local.get $b) (i32.const 272))", "(call $get-trailers (local.get $b) (i32.const 336))"], false),
    // Other interfaces.
    (&["(call $environment (i32.const 256))", "(call $arguments (i32.const 272))", "(call $cwd (i32.const 288))",
       "(call $terminal (i32.const 304))"], false),
    (&["(call $exit (i32.const 0))"], false),
    (&["(call $exit (i32.const 1))"], false),
    (&["(call $exit (i32.const 2))"], true),
    (&["(call $random (i64.const 0) (i32.const 256))"], false),
    (&["(call $random (i64.const 1000000000) (i32.const 256))"], true),
    (&["(call $blocking-read (call $stdin) (i64.const 10) (i32.const 256))", "(call $read (call $stdin) (i64.const 10) (i32.const 272))"], false),
    // The bytes that are copied from memory are limited, whatever they contain.
    (&[FIELDS, "(drop (memory.grow (i32.const 40)))",
       "(call $append (local.get $a) (i32.const 16) (i32.const 6) (i32.const 131072) (i32.const 2097153) (i32.const 256))"], true),
    (&[FIELDS, "(drop (memory.grow (i32.const 20)))",
       "(call $append (local.get $a) (i32.const 16) (i32.const 6) (i32.const 131072) (i32.const 1000000) (i32.const 256))"], false),
];

/// The code of the guest's `realloc`, which may not call the host, and must return memory within bounds; and whether it
/// traps.
const REALLOCS: &[(&str, bool)] = &[
    ("", false),
    ("(drop (call $fields))", true),
    ("(call $block (i32.const 1))", true),
    ("(global.set $free (i32.const 131000))", false),
    ("(global.set $free (i32.const 131071))", true),
    ("(global.set $free (i32.const -16))", true),
    ("unreachable", true),
];

fn component(code: &str, in_realloc: &str) -> Vec<u8> {
    let text = format!(
        r#"(module {GUEST}
          (func $in-realloc {in_realloc})
          (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
            (local $a i32) (local $b i32)
            {code}
            (call $answer (local.get $out))))"#
    );
    residue_guest::encode(&text, residue_guest::Wasi::P2).unwrap_or_else(|error| panic!("{code}: {error:#}"))
}

/// Longer than any of these guests runs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The result of a request in one form: how the guest ended, and its response.
pub(crate) async fn outcome(wasi_version: WasiVersion, component: &[u8], form: Form) -> (CallOutcome, String) {
    let kind = PoolKind { wasi_version, reset: Reset::Whole };
    let app = app(kind, form, component, RouteLimits::default());
    let request = http::Request::post("/path?query").header("host", "agreement.test").header("x-first", "1");
    let body = Full::new(Bytes::from_static(b"0123456789")).map_err(|never| match never {});
    // The same in both forms: the guest sees it.
    let id = RequestId::from_words([1, 2]);
    let Call { run, head, .. } = app.call(id, Received::plain(id, request.body(body).expect("a request")));
    let answer = async {
        match head.await {
            Ok(Ok(response)) => {
                let (parts, body) = response.into_parts();
                let body = body.collect().await.map(|body| (body.trailers().is_some(), body.to_bytes()));
                format!("{} {:?} {body:?}", parts.status, parts.headers)
            }
            Ok(Err(code)) => code.to_string(),
            Err(_) => "none".to_owned(),
        }
    };
    let run = async {
        // The ended store is dropped, since it would keep an unfinished body open.
        let (outcome, _) = run.await;
        outcome
    };
    let ends = async { tokio::join!(run, answer) };
    tokio::time::timeout(PATIENCE, ends).await.expect("the guest ends")
}

/// Describes the differences between the forms for a guest with this component. None if there are none.
async fn check(wasi_version: WasiVersion, what: &str, component: &[u8], traps: bool) -> Option<String> {
    let (direct, direct_answer) = outcome(WasiVersion::P2, component, Form::Module).await;
    let (whole, whole_answer) = outcome(wasi_version, component, Form::Component).await;
    let agree = match (&direct, &whole) {
        // The messages of traps may differ. How much of a P3 response was passed on before the trap may differ, too.
        (CallOutcome::Trap(_), CallOutcome::Trap(_)) => {
            wasi_version == WasiVersion::P3 || direct_answer == whole_answer
        }
        _ => direct == whole && direct_answer == whole_answer,
    };
    let is_expected = matches!(direct, CallOutcome::Trap(_)) == traps;
    (!agree || !is_expected).then(|| {
        format!("{what}\n  linked directly: {direct:?} {direct_answer}\n  as a component: {whole:?} {whole_answer}")
    })
}

/// Checks guests, each with its description, its component, and whether it traps.
pub(crate) async fn check_all(wasi_version: WasiVersion, guests: impl IntoIterator<Item = (String, Vec<u8>, bool)>) {
    let mut failures = Vec::new();
    for (what, component, traps) in guests {
        failures.extend(check(wasi_version, &what, &component, traps).await);
    }
    let (count, failures) = (failures.len(), failures.join("\n"));
    assert!(count == 0, "{count} guests find a difference, or do not trap as they should:\n{failures}");
}

#[tokio::test]
async fn whatever_a_guest_calls_is_the_same_in_both_forms() {
    let guests = CASES.iter().map(|(code, traps)| {
        let code = code.join("\n");
        let component = component(&code, "");
        (code, component, *traps)
    });
    check_all(WasiVersion::P2, guests).await;
}

#[tokio::test]
async fn allocating_is_the_same_in_both_forms() {
    let code =
        "(call $path (local.get $request) (i32.const 256)) (call $authority (local.get $request) (i32.const 272))";
    let guests =
        REALLOCS.iter().map(|(in_realloc, traps)| ((*in_realloc).to_owned(), component(code, in_realloc), *traps));
    check_all(WasiVersion::P2, guests).await;
}
