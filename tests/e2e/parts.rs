//! Components with a snapshot, as those in JavaScript and Python: with `--dev` they are compiled in parts, so that an
//! edit, which changes the data of a module but not its code, compiles next to nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Daylily, Setup, built, core_modules, each};

/// A guest with a text that is once in its data, and in its response.
#[derive(Debug)]
struct Guest {
    package: &'static str,
    target: &'static str,
    before: &'static str,
    after: &'static str,
}

const P2: Guest = Guest { package: "report", target: "/", before: "authority: ", after: "AUTHORITY: " };
const P3: Guest = Guest { package: "service03", target: "/send", before: "no url", after: "NO URL" };

/// As long as `component_link/parts` requires of a snapshot.
const SNAPSHOT_BYTES: usize = 1 << 20;

impl Guest {
    /// The guest with `text` in its data, and one more module, which has as much data as a snapshot.
    fn edited(&self, text: &str) -> Vec<u8> {
        assert_eq!(text.len(), self.before.len());
        let mut component = fs::read(built(self.package)).expect("the guest");
        let windows = component.windows(text.len()).enumerate();
        let places: Vec<usize> =
            windows.filter(|(_, window)| *window == self.before.as_bytes()).map(|(at, _)| at).collect();
        let [at] = places[..] else { panic!("the text is in the component {} times", places.len()) };
        component[at..at + text.len()].copy_from_slice(text.as_bytes());
        with_large_module(component)
    }

    fn setup(&self, cache: &Path, text: &str) -> Setup {
        let setup = Setup::new().route_to("app.test", "app.wasm").file("app.wasm", &self.edited(text));
        setup.flags(&["--cache-dir", &cache.display().to_string(), "--log", "info,daylily::component=debug"])
    }

    fn edit(&self, server: &Daylily, text: &str) {
        server.put("app.wasm", self.edited(text));
        server.reload();
        self.expect(server, text);
    }

    fn expect(&self, server: &Daylily, text: &str) {
        let said = server.get("app.test", self.target).text();
        assert!(said.contains(text), "{said:?}");
    }
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
    each(&[("0.2", P2), ("0.3", P3)], |(_, guest)| {
        let cache = TempDir::new().expect("a directory");
        let server = guest.setup(cache.path(), guest.before).flags(&["--dev"]).start();
        guest.expect(&server, guest.before);
        server.log().wait_for(&["app.wasm", "has 4 parts; compiled now: 4, with"]);
        let stored = entries(cache.path());
        assert_eq!(stored.len(), 2, "only the parts with code are stored: {stored:?}");
        guest.edit(&server, guest.after);
        let [_, edit] = &compiled(&server)[..] else { panic!("{:?}", compiled(&server)) };
        let bytes = edit.strip_prefix("1, with ").and_then(|edit| edit.strip_suffix(" bytes"));
        let bytes: usize = bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or_else(|| panic!("{edit}"));
        assert!(bytes < 64 << 10, "that is more than the data of the guest: {bytes}");
        // Back again, and a reload without an edit.
        guest.edit(&server, guest.before);
        server.reload();
        guest.expect(&server, guest.before);
        assert_eq!(compiled(&server).len(), 3, "{:?}", compiled(&server));
        assert_eq!(entries(cache.path()), stored, "a part was compiled again");
        // Another server reads the parts with code from the cache.
        let server = guest.setup(cache.path(), guest.after).flags(&["--dev"]).start();
        guest.expect(&server, guest.after);
        server.log().wait_for(&["has 4 parts; compiled now: 2, with"]);
        assert_eq!(entries(cache.path()), stored);
        assert_eq!(server.log().matching(|line| line.contains("compiling component")), Vec::<String>::new());
    });
}

#[test]
fn only_developers_get_parts() {
    let cache = TempDir::new().expect("a directory");
    let server = P2.setup(cache.path(), P2.before).start();
    P2.expect(&server, P2.before);
    P2.edit(&server, P2.after);
    assert_eq!(compiled(&server), Vec::<String>::new());
    assert_eq!(server.log().matching(|line| line.contains("in parts")), Vec::<String>::new());
    assert_eq!(entries(cache.path()).len(), 2, "one for each whole component");
}

#[test]
fn a_damaged_part_is_compiled_again() {
    let cache = TempDir::new().expect("a directory");
    let start = || P2.setup(cache.path(), P2.before).flags(&["--dev"]).start();
    drop(start());
    let parts: Vec<PathBuf> = entries(cache.path()).into_keys().collect();
    assert_eq!(parts.len(), 2);
    each(&[("the first", 0), ("the second", 1)], |(_, number)| {
        let part = &parts[*number];
        let whole = fs::read(part).expect("the entry");
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(part, &damaged).expect("the entry");
        let server = start();
        P2.expect(&server, P2.before);
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
            let setup = P2.setup(cache.path(), P2.before).defaults(&format!("max_instances = {limit}"));
            let server = setup.flags(&flag.iter().copied().collect::<Vec<_>>()).start();
            assert_eq!(server.get("app.test", "/").status, status, "max_instances = {limit}");
        }
    });
}

/// Workers receive the code of all components in one message.
#[test]
fn other_components_are_served_beside_it() {
    let cache = TempDir::new().expect("a directory");
    let setup = Setup::new().route("first.test", "hello", "");
    let setup = setup.route_to("app.test", "app.wasm").file("app.wasm", &P2.edited(P2.before));
    let setup = setup.route("last.test", "state", "").flags(&["--cache-dir", &cache.path().display().to_string()]);
    let server = setup.flags(&["--dev"]).start();
    for _ in 0..2 {
        server.get("first.test", "/").expect(200, "Hello World\n");
        P2.expect(&server, P2.before);
        server.get("last.test", "/").expect(200, "count: 1\n");
        server.reload();
    }
}
