//! Components with a snapshot, as those in JavaScript and Python: with `--dev` they are compiled in parts, so that an
//! edit, which changes the data of a module but not its code, compiles next to nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Daylily, Setup, built, core_modules, each};

/// In the data of the guest, and in its response.
const BEFORE: &str = "authority: ";
const AFTER: &str = "AUTHORITY: ";

/// As long as `component_link/parts` requires of a snapshot.
const SNAPSHOT_BYTES: usize = 1 << 20;

/// The guest `report` with `label` in its data, and one more module, which has as much data as a snapshot.
fn edited(label: &str) -> Vec<u8> {
    assert_eq!(label.len(), BEFORE.len());
    let mut component = fs::read(built("report")).expect("the guest");
    let is_label = |window: &[u8]| window == BEFORE.as_bytes();
    let places: Vec<usize> =
        component.windows(BEFORE.len()).enumerate().filter(|(_, window)| is_label(window)).map(|(at, _)| at).collect();
    let [at] = places[..] else { panic!("the label is in the component {} times", places.len()) };
    component[at..at + label.len()].copy_from_slice(label.as_bytes());
    with_large_module(component)
}

fn with_large_module(mut component: Vec<u8>) -> Vec<u8> {
    const MEMORY: u8 = 5;
    const DATA: u8 = 11;
    const CORE_MODULE: u8 = 1;
    const CORE_INSTANCE: u8 = 2;
    let number = core_modules(&component);
    // One memory of 17 pages; one segment, to address 0.
    let memory = section(MEMORY, &[1, 0, 17]);
    let data = [&[1, 0, 0x41, 0, 0x0b][..], &leb(SNAPSHOT_BYTES), &vec![7; SNAPSHOT_BYTES]].concat();
    let module = [&b"\0asm\x01\0\0\0"[..], &memory, &section(DATA, &data)].concat();
    component.extend(section(CORE_MODULE, &module));
    // One instance of the module, without arguments.
    component.extend(section(CORE_INSTANCE, &[1, 0, number, 0]));
    component
}

fn section(id: u8, contents: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(contents.len()), contents].concat()
}

/// A number in LEB128.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

fn setup(cache: &Path, label: &str) -> Setup {
    let setup = Setup::new().route_to("app.test", "app.wasm").file("app.wasm", &edited(label));
    setup.flags(&["--cache-dir", &cache.display().to_string(), "--log", "info,daylily::component=debug"])
}

fn expect_label(server: &Daylily, label: &str) {
    let said = server.get("app.test", "/");
    assert!(said.text().contains(&format!("{label}app.test")), "{:?}", said.text());
}

/// The lines that say how many parts were compiled, without what precedes that number.
fn compiled(server: &Daylily) -> Vec<String> {
    let lines = server.log().matching(|line| line.contains("; compiled now: "));
    let number = |line: &String| line.split("; compiled now: ").nth(1).map(str::to_owned);
    lines.iter().filter_map(number).collect()
}

/// Each entry of the cache with its inode.
fn entries(cache: &Path) -> BTreeMap<PathBuf, u64> {
    let files = fs::read_dir(cache).expect("a list of files").map(|file| file.expect("a file"));
    files.map(|file| (file.path(), file.metadata().expect("a file").ino())).collect()
}

/// The parts of the component: itself, the code and the memory of its main module, and the module with the snapshot.
#[test]
fn an_edit_compiles_the_data_that_changed() {
    let cache = TempDir::new().expect("a directory");
    let server = setup(cache.path(), BEFORE).flags(&["--dev"]).start();
    expect_label(&server, BEFORE);
    server.log().wait_for(&["app.wasm", "has 4 parts; compiled now: 4, with"]);
    let stored = entries(cache.path());
    assert_eq!(stored.len(), 2, "only the parts with code are stored: {stored:?}");
    server.put("app.wasm", edited(AFTER));
    server.reload();
    expect_label(&server, AFTER);
    let [_, edit] = &compiled(&server)[..] else { panic!("{:?}", compiled(&server)) };
    assert!(edit.starts_with("1, with "), "{edit}");
    let bytes: usize = edit.trim_start_matches("1, with ").trim_end_matches(" bytes").parse().expect("a number");
    assert!(bytes < 32 << 10, "that is more than the data of the guest: {bytes}");
    // Back again, and a reload without an edit.
    server.put("app.wasm", edited(BEFORE));
    server.reload();
    expect_label(&server, BEFORE);
    server.reload();
    expect_label(&server, BEFORE);
    assert_eq!(compiled(&server).len(), 3, "{:?}", compiled(&server));
    assert_eq!(entries(cache.path()), stored, "a part was compiled again");
    // Another server reads the parts with code from the cache.
    let server = setup(cache.path(), AFTER).flags(&["--dev"]).start();
    expect_label(&server, AFTER);
    server.log().wait_for(&["has 4 parts; compiled now: 2, with"]);
    assert_eq!(entries(cache.path()), stored);
    assert_eq!(server.log().matching(|line| line.contains("compiling component")), Vec::<String>::new());
}

#[test]
fn only_developers_get_parts() {
    let cache = TempDir::new().expect("a directory");
    let server = setup(cache.path(), BEFORE).start();
    expect_label(&server, BEFORE);
    server.put("app.wasm", edited(AFTER));
    server.reload();
    expect_label(&server, AFTER);
    assert_eq!(compiled(&server), Vec::<String>::new());
    assert_eq!(server.log().matching(|line| line.contains("in parts")), Vec::<String>::new());
    assert_eq!(entries(cache.path()).len(), 2, "one for each whole component");
}

#[test]
fn a_damaged_part_is_compiled_again() {
    let cache = TempDir::new().expect("a directory");
    drop(setup(cache.path(), BEFORE).flags(&["--dev"]).start());
    let parts: Vec<PathBuf> = entries(cache.path()).into_keys().collect();
    assert_eq!(parts.len(), 2);
    each(&[("the first", 0), ("the second", 1)], |(_, number)| {
        let part = &parts[*number];
        let whole = fs::read(part).expect("the entry");
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(part, &damaged).expect("the entry");
        let server = setup(cache.path(), BEFORE).flags(&["--dev"]).start();
        expect_label(&server, BEFORE);
        server.log().wait_for(&["WARN", "cache entry", "ignored", "it is corrupt", "compiled again"]);
        server.log().wait_for(&["has 4 parts; compiled now: 3, with"]);
        assert!(fs::read(part).expect("a new entry") == whole, "the entry was not replaced");
    });
}

/// A part has one more instance for a memory, and keeps the shim: that does not count.
#[test]
fn the_limit_of_instances_is_the_same() {
    let cache = TempDir::new().expect("a directory");
    each(&[("production", None), ("developers", Some("--dev"))], |(_, flag)| {
        for (limit, status) in [(2, 503), (3, 200)] {
            let server = setup(cache.path(), BEFORE).defaults(&format!("max_instances = {limit}"));
            let server = server.flags(&flag.iter().copied().collect::<Vec<_>>()).start();
            assert_eq!(server.get("app.test", "/").status, status, "max_instances = {limit}");
        }
    });
}
