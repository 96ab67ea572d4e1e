;; wasi:http 0.3: how the request's path is read, how it is answered, and how a guest waits.

(import "wasi:http/types@0.3.0" "[method]request.get-path-with-query" (func $path (param i32 i32)))
(import "wasi:http/types@0.3.0" "[constructor]fields" (func $fields (result i32)))
(import "wasi:http/types@0.3.0" "[method]fields.append" (func $append (param i32 i32 i32 i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[static]response.new" (func $response (param i32 i32 i32 i32 i32)))
;; In the type of `response.new`, 1 is the future of the trailers and 2 that of the transmission.
(import "wasi:http/types@0.3.0" "[future-new-1][static]response.new" (func $trailers (result i64)))
(import "wasi:http/types@0.3.0" "[async-lower][future-write-1][static]response.new"
  (func $end (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[future-drop-readable-2][static]response.new" (func $forget (param i32)))
(import "wasi:clocks/monotonic-clock@0.3.0" "wait-for" (func $wait (param i64)))
(import "[export]wasi:http/handler@0.3.0" "[task-return]handle"
  (func $return (param i32 i32 i32 i64 i32 i32 i32 i32)))

(func (export "[async-lift]wasi:http/handler@0.3.0#handle") (param $request i32) (result i32)
  (call $serve (local.get $request) (i32.const 0))
  (i32.const 0))

;; Nothing is waited for in such a way that this would be called.
(func (export "[callback][async-lift]wasi:http/handler@0.3.0#handle") (param i32 i32 i32) (result i32)
  (unreachable))

;; 200, with these fields and a response that is not finished: what it returns is the future of its trailers.
(func $respond (param $unused i32) (param $fields i32) (result i32)
  (local $trailers i64)
  (local.set $trailers (call $trailers))
  (call $response (local.get $fields) (i32.const 0) (i32.const 0)
    (i32.wrap_i64 (local.get $trailers)) (i32.const 0))
  (call $forget (i32.load (i32.const 4)))
  (call $return (i32.const 0) (i32.load (i32.const 0))
    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (i32.wrap_i64 (i64.shr_u (local.get $trailers) (i64.const 32))))

;; Without trailers. They are read after this has returned.
(func $finish (param $trailers i32)
  (memory.fill (i32.const 64) (i32.const 0) (i32.const 64))
  (drop (call $end (local.get $trailers) (i32.const 64))))
