;; wasi:http 0.2: how the request's path is read, how it is answered, and how a guest waits.

(import "wasi:http/types@0.2.12" "[method]incoming-request.path-with-query" (func $path (param i32 i32)))
(import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
(import "wasi:http/types@0.2.12" "[method]fields.append" (func $append (param i32 i32 i32 i32 i32 i32)))
(import "wasi:http/types@0.2.12" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
(import "wasi:http/types@0.2.12" "[method]outgoing-response.body" (func $body (param i32 i32)))
(import "wasi:http/types@0.2.12" "[static]outgoing-body.finish" (func $end (param i32 i32 i32 i32)))
(import "wasi:http/types@0.2.12" "[static]response-outparam.set"
  (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
(import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))

(func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
  (call $serve (local.get $request) (local.get $out)))

;; 200, with these fields and a body that is not finished, which is what it returns.
(func $respond (param $out i32) (param $fields i32) (result i32)
  (local $response i32)
  (local.set $response (call $response (local.get $fields)))
  (call $body (local.get $response) (i32.const 0))
  (call $set (local.get $out) (i32.const 0) (local.get $response)
    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (i32.load (i32.const 4)))

(func $finish (param $body i32)
  (call $end (local.get $body) (i32.const 0) (i32.const 0) (i32.const 0)))

(func $wait (param $nanoseconds i64)
  (call $block (call $timer (local.get $nanoseconds))))
