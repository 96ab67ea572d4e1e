use wasmparser::Validator;
use wasmtime::{Engine, Module};

use crate::component_abi::NEXT_ALLOCATION;
use crate::component_link::direct::main_module;
use crate::component_link::relink::relink;
use crate::wasi::link::functions;

/// The component that wit-component makes of a guest that reads its request's path and a header field.
const ORDINARY: &str = r#"
(component
  (type $http (instance
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type $request (sub resource)))
    (export "response-outparam" (type (sub resource)))
    (type $own-fields (own $fields))
    (type $of-fields (borrow $fields))
    (type $of-request (borrow $request))
    (export "[constructor]fields" (func (result $own-fields)))
    (export "[method]fields.has" (func (param "self" $of-fields) (param "name" string) (result bool)))
    (type $path (option string))
    (export "[method]incoming-request.path-with-query" (func (param "self" $of-request) (result $path)))
    ;; more of http
  ))
  (import "wasi:http/types@0.2.3" (instance $http (type $http)))
  (alias export $http "fields" (type $fields))
  (alias export $http "incoming-request" (type $request))
  (alias export $http "response-outparam" (type $out))
  ;; more imports
  (core module $main
    (type $reads (func (param i32 i32)))
    (import "wasi:http/types@0.2.3" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.3" "[method]fields.has" (func $has (param i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.3" "[method]incoming-request.path-with-query" (func $path (type $reads)))
    (import "wasi:http/types@0.2.3" "[resource-drop]fields" (func $drop (param i32)))
    (memory (export "memory") 1)
    (func (export "wasi:http/incoming-handler@0.2.3#handle") (param i32 i32)
      local.get 0 i32.const 64 call $path
      call $fields call $drop)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 128)
    (func (export "nothing"))
    (table (export "other") 2 2 funcref)
    ;; main has
  )
  (core module $shim
    (type (func (param i32 i32 i32) (result i32)))
    (type (func (param i32 i32)))
    (table (export "$imports") 2 2 funcref)
    (func (export "0") (type 0) local.get 0 local.get 1 local.get 2 i32.const 0 call_indirect (type 0))
    (func (export "1") (type 1) local.get 0 local.get 1 i32.const 1 call_indirect (type 1))
  )
  (core module $fixup
    (import "" "0" (func (param i32 i32 i32) (result i32)))
    (import "" "1" (func (param i32 i32)))
    (import "" "$imports" (table 2 2 funcref))
    (elem (i32.const 0) func 0 1)
  )
  (core instance $shim (instantiate $shim))
  (alias core export $shim "0" (core func $late-has))
  (alias core export $shim "1" (core func $late-path))
  (alias export $http "[constructor]fields" (func $new-fields))
  (core func $fields (canon lower (func $new-fields)))
  (core func $drop (canon resource.drop $fields))
  (core instance $given
    (export "[constructor]fields" (func $fields))
    (export "[method]fields.has" (func $late-has))
    (export "[method]incoming-request.path-with-query" (func $late-path))
    (export "[resource-drop]fields" (func $drop)))
  (core instance $main (instantiate $main (with "wasi:http/types@0.2.3" (instance $given))))
  (alias core export $main "memory" (core memory $memory))
  (alias core export $main "cabi_realloc" (core func $realloc))
  (alias core export $shim "$imports" (core table $table))
  (alias export $http "[method]fields.has" (func $fields-has))
  (core func $has (canon lower (func $fields-has) (memory $memory) string-encoding=utf8))
  (alias export $http "[method]incoming-request.path-with-query" (func $request-path))
  (core func $path (canon lower (func $request-path) (memory $memory) (realloc $realloc) string-encoding=utf8))
  (core instance $fill (export "0" (func $has)) (export "1" (func $path)) (export "$imports" (table $table)))
  (core instance (instantiate $fixup (with "" (instance $fill))))
  (type $own-request (own $request))
  (type $own-out (own $out))
  (type $handle (func (param "request" $own-request) (param "response-out" $own-out)))
  (alias core export $main "wasi:http/incoming-handler@0.2.3#handle" (core func $handle))
  (func $handle (type $handle) (canon lift (core func $handle)))
  ;; after
  (component $passes-on
    (import "import-type-incoming-request" (type $request (sub resource)))
    (import "import-type-response-outparam" (type $out (sub resource)))
    (type $own-request (own $request))
    (type $own-out (own $out))
    (type $handle (func (param "request" $own-request) (param "response-out" $own-out)))
    (import "import-func-handle" (func $handle (type $handle)))
    (export $request-too "incoming-request" (type $request))
    (export $out-too "response-outparam" (type $out))
    (type $own-request-too (own $request-too))
    (type $own-out-too (own $out-too))
    (type $handle-too (func (param "request" $own-request-too) (param "response-out" $own-out-too)))
    ;; passes on
    (export "handle" (func $handle) (func (type $handle-too)))
  )
  (instance $exported (instantiate $passes-on
    (with "import-func-handle" (func $handle))
    (with "import-type-incoming-request" (type $request))
    (with "import-type-response-outparam" (type $out))))
  (export "wasi:http/incoming-handler@0.2.3" (instance $exported))
)"#;

