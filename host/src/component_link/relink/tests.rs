use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store, StoreContextMut};

use super::relink;
use crate::component_link::outline::Outline;

/// A component as wit-component makes it: `log` takes a string, so it needs the memory of the module that calls it.
const WITH_SHIM: &str = r#"
(component
  (import "log" (func $log (param "text" string)))
  (import "nap" (func $nap (param "ms" u32)))
  (core module $main
    (type $text (func (param i32 i32)))
    (import "host" "log" (func $log (type $text)))
    (import "host" "nap" (func $nap (param i32)))
    (table 1 1 funcref)
    (memory (export "memory") 1)
    (data (i32.const 8) "first, and then")
    (elem (i32.const 0) func $log)
    (func $call (param $to i32)
      i32.const 8 i32.const 5 call $log
      i32.const 3 call $nap
      i32.const 15 i32.const 8 local.get $to call_indirect (type $text))
    (func (export "run") (result i32) i32.const 0 call $call i32.const 7)
    ;; main has
  )
  (core module $shim
    (type (func (param i32 i32)))
    (table (export "$imports") 1 1 funcref)
    (func (export "0") (type 0) local.get 0 local.get 1 i32.const 0 call_indirect (type 0))
  )
  (core module $fixup
    (import "" "0" (func (param i32 i32)))
    (import "" "$imports" (table 1 1 funcref))
    (elem (i32.const 0) func 0)
  )
  (core instance $shim (instantiate $shim))
  (alias core export $shim "0" (core func $late))
  (core func $nap (canon lower (func $nap)))
  (core instance $host (export "log" (func $late)) (export "nap" (func $nap)))
  ;; before
  (core instance $main (instantiate $main (with "host" (instance $host))))
  (alias core export $main "memory" (core memory $memory))
  ;; after
  (alias core export $shim "$imports" (core table $table))
  (core func $log (canon lower (func $log) (memory $memory)))
  (core instance $fill (export "0" (func $log)) (export "$imports" (table $table)))
  (core instance (instantiate $fixup (with "" (instance $fill))))
  (func (export "run") (result u32) (canon lift (core func $main "run")))
)"#;

/// Runs a component, and returns its result and the strings that it logged.
fn run(component: &[u8]) -> (u32, Vec<String>) {
    let engine = Engine::default();
    let component = Component::new(&engine, component).expect("a valid component");
    let mut linker = Linker::<Vec<String>>::new(&engine);
    let log = |mut store: StoreContextMut<'_, Vec<String>>, (text,): (String,)| {
        store.data_mut().push(text);
        Ok(())
    };
    let nap = |mut store: StoreContextMut<'_, Vec<String>>, (ms,): (u32,)| {
        store.data_mut().push(format!("{ms} ms"));
        Ok(())
    };
    linker.root().func_wrap("log", log).expect("a function");
    linker.root().func_wrap("nap", nap).expect("a function");
    let mut store = Store::new(&engine, Vec::new());
    let instance = linker.instantiate(&mut store, &component).expect("an instance");
    let run = instance.get_typed_func::<(), (u32,)>(&mut store, "run").expect("its export");
    let (result,) = run.call(&mut store, ()).expect("a result");
    (result, store.into_data())
}

fn modules_in_an_instance(component: &[u8]) -> usize {
    let outline = Outline::read(component).expect("a component");
    outline.instantiations().count()
}

fn with(replaced: &str, by: &str) -> Vec<u8> {
    assert!(WITH_SHIM.contains(replaced), "{replaced}");
    wat::parse_str(WITH_SHIM.replace(replaced, by)).expect("a component")
}

#[test]
fn a_shim_goes_and_what_is_called_through_it_stays() {
    let component = with("", "");
    let relinked = relink(&component).expect("its shim is known");
    assert_eq!((modules_in_an_instance(&component), modules_in_an_instance(&relinked)), (3, 2));
    let told = ["first", "3 ms", "and then"].map(str::to_owned).to_vec();
    assert_eq!(run(&component), (7, told.clone()));
    assert_eq!(run(&relinked), (7, told));
    assert!(relink(&relinked).is_none(), "there is nothing left to do");
}

#[test]
fn guests_lose_their_shim() {
    for wasi in [residue_guest::Wasi::P2, residue_guest::Wasi::P3] {
        let component = residue_guest::component(wasi).expect("a component");
        let relinked = relink(&component).expect("wit-component's shim");
        assert_eq!(modules_in_an_instance(&relinked) + 1, modules_in_an_instance(&component));
    }
}

const ANOTHER: &str = r#"(core module $other (import "host" "log" (func (param i32 i32))))"#;

#[test]
fn what_does_not_matter_may_be_there() {
    let another = format!("{ANOTHER} (core instance $shim");
    let unused = r#"(core instance (export "x" (func $late)))"#;
    for component in [with("(core instance $shim", &another), with(";; before", unused)] {
        assert_eq!(run(&relink(&component).expect("the shim is known")).0, 7);
    }
}

#[test]
fn what_is_not_known_is_left_alone() {
    let another = format!(r#"{ANOTHER} (core instance (instantiate $other (with "host" (instance $host))))"#);
    for (what, replaced, by) in [
        ("a module that gets the shim's functions, too", ";; before", another.as_str()),
        (
            "a second instance of the main module",
            ";; after",
            r#"(core instance (instantiate $main (with "host" (instance $host))))"#,
        ),
        (
            "the shim itself is given on",
            ";; before",
            r#"(core instance (instantiate $fixup (with "" (instance $shim))))"#,
        ),
        ("a function of the shim is lifted", ";; after", r#"(func (canon lift (core func $late)))"#),
        ("a table that is named too early", ";; before", r#"(alias core export $shim "$imports" (core table $early))"#),
        ("a shim that does more", "local.get 0 local.get 1", "nop local.get 0 local.get 1"),
        ("a shim that swaps", "local.get 0 local.get 1", "local.get 1 local.get 0"),
        ("debugging information", ";; main has", r#"(@custom ".debug_info" "")"#),
        ("hints to the compiler", ";; main has", r#"(@custom "metadata.code.branch_hint" "")"#),
    ] {
        assert!(relink(&with(replaced, by)).is_none(), "{what}");
    }
    assert!(relink(b"\0asm\x0d\0\x01\0 and then nothing good").is_none());
    assert!(relink(&wat::parse_str("(component)").expect("a component")).is_none());
}
