;; Everything that an instance can read and write, how that is at first, and whether it still is.
;; The host's stack is none of it, and locals are zero when a function is entered.

(memory $plain 1)
(data (memory $image) (i32.const 65536) "initial!")
(data (memory $image) (i32.const 200000) "initial!")
(data (memory $image) (i32.const 1200000) "initial!")

(type $function (func (result i32)))
(func $initial_function (result i32) (i32.const 0))
(func $written_function (result i32) (i32.const 1))
(elem declare func $written_function)
(table $initial 4 funcref)
(elem (table $initial) (i32.const 0) func $initial_function $initial_function $initial_function $initial_function)
(table $functions 16 funcref)
(table $references 16 externref)

(type $bytes (array (mut i8)))
(global $i32 (mut i32) (i32.const 0))
(global $i64 (mut i64) (i64.const 0))
(global $f32 (mut f32) (f32.const 0))
(global $f64 (mut f64) (f64.const 0))
(global $v128 (mut v128) (v128.const i64x2 0 0))
(global $funcref (mut funcref) (ref.null func))
(global $externref (mut externref) (ref.null extern))
(global $kept (mut (ref null $bytes)) (ref.null $bytes))

(func $write (param $mib i32)
  (local $reference externref)
  (local.set $reference (extern.convert_any (ref.i31 (i32.const 0xa5a5))))
  (call $grow (local.get $mib))
  (memory.fill $image (i32.const 0) (i32.const 0xa5) (i32.shl (memory.size $image) (i32.const 16)))
  (memory.fill $plain (i32.const 0) (i32.const 0xa5) (i32.shl (memory.size $plain) (i32.const 16)))
  (table.fill $initial (i32.const 0) (ref.func $written_function) (table.size $initial))
  (table.fill $functions (i32.const 0) (ref.func $written_function) (table.size $functions))
  (table.fill $references (i32.const 0) (local.get $reference) (table.size $references))
  (global.set $i32 (i32.const 0xa5a5a5a5))
  (global.set $i64 (i64.const 0xa5a5a5a5a5a5a5a5))
  (global.set $f32 (f32.reinterpret_i32 (i32.const 0xa5a5a5a5)))
  (global.set $f64 (f64.reinterpret_i64 (i64.const 0xa5a5a5a5a5a5a5a5)))
  (global.set $v128 (i8x16.splat (i32.const 0xa5)))
  (global.set $funcref (ref.func $written_function))
  (global.set $externref (local.get $reference))
  (global.set $kept (array.new $bytes (i32.const 0xa5) (i32.const 1_000_000)))
  (loop $handles
    (br_if $handles (i32.lt_u (call $fields) (i32.const 100))))
  (drop (call $deep (i32.const 2000))))

;; Grows everything that can grow, memories by $mib and half of it.
(func $grow (param $mib i32)
  (if (i32.or
        (i32.lt_s (memory.grow $image (i32.shl (local.get $mib) (i32.const 4))) (i32.const 0))
        (i32.lt_s (memory.grow $plain (i32.shl (local.get $mib) (i32.const 3))) (i32.const 0)))
    (then (unreachable)))
  (if (i32.or
        (i32.lt_s (table.grow $functions (ref.null func) (i32.const 15_000)) (i32.const 0))
        (i32.lt_s (table.grow $references (ref.null extern) (i32.const 15_000)) (i32.const 0)))
    (then (unreachable))))

;; Fills the stack with what memory is filled with: each word is read before a call and used after it.
(func $deep (param $depth i32) (result i64)
  (local $a i64) (local $b i64) (local $c i64) (local $d i64)
  (local $e i64) (local $f i64) (local $g i64) (local $h i64)
  (if (i32.eqz (local.get $depth)) (then (return (i64.const 0))))
  (local.set $a (i64.load (i32.const 512))) (local.set $b (i64.load (i32.const 520)))
  (local.set $c (i64.load (i32.const 528))) (local.set $d (i64.load (i32.const 536)))
  (local.set $e (i64.load (i32.const 544))) (local.set $f (i64.load (i32.const 552)))
  (local.set $g (i64.load (i32.const 560))) (local.set $h (i64.load (i32.const 568)))
  (call $deep (i32.sub (local.get $depth) (i32.const 1)))
  (i64.xor (local.get $a)) (i64.xor (local.get $b)) (i64.xor (local.get $c)) (i64.xor (local.get $d))
  (i64.xor (local.get $e)) (i64.xor (local.get $f)) (i64.xor (local.get $g)) (i64.xor (local.get $h)))

;; The sum of the places that are not as they are at first; of the memory that has data, from $from on.
(func $look (param $from i32) (result i32)
  (call $flag (i32.const 1) (call $image (local.get $from)))
  (call $flag (i32.const 2) (call $plain))
  (call $flag (i32.const 4) (call $sizes))
  (call $flag (i32.const 8) (call $initial))
  (call $flag (i32.const 16) (call $functions))
  (call $flag (i32.const 32) (call $references))
  (call $flag (i32.const 64) (call $globals))
  (call $flag (i32.const 128) (call $array))
  (call $flag (i32.const 256) (i32.gt_u (call $fields) (i32.const 16)))
  (i32.or) (i32.or) (i32.or) (i32.or) (i32.or) (i32.or) (i32.or) (i32.or))

