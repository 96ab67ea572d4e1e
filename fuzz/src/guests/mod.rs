//! Guests whose program is the input. Each operation is a word: its first byte says which, the next four are operands,
//! and the sixth names the register of what it gives. Everything that an operation finds is recorded.
//!
//! A guest is WebAssembly's text format, made of a table of what may be imported: it is compiled once, and runs
//! thousands of programs a second.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use residue_guest::Wasi;

mod v2;
mod v3;

/// Bytes of an operation in an input.
pub(crate) const WORD_BYTES: usize = 6;

/// An operation of a guest.
#[derive(Clone, Copy)]
pub(crate) struct Op {
    /// What it is in a program that is written down.
    pub(crate) name: &'static str,
    /// Module and name of the function that it calls, if it calls just one.
    import: Option<(&'static str, &'static str)>,
    /// The parameters, one letter each; see [`param`].
    params: &'static str,
    result: Gives,
    /// What it does afterwards, or instead of a call.
    code: &'static str,
}

/// What comes of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    Nothing,
    /// A number, which is recorded.
    Number,
    /// A handle, which goes to a register, too.
    Handle,
    /// Two ends, each of which goes to a register.
    Ends,
    /// A result in memory; that of success is a handle, which goes to a register.
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

/// What every guest can do.
const COMMON: &[Op] = &[
    // A register of what is in the memory of results.
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

/// Where things are: strings from 0, their table at 512, registers at 1024, an event at 1088, results at 1152, buffers
/// at 1280, values of futures at 1536, what is known of handles at 2048, a long text at 2560, what is allocated from
/// 8192 on.
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
/// Strings that are no strings, or long: beyond the memory, as long as there is no memory, and 1,024 bytes.
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

;; An operand; a register; a string.
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
;; A length: small, or one of those at which something changes.
(func $length (param $o i32) (result i64)
  (if (i32.lt_u (local.get $o) (i32.const 248)) (then (return (i64.extend_i32_u (local.get $o)))))
  (i64.load (i32.add (i32.const 896) (i32.shl (i32.and (local.get $o) (i32.const 7)) (i32.const 3)))))
;; Where a result goes: memory that is zeroed, or where none may go.
(func $results (param $o i32) (result i32)
  (memory.fill (i32.const 1152) (i32.const 0) (i32.const 128))
  (if (i32.eq (local.get $o) (i32.const 255)) (then (return (i32.const 1153))))
  (if (i32.eq (local.get $o) (i32.const 254)) (then (return (i32.const 196604))))
  (i32.const 1152))
;; A digest of so much memory.
(func $digest (param $from i32) (param $to i32) (param $hash i64) (result i64)
  (block $done
    (loop $more
      (br_if $done (i32.ge_u (local.get $from) (local.get $to)))
      (local.set $hash (i64.mul (i64.xor (local.get $hash) (i64.load (local.get $from))) (i64.const 0x100000001b3)))
      (local.set $hash (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 29))))
      (local.set $from (i32.add (local.get $from) (i32.const 8)))
      (br $more)))
  (local.get $hash))

;; Runs the program until its end, or until it leaves: gives what it leaves with.
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
    ;; What was allocated is looked at, but not all of what is large.
    (local.set $end (global.get $free))
    (if (i32.gt_u (local.get $end) (i32.add (global.get $before) (i32.const 4096)))
      (then (local.set $end (i32.add (global.get $before) (i32.const 4096)))))
    (call $record (i32.const 0x300)
      (call $digest (i32.const 1152) (i32.const 2048) (call $digest (global.get $before) (local.get $end) (i64.const 14695981039346656037))))
    (br_if $more (i32.eq (global.get $leave) (i32.const -1))))
  (global.get $leave))
"#;

/// All operations of a guest, by their number from 1 on.
pub(crate) fn ops(wasi: Wasi) -> Vec<Op> {
    let own = match wasi {
        Wasi::V2 => v2::OPS,
        Wasi::V3 => v3::OPS,
    };
    COMMON.iter().chain(own).copied().collect()
}

/// The component.
pub(crate) fn component(wasi: Wasi) -> Result<Vec<u8>> {
    let ops = ops(wasi);
    ensure!(ops.len() < 256, "an operation is one byte");
    let (more, text, world) = match wasi {
        Wasi::V2 => (v2::MORE, v2::TEXT, "world fuzz { include daylily:guest/http@0.2.0; import trace; }"),
        Wasi::V3 => (v3::MORE, v3::TEXT, "world fuzz { include daylily:guest/service@0.3.0; import trace; }"),
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

/// The core parameters of a letter, and what is passed: a handle, a string, bytes, a status, a small number (32 and 64
/// bits), a time that is none or far away, or microseconds, a length, a list of registers, of fields and of values, a
/// place for results (of any alignment, or not), 0 and 1.
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
        // Whether a timer has run out is no race when it has at once, or never will.
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
    let race = if v2::RACES.contains(&op.name) { "(call $record (i32.const 0x400) (i64.const 0))" } else { "" };
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
    // Fields, of which the last has a name that is none; values, of which the last is one of a length.
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

/// Little-endian, as text.
fn bytes(words: &[u32]) -> String {
    words.iter().flat_map(|word| word.to_le_bytes()).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    })
}
