use wasm_encoder::RawSection;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Module, Store};

use super::{MIN_DATA_BYTES, MIN_PART_BYTES, Parts, import_name, parts};
use crate::component_link::payloads::top_level;

/// A component with a snapshot, in the form of those in JavaScript: `ENGINE` has the code and the data, `tail` reads
/// its memory. `run` adds what both find there.
const SNAPSHOT: &str = r#"
(component
  (core module $small (func (export "one") (result i32) i32.const 1))
  (core module $engine
    (type $number (func (result i32)))
    (import "small" "one" (func $one (type $number)))
    (table (export "table") 3 3 funcref)
    (memory (export "memory") 17 40)
    (global $sum (export "sum") (mut i32) (i32.const 40))
    (elem (i32.const 0) func $one $long)
    (func $long (export "long") (result i32) CODE i32.const 8 i32.load8_u)
    (func (export "run") (result i32)
      i32.const 1 call_indirect (type $number) global.get $sum i32.add i32.const 0 call_indirect (type $number) i32.add
      memory.size i32.add)
    (data (i32.const 8) "DATA")
    (data (i32.const 1048000) "end")
    ;; engine
  )
  (core module $tail
    (import "engine" "memory" (memory 0))
    (import "engine" "sum" (global (mut i32)))
    (import "engine" "long" (func $long (result i32)))
    (func (export "tail") (result i32) call $long i32.const 1048000 i32.load8_u i32.add global.get 0 i32.add)
  )
  (core module $unused (memory 3))
  (core instance $small (instantiate $small))
  ;; before
  (core instance $engine (instantiate $engine (with "small" (instance $small))))
  (core instance $tail (instantiate $tail (with "engine" (instance $engine))))
  (func (export "run") (result u32) (canon lift (core func $engine "run")))
  (func (export "tail") (result u32) (canon lift (core func $tail "tail")))
  ;; end
)"#;

/// Code that does nothing but push and drop `number`.
fn code(number: u32) -> String {
    format!("i32.const {number} drop ").repeat(MIN_PART_BYTES / 2)
}

/// The component with a text replaced, and with this code and this data.
fn built(replaced: &str, by: &str, code: &str, data: &str) -> Vec<u8> {
    assert!(SNAPSHOT.contains(replaced), "{replaced}");
    let text = SNAPSHOT.replacen(replaced, by, 1).replace("CODE", code).replace("DATA", data);
    wat::parse_str(text).expect("a component")
}

fn with_data(replaced: &str, by: &str, data: &str) -> Vec<u8> {
    built(replaced, by, &code(55), data)
}

fn snapshot(first: char) -> String {
    format!("{first}{}", "x".repeat(MIN_DATA_BYTES))
}

fn with(replaced: &str, by: &str) -> Vec<u8> {
    with_data(replaced, by, &snapshot('a'))
}

/// The results of its functions, or why there are none.
fn run(component: &[u8], modules: &[&[u8]]) -> Result<[u32; 2], String> {
    let engine = Engine::default();
    let mut linker = Linker::<()>::new(&engine);
    for (index, module) in modules.iter().enumerate() {
        let module = Module::new(&engine, module).expect("a valid module");
        linker.root().module(&import_name(index), &module).expect("a module");
    }
    let component = Component::new(&engine, component).expect("a valid component");
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &component).map_err(|error| format!("{:#}", error.root_cause()))?;
    let mut call = |name| {
        let function = instance.get_typed_func::<(), (u32,)>(&mut store, name).expect("its export");
        function.call(&mut store, ()).map(|(result,)| result).map_err(|error| format!("{:#}", error.root_cause()))
    };
    Ok([call("run")?, call("tail")?])
}

fn run_in_parts(parts: &Parts<'_>) -> Result<[u32; 2], String> {
    let modules: Vec<&[u8]> = parts.modules.iter().map(|module| &*module.bytes).collect();
    run(&parts.component, &modules)
}

#[track_caller]
fn check_behaves_the_same(whole: &[u8], what: &str) {
    let parts = parts(whole).unwrap_or_else(|| panic!("{what}: it has no parts"));
    assert_eq!(run_in_parts(&parts), run(whole, &[]), "{what}");
    let engine = Engine::default();
    let required = Component::new(&engine, whole).expect("a component").resources_required().expect("no imports");
    let declared = parts.resources;
    assert_eq!(
        (declared.memories, declared.max_initial_memory_pages, declared.tables, declared.max_initial_table_elements),
        (
            required.num_memories,
            required.max_initial_memory_size.unwrap_or(0),
            required.num_tables,
            required.max_initial_table_size.unwrap_or(0)
        ),
        "{what}"
    );
}

