use wasmtime::component::{ComponentType, Resource};
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Method, Scheme};

use super::*;

/// A host that records the calls of its functions.
struct Noting {
    guest: Guest<Self>,
    notes: Vec<String>,
}

impl Host for Noting {
    fn guest(&mut self) -> &mut Guest<Self> {
        &mut self.guest
    }

    fn charge(&mut self, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

struct File;
struct Socket;

impl HostResource for File {
    const INTERFACE: &'static str = "test";
    const NAME: &'static str = "file";
}

impl HostResource for Socket {
    const INTERFACE: &'static str = "test";
    const NAME: &'static str = "socket";
}

type Cases = (Vec<Option<u8>>, Vec<Result<(), u8>>, Vec<Method>);

fn functions() -> Vec<Function<Noting>> {
    vec![
        Function::new("test", "note", |host: &mut Noting, (text,): (String,)| {
            host.notes.push(text);
            Ok(())
        }),
        Function::new("test", "note-all", |host: &mut Noting, (texts,): (Vec<(u8, String)>,)| {
            host.notes.push(format!("{texts:?}"));
            Ok(())
        }),
        Function::new("test", "note-code", |host: &mut Noting, (code,): (Result<u16, ErrorCode>,)| {
            host.notes.push(format!("{code:?}"));
            Ok(())
        }),
        Function::new("test", "note-maybe", |host: &mut Noting, (maybe, method): (Option<u64>, Method)| {
            host.notes.push(format!("{maybe:?} {method:?}"));
            Ok(())
        }),
        Function::new("test", "note-cases", |host: &mut Noting, (some, ok, methods): Cases| {
            host.notes.push(format!("{some:?} {ok:?} {methods:?}"));
            Ok(())
        }),
        Function::new("test", "pairs", |_: &mut Noting, ()| {
            Ok(vec![("a".to_owned(), b"one".to_vec()), (String::new(), Vec::new()), ("ccc".to_owned(), b"3".to_vec())])
        }),
        Function::new("test", "code", |_: &mut Noting, ()| {
            Ok(Result::<u64, ErrorCode>::Err(ErrorCode::InternalError(Some("out of order".to_owned()))))
        }),
        Function::new("test", "open", |_: &mut Noting, ()| Ok(Resource::<File>::new_own(70))),
        Function::new("test", "connect", |_: &mut Noting, ()| Ok(Resource::<Socket>::new_own(80))),
        Function::new("test", "use", |host: &mut Noting, (file,): (Borrow<File>,)| {
            host.notes.push(format!("use {}", file.0.rep()));
            Ok(true)
        }),
        Function::new_drop(|host: &mut Noting, file: Resource<File>| {
            host.notes.push(format!("drop {}", file.rep()));
            Ok(())
        }),
    ]
}

/// The common part of all modules under test: imports of all functions, memory, and a bump allocator.
const MODULE: &str = r#"
  (import "test@0.2" "note" (func $note (param i32 i32)))
  (import "test@0.2" "note-all" (func $note-all (param i32 i32)))
  (import "test@0.2" "note-code" (func $note-code (param i32 i32 i32 i64 i32 i32 i32 i32)))
  (import "test@0.2" "note-maybe" (func $note-maybe (param i32 i64 i32 i32 i32)))
  (import "test@0.2" "note-cases" (func $note-cases (param i32 i32 i32 i32 i32 i32)))
  (import "test@0.2" "pairs" (func $pairs (param i32)))
  (import "test@0.2" "code" (func $code (param i32)))
  (import "test@0.2" "open" (func $open (result i32)))
  (import "test@0.2" "connect" (func $connect (result i32)))
  (import "test@0.2" "use" (func $use (param i32) (result i32)))
  (import "test@0.2" "[resource-drop]file" (func $drop (param i32)))
  (import "daylily" "next-allocation" (func $next (param i32) (result i64)))
  (memory (export "memory") 1)
  ;; Cases with values, and one that there is not: options, results, and methods of 12 bytes.
  (data (i32.const 80) "\00\09\01\09\02\09")
  (data (i32.const 96) "\02\00\00\00........" "\09\00\00\00\10\00\00\00\04\00\00\00" "\0a")
  (global $free (mut i32) (i32.const 1024))
  (data (i32.const 16) "hello\ff")
  ;; Two of (u8, string), and pointers to what is not there.
  (data (i32.const 32) "\07\00\00\00\10\00\00\00\05\00\00\00" "\08\00\00\00\12\00\00\00\02\00\00\00")
  (data (i32.const 64) "\07\00\00\00\ff\ff\00\00\02\00\00\00")
  (func $realloc (param i32 i32 i32 i32) (result i32)
    (global.set $free (i32.and (i32.add (global.get $free) (i32.sub (local.get 2) (i32.const 1)))
                               (i32.sub (i32.const 0) (local.get 2))))
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (local.get 3))))
  (func $settle (local $pointer i32) (local $wanted i64)
    (loop $again
      (local.set $wanted (call $next (local.get $pointer)))
      (if (i64.ne (local.get $wanted) (i64.const -1)) (then
        (local.set $pointer (call $realloc (i32.const 0) (i32.const 0)
          (i32.wrap_i64 (i64.shr_u (local.get $wanted) (i64.const 32))) (i32.wrap_i64 (local.get $wanted))))
        (br $again)))))