fn with(replaced: &str, by: &str) -> Vec<u8> {
    assert!(ORDINARY.contains(replaced), "{replaced}");
    wat::parse_str(ORDINARY.replace(replaced, by)).unwrap_or_else(|error| panic!("{replaced} by {by}: {error}"))
}

/// The imports of the rewritten main module. None if the component is not linked directly.
fn imports(component: &[u8]) -> Option<Vec<String>> {
    let module = Module::new(&Engine::default(), main_module(component, &functions())?).expect("a valid module");
    Some(module.imports().map(|import| format!("{} {}", import.module(), import.name())).collect())
}

#[test]
fn ordinary_guests_are_linked_directly() {
    let expected = ["[constructor]fields", "[method]fields.has", "[method]incoming-request.path-with-query"];
    let expected = expected.into_iter().chain(["[resource-drop]fields"]);
    let mut expected: Vec<_> = expected.map(|name| format!("wasi:http/types@0.2 {name}")).collect();
    expected.push(format!("{} {}", NEXT_ALLOCATION.0, NEXT_ALLOCATION.1));
    assert_eq!(imports(&with("", "")), Some(expected));
    for component in [
        include_bytes!(concat!(env!("OUT_DIR"), "/hello.wasm")).to_vec(),
        residue_guest::component(residue_guest::Wasi::P2).expect("a component"),
        residue_guest::component(residue_guest::Wasi::P3).expect("a component"),
    ] {
        assert!(imports(&component).is_some());
    }
}

