;; The table of handles has one byte for each handle from 2048 on: 1 if the host has the other end, 2 if the host also
;; accepts everything at once. The handle of the other end is at 2304 on. Handles over 255 are not in the table.
(func $mark (param $handle i32) (param $what i32)
  (if (i32.lt_u (local.get $handle) (i32.const 256))
    (then (i32.store8 (i32.add (i32.const 2048) (local.get $handle)) (local.get $what)))))
(func $known (param $handle i32) (result i32)
  (if (i32.ge_u (local.get $handle) (i32.const 256)) (then (return (i32.const 0))))
  (i32.load8_u (i32.add (i32.const 2048) (local.get $handle))))
(func $other (param $handle i32) (result i32)
  (if (i32.ge_u (local.get $handle) (i32.const 256)) (then (return (i32.const 0))))
  (i32.load8_u (i32.add (i32.const 2304) (local.get $handle))))
;; Records that this end was passed to the host.
(func $to-host (param $handle i32) (param $what i32)
  (call $mark (call $other (local.get $handle)) (local.get $what)))
(func $ends (param $w i64) (param $ends i64)
  (local $reader i32) (local $writer i32)
  (local.set $reader (i32.wrap_i64 (local.get $ends)))
  (local.set $writer (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
  (call $to-reg (local.get $w) (local.get $reader))
  (call $to-next (local.get $w) (local.get $writer))
  (call $mark (local.get $reader) (i32.const 0))
  (call $mark (local.get $writer) (i32.const 0))
  (if (i32.lt_u (i32.or (local.get $reader) (local.get $writer)) (i32.const 256)) (then
    (i32.store8 (i32.add (i32.const 2304) (local.get $reader)) (local.get $writer))
    (i32.store8 (i32.add (i32.const 2304) (local.get $writer)) (local.get $reader)))))
;; If the host has the other end, the operation may complete at once or not: records a race.
(func $race (param $handle i32)
  (if (call $known (local.get $handle)) (then (call $record (i32.const 0x400) (i64.const 0)))))
(func $is-one (param $w i64) (param $k i32) (result i32)
  (i32.eq (i32.rem_u (call $o (local.get $w) (local.get $k)) (i32.const 3)) (i32.const 1)))

;; Operands: the address of a buffer, possibly out of bounds; a number of bytes; the address of a future's value,
;; possibly unaligned or out of bounds.
(func $buffer (param $w i64) (param $k i32) (result i32)
  (local $o i32)
  (local.set $o (call $o (local.get $w) (local.get $k)))
  (if (i32.eq (local.get $o) (i32.const 255)) (then (return (i32.const 196600))))
  (i32.add (i32.const 1280) (i32.shl (i32.and (local.get $o) (i32.const 7)) (i32.const 5))))
(func $count (param $w i64) (param $k i32) (result i32)
  (local $o i32)
  (local.set $o (call $o (local.get $w) (local.get $k)))
  (if (i32.eq (local.get $o) (i32.const 255)) (then (return (i32.const 0x10000000))))
  (i32.and (local.get $o) (i32.const 63)))
(func $value (param $w i64) (param $k i32) (result i32)
  (local $o i32)
  (local.set $o (call $o (local.get $w) (local.get $k)))
  (if (i32.eq (local.get $o) (i32.const 255)) (then (return (i32.const 1540))))
  (if (i32.eq (local.get $o) (i32.const 254)) (then (return (i32.const 196604))))
  (i32.const 1536))

;; A waitable set with this waitable as its only member. It is created before the operation starts, so that the handles
;; which the operation returns have the same numbers whether the guest waits or not.
(func $gather (param $waitable i32) (result i32)
  (local $set i32)
  (local.set $set (call $set-new))
  (call $join (local.get $waitable) (local.get $set))
  (local.get $set))
;; Waits for the operation if it is blocked, and returns its final status.
(func $settle (param $set i32) (param $waitable i32) (param $status i32) (result i32)
  (if (i32.eq (local.get $status) (i32.const -1)) (then
    (drop (call $set-wait (local.get $set) (i32.const 1088)))
    (local.set $status (i32.load (i32.const 1092)))))
  (call $join (local.get $waitable) (i32.const 0))
  (call $set-drop (local.get $set))
  (local.get $status))
(func $end-call (param $status i32) (result i64)
  (local $task i32)
  (local.set $task (i32.shr_u (local.get $status) (i32.const 4)))
  (if (local.get $task) (then
    (local.set $status (call $settle (call $gather (local.get $task)) (local.get $task) (i32.const -1)))
    (call $subtask-drop (local.get $task))))
  (i64.extend_i32_u (local.get $status)))

;; Reads from the host until `$count` bytes or the end. Returns the number of bytes.
(func $read-all (param $reader i32) (param $count i32) (result i64)
  (local $at i32) (local $status i32)
  (if (i32.eqz (call $known (local.get $reader))) (then (return (i64.const -1))))
  (block $done
    (loop $more
      (br_if $done (i32.ge_u (local.get $at) (local.get $count)))
      (local.set $status (call $settle (call $gather (local.get $reader)) (local.get $reader) (call $stream-read (local.get $reader)
        (i32.add (i32.const 1280) (local.get $at)) (i32.sub (local.get $count) (local.get $at)))))
      (local.set $at (i32.add (local.get $at) (i32.shr_u (local.get $status) (i32.const 4))))
      (br_if $more (i32.eqz (i32.and (local.get $status) (i32.const 15))))))
  (i64.extend_i32_u (local.get $at)))
;; Writes `$count` bytes, once the host reads them. If the host drops its end before, the number of bytes that it took
;; is not determined.
(func $write-all (param $writer i32) (param $count i32) (result i64)
  (local $at i32) (local $status i32)
  (if (i32.eqz (call $known (local.get $writer))) (then (return (i64.const -1))))
  (if (i32.eqz (i32.or (global.get $returned) (i32.and (call $known (local.get $writer)) (i32.const 2))))
    (then (return (i64.const -2))))
  (block $done
    (loop $more
      (br_if $done (i32.ge_u (local.get $at) (local.get $count)))
      (local.set $status (call $settle (call $gather (local.get $writer)) (local.get $writer) (call $stream-write (local.get $writer)
        (i32.add (i32.const 1280) (local.get $at)) (i32.sub (local.get $count) (local.get $at)))))
      (if (i32.and (local.get $status) (i32.const 15)) (then (return (i64.const -3))))
      (local.set $at (i32.add (local.get $at) (i32.shr_u (local.get $status) (i32.const 4))))
      (br $more)))
  (i64.extend_i32_u (local.get $at)))
;; Completes an operation on a future whose other end the host has.
(func $settle-host (param $end i32) (param $what i32) (result i64)
  (local $to i32)
  (if (i32.eqz (call $known (local.get $end))) (then (return (i64.const -1))))
  (if (i32.eq (local.get $what) (i32.const 0)) (then
    (return (i64.extend_i32_u (call $settle (call $gather (local.get $end)) (local.get $end) (call $future-read (local.get $end) (call $results (i32.const 0))))))))
  (if (i32.eq (local.get $what) (i32.const 1)) (then
    (return (i64.extend_i32_u (call $settle (call $gather (local.get $end)) (local.get $end) (call $future-write (local.get $end) (i32.const 1536)))))))
  (if (i32.eq (local.get $what) (i32.const 2)) (then
    (return (i64.extend_i32_u (call $settle (call $gather (local.get $end)) (local.get $end) (call $sent-read (local.get $end) (call $results (i32.const 0))))))))
  (i64.extend_i32_u (call $settle (call $gather (local.get $end)) (local.get $end) (call $sent-write (local.get $end) (i32.const 1536)))))

;; A digest of all events of a set, independent of their order.
(func $poll-all (param $set i32) (result i64)
  (local $code i32) (local $left i32) (local $sum i64)
  (local.set $left (i32.const 16))
  (loop $more
    (i64.store (i32.const 1088) (i64.const 0))
    (local.set $code (call $set-poll (local.get $set) (i32.const 1088)))
    (local.set $sum (i64.add (local.get $sum)
      (call $digest (i32.const 1088) (i32.const 1096) (i64.extend_i32_u (i32.add (local.get $code) (i32.const 77))))))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $more (i32.and (i32.ne (local.get $code) (i32.const 0)) (i32.ne (local.get $left) (i32.const 0)))))
  (local.get $sum))

(func (export "[async-lift]wasi:http/handler@0.3.0#handle") (param $request i32) (result i32)
  (i32.store (i32.const 1024) (local.get $request))
  (call $run))
(func (export "[callback][async-lift]wasi:http/handler@0.3.0#handle")
  (param $code i32) (param $waitable i32) (param $status i32) (result i32)
  (call $record (i32.const 0x500) (i64.extend_i32_u (local.get $code)))
  (call $record (i32.const 0x600) (i64.extend_i32_u (local.get $waitable)))
  (call $record (i32.const 0x700) (i64.extend_i32_u (local.get $status)))
  (call $run))