"#;

fn linker() -> (Engine, Linker<Noting>) {
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    for function in functions() {
        function.define(&mut linker).expect("a function");
    }
    linker.func_wrap(NEXT_ALLOCATION.0, NEXT_ALLOCATION.1, next_allocation::<Noting>).expect("a function");
    (engine, linker)
}

fn module(engine: &Engine, content: &str) -> Module {
    let bytes = wat::parse_str(format!("(module {MODULE} {content})")).expect("WAT");
    Module::new(engine, bytes).expect("a module")
}

fn store(engine: &Engine) -> Store<Noting> {
    Store::new(engine, Noting { guest: Guest::new(1000), notes: Vec::new() })
}

/// Runs `code` in a module: what the module reported and its memory, or the message of its trap.
fn run(code: &str) -> Result<(Vec<String>, Vec<u8>), String> {
    let (engine, linker) = linker();
    let module = module(&engine, &format!("(func (export \"run\") {code})"));
    let mut store = store(&engine);
    let instance = linker.instantiate(&mut store, &module).expect("an instance");
    let memory = instance.get_memory(&mut store, "memory").expect("a memory");
    store.data_mut().guest.memory = Some(memory);
    let run = instance.get_typed_func::<(), ()>(&mut store, "run").expect("a function");
    run.call(&mut store, ()).map_err(|error| error.root_cause().to_string())?;
    let bytes = memory.data(&store).to_vec();
    Ok((store.into_data().notes, bytes))
}

fn notes(code: &str) -> Vec<String> {
    run(code).expect("no trap").0
}

#[test]
fn sizes_are_those_that_wasmtime_has_for_the_same_types() {
    fn same<T: Wit + ComponentType>() {
        let name = std::any::type_name::<T>();
        assert_eq!((T::SIZE, T::ALIGN), (T::SIZE32, T::ALIGN32 as usize), "{name}");
        let mut flat = Vec::new();
        T::flatten(&mut flat);
        assert_eq!(flat.len(), T::FLAT, "{name}");
        assert_eq!(T::ABI.flat_count.map(usize::from), Some(T::FLAT), "{name}");
    }
    same::<u8>();
    same::<u64>();
    same::<bool>();
    same::<String>();
    same::<Vec<(u8, String)>>();
    same::<(u8, u64)>();
    same::<(u64, u8)>();
    same::<Method>();
    same::<Scheme>();
    same::<ErrorCode>();
    same::<Option<u8>>();
    same::<Option<u64>>();
    same::<Option<Scheme>>();
    same::<Result<(), ()>>();
    same::<Result<u8, ErrorCode>>();
    same::<Result<u64, ()>>();
    same::<Option<Result<Result<u32, ErrorCode>, ()>>>();
}

