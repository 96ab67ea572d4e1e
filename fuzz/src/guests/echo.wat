;; A 0.2 guest that responds with the method, the path and the body of its request. It traps if the body is incomplete.
(module
(import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
(import "wasi:http/types@0.2.12" "[method]incoming-request.method" (func $method (param i32 i32)))
(import "wasi:http/types@0.2.12" "[method]incoming-request.path-with-query" (func $path (param i32 i32)))
(import "wasi:http/types@0.2.12" "[method]incoming-request.consume" (func $consume (param i32 i32)))
(import "wasi:http/types@0.2.12" "[method]incoming-body.stream" (func $stream (param i32 i32)))
(import "wasi:http/types@0.2.12" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
(import "wasi:http/types@0.2.12" "[method]outgoing-response.body" (func $body (param i32 i32)))
(import "wasi:http/types@0.2.12" "[static]response-outparam.set"
  (func $respond (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
(import "wasi:http/types@0.2.12" "[method]outgoing-body.write" (func $write-body (param i32 i32)))
(import "wasi:http/types@0.2.12" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
(import "wasi:io/streams@0.2.12" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))
(import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
(import "wasi:io/streams@0.2.12" "[resource-drop]output-stream" (func $drop-output (param i32)))

(memory (export "memory") 3)
(global $free (mut i32) (i32.const 1024))
(data (i32.const 256) "GET     HEAD    POST    PUT     DELETE  CONNECT OPTIONS TRACE   PATCH   ")

(func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
  (global.set $free (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
  (global.get $free)
  (global.set $free (i32.add (global.get $free) (local.get $size))))

(func $put (param $stream i32) (param $at i32) (param $len i32)
  (call $write (local.get $stream) (local.get $at) (local.get $len) (i32.const 64)))

(func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
  (local $response i32) (local $to i32)
  (call $method (local.get $request) (i32.const 0))
  (call $path (local.get $request) (i32.const 16))
  (call $consume (local.get $request) (i32.const 32))
  (call $stream (i32.load (i32.const 36)) (i32.const 40))
  (local.set $response (call $response (call $fields)))
  (call $body (local.get $response) (i32.const 48))
  (call $respond (local.get $out) (i32.const 0) (local.get $response)
    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (call $write-body (i32.load (i32.const 52)) (i32.const 56))
  (local.set $to (i32.load (i32.const 60)))
  ;; A known method is padded to 8 bytes; another one is written as it is.
  (if (i32.lt_u (i32.load8_u (i32.const 0)) (i32.const 9))
    (then (call $put (local.get $to) (i32.add (i32.const 256) (i32.shl (i32.load8_u (i32.const 0)) (i32.const 3))) (i32.const 8)))
    (else (call $put (local.get $to) (i32.load (i32.const 4)) (i32.load (i32.const 8)))))
  (call $put (local.get $to) (i32.load (i32.const 20)) (i32.load (i32.const 24)))
  (call $put (local.get $to) (i32.const 259) (i32.const 1))
  (block $done
    (loop $more
      (call $read (i32.load (i32.const 44)) (i64.const 4096) (i32.const 80))
      (if (i32.load8_u (i32.const 80)) (then
        ;; `closed` is the end; any other error traps.
        (br_if $done (i32.load8_u (i32.const 84)))
        (unreachable)))
      (call $put (local.get $to) (i32.load (i32.const 84)) (i32.load (i32.const 88)))
      (global.set $free (i32.const 1024))
      (br $more)))
  (call $drop-output (local.get $to))
  (call $finish (i32.load (i32.const 52)) (i32.const 0) (i32.const 0) (i32.const 96))
  (if (i32.load8_u (i32.const 96)) (then (unreachable)))))