;; The same for what comes of growing.
(func $look_grown (param $mib i32) (result i32)
  (call $grow (local.get $mib))
  (call $flag (i32.const 1) (call $image (i32.const 1024)))
  (call $flag (i32.const 2) (call $plain))
  (call $flag (i32.const 16) (call $functions))
  (call $flag (i32.const 32) (call $references))
  (i32.or) (i32.or) (i32.or))

(func $flag (param $flag i32) (param $is_so i32) (result i32)
  (select (local.get $flag) (i32.const 0) (local.get $is_so)))

(func $image (param $from i32) (result i32)
  (call $is_written (local.get $from) (i32.const 65536))
  (i64.ne (i64.load (i32.const 65536)) (i64.const 0x216c616974696e69))
  (call $is_written (i32.const 65544) (i32.const 200000))
  (i64.ne (i64.load (i32.const 200000)) (i64.const 0x216c616974696e69))
  (call $is_written (i32.const 200008) (i32.const 1200000))
  (i64.ne (i64.load (i32.const 1200000)) (i64.const 0x216c616974696e69))
  (call $is_written (i32.const 1200008) (i32.shl (memory.size $image) (i32.const 16)))
  (i32.or) (i32.or) (i32.or) (i32.or) (i32.or) (i32.or))

;; Whether there is more than zeros.
(func $is_written (param $at i32) (param $end i32) (result i32)
  (local $all i64)
  (loop $words
    (local.set $all (i64.or (local.get $all) (i64.load (local.get $at))))
    (br_if $words (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))
  (i64.ne (local.get $all) (i64.const 0)))

(func $plain (result i32)
  (local $at i32) (local $all i64)
  (loop $words
    (local.set $all (i64.or (local.get $all) (i64.load $plain (local.get $at))))
    (br_if $words (i32.lt_u
      (local.tee $at (i32.add (local.get $at) (i32.const 8)))
      (i32.shl (memory.size $plain) (i32.const 16)))))
  (i64.ne (local.get $all) (i64.const 0)))

(func $sizes (result i32)
  (i32.ne (memory.size $image) (i32.const 20))
  (i32.ne (memory.size $plain) (i32.const 1))
  (i32.ne (table.size $functions) (i32.const 16))
  (i32.ne (table.size $references) (i32.const 16))
  (i32.or) (i32.or) (i32.or))

(func $initial (result i32)
  (call_indirect $initial (type $function) (i32.const 0))
  (call_indirect $initial (type $function) (i32.const 1))
  (call_indirect $initial (type $function) (i32.const 2))
  (call_indirect $initial (type $function) (i32.const 3))
  (i32.or) (i32.or) (i32.or))

(func $functions (result i32)
  (local $at i32) (local $any i32)
  (loop $entries
    (local.set $any (i32.or (local.get $any) (i32.eqz (ref.is_null (table.get $functions (local.get $at))))))
    (br_if $entries (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (table.size $functions))))
  (local.get $any))

(func $references (result i32)
  (local $at i32) (local $any i32)
  (loop $entries
    (local.set $any (i32.or (local.get $any) (i32.eqz (ref.is_null (table.get $references (local.get $at))))))
    (br_if $entries (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (table.size $references))))
  (local.get $any))

(func $globals (result i32)
  (i32.ne (global.get $i32) (i32.const 0))
  (i64.ne (global.get $i64) (i64.const 0))
  (i32.ne (i32.reinterpret_f32 (global.get $f32)) (i32.const 0))
  (i64.ne (i64.reinterpret_f64 (global.get $f64)) (i64.const 0))
  (v128.any_true (global.get $v128))
  (i32.eqz (ref.is_null (global.get $funcref)))
  (i32.eqz (ref.is_null (global.get $externref)))
  (i32.eqz (ref.is_null (global.get $kept)))
  (i32.or) (i32.or) (i32.or) (i32.or) (i32.or) (i32.or) (i32.or))

;; Whether a new array has more than zeros; where there is a written one, that.
(func $array (result i32)
  (local $array (ref $bytes)) (local $at i32) (local $any i32)
  (local.set $array (block $is (result (ref $bytes))
    (br_on_non_null $is (global.get $kept))
    (array.new_default $bytes (i32.const 1_000_000))))
  (loop $elements
    (local.set $any (i32.or (local.get $any) (array.get_u $bytes (local.get $array) (local.get $at))))
    (br_if $elements (i32.lt_u
      (local.tee $at (i32.add (local.get $at) (i32.const 1)))
      (array.len (local.get $array)))))
  (local.get $any))
