//! Guests in JavaScript, built with the npm packages of `bench/js`: the large guest of the benchmarks, and one that throws.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;

/// Environment variable with the path of a component to measure instead.
const INSTEAD: &str = "DAYLILY_BENCH_JS";

/// Time limit of each build step: npm's downloads may be slow, and the JavaScript engine is large to copy.
const PATIENCE: Duration = Duration::from_secs(600);

/// The component of the benchmarks, in `target/bench-js`; built unless it exists and its sources have not changed.
///
/// # Errors
///
/// As [`build`].
pub(crate) fn component(root: &Path) -> Result<PathBuf> {
    if let Some(instead) = std::env::var_os(INSTEAD) {
        let path = PathBuf::from(instead);
        // Absolute, because `wasmtime serve` and daylily run in other working directories.
        return path.canonicalize().with_context(|| format!("${INSTEAD} names {}", path.display()));
    }
    let deps = root.join("wit/0.2/deps");
    build(root, &root.join("target/bench-js"), &root.join("bench/js/hello.js"), &deps, None)
}

/// The component of a JavaScript file, in `dir`; built unless it exists and its sources have not changed. `deps` has the
/// WIT of what `world` imports; without a world, it imports nothing.
///
/// # Errors
///
/// When npm is missing, cannot get its packages, or the build fails; the error contains its output.
pub(crate) fn build(root: &Path, dir: &Path, source: &Path, deps: &Path, world: Option<&Path>) -> Result<PathBuf> {
    let npm = process::find("npm").context("there is no `npm` on the path to build JavaScript with")?;
    let node = process::find("node").context("there is no `node` on the path to build JavaScript with")?;
    let tools = root.join("bench/js");
    let name = source.file_name().context("the source is no file")?;
    let (wasm, stamp) = (dir.join(name).with_extension("wasm"), dir.join("built-from"));
    let sources = [files(&tools)?, vec![source.to_owned()]].concat();
    let world = world.map(Path::to_owned);
    let inputs = contents([sources.clone(), files(deps)?, world.clone().into_iter().collect()].concat())?;
    if wasm.is_file() && fs::read(&stamp).is_ok_and(|built_from| built_from == inputs) {
        return Ok(wasm);
    }
    fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    for file in sources {
        let name = file.file_name().unwrap_or_default();
        fs::copy(&file, dir.join(name)).with_context(|| format!("failed to copy {}", file.display()))?;
    }
    in_dir(dir, &npm, &["ci".as_ref(), "--no-audit".as_ref(), "--no-fund".as_ref()])?;
    let mut args = vec!["build.js".as_ref(), deps.as_os_str(), wasm.as_os_str(), name];
    args.extend(world.as_deref().map(Path::as_os_str));
    in_dir(dir, &node, &args)?;
    fs::write(&stamp, inputs).with_context(|| format!("failed to write {}", stamp.display()))?;
    Ok(wasm)
}

fn in_dir(dir: &Path, program: &Path, args: &[&OsStr]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir);
    process::run(command, PATIENCE, &dir.join("log")).map(drop)
}

/// The names and the contents of files.
fn contents(files: Vec<PathBuf>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for file in files {
        all.extend_from_slice(file.as_os_str().as_encoded_bytes());
        all.extend(fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?);
    }
    Ok(all)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}
