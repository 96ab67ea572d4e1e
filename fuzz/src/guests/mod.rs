//! Guests that interpret the input as a program. Each operation is a word of six bytes: the operation, four operands,
//! and the register of the result. Everything that an operation returns is recorded in a trace.
//!
//! A guest is WebAssembly text, generated from a table of the imports that it may call. It is compiled once, and runs
//! thousands of programs per second.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use residue_guest::Wasi;

mod p2;
mod p3;

/// Bytes of an operation in an input.
pub(crate) const WORD_BYTES: usize = 6;

/// An operation of a guest.
#[derive(Clone, Copy)]
pub(crate) struct Op {
    /// The name of the operation in the listing of a program.
    pub(crate) name: &'static str,
    /// The module and the name of the import that it calls, if it calls exactly one.
    import: Option<(&'static str, &'static str)>,
    /// The parameters, one letter each; see [`param`].
    params: &'static str,
    result: Gives,
    /// Code that runs after the call, or instead of one.
    code: &'static str,
}

/// The result of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    Nothing,
    /// A number, which is recorded.
    Number,
    /// A handle, which is stored in a register, too.
    Handle,
    /// The two ends of a stream or a future, each stored in a register.
    Ends,
    /// A `result` in memory. Its success value is a handle, which is stored in a register.
    Result,
}

const fn op(name: &'static str, import: (&'static str, &'static str), params: &'static str, result: Gives) -> Op {
    Op { name, import: Some(import), params, result, code: "" }
}

const fn then(op: Op, code: &'static str) -> Op {
    Op { code, ..op }
}

const fn code(name: &'static str, code: &'static str) -> Op {
    Op { name, import: None, params: "", result: Gives::Number, code }
}

/// The operations of every guest.
const COMMON: &[Op] = &[
    // Loads a word of the memory for results into a register.
    code(
        "load",
        "(call $to-reg (local.get $w) (i32.load (i32.add (i32.const 1152)
        (i32.shl (i32.and (call $o (local.get $w) (i32.const 1)) (i32.const 15)) (i32.const 2))))) (i64.const 0)",
    ),
    // Any number, which may be a handle.
    code("number", "(call $to-reg (local.get $w) (call $o (local.get $w) (i32.const 1))) (i64.const 0)"),
    code("move", "(call $to-reg (local.get $w) (call $reg (local.get $w) (i32.const 1))) (i64.const 0)"),
    code("grow", "(i64.extend_i32_s (memory.grow (i32.and (call $o (local.get $w) (i32.const 1)) (i32.const 3))))"),
];

/// The memory layout: strings from 0, the table of strings at 512, registers at 1024, an event at 1088, results at
/// 1152, buffers at 1280, the values of futures at 1536, the table of handles at 2048, a long text at 2560, and
/// allocations from 8192 on.
const STRINGS: [&str; 13] = [
    "x-name",
    "some value",
    "",
    "content-length",
    "host",
    "GET",
    "/path?a=b",
    "example.com:80",
    "a b",
    "\\ff\\fe",
    "X-Name",
    "ftp",
    "6",
];
/// Strings that are out of bounds or long: partly beyond the memory, longer than the memory, and 1,024 bytes.
const ODD_STRINGS: [(u32, u32); 3] = [(196_600, 100), (0, 0x7fff_ffff), (2_560, 1_024)];

const SKELETON: &str = r#"
(memory (export "memory") 3)
(global $free (mut i32) (i32.const 8192))
(global $before (mut i32) (i32.const 8192))
(global $pc (mut i32) (i32.const 0))
(global $leave (mut i32) (i32.const -1))
(global $returned (mut i32) (i32.const 0))

