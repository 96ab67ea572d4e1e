;; What every guest of differential_p3.rs has: the functions of wasi:http 0.3 and what the ABI gives to streams, futures and
;; calls; memory that is allocated one piece after the other; and an answer with all that is in memory from 256 to 2304,
;; where results and what is allocated for them come to be.
(import "wasi:http/types@0.3.0" "[constructor]fields" (func $fields (result i32)))
(import "wasi:http/types@0.3.0" "[static]fields.from-list" (func $from-list (param i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[method]fields.get" (func $get (param i32 i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[method]fields.has" (func $has (param i32 i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[method]fields.set" (func $set (param i32 i32 i32 i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[method]fields.delete" (func $delete (param i32 i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[method]fields.get-and-delete" (func $take (param i32 i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[method]fields.append" (func $append (param i32 i32 i32 i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[method]fields.copy-all" (func $copy-all (param i32 i32)))
(import "wasi:http/types@0.3.0" "[method]fields.clone" (func $clone (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[resource-drop]fields" (func $drop-fields (param i32)))
(import "wasi:http/types@0.3.0" "[static]request.new" (func $new-request (param i32 i32 i32 i32 i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[method]request.get-method" (func $method (param i32 i32)))
(import "wasi:http/types@0.3.0" "[method]request.set-method" (func $set-method (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[method]request.get-path-with-query" (func $path (param i32 i32)))
(import "wasi:http/types@0.3.0" "[method]request.set-path-with-query"
  (func $set-path (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[method]request.get-scheme" (func $scheme (param i32 i32)))
(import "wasi:http/types@0.3.0" "[method]request.set-scheme" (func $set-scheme (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[method]request.get-authority" (func $authority (param i32 i32)))
(import "wasi:http/types@0.3.0" "[method]request.set-authority"
  (func $set-authority (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[method]request.get-options" (func $get-options (param i32 i32)))
(import "wasi:http/types@0.3.0" "[method]request.get-headers" (func $headers (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[static]request.consume-body" (func $consume (param i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[resource-drop]request" (func $drop-request (param i32)))
(import "wasi:http/types@0.3.0" "[constructor]request-options" (func $options (result i32)))
(import "wasi:http/types@0.3.0" "[method]request-options.get-first-byte-timeout" (func $timeout (param i32 i32)))
(import "wasi:http/types@0.3.0" "[method]request-options.set-first-byte-timeout"
  (func $set-timeout (param i32 i32 i64 i32)))
(import "wasi:http/types@0.3.0" "[method]request-options.clone" (func $clone-options (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[static]response.new" (func $new-response (param i32 i32 i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[method]response.get-status-code" (func $status (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[method]response.set-status-code" (func $set-status (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[method]response.get-headers" (func $response-headers (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[static]response.consume-body" (func $consume-response (param i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[resource-drop]response" (func $drop-response (param i32)))
(import "wasi:http/client@0.3.0" "[async-lower]send" (func $send (param i32 i32) (result i32)))
(import "wasi:clocks/monotonic-clock@0.3.0" "[async-lower]wait-for" (func $wait-for (param i64) (result i32)))
(import "wasi:clocks/monotonic-clock@0.3.0" "wait-for" (func $sleep (param i64)))
(import "wasi:clocks/monotonic-clock@0.3.0" "[async-lower]wait-until" (func $wait-until (param i64) (result i32)))
(import "wasi:cli/environment@0.3.0" "get-environment" (func $environment (param i32)))
(import "wasi:cli/exit@0.3.0" "exit-with-code" (func $exit (param i32)))
(import "wasi:cli/stdout@0.3.0" "write-via-stream" (func $stdout (param i32) (result i32)))
(import "wasi:cli/stdin@0.3.0" "read-via-stream" (func $stdin (param i32)))
(import "wasi:cli/terminal-stdout@0.3.0" "get-terminal-stdout" (func $terminal (param i32)))
(import "wasi:random/random@0.3.0" "get-random-bytes" (func $random (param i64 i32)))

(import "wasi:http/types@0.3.0" "[stream-new-0][static]response.new" (func $stream (result i64)))
(import "wasi:http/types@0.3.0" "[async-lower][stream-read-0][static]response.new"
  (func $read (param i32 i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[async-lower][stream-write-0][static]response.new"
  (func $write (param i32 i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[stream-cancel-read-0][static]response.new"
  (func $cancel-read (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[stream-cancel-write-0][static]response.new"
  (func $cancel-write (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[stream-drop-readable-0][static]response.new" (func $drop-reader (param i32)))
(import "wasi:http/types@0.3.0" "[stream-drop-writable-0][static]response.new" (func $drop-writer (param i32)))
(import "wasi:http/types@0.3.0" "[future-new-1][static]response.new" (func $trailers (result i64)))
(import "wasi:http/types@0.3.0" "[async-lower][future-read-1][static]response.new"
  (func $read-trailers (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[async-lower][future-write-1][static]response.new"
  (func $write-trailers (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[future-cancel-read-1][static]response.new"
  (func $cancel-trailers (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[future-cancel-write-1][static]response.new"
  (func $cancel-write-trailers (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[future-drop-readable-1][static]response.new" (func $drop-trailers (param i32)))
(import "wasi:http/types@0.3.0" "[future-drop-writable-1][static]response.new"
  (func $drop-trailers-writer (param i32)))
(import "wasi:http/types@0.3.0" "[future-new-2][static]response.new" (func $sent (result i64)))
(import "wasi:http/types@0.3.0" "[async-lower][future-read-2][static]response.new"
  (func $read-sent (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[async-lower][future-write-2][static]response.new"
  (func $write-sent (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[future-cancel-read-2][static]response.new"
  (func $cancel-sent (param i32) (result i32)))
(import "wasi:http/types@0.3.0" "[future-drop-readable-2][static]response.new" (func $drop-sent (param i32)))
(import "wasi:http/types@0.3.0" "[future-drop-writable-2][static]response.new" (func $drop-sent-writer (param i32)))
(import "wasi:cli/stdout@0.3.0" "[async-lower][future-read-1]write-via-stream"
  (func $read-written (param i32 i32) (result i32)))
(import "wasi:cli/stdout@0.3.0" "[future-drop-readable-1]write-via-stream" (func $drop-written (param i32)))

(import "$root" "[waitable-set-new]" (func $set-new (result i32)))
(import "$root" "[waitable-set-wait]" (func $set-wait (param i32 i32) (result i32)))
(import "$root" "[waitable-set-poll]" (func $set-poll (param i32 i32) (result i32)))
(import "$root" "[waitable-set-drop]" (func $set-drop (param i32)))
(import "$root" "[waitable-join]" (func $join (param i32 i32)))
(import "$root" "[subtask-drop]" (func $subtask-drop (param i32)))
(import "$root" "[subtask-cancel]" (func $subtask-cancel (param i32) (result i32)))
(import "$root" "[context-get-0]" (func $context (result i32)))
(import "$root" "[context-set-0]" (func $set-context (param i32)))
(import "$root" "[thread-yield]" (func $yield (result i32)))
(import "$root" "[backpressure-inc]" (func $more-pressure))
(import "$root" "[backpressure-dec]" (func $less-pressure))
(import "[export]$root" "[task-cancel]" (func $task-cancel))
(import "[export]wasi:http/handler@0.3.0" "[task-return]handle"
  (func $return (param i32 i32 i32 i64 i32 i32 i32 i32)))

(memory (export "memory") 2)
(global $free (mut i32) (i32.const 1024))
(data (i32.const 16) "x-name" "some value" "\ff\fe" "content-length" "6")
;; A list of two pairs of strings, and one of values.
(data (i32.const 64) "\10\00\00\00\06\00\00\00\16\00\00\00\0a\00\00\00" "\10\00\00\00\06\00\00\00\16\00\00\00\04\00\00\00")
(data (i32.const 96) "\16\00\00\00\0a\00\00\00" "\16\00\00\00\00\00\00\00")

(func (export "cabi_realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
  (if (i32.or (local.get $old) (local.get $old-size)) (then unreachable))
  (global.set $free (i32.and (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
                             (i32.sub (i32.const 0) (local.get $align))))
  (global.get $free)
  (global.set $free (i32.add (global.get $free) (local.get $size)))
  (call $in-realloc))

;; Both ends of what was made last: to read from at 120, to write to at 124.
(func $ends (param $ends i64) (i64.store (i32.const 120) (local.get $ends)))
(func $reader (result i32) (i32.load (i32.const 120)))
(func $writer (result i32) (i32.load (i32.const 124)))

;; Waits for an operation if it goes on: what it has come to is at $to.
(func $end (param $to i32) (param $waitable i32) (param $status i32)
  (local $set i32)
  (if (i32.eq (local.get $status) (i32.const -1)) (then
    (local.set $set (call $set-new))
    (call $join (local.get $waitable) (local.get $set))
    (drop (call $set-wait (local.get $set) (i32.const 128)))
    (local.set $status (i32.load (i32.const 132)))
    (call $join (local.get $waitable) (i32.const 0))
    (call $set-drop (local.get $set))))
  (i32.store (local.get $to) (local.get $status)))

;; The same for a call.
(func $end-call (param $to i32) (param $status i32)
  (local $task i32)
  (local.set $task (i32.shr_u (local.get $status) (i32.const 4)))
  (if (local.get $task) (then
    (call $end (local.get $to) (local.get $task) (i32.const -1))
    (call $subtask-drop (local.get $task))
    (return)))
  (i32.store (local.get $to) (local.get $status)))

;; Makes a response, at 136, with the future of its transmission at 140; its body's writer is at 144, its trailers' one
;; at 148.
(func $make (call $make-with (call $fields)))
(func $make-with (param $fields i32)
  (local $stream i64) (local $trailers i64)
  (local.set $stream (call $stream))
  (local.set $trailers (call $trailers))
  (i32.store (i32.const 144) (i32.wrap_i64 (i64.shr_u (local.get $stream) (i64.const 32))))
  (i32.store (i32.const 148) (i32.wrap_i64 (i64.shr_u (local.get $trailers) (i64.const 32))))
  (call $new-response (local.get $fields) (i32.const 1) (i32.wrap_i64 (local.get $stream))
    (i32.wrap_i64 (local.get $trailers)) (i32.const 136)))

;; Answers with it.
(func $begin
  (call $make)
  (call $send-made))
(func $send-made
  (call $return (i32.const 0) (i32.load (i32.const 136)) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0)))

;; Writes so much of what is there.
(func $put (param $from i32) (param $count i32)
  (block $done
    (loop $more
      (br_if $done (i32.eqz (local.get $count)))
      (call $end (i32.const 152) (i32.load (i32.const 144))
        (call $write (i32.load (i32.const 144)) (local.get $from) (local.get $count)))
      (br_if $done (i32.and (i32.load (i32.const 152)) (i32.const 15)))
      (local.set $from (i32.add (local.get $from) (i32.shr_u (i32.load (i32.const 152)) (i32.const 4))))
      (local.set $count (i32.sub (local.get $count) (i32.shr_u (i32.load (i32.const 152)) (i32.const 4))))
      (br $more))))

;; Ends the body, with the result for trailers that is at 160: without any.
(func $finish
  (call $drop-writer (i32.load (i32.const 144)))
  (call $end (i32.const 152) (i32.load (i32.const 148))
    (call $write-trailers (i32.load (i32.const 148)) (i32.const 160)))
  (call $drop-trailers-writer (i32.load (i32.const 148))))

(func $answer
  (call $begin)
  (call $put (i32.const 256) (i32.const 2048))
  (call $finish))

;; The request's body, to read from, at 232; its trailers at 236. The guest says that all is well with it.
(func $input (param $request i32)
  (local $ends i64)
  (local.set $ends (call $sent))
  (call $consume (local.get $request) (i32.wrap_i64 (local.get $ends)) (i32.const 232))
  (call $end (i32.const 152) (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32)))
    (call $write-sent (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const 160)))
  (call $drop-sent-writer (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32)))))
(func $body (result i32) (i32.load (i32.const 232)))
(func $body-trailers (result i32) (i32.load (i32.const 236)))

;; A request without a body, at 240, with the future of its transmission at 244; its trailers' writer is at 248.
(func $outgoing
  (local $trailers i64)
  (local.set $trailers (call $trailers))
  (i32.store (i32.const 248) (i32.wrap_i64 (i64.shr_u (local.get $trailers) (i64.const 32))))
  (call $new-request (call $fields) (i32.const 0) (i32.const 0) (i32.wrap_i64 (local.get $trailers)) (i32.const 1)
    (call $options) (i32.const 240)))
(func $to-send (result i32) (i32.load (i32.const 240)))