#[test]
fn values_come_from_the_guest_as_they_are() {
    assert_eq!(notes("(call $note (i32.const 16) (i32.const 5))"), ["hello"]);
    assert_eq!(notes("(call $note-all (i32.const 32) (i32.const 2))"), [r#"[(7, "hello"), (8, "ll")]"#]);
    let rest = "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)";
    // The bits of an i32 beyond those of the type are ignored.
    let ok = format!("(call $note-code (i32.const 0) (i32.const 0x10102) (i32.const 0) (i64.const 0) {rest})");
    assert_eq!(notes(&ok), ["Ok(258)"]);
    let size = format!("(call $note-code (i32.const 1) (i32.const 17) (i32.const 1) (i64.const -2) {rest})");
    assert_eq!(notes(&size), ["Err(ErrorCode::HttpRequestBodySize(Some(18446744073709551614)))"]);
    // A `u32` payload where another case has a `u64`: the lower 32 bits.
    let section = format!("(call $note-code (i32.const 1) (i32.const 21) (i32.const 1) (i64.const -2) {rest})");
    assert_eq!(notes(&section), ["Err(ErrorCode::HttpRequestHeaderSectionSize(Some(4294967294)))"]);
    let maybe = "(call $note-maybe (i32.const 1) (i64.const -2) (i32.const 9) (i32.const 16) (i32.const 4))";
    assert_eq!(notes(maybe), [r#"Some(18446744073709551614) Method::Other("hell")"#]);
    let none = "(call $note-maybe (i32.const 0) (i64.const 7) (i32.const 2) (i32.const -1) (i32.const -1))";
    assert_eq!(notes(none), ["None Method::Post"]);
}

#[test]
fn cases_are_the_same_in_memory() {
    let count = |options: u32, results: u32, methods: u32| {
        format!(
            "(call $note-cases (i32.const 80) (i32.const {options}) (i32.const 80) (i32.const {results})
               (i32.const 96) (i32.const {methods}))"
        )
    };
    assert_eq!(notes(&count(2, 2, 2)), [r#"[None, Some(9)] [Ok(()), Err(9)] [Method::Post, Method::Other("hell")]"#]);
    for (code, trap) in [
        (count(3, 2, 2), "invalid option discriminant"),
        (count(2, 3, 2), "invalid expected discriminant"),
        (count(2, 2, 3), "unexpected discriminant: 10"),
    ] {
        assert_eq!(run(&code).unwrap_err(), trap, "{code}");
    }
}

#[test]
fn what_a_call_copies_is_added_up() {
    let strings = |length: u32| {
        let store = |at: u32, value: u32| format!("(i32.store (i32.const {at}) (i32.const {value}))");
        let set = [store(36, 2048), store(40, length), store(48, 2048), store(52, length)].concat();
        format!("{set} (call $note-all (i32.const 32) (i32.const 2))")
    };
    assert!(run(&strings(460)).is_ok());
    assert!(run(&strings(490)).unwrap_err().starts_with("too much data"));
}

#[test]
fn values_come_to_the_guest_as_they_are() {
    let (_, memory) = run("(call $pairs (i32.const 256)) (call $settle)").expect("no trap");
    let number = |at: usize| u32::from_le_bytes(*memory[at..].first_chunk().expect("in memory")) as usize;
    let bytes = |at: usize| &memory[number(at)..][..number(at + 4)];
    let (start, count) = (number(256), number(260));
    assert_eq!((start % 4, count), (0, 3));
    let pairs: Vec<_> = (0..3).map(|index| (bytes(start + index * 16), bytes(start + index * 16 + 8))).collect();
    assert_eq!(pairs, [(&b"a"[..], &b"one"[..]), (b"", b""), (b"ccc", b"3")]);

    let (_, memory) = run("(call $code (i32.const 256)) (call $settle)").expect("no trap");
    let number = |at: usize| u32::from_le_bytes(*memory[at..].first_chunk().expect("in memory")) as usize;
    // The discriminants: result: error; error-code: the last case; option: some.
    assert_eq!((memory[256], memory[264], memory[272]), (1, 38, 1));
    assert_eq!(&memory[number(276)..][..number(280)], b"out of order");
}

#[test]
fn handles_are_of_one_type_and_one_use() {
    let used = notes(
        "(local $f i32) (local.set $f (call $open)) (drop (call $use (local.get $f))) (call $drop (local.get $f))",
    );
    assert_eq!(used, ["use 70", "drop 70"]);
    let again = "(call $drop (call $open)) (call $drop (call $open)) (drop (call $use (i32.const 1)))";
    assert_eq!(run(again).unwrap_err(), "unknown handle index 1");
    for (code, trap) in [
        ("(drop (call $use (i32.const 0)))", "unknown handle index 0"),
        ("(drop (call $use (i32.const -1)))", "unknown handle index 4294967295"),
        ("(drop (call $use (call $connect)))", "handle index 1 is not of a file"),
        ("(call $drop (call $connect))", "handle index 1 is not of a file"),
        ("(call $drop (call $open)) (call $drop (i32.const 1))", "unknown handle index 1"),
    ] {
        assert_eq!(run(code).unwrap_err(), trap, "{code}");
    }
}

#[test]
fn what_is_wrong_traps() {
    for (code, trap) in [
        ("(call $note (i32.const 65530) (i32.const 7))", "list pointer/length out of bounds of memory"),
        ("(call $note (i32.const -1) (i32.const -1))", "list pointer/length out of bounds of memory"),
        ("(call $note (i32.const 16) (i32.const 6))", "invalid utf-8 sequence of 1 bytes from index 5"),
        (
            "(call $note (i32.const 0) (i32.const 1001))",
            "too much data is being copied between the host and the guest in one call",
        ),
        (
            "(call $note-all (i32.const 32) (i32.const 32))",
            "too much data is being copied between the host and the guest in one call",
        ),
        ("(call $note-all (i32.const 33) (i32.const 1))", "list pointer is not aligned"),
        ("(call $note-all (i32.const 64) (i32.const 1))", "list pointer/length out of bounds of memory"),
        ("(call $note-all (i32.const 0) (i32.const 0x20000000))", "list pointer/length out of bounds of memory"),
        (
            "(call $note-maybe (i32.const 2) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
            "invalid option discriminant",
        ),
        (
            "(call $note-maybe (i32.const 0) (i64.const 0) (i32.const 10) (i32.const 0) (i32.const 0))",
            "unexpected discriminant: 10",
        ),
        ("(call $pairs (i32.const 257))", "pointer not aligned"),
        ("(call $pairs (i32.const 65532)) (call $settle)", "pointer out of bounds of memory"),
        (
            "(call $pairs (i32.const 256)) (drop (call $open))",
            "cannot leave component instance: it is asked to allocate memory",
        ),
        (
            "(call $pairs (i32.const 256)) (drop (call $next (i32.const 0))) (drop (call $next (i32.const 2)))",
            "realloc return: result not aligned",
        ),
        (
            "(call $pairs (i32.const 256)) (drop (call $next (i32.const 0))) (drop (call $next (i32.const 65520)))",
            "realloc return: beyond end of memory",
        ),
    ] {
        assert_eq!(run(code).unwrap_err(), trap, "{code}");
    }
}

#[test]
fn before_there_is_an_instance_there_is_no_memory() {
    let (engine, linker) = linker();
    for (code, traps) in [("(call $note (i32.const 16) (i32.const 5))", true), ("(drop (call $open))", false)] {
        let module = module(&engine, &format!("(func $start {code}) (start $start)"));
        let instance = linker.instantiate(store(&engine), &module);
        assert_eq!(instance.is_err(), traps, "{code}");
    }
}