(func (export "cabi_realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
  (if (i32.or (local.get $old) (local.get $old-size)) (then unreachable))
  (global.set $free (i32.and (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
                             (i32.sub (i32.const 0) (local.get $align))))
  (global.get $free)
  (global.set $free (i32.add (global.get $free) (local.get $size))))

;; Decode an operand, a register and a string.
(func $o (param $w i64) (param $k i32) (result i32)
  (i32.wrap_i64 (i64.and (i64.shr_u (local.get $w) (i64.extend_i32_u (i32.shl (local.get $k) (i32.const 3)))) (i64.const 255))))
(func $reg-at (param $n i32) (result i32)
  (i32.add (i32.const 1024) (i32.shl (i32.and (local.get $n) (i32.const 15)) (i32.const 2))))
(func $reg (param $w i64) (param $k i32) (result i32)
  (i32.load (call $reg-at (call $o (local.get $w) (local.get $k)))))
(func $to-reg (param $w i64) (param $value i32)
  (i32.store (call $reg-at (call $o (local.get $w) (i32.const 5))) (local.get $value)))
(func $to-next (param $w i64) (param $value i32)
  (i32.store (call $reg-at (i32.add (i32.const 1) (call $o (local.get $w) (i32.const 5)))) (local.get $value)))
(func $string (param $w i64) (param $k i32) (result i32)
  (i32.add (i32.const 512) (i32.shl (i32.and (call $o (local.get $w) (local.get $k)) (i32.const 15)) (i32.const 3))))
;; A length: small, or a boundary value from the table at 896.
(func $length (param $o i32) (result i64)
  (if (i32.lt_u (local.get $o) (i32.const 248)) (then (return (i64.extend_i32_u (local.get $o)))))
  (i64.load (i32.add (i32.const 896) (i32.shl (i32.and (local.get $o) (i32.const 7)) (i32.const 3)))))
;; An address for a result: zeroed memory, or an unaligned or out-of-bounds address.
(func $results (param $o i32) (result i32)
  (memory.fill (i32.const 1152) (i32.const 0) (i32.const 128))
  (if (i32.eq (local.get $o) (i32.const 255)) (then (return (i32.const 1153))))
  (if (i32.eq (local.get $o) (i32.const 254)) (then (return (i32.const 196604))))
  (i32.const 1152))
;; A digest of a memory range.
(func $digest (param $from i32) (param $to i32) (param $hash i64) (result i64)
  (block $done
    (loop $more
      (br_if $done (i32.ge_u (local.get $from) (local.get $to)))
      (local.set $hash (i64.mul (i64.xor (local.get $hash) (i64.load (local.get $from))) (i64.const 0x100000001b3)))
      (local.set $hash (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 29))))
      (local.set $from (i32.add (local.get $from) (i32.const 8)))
      (br $more)))
  (local.get $hash))

;; Runs the program until its end, or until an operation leaves the handler. Returns the value to leave with.
(func $run (result i32)
  (local $w i64) (local $op i32) (local $end i32)
  (global.set $leave (i32.const -1))
  (loop $more
    (local.set $w (call $word (global.get $pc)))
    (local.set $op (i32.wrap_i64 (i64.and (local.get $w) (i64.const 255))))
    (if (i32.eqz (local.get $op)) (then (return (i32.const 0))))
    (global.set $pc (i32.add (global.get $pc) (i32.const 1)))
    (global.set $before (i32.and (global.get $free) (i32.const -8)))
    (call $record (i32.or (i32.const 0x100) (local.get $op)) (local.get $w))
    (call $record (i32.or (i32.const 0x200) (local.get $op)) (call_indirect (param i64) (result i64) (local.get $w) (local.get $op)))
    ;; Digest what was allocated, but at most 4096 bytes of it.
    (local.set $end (global.get $free))
    (if (i32.gt_u (local.get $end) (i32.add (global.get $before) (i32.const 4096)))
      (then (local.set $end (i32.add (global.get $before) (i32.const 4096)))))
    (call $record (i32.const 0x300)
      (call $digest (i32.const 1152) (i32.const 2048) (call $digest (global.get $before) (local.get $end) (i64.const 14695981039346656037))))
    (br_if $more (i32.eq (global.get $leave) (i32.const -1))))
  (global.get $leave))
"#;

/// All operations of a guest, numbered from 1.
pub(crate) fn ops(wasi: Wasi) -> Vec<Op> {
    let own = match wasi {
        Wasi::P2 => p2::OPS,
        Wasi::P3 => p3::OPS,
    };
    COMMON.iter().chain(own).copied().collect()
}

