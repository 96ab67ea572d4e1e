//! Makes sure that the compiler has the standard library of the guests' target.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::{BuildError, TARGET, environment, spawn_error};

/// Adds the target if it is missing. The compiler runs in `guests`, so that the toolchain file of this repository
/// applies; `scratch` is a directory for the lock.
pub(crate) fn ensure(guests: &Path, scratch: &Path, notify: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let libraries = library_dir(guests)?;
    if has_standard_library(&libraries) {
        return Ok(());
    }
    // rustup does not lock: two concurrent runs would corrupt each other's files.
    let _lock = lock(scratch)?;
    if has_standard_library(&libraries) {
        return Ok(());
    }
    add(guests, notify)?;
    if has_standard_library(&libraries) {
        return Ok(());
    }
    let reason = format!("rustup reported success, yet {} has no standard library in it", libraries.display());
    Err(BuildError::Target { reason })
}

/// The directory where the compiler looks for the target's libraries, which may not exist.
fn library_dir(guests: &Path) -> Result<PathBuf, BuildError> {
    let mut rustc = environment::command(environment::tool("RUSTC", "rustc"), guests);
    rustc.args(["--print", "target-libdir", "--target", TARGET]).stdin(Stdio::null());
    let output = rustc.output().map_err(|source| spawn_error(&rustc, source))?;
    if !output.status.success() {
        return Err(BuildError::Compiler { stderr: String::from_utf8_lossy(&output.stderr).into_owned() });
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Whether the target is installed. Its directory alone proves nothing: rustup leaves it behind when a target is
/// removed.
fn has_standard_library(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with("libstd-") && name.ends_with(".rlib"))
    })
}

fn lock(scratch: &Path) -> Result<File, BuildError> {
    let path = scratch.join(".target-lock");
    let locked = fs::create_dir_all(scratch).and_then(|()| File::create(&path)).and_then(|file| {
        file.lock()?;
        Ok(file)
    });
    locked.map_err(|source| BuildError::File { path, source })
}

fn add(guests: &Path, notify: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let mut rustup = environment::command("rustup", guests);
    rustup.args(["target", "add", TARGET]);
    // Set by rustup when it started the outer cargo.
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        rustup.arg("--toolchain").arg(toolchain);
    }
    // rustup's error message is enough.
    rustup.env("RUST_BACKTRACE", "0");
    notify(&format!("the target {TARGET} is missing: adding it with `rustup target add {TARGET}`"));
    match rustup.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let reason = format!("rustup said: {}", String::from_utf8_lossy(&output.stderr).trim());
            Err(BuildError::Target { reason })
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            Err(BuildError::Target { reason: "rustup was not found".into() })
        }
        Err(source) => Err(spawn_error(&rustup, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::has_standard_library;
    use std::{env, fs, process};

    #[test]
    fn an_emptied_directory_is_a_missing_target() {
        let dir = env::temp_dir().join(format!("guest-builder-{}", process::id()));
        let check = |want: bool, when: &str| assert_eq!(has_standard_library(&dir), want, "{when}");
        check(false, "no directory");
        assert!(fs::create_dir_all(&dir).is_ok());
        check(false, "empty");
        assert!(fs::write(dir.join("libcore-0123.rlib"), "").is_ok());
        check(false, "core alone");
        assert!(fs::write(dir.join("libstd-0123.rlib"), "").is_ok());
        check(true, "complete");
        assert!(fs::remove_dir_all(&dir).is_ok());
    }
}