#[test]
fn a_component_behaves_the_same_in_parts() {
    let whole = with("", "");
    assert_eq!(run(&whole, &[]), Ok([97 + 40 + 1 + 17, 97 + 101 + 40]));
    for (what, replaced, by) in [
        ("as it is", "", ""),
        ("a start function", ";; engine", "(func $start i32.const 30 global.set $sum) (start $start)"),
        ("a memory that grows", "memory.size i32.add)", "i32.const 23 memory.grow drop memory.size i32.add)"),
        ("a memory that may not grow", "memory.size i32.add)", "i32.const 24 memory.grow i32.add)"),
        ("data outside of the memory", "(i32.const 1048000) \"end\"", "(i32.const 1114110) \"end\""),
        ("a segment that is used up", "memory.size i32.add)", "i32.const 8 i32.const 0 i32.const 1 memory.init 0)"),
        (
            "nothing of a used up one",
            "memory.size i32.add)",
            "i32.const 8 i32.const 0 i32.const 0 memory.init 1 data.drop 0)",
        ),
        ("a trap", "memory.size i32.add)", "unreachable)"),
        ("a data segment of another kind", ";; engine", "(data \"passive\")"),
        ("a place that is not constant", "(i32.const 8) \"", "(offset i32.const 4 i32.const 4 i32.add) \""),
        ("a second memory", ";; engine", "(memory 18)"),
        ("two instances", ";; before", "(core instance (instantiate $engine (with \"small\" (instance $small))))"),
        ("a large module without data", "(export \"tail\") (result i32)", "(export \"tail\") (result i32) CODE"),
        ("an instance of exports", ";; before", "(core instance $x (export \"one\" (func $small \"one\")))"),
        ("a nested component", ";; before", "(component (type u32) (export \"number\" (type 0)))"),
    ] {
        check_behaves_the_same(&with(replaced, by), what);
    }
}

/// What changed between two components in parts: whether the component did, and which modules.
fn changed(one: &[u8], other: &[u8]) -> (bool, Vec<usize>) {
    let (one, other) = (parts(one).expect("parts"), parts(other).expect("parts"));
    assert_eq!(one.modules.len(), other.modules.len());
    let modules = one.modules.iter().zip(&other.modules).enumerate();
    let changed = modules.filter(|(_, (one, other))| one.bytes != other.bytes).map(|(index, _)| index).collect();
    (one.component != other.component, changed)
}

#[test]
fn data_is_in_a_part_without_code() {
    let whole = with("", "");
    let [memory, engine] = &parts(&whole).expect("parts").modules[..] else { panic!("the engine has two halves") };
    assert_eq!(memory.code_bytes, 0);
    assert!(engine.code_bytes > MIN_PART_BYTES && engine.bytes.len() < MIN_DATA_BYTES, "the data is still in it");
    for (what, other, expected) in [
        ("nothing", with("", ""), (false, vec![])),
        ("data", with_data("", "", &snapshot('b')), (false, vec![0])),
        ("more data", with_data("17 40", "19 40", &(snapshot('b') + "more")), (false, vec![0])),
        ("code", built("", "", &code(56), &snapshot('a')), (false, vec![1])),
        ("a small module", with("i32.const 1))", "i32.const 2))"), (true, vec![])),
    ] {
        assert_eq!(changed(&whole, &other), expected, "{what}");
    }
}

#[test]
fn a_large_module_with_little_code_is_taken_out_as_it_is() {
    let whole = built("", "", "", &snapshot('a'));
    check_behaves_the_same(&whole, "little code");
    let parts = parts(&whole).expect("parts");
    assert_eq!((parts.modules.len(), parts.more_instances), (1, 0));
}

#[test]
fn other_components_are_left_whole() {
    assert!(parts(&with_data("", "", "small")).is_none(), "it has no snapshot");
    for (what, replaced, by) in [
        ("a module is exported", ";; end", "(export \"module\" (core module $unused))"),
        ("a module is imported", "(core module $small", "(import \"m\" (core module)) (core module $small"),
        ("a nested component has a module", ";; before", "(component (core module))"),
        ("a nested component uses a module", ";; before", "(component (alias outer 1 0 (core module)))"),
        ("it has types of modules", ";; before", "(core type (module))"),
    ] {
        assert!(parts(&with(replaced, by)).is_none(), "{what}");
    }
}

#[test]
fn an_invalid_component_does_not_become_valid() {
    let whole = with("", "");
    for (what, spoiled) in [
        ("truncated", whole[..whole.len() - 1].to_vec()),
        ("imports of a form that is not enabled", with_compact_imports(&whole)),
        ("an unknown section", [&whole[..], &[200, 0]].concat()),
        ("an export that does not exist", with_text_replaced(&whole, b"\x04long\x00\x01", b"\x04long\x00\x63")),
    ] {
        assert!(Component::new(&Engine::default(), &spoiled).is_err(), "{what}");
        assert!(parts(&spoiled).is_none(), "{what}");
    }
}

/// With the engine's import in the form of the proposal `compact-imports`. The parts have it in the usual form.
fn with_compact_imports(component: &[u8]) -> Vec<u8> {
    let mut rewritten = wasm_encoder::Component::new();
    for payload in top_level(component) {
        let Some((id, range)) = payload.expect("a component").as_section() else { continue };
        let mut module = wasm_encoder::Module::new();
        let is_module = id == u8::from(wasm_encoder::ComponentSectionId::CoreModule);
        for payload in top_level(if is_module { &component[range.clone()] } else { b"\0asm\x01\0\0\0" }) {
            let Some((id, in_module)) = payload.expect("a module").as_section() else { continue };
            let data = &component[range.start..][in_module];
            let is_engines = data == b"\x01\x05small\x03one\x00\x00";
            let compact = b"\x01\x05small\x00\x7f\x01\x03one\x00\x00";
            module.section(&RawSection { id, data: if is_engines { compact } else { data } });
        }
        if is_module {
            rewritten.section(&wasm_encoder::ModuleSection(&module));
        } else {
            rewritten.section(&RawSection { id, data: &component[range] });
        }
    }
    rewritten.finish()
}

fn with_text_replaced(bytes: &[u8], text: &[u8], by: &[u8]) -> Vec<u8> {
    let at = bytes.windows(text.len()).position(|window| window == text).expect("the text");
    [&bytes[..at], by, &bytes[at + text.len()..]].concat()
}
