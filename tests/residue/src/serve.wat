;; `/write-ENDING?mib=N` writes over everything and ends so, `/look?mib=N` looks, also at what it grows by,
;; and `/both?mib=N` writes and then looks. All of them look first of all, before anything of their own is
;; in memory. The answer is 200 with `found`: the sum of the places that are not as they are at first.
;; ENDING is `return`, `trap`, `spin` or `wait`, or `head`, which begins to answer and then spins.

(memory $image (export "memory") 20)
(data $text "found")

;; What the host gives is the path, and it goes here. Below are results and what is given to the host.
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (if (i32.gt_u (local.get 3) (i32.const 256)) (then (unreachable)))
  (i32.const 256))

(func $serve (param $request i32) (param $reply i32)
  (local $found i32) (local $mib i32) (local $kind i32) (local $ending i32)
  (local.set $found (call $look (i32.const 0)))
  (call $path (local.get $request) (i32.const 0))
  (local.set $kind (i32.load8_u (i32.const 257)))
  (local.set $ending (i32.load8_u (i32.const 263)))
  (local.set $mib (call $number (i32.add (i32.const 256) (i32.load (i32.const 8)))))
  (if (i32.eq (local.get $kind) (i32.const 0x6c (; l ;)))
    (then (local.set $found (i32.or (local.get $found) (call $look_grown (local.get $mib)))))
    (else (call $write (local.get $mib))))
  (if (i32.eq (local.get $kind) (i32.const 0x62 (; b ;)))
    (then (local.set $found (i32.or (local.get $found) (call $look (i32.const 0))))))
  (if (i32.eq (local.get $kind) (i32.const 0x77 (; w ;)))
    (then (call $end_so (local.get $ending) (local.get $reply) (local.get $found))))
  (call $finish (call $answer (local.get $reply) (local.get $found))))

;; Returns only for `return`.
(func $end_so (param $ending i32) (param $reply i32) (param $found i32)
  (if (i32.eq (local.get $ending) (i32.const 0x72 (; r ;))) (then (return)))
  (if (i32.eq (local.get $ending) (i32.const 0x68 (; h ;)))
    (then
      (drop (call $answer (local.get $reply) (local.get $found)))
      ;; The host sees the answer of a guest of 0.3 when the guest waits.
      (call $wait (i64.const 1_000_000))
      (loop $for_ever (br $for_ever))))
  ;; Which instance could still answer after that?
  (data.drop $text)
  (if (i32.eq (local.get $ending) (i32.const 0x77 (; w ;))) (then (call $wait (i64.const 3_600_000_000_000))))
  (if (i32.eq (local.get $ending) (i32.const 0x73 (; s ;))) (then (loop $for_ever (br $for_ever))))
  (unreachable))

;; What it returns is for `$finish`.
(func $answer (param $reply i32) (param $found i32) (result i32)
  (local $fields i32) (local $at i32)
  (local.set $fields (call $fields))
  (memory.init $text (i32.const 128) (i32.const 0) (i32.const 5))
  (local.set $at (i32.const 160))
  (loop $digits
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (i32.store8 (local.get $at) (i32.add (i32.const 0x30) (i32.rem_u (local.get $found) (i32.const 10))))
    (local.set $found (i32.div_u (local.get $found) (i32.const 10)))
    (br_if $digits (local.get $found)))
  (call $append (local.get $fields) (i32.const 128) (i32.const 5)
    (local.get $at) (i32.sub (i32.const 160) (local.get $at)) (i32.const 0))
  (call $respond (local.get $reply) (local.get $fields)))

;; The decimal number that ends before $end, or 0.
(func $number (param $end i32) (result i32)
  (local $at i32) (local $digit i32) (local $number i32)
  (local.set $at (i32.const 256))
  (loop $bytes
    (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 0x30)))
    (local.set $number (select
      (i32.add (i32.mul (local.get $number) (i32.const 10)) (local.get $digit))
      (i32.const 0)
      (i32.lt_u (local.get $digit) (i32.const 10))))
    (br_if $bytes (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (local.get $end))))
  (local.get $number))