#[test]
fn what_does_not_matter_may_be_there() {
    let exported = r#"(export "again" (func $handle))"#;
    let imported =
        r#"(import "wasi:cli/environment@0.2.0" (instance (export "get-arguments" (func (result (list string))))))"#;
    let module = r#"(core module $unused) (export "unused" (core module $unused))"#;
    let other = r#"(type $n u8) (export "number" (type (eq $n)))"#;
    let version = [r#"(with "wasi:http/types@0.2.3""#, r#"(with "wasi:http/types@0.2.0""#];
    let of_main = [r#"(import "wasi:http/types@0.2.3" "["#, r#"(import "wasi:http/types@0.2.0" "["#];
    let named = [r#""[constructor]fields" (func $fields"#, r#""whatever" (func $fields"#];
    let function = [r#"(func (export "nothing"))"#, r#"(func (export "wasi:http/incoming-handler@0.2.0#handle"))"#];
    for (replaced, by) in [
        (";; after", exported),
        (";; more imports", imported),
        (";; more imports", module),
        (";; more of http", other),
        (named[0], named[1]),
        (function[0], function[1]),
    ] {
        assert!(imports(&with(replaced, by)).is_some(), "{by}");
    }
    let text = ORDINARY.replace(version[0], version[1]).replace(of_main[0], of_main[1]);
    assert!(imports(&wat::parse_str(text).expect("a component")).is_some(), "a main module of another version");
}

/// A nested component with a core module that traps when it is instantiated.
const NESTED: &str = r#"(component $nested
  (core module $traps (func $trap unreachable) (start $trap))
  (core instance (instantiate $traps)))
(instance (instantiate $nested))"#;

#[test]
fn what_is_not_known_is_linked_as_a_component() {
    for (what, replaced, by) in [
        ("a type that we do not mean", "(result bool)", "(result u8)"),
        (
            "a resource of another interface",
            r#"(type $http (instance
    (export "fields" (type $fields (sub resource)))"#,
            r#"(import "wasi:http/tapes@0.2.3" (instance $tapes (export "fields" (type (sub resource)))))
               (alias export $tapes "fields" (type $others))
               (type $http (instance
                 (alias outer 1 $others (type $others))
                 (export "fields" (type $fields (eq $others)))"#,
        ),
        ("a result in an option's place", "(option string)", "(result string)"),
        ("a function that we do not have", "[method]fields.has", "[method]fields.had"),
        ("an interface that we do not have", "wasi:http/types@0.2.3", "wasi:http/tapes@0.2.3"),
        ("another version", "wasi:http/types@0.2.3", "wasi:http/types@0.3.0"),
        ("another encoding", "(realloc $realloc) string-encoding=utf8", "(realloc $realloc) string-encoding=utf16"),
        ("a function of another type that is not used", ";; more of http", r#"(export "http-error-code" (func))"#),
        ("a resource that we do not have", ";; more of http", r#"(export "body" (type (sub resource)))"#),
        ("an interface in two versions", ";; more imports", r#"(import "wasi:http/types@0.2.0" (instance))"#),
        ("a version that is not released", "@0.2.3", "@0.2.3-rc.1"),
        (
            "an export with one of our names",
            r#"(func (export "nothing"))"#,
            r#"(func (export "nothing")) (func (export "daylily:handle") (param i32 i32))"#,
        ),
        ("a component that does something", ";; after", NESTED),
        (
            "another table that is filled",
            r#"(alias core export $shim "$imports" (core table $table))"#,
            r#"(alias core export $main "other" (core table $table))"#,
        ),
        ("a table that is too small", "2 2 funcref", "1 2 funcref"),
        ("a module more", ";; after", "(core module $m) (core instance (instantiate $m))"),
        (
            "a second main module",
            ";; after",
            r#"(core instance (instantiate $main (with "wasi:http/types@0.2.3" (instance $given))))"#,
        ),
        ("a shim that does more", "local.get 0 local.get 1 i32.const 1", "nop local.get 0 local.get 1 i32.const 1"),
        ("a table that is not filled from its beginning", "(elem (i32.const 0)", "(elem (i32.const 1)"),
        (
            "a fixup that does more",
            "(elem (i32.const 0) func 0 1)",
            "(elem (i32.const 0) func 0 1) (func $start) (start $start)",
        ),
        ("an exporting component that does more", ";; passes on", "(core module)"),
        (
            "a function that is cleaned up after",
            "(canon lift (core func $handle))",
            r#"(canon lift (core func $handle) (post-return (core func $main "nothing")))"#,
        ),
        (
            "a handler with another encoding",
            "(canon lift (core func $handle))",
            "(canon lift (core func $handle) string-encoding=utf16)",
        ),
        ("a main module that does something when it is instantiated", ";; main has", "(func $start) (start $start)"),
        ("an import that is no interface", ";; more imports", r#"(import "other" (func))"#),
        ("debugging information", ";; main has", r#"(@custom ".debug_info" "")"#),
        ("another memory's name", "\"memory\"", "\"mem\""),
    ] {
        let component = with(replaced, by);
        Validator::new().validate_all(&component).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(main_module(&component, &functions()).is_none(), "{what}");
    }
}

/// A P2 handler must not wait for a P3 function. wasmtime reports this when it is called.
#[test]
fn an_asynchronous_function_is_not_for_a_synchronous_handler() {
    let fields = r#"(core func $fields (canon lower (func $new-fields)))"#;
    let given = r#"(with "wasi:http/types@0.2.3" (instance $given))"#;
    let drop = r#"(import "wasi:http/types@0.2.3" "[resource-drop]fields""#;
    let clock = |name: &str, ty: &str| {
        let import =
            format!(r#"(import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock (export "{name}" {ty})))"#);
        let lowered = format!(
            r#"(alias export $clock "{name}" (func $clock-function)) (core func $lowered (canon lower (func $clock-function)))
            (core instance $of-clock (export "it" (func $lowered)))"#
        );
        let core = if name == "now" { "(result i64)" } else { "(param i64)" };
        let text = ORDINARY
            .replace(";; more imports", &import)
            .replace(fields, &format!("{fields} {lowered}"))
            .replace(given, &format!(r#"{given} (with "clock" (instance $of-clock))"#))
            .replace(drop, &format!(r#"(import "clock" "it" (func {core})) {drop}"#));
        wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert!(imports(&clock("now", "(func (result u64))")).is_some());
    assert!(imports(&clock("wait-for", r#"(func async (param "how-long" u64))"#)).is_none());
}

/// A rewritten module has more functions and types, and, in a component without its shim, more tables. An invalid
/// module must not become valid because it refers to one of those.
#[test]
fn what_is_not_valid_stays_so() {
    const MAIN: &str = "\n    ;; main has\n";
    for content in [
        "(func call 8)",
        "(func (param i32) local.get 0 call_indirect (type 6))",
        "(func i32.const 0 call_indirect 1 (type 0))",
    ] {
        let component = with(MAIN, &format!("\n {content}\n"));
        assert!(Validator::new().validate_all(&component).is_err(), "{content}");
        assert!(main_module(&component, &functions()).is_none(), "{content}");
        assert!(relink(&component).is_none(), "{content}");
    }
}

#[test]
fn what_is_broken_is_left_alone() {
    assert!(main_module(b"\0asm\x0d\0\x01\0 and then nothing good", &functions()).is_none());
    assert!(main_module(&wat::parse_str("(component)").expect("a component"), &functions()).is_none());
    // Without its shim, but still with its fixups module.
    let relinked = relink(&with("", "")).expect("its shim is known");
    assert!(main_module(&relinked, &functions()).is_none());
}

/// Examining a malformed file never panics.
#[test]
fn damage_anywhere_is_survived() {
    // A prime, so that offsets of all kinds occur.
    const STRIDE: usize = 61;
    let component = include_bytes!(concat!(env!("OUT_DIR"), "/hello.wasm"));
    let functions = functions();
    for place in (0..component.len()).step_by(STRIDE) {
        for damage in [0x01, 0x80, 0xff] {
            let mut damaged = component.to_vec();
            damaged[place] ^= damage;
            let _ = main_module(&damaged, &functions);
            let _ = main_module(&damaged[..place], &functions);
        }
    }
}