/// Builds the component.
pub(crate) fn component(wasi: Wasi) -> Result<Vec<u8>> {
    let ops = ops(wasi);
    ensure!(ops.len() < 256, "an operation is one byte");
    let (more, text, world) = match wasi {
        Wasi::P2 => (p2::MORE, p2::TEXT, "world fuzz { include daylily:guest/http@0.2.0; import trace; }"),
        Wasi::P3 => (p3::MORE, p3::TEXT, "world fuzz { include daylily:guest/service@0.3.0; import trace; }"),
    };
    let mut module = String::from("(module\n(type $op (func (param i64) (result i64)))\n");
    for (number, op) in ops.iter().enumerate() {
        if let Some((of, name)) = op.import {
            let _ = writeln!(module, "(import \"{of}\" \"{name}\" (func $call{number} {}))", signature(*op));
        }
    }
    module += "(import \"daylily:fuzz/trace@0.2.0\" \"word\" (func $word (param i32) (result i64)))\n";
    module += "(import \"daylily:fuzz/trace@0.2.0\" \"note\" (func $record (param i32 i64)))\n";
    module += more;
    module += SKELETON;
    module += &data();
    let mut elements = String::from("(table funcref (elem $none");
    module += "(func $none (type $op) (i64.const 0))\n";
    for (number, op) in ops.iter().enumerate() {
        let _ = writeln!(module, "(func $op{number} (type $op) (param $w i64) (result i64)\n{})", body(number, *op));
        let _ = write!(elements, " $op{number}");
    }
    module += &elements;
    module += "))\n";
    module += text;
    module += ")";
    let wit = format!(
        "package daylily:fuzz@0.2.0; \
         interface trace {{ word: func(at: u32) -> u64; note: func(what: u32, value: u64); }} {world}"
    );
    residue_guest::encode_for(&module, wasi, Some(&wit))
}

/// The core types of a parameter letter, and the code for its arguments:
///
/// - `h` a handle, `s` a string, `b` bytes, `c` a status, `t` 0 to 2
/// - `i`, `j` a small number (32 and 64 bits)
/// - `d` a time, zero or an hour; `k` microseconds; `n` a length
/// - `l` a list of registers, `f` of fields, `v` of values
/// - `p` an address for results, possibly invalid; `q` a valid one
/// - `z`, `Z` zero (32 and 64 bits), `u` one
fn param(letter: char, at: usize) -> (&'static str, String) {
    let o = format!("(call $o (local.get $w) (i32.const {at}))");
    match letter {
        'h' => ("i32", format!("(call $reg (local.get $w) (i32.const {at}))")),
        's' => (
            "i32 i32",
            format!(
                "(i32.load (call $string (local.get $w) (i32.const {at})))
                 (i32.load offset=4 (call $string (local.get $w) (i32.const {at})))"
            ),
        ),
        'b' => ("i32 i32", format!("(i32.const 2560) (i32.wrap_i64 (call $length {o}))")),
        'c' => ("i32", format!("(i32.add (i32.shl {o} (i32.const 2)) (i32.and {o} (i32.const 3)))")),
        'i' => ("i32", o),
        't' => ("i32", format!("(i32.rem_u {o} (i32.const 3))")),
        'j' => ("i64", format!("(i64.extend_i32_u {o})")),
        // A timer of zero or of an hour is no race: it has expired at once, or never does.
        'd' => ("i64", format!("(i64.mul (i64.extend_i32_u (i32.and {o} (i32.const 1))) (i64.const 3600000000000))")),
        'k' => ("i64", format!("(i64.mul (i64.extend_i32_u {o}) (i64.const 1000))")),
        'n' => ("i64", format!("(call $length {o})")),
        'l' => ("i32 i32", format!("(call $reg-at (i32.and {o} (i32.const 7))) (i32.shr_u {o} (i32.const 5))")),
        'f' => ("i32 i32", format!("(i32.const 768) (i32.and {o} (i32.const 3))")),
        'v' => ("i32 i32", format!("(i32.const 832) (i32.and {o} (i32.const 3))")),
        'p' => ("i32", format!("(call $results {o})")),
        'q' => ("i32", "(call $results (i32.const 0))".to_owned()),
        'z' => ("i32", "(i32.const 0)".to_owned()),
        'u' => ("i32", "(i32.const 1)".to_owned()),
        'Z' => ("i64", "(i64.const 0)".to_owned()),
        other => unreachable!("no parameter is {other}"),
    }
}

