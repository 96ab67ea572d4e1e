//! The guests under test, built once per test run.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

const PACKAGES: &[&str] = &[
    "hello",
    "echo",
    "report",
    "status",
    "store",
    "stream",
    "early",
    "burn",
    "trap",
    "memory",
    "output",
    "headers",
    "hoard",
    "logging",
    "outgoing",
    "state",
    "env",
    "fails",
    "fails-dwarf",
    "files03",
    "service03",
    "middleware03",
    "spin",
    "spin-keys",
    "vars",
    "mixed02",
    "wants",
    "noexport",
];

/// If this variable is set, no guest is linked directly (see [`as_component`]).
const AS_COMPONENTS: &str = "DAYLILY_E2E_AS_COMPONENTS";

/// The component of `package`, to be linked as this run tests it.
pub fn guest(package: &str) -> PathBuf {
    if std::env::var_os(AS_COMPONENTS).is_some() { entire(package) } else { built(package) }
}

/// The component of `package`, as built.
pub fn built(package: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    assert!(PACKAGES.contains(&package), "no guest named {package}");
    let directory = BUILT.get_or_init(|| match guest_builder::build(PACKAGES) {
        Ok(directory) => directory,
        Err(error) => panic!("cannot build the guests under test: {error}"),
    });
    let path = directory.join(format!("{}.wasm", package.replace('-', "_")));
    assert!(path.is_file(), "the guest builder left no {}", path.display());
    path
}

/// The component of `package`, changed so that it is not linked directly (see [`as_component`]). Written once per test
/// run.
pub fn entire(package: &str) -> PathBuf {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    static WRITTEN: Mutex<()> = Mutex::new(());
    let directory = DIRECTORY.get_or_init(|| tempfile::tempdir().expect("a directory"));
    let _writing = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    let rewritten = directory.path().join(format!("{package}.wasm"));
    if !rewritten.exists() {
        let component = std::fs::read(built(package)).expect("the guest");
        std::fs::write(&rewritten, as_component(&component)).expect("room for a guest");
    }
    rewritten
}

/// The same component with one more core module and an instance of it, so that it is not linked directly.
pub fn as_component(component: &[u8]) -> Vec<u8> {
    with_module(component, &[])
}

/// The same component with one more core module, which has these sections, and an instance of it.
pub fn with_module(component: &[u8], body: &[u8]) -> Vec<u8> {
    const CORE_INSTANCE: u8 = 2;
    let number = core_modules(component);
    let length = u8::try_from(8 + body.len()).expect("a small module");
    let module = [&[CORE_MODULE, length, 0, b'a', b's', b'm', 1, 0, 0, 0], body].concat();
    // One instance of a module, without arguments.
    let instance = [CORE_INSTANCE, 4, 1, 0, number, 0];
    [component, &module, &instance].concat()
}

const CORE_MODULE: u8 = 1;

/// The number of core modules of a component.
pub fn core_modules(component: &[u8]) -> u8 {
    let modules = sections(component).into_iter().filter(|section| *section == CORE_MODULE).count();
    u8::try_from(modules).expect("few modules")
}

/// The section ids of a component.
fn sections(component: &[u8]) -> Vec<u8> {
    let mut rest = component.get(8..).expect("a header");
    let mut kinds = Vec::new();
    while let [kind, section @ ..] = rest {
        kinds.push(*kind);
        // A length in LEB128.
        let length = section.iter().position(|byte| byte & 0x80 == 0).expect("a length") + 1;
        let bytes = section[..length].iter().rev().fold(0, |bytes, byte| bytes << 7 | usize::from(byte & 0x7f));
        rest = &section[length + bytes..];
    }
    kinds
}
