use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use wasmtime::{Config, Engine, Instance, Memory, Module, Store, Trap};

use super::*;

const WASM_PAGE: usize = 64 << 10;

fn engine(count: u32) -> Engine {
    let mut config = Config::new();
    config
        .memory_reservation(MEMORY_RESERVATION_BYTES as u64)
        .memory_guard_size(MEMORY_GUARD_BYTES as u64)
        .memory_init_cow(false)
        .with_host_memory(Arc::new(Memories::new(count).expect("address space")));
    Engine::new(&config).expect("an engine")
}

/// A guest with a memory of the given number of pages, and functions that load and store bytes.
struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Guest {
    fn new(engine: &Engine, pages: u32) -> wasmtime::Result<Self> {
        let text = format!(
            r#"(module
              (memory (export "memory") {pages})
              (data (i32.const 8) "data")
              (func (export "load") (param i32) (result i32) local.get 0 i32.load8_u)
              ;; up to the last byte of the guard, and behind what it is there for
              (func (export "load-far") (param i32) (result i32) local.get 0 i32.load8_u offset=33554431)
              (func (export "load-farther") (param i32) (result i32) local.get 0 i32.load8_u offset=33554433))"#
        );
        let module = Module::new(engine, wat::parse_str(text).expect("WAT"))?;
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &module, &[])?;
        let memory = instance.get_memory(&mut store, "memory").expect("its memory");
        Ok(Self { store, instance, memory })
    }

    fn load(&mut self, function: &str, at: usize) -> wasmtime::Result<u32> {
        let load = self.instance.get_typed_func::<u32, u32>(&mut self.store, function)?;
        load.call(&mut self.store, u32::try_from(at).expect("an address"))
    }

    fn is_trapped_at(&mut self, function: &str, at: usize) -> bool {
        self.load(function, at).expect_err("it is out of bounds").downcast_ref() == Some(&Trap::MemoryOutOfBounds)
    }

    /// Fills its memory, and returns the memory's address.
    fn fill(&mut self) -> usize {
        let bytes = self.memory.data_mut(&mut self.store);
        bytes.fill(0xa5);
        bytes.as_ptr().addr()
    }

    fn is_fresh(&self) -> bool {
        let bytes = self.memory.data(&self.store);
        &bytes[8..12] == b"data" && bytes[12..].iter().chain(&bytes[..8]).all(|byte| *byte == 0)
    }
}

#[test]
fn a_memory_is_fresh_and_bounded_whatever_was_in_its_slot() {
    let engine = engine(1);
    let mut place = None;
    // Initial sizes below, at and above what is kept resident; growth by nothing, by a page, and beyond what is kept
    // resident.
    for (pages, more) in [(1, 0), (3, 1), (1, 2), (4, 0), (1, 3), (2, 40), (1, 0), (40, 0), (1, 0)] {
        let mut guest = Guest::new(&engine, pages).expect("a slot");
        assert!(guest.is_fresh(), "{pages} pages");
        guest.memory.grow(&mut guest.store, more).expect("it grows");
        assert!(guest.is_fresh(), "{pages} pages and {more}");
        let end = (pages as usize + usize::try_from(more).expect("few")) * WASM_PAGE;
        assert_eq!(guest.load("load", end - 1).expect("the last byte"), 0);
        for at in [end, end + WASM_PAGE, end + KEEP_RESIDENT_BYTES, u32::MAX as usize] {
            assert!(guest.is_trapped_at("load", at), "{at} with {end}");
        }
        let here = guest.fill();
        assert_eq!(*place.get_or_insert(here), here, "there is one slot");
    }
}

#[test]
fn nothing_of_a_neighbour_is_within_reach() {
    let engine = engine(3);
    let [mut before, mut guest, mut behind] = [1, 1, 1].map(|pages| Guest::new(&engine, pages).expect("a slot"));
    let places = [before.fill(), guest.fill(), behind.fill()];
    for pair in places.windows(2) {
        assert!(pair[1] - pair[0] > u32::MAX as usize + 33_554_431, "{places:?}");
    }
    for function in ["load-far", "load-farther"] {
        for at in [0, WASM_PAGE, u32::MAX as usize - 1, u32::MAX as usize] {
            assert!(guest.is_trapped_at(function, at), "{function} {at}");
        }
    }
}