/// Whether a letter takes an operand.
fn takes(letter: char) -> bool {
    !"qzuZ".contains(letter)
}

fn signature(op: Op) -> String {
    let params: Vec<_> = op.params.chars().map(|letter| param(letter, 0).0).collect();
    let result = match op.result {
        Gives::Nothing | Gives::Result => "",
        Gives::Number | Gives::Handle => "(result i32)",
        Gives::Ends => "(result i64)",
    };
    format!("(param {}) {result}", params.join(" "))
}

fn body(number: usize, op: Op) -> String {
    if op.import.is_none() {
        return op.code.to_owned();
    }
    let mut at = 0;
    let params: Vec<_> = op
        .params
        .chars()
        .map(|letter| {
            at += usize::from(takes(letter));
            param(letter, at).1
        })
        .collect();
    let race = if p2::RACES.contains(&op.name) { "(call $record (i32.const 0x400) (i64.const 0))" } else { "" };
    let call = format!("{race} (call $call{number} {})", params.join(" "));
    let done = match op.result {
        Gives::Nothing => format!("{call} (local.set $r (i64.const 0))"),
        Gives::Number => format!("(local.set $r (i64.extend_i32_u {call}))"),
        Gives::Handle => format!(
            "(local.set $r (i64.extend_i32_u {call})) (call $to-reg (local.get $w) (i32.wrap_i64 (local.get $r)))"
        ),
        Gives::Ends => format!("(local.set $r {call}) (call $ends (local.get $w) (local.get $r))"),
        Gives::Result => format!(
            "{call} (if (i32.eqz (i32.load8_u (i32.const 1152)))
               (then (call $to-reg (local.get $w) (i32.load (i32.const 1156)))))"
        ),
    };
    format!("(local $r i64) {done} {} (local.get $r)", op.code)
}

fn data() -> String {
    let mut text = String::new();
    let mut at = 0;
    let mut table = Vec::new();
    for string in STRINGS {
        let len = string.replace("\\ff", "x").replace("\\fe", "x").len() as u32;
        let _ = writeln!(text, "(data (i32.const {at}) \"{string}\")");
        table.push((at, len));
        at += len;
    }
    table.extend(ODD_STRINGS);
    for (number, (at, len)) in table.iter().enumerate() {
        let _ = writeln!(text, "(data (i32.const {}) \"{}\")", 512 + 8 * number, bytes(&[*at, *len]));
    }
    // Fields, the last of which has an invalid name; values, the last of which is long.
    let (name, value, odd, long) = (table[0], table[1], table[8], table[12]);
    let fields = [name.0, name.1, value.0, value.1, name.0, name.1, long.0, long.1, odd.0, odd.1, value.0, value.1];
    let _ = writeln!(text, "(data (i32.const 768) \"{}\")", bytes(&fields));
    let _ = writeln!(text, "(data (i32.const 832) \"{}\")", bytes(&[value.0, value.1, odd.0, odd.1, long.0, long.1]));
    let lengths =
        [4096, 0, 4097, 0, 65_536, 0, 0x20_0001, 0, 0, 1, 0xffff_ffff, 0xffff_ffff, 100_000, 0, 0x7fff_ffff, 0];
    let _ = writeln!(text, "(data (i32.const 896) \"{}\")", bytes(&lengths));
    let pattern: String = (0..256).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
    let _ = writeln!(text, "(data (i32.const 1280) \"{pattern}\")");
    let _ = writeln!(text, "(data (i32.const 2560) \"{}\")", pattern.repeat(4));
    text
}

/// Little-endian bytes, escaped for a data segment.
fn bytes(words: &[u32]) -> String {
    words.iter().flat_map(|word| word.to_le_bytes()).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    })
}
