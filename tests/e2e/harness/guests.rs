//! The guests under test, built once for the whole run.

use std::path::PathBuf;
use std::sync::OnceLock;

const PACKAGES: &[&str] = &[
    "hello",
    "echo",
    "report",
    "status",
    "stream",
    "early",
    "burn",
    "trap",
    "memory",
    "output",
    "headers",
    "outgoing",
    "state",
    "env",
    "service03",
    "mixed02",
    "wants",
    "noexport",
];

/// The built component of `package`.
pub fn guest(package: &str) -> PathBuf {
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
