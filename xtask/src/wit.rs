//! `cargo xtask wit`: regenerates `wit/*/deps` from the crates and host modules that implement those interfaces, so
//! that guests are compiled against what the host provides. Only the signatures are kept, without the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A directory in `wit/`, a crate, and the crate's directory with either one package per file or the interfaces of one
/// package.
const SOURCES: &[(&str, &str, &str)] = &[
    ("0.2", "wasmtime-wasi-http", "wit/deps"),
    ("0.2", "wasmtime-wasi-config", "wit/deps/config"),
    ("0.3", "wasmtime-wasi-http", "src/p3/wit/deps"),
    ("0.3", "wasmtime-wasi-config", "wit/deps/config"),
];

/// The same for interfaces that this repository implements: a directory in `wit/`, and the module's directory.
const OWN_SOURCES: &[(&str, &str)] = &[
    ("0.2", "host/src/wasi/keyvalue"),
    ("0.2", "host/src/wasi/logging"),
    ("0.3", "host/src/wasi/keyvalue"),
    ("0.3", "host/src/wasi/logging"),
];

/// Replaces the `deps` directories in `root`/wit and returns the number of files written.
pub(crate) fn run(root: &Path) -> Result<usize> {
    let metadata = cargo_metadata(root)?;
    // Read everything before removing anything.
    let mut files = BTreeMap::new();
    let of_crates = SOURCES.iter().map(|(world, name, dir)| anyhow::Ok((world, crate_dir(&metadata, name)?.join(dir))));
    let own = OWN_SOURCES.iter().map(|(world, dir)| anyhow::Ok((world, root.join(dir))));
    for source in of_crates.chain(own) {
        let (world, dir) = source?;
        let deps = root.join("wit").join(world).join("deps");
        for (package, text) in read_packages(&dir)? {
            files.insert(deps.join(format!("{package}.wit")), text);
        }
    }
    for deps in files.keys().filter_map(|path| path.parent()).collect::<BTreeSet<_>>() {
        if deps.exists() {
            fs::remove_dir_all(deps).with_context(|| format!("failed to empty {}", deps.display()))?;
        }
        fs::create_dir_all(deps).with_context(|| format!("failed to create {}", deps.display()))?;
    }
    for (path, text) in &files {
        fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(files.len())
}

fn cargo_metadata(root: &Path) -> Result<String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("failed to run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("failed to read cargo metadata as UTF-8")
}

/// The directory into which cargo has unpacked crate `name`. The path of its manifest is the only place in the metadata
/// that has it.
fn crate_dir(metadata: &str, name: &str) -> Result<PathBuf> {
    let key = "\"manifest_path\":\"";
    metadata
        .split(key)
        .filter_map(|rest| rest.split_once("/Cargo.toml\"").map(|(dir, _)| Path::new(dir)))
        .find(|dir| {
            let version = dir.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(name));
            version.is_some_and(|v| v.strip_prefix('-').is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit())))
        })
        .map(Path::to_path_buf)
        .with_context(|| format!("failed to find the sources of {name} in cargo metadata"))
}

/// The packages in `dir` by file name (`http-0.2.12`), without comments. Files without a `package` line belong to the
/// one file that has it.
fn read_packages(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut packages = BTreeMap::new();
    let mut parts = String::new();
    let entries = fs::read_dir(dir).with_context(|| format!("failed to list {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "wit")) {
        let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        let text = strip_comments(&text);
        match text.strip_prefix("package wasi:").and_then(|rest| rest.split_once(';')) {
            Some((package, _)) => {
                packages.insert(package.replace('@', "-"), text);
            }
            None => parts.push_str(&format!("\n{text}")),
        }
    }
    if let (false, Some(mut package)) = (parts.is_empty(), packages.first_entry()) {
        package.get_mut().push_str(&parts);
    }
    Ok(packages)
}

/// Removes comments, trailing blanks, and blank lines that only separated comments.
fn strip_comments(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('/') {
        let (before, comment) = rest.split_at(start);
        code.push_str(before);
        rest = if comment.starts_with("//") {
            comment.find('\n').map_or("", |end| comment.split_at(end).1)
        } else if comment.starts_with("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            // A single slash, as in `use wasi:io/poll`.
            code.push('/');
            comment.split_at(1).1
        };
    }
    code.push_str(rest);
    let mut lines = code.lines().map(str::trim_end).skip_while(|line| line.is_empty()).peekable();
    let mut out = String::new();
    while let Some(line) = lines.next() {
        // Keep a blank line only between two top-level items.
        if !line.is_empty()
            || lines.peek().is_some_and(|next| next.starts_with(|c: char| !c.is_whitespace() && c != '}'))
        {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{crate_dir, strip_comments};
    use std::path::Path;

    #[test]
    fn comments_go_and_signatures_stay() {
        let text = "// head\npackage wasi:io@0.2.12; // why\n\n/// Prose.\ninterface a {\n  /* b */ use wasi:io/poll.{c};\n\n  /// d\n  e: func();\n}\n";
        let want = "package wasi:io@0.2.12;\n\ninterface a {\n   use wasi:io/poll.{c};\n  e: func();\n}\n";
        assert_eq!(strip_comments(text), want);
    }

    #[test]
    fn a_crate_is_found_by_its_whole_name() {
        let metadata =
            r#"{"manifest_path":"/r/wasi-http-1.0.0/Cargo.toml"},{"manifest_path":"/r/wasi-2.0.0/Cargo.toml"}"#;
        assert_eq!(crate_dir(metadata, "wasi").ok().as_deref(), Some(Path::new("/r/wasi-2.0.0")));
        assert!(crate_dir(metadata, "http").is_err());
    }
}
