//! P3 components as wit-component makes them are linked directly.

use wasmparser::Validator;
use wasmtime::{Engine, Module};

use crate::component_link::direct::main_module;
use crate::wasi::link::functions;

/// A guest that uses some features specific to P3.
const GUEST: &str = r#"(module
  (import "wasi:http/types@0.3.0" "[method]request.get-path-with-query" (func $path (param i32 i32)))
  (import "wasi:http/types@0.3.0" "[static]response.new" (func $respond (param i32 i32 i32 i32 i32)))
  (import "wasi:http/types@0.3.0" "[stream-new-0][static]response.new" (func $stream (result i64)))
  (import "wasi:http/types@0.3.0" "[async-lower][stream-write-0][static]response.new"
    (func $write (param i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.3.0" "[async-lower][future-read-1][static]response.new"
    (func $read (param i32 i32) (result i32)))
  (import "wasi:clocks/monotonic-clock@0.3.0" "[async-lower]wait-for" (func $wait-for (param i64) (result i32)))
  (import "wasi:cli/environment@0.3.0" "get-initial-cwd" (func $cwd (param i32)))
  (import "$root" "[waitable-set-wait]" (func $wait (param i32 i32) (result i32)))
  (import "[export]wasi:http/handler@0.3.0" "[task-return]handle"
    (func $return (param i32 i32 i32 i64 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (memory (export "other") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 128)
  (func (export "[async-lift]wasi:http/handler@0.3.0#handle") (param i32) (result i32) i32.const 0)
  (func (export "[callback][async-lift]wasi:http/handler@0.3.0#handle") (param i32 i32 i32) (result i32)
    i32.const 0))"#;

fn text() -> String {
    let component = residue_guest::encode(GUEST, residue_guest::Wasi::P3).expect("a component");
    wasmprinter::print_bytes(component).expect("its text")
}

#[test]
fn its_functions_are_ours() {
    let module = main_module(&wat::parse_str(text()).expect("a component"), &functions()).expect("its main module");
    let module = Module::new(&Engine::default(), module).expect("a valid module");
    let imports: Vec<_> = module.imports().map(|import| format!("{} {}", import.module(), import.name())).collect();
    let expected = [
        "wasi:http/types@0.3 [method]request.get-path-with-query",
        "wasi:http/types@0.3 [static]response.new",
        "canon New(Stream) u8",
        "canon Write(Stream) u8",
        "canon Read(Future) trailers",
        "wasi:clocks/monotonic-clock@0.3 [async-lower]wait-for",
        "wasi:cli/environment@0.3 get-initial-cwd",
        "canon WaitableSetWait",
        "canon TaskReturn",
        "daylily next-allocation",
    ];
    assert_eq!(imports, expected);
    for export in ["daylily:handle", "daylily:callback", "daylily:realloc"] {
        assert!(module.get_export(export).is_some(), "{export}");
    }
}

#[test]
fn what_is_not_known_is_linked_as_a_component() {
    let text = text();
    let memory = r#"(alias core export $main "memory" (core memory $memory (;0;)))"#;
    let memories = format!(r#"{memory} (alias core export $main "other" (core memory $other))"#);
    let before_export = "(export $wasi:http/handler@0.3.0";
    let of_0_2 = r#"(import "wasi:http/types@0.2.0" (instance (export "fields" (type (sub resource)))))"#;
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("a version that is not released", &[("@0.3.0", "@0.3.0-rc.1")]),
        ("a later release", &[("@0.3.0", "@0.4.0")]),
        ("a type that we do not mean", &[("\"loop-detected\"", "\"loop-found\"")]),
        (
            "a result that is in another memory",
            &[
                (memory, &memories),
                ("(memory $memory) string-encoding=utf8))\n", "(memory $other) string-encoding=utf8))\n"),
            ],
        ),
        (
            "events in another memory",
            &[(memory, &memories), ("waitable-set.wait (memory $memory)", "waitable-set.wait (memory $other)")],
        ),
        (
            "a stream in another memory",
            &[(memory, &memories), ("stream.write 8 (memory $memory)", "stream.write 8 (memory $other)")],
        ),
        ("another encoding of what is written", &[("string-encoding=utf8 async)", "string-encoding=utf16 async)")]),
        (
            "another encoding of the result",
            &[("string-encoding=utf8 async (callback", "string-encoding=utf16 async (callback")],
        ),
        (
            "a handler whose result is in another memory",
            &[
                (memory, &memories),
                (
                    "(memory $memory) string-encoding=utf8 async (callback",
                    "(memory $other) string-encoding=utf8 async (callback",
                ),
            ],
        ),
        ("resources of two releases", &[(before_export, &format!("{of_0_2} {before_export}"))]),
        (
            "a module more",
            &[(before_export, &format!("(core module $m) (core instance (instantiate $m)) {before_export}"))],
        ),
    ];
    for (what, replacements) in cases {
        let changed = replacements.iter().fold(text.clone(), |text, (replaced, by)| {
            assert!(text.contains(replaced), "{what}: there is no {replaced}");
            text.replace(replaced, by)
        });
        let component = wat::parse_str(changed).unwrap_or_else(|error| panic!("{what}: {error}"));
        Validator::new().validate_all(&component).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(main_module(&component, &functions()).is_none(), "{what}");
    }
}

/// Examining a malformed file never panics.
#[test]
fn damage_anywhere_is_survived() {
    // A prime, so that offsets of all kinds occur.
    const STRIDE: usize = 37;
    let component = residue_guest::encode(GUEST, residue_guest::Wasi::P3).expect("a component");
    let functions = functions();
    for place in (0..component.len()).step_by(STRIDE) {
        for damage in [0x01, 0x80, 0xff] {
            let mut damaged = component.clone();
            damaged[place] ^= damage;
            let _ = main_module(&damaged, &functions);
            let _ = main_module(&damaged[..place], &functions);
        }
    }
}