/// Runs in another process, whose writable memory is limited (`RLIMIT_DATA`).
#[test]
fn growth_that_the_system_refuses_changes_nothing() {
    const IS_LIMITED: &str = "DAYLILY_TEST_IS_LIMITED";
    const LIMIT: u64 = 256 << 20;
    if std::env::var_os(IS_LIMITED).is_none() {
        let name = "engine::pool::slots::tests::growth_that_the_system_refuses_changes_nothing";
        let mut limited = Command::new(std::env::current_exe().expect("this program"));
        let output = limited.args(["--exact", name]).env(IS_LIMITED, "").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        return;
    }
    let engine = engine(1);
    setrlimit(Resource::Data, Rlimit { current: Some(LIMIT), maximum: None }).expect("a limit");
    let mut guest = Guest::new(&engine, 1).expect("a slot");
    guest.fill();
    assert!(guest.memory.grow(&mut guest.store, LIMIT / WASM_PAGE as u64).is_err(), "more than the limit");
    assert_eq!(guest.load("load", WASM_PAGE - 1).expect("the last byte"), 0xa5);
    assert!(guest.is_trapped_at("load", WASM_PAGE));
    guest.memory.grow(&mut guest.store, 1).expect("within the limit");
    drop(guest);
    assert!(Guest::new(&engine, 1).expect("the slot").is_fresh());
}

#[test]
fn the_slot_that_was_put_back_last_comes_first_unless_another_fits_better() {
    let engine = engine(3);
    let place = |pages| Guest::new(&engine, pages).expect("a slot").fill();
    let one = place(1);
    let two = place(2);
    assert!(one != two, "the second needs more");
    assert_eq!([place(1), place(1), place(2), place(1)], [one, one, two, one]);
    let mut grown = Guest::new(&engine, 1).expect("a slot");
    grown.memory.grow(&mut grown.store, 1).expect("it grows");
    drop(grown);
    assert_eq!([place(1), place(2)], [one, two], "a slot is again as it was before it grew");
    let (mut first, mut second) = (Guest::new(&engine, 1).expect("a slot"), Guest::new(&engine, 1).expect("a slot"));
    let (first_place, second_place) = (first.fill(), second.fill());
    drop(first);
    drop(second);
    assert_eq!(place(1), second_place, "before {first_place}");
}

#[test]
fn more_memories_than_slots_are_refused_until_one_is_put_back() {
    let engine = engine(2);
    let first = Guest::new(&engine, 1).expect("a slot");
    let _second = Guest::new(&engine, 1).expect("a slot");
    let error = Guest::new(&engine, 1).err().expect("there are two slots");
    assert!(format!("{error:#}").contains("all 2 slots are in use"), "{error:#}");
    drop(first);
    assert!(Guest::new(&engine, 1).expect("a slot").is_fresh());
}

#[test]
fn stacks_are_used_again_and_have_a_guard() {
    let stacks = Stacks::new(2).expect("address space");
    let first = stacks.new_stack(STACK_BYTES, false).expect("a stack");
    let place = first.range();
    assert_eq!(place.len(), STACK_BYTES);
    assert_eq!(first.guard_range().end.addr(), place.start);
    assert_eq!(first.guard_range().end.addr() - first.guard_range().start.addr(), rustix::param::page_size());
    let second = stacks.new_stack(STACK_BYTES, false).expect("a stack");
    assert!(second.guard_range().start.addr() >= place.end || second.range().end < place.start, "no overlap");
    assert!(stacks.new_stack(STACK_BYTES, false).is_err(), "there are two");
    drop(first);
    assert_eq!(stacks.new_stack(STACK_BYTES, false).expect("a stack").range(), place);
}
