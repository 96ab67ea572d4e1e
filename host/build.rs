//! Puts the Hello World guest into the binary: `daylily` alone, without a component, serves something.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Names a component to take instead of building one: for packagers, and where there is no wasm target.
const OVERRIDE: &str = "DAYLILY_HELLO_WASM";

/// "\0asm", then the version and layer that tell a component from a core module.
const COMPONENT_MAGIC: &[u8] = &[0x00, b'a', b's', b'm', 0x0d, 0x00, 0x01, 0x00];

#[expect(clippy::print_stderr, reason = "this is how a build script talks to cargo and to the user")]
fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let given = env::var_os(OVERRIDE).filter(|path| !path.is_empty()).map(|path| from_root(Path::new(&path)));
    if let Some(path) = &given {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    for path in
        ["../guest/hello", "../guest/Cargo.toml", "../guest/Cargo.lock", "../guest/.cargo/config.toml", "../wit"]
    {
        println!("cargo::rerun-if-changed={path}");
    }
    match hello(given, &mut |notice| println!("cargo::warning={notice}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: failed to provide the Hello World guest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hello(given: Option<PathBuf>, notify: &mut dyn FnMut(&str)) -> Result<(), Box<dyn Error>> {
    let source = match given {
        Some(path) => path,
        None => guest_builder::build_with(&["hello"], notify)?.join("hello.wasm"),
    };
    let component = fs::read(&source).map_err(|error| format!("could not read {}: {error}", source.display()))?;
    if !component.starts_with(COMPONENT_MAGIC) {
        return Err(format!("{} is not a WebAssembly component", source.display()).into());
    }
    let out_dir = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: this is a build script, for cargo to run")?;
    let target = Path::new(&out_dir).join("hello.wasm");
    fs::write(&target, component).map_err(|error| format!("could not write {}: {error}", target.display()))?;
    Ok(())
}

/// cargo runs this in host/, but who types a relative path means the top of the repository.
fn from_root(path: &Path) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join(path)
}
