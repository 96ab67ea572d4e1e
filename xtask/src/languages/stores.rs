//! Key-value stores and variables from JavaScript and Python: the same operations through each interface, with the same
//! results on the same data. The guests are in `tests/languages/stores`; that with Spin's SDK is like any other that
//! was made with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{COMPONENTIZE_PY, READY_WITHIN, TOOLS, python_environment};
use crate::http::{answer, free_port};
use crate::process::{self, Running};
use crate::{javascript, say};

/// The version of Spin's SDK for Python, and the world of its guests.
const SPIN_SDK: &str = "spin-sdk==5.0.0";
const SPIN_WORLD: &str = "spin:up/http-trigger@4.1.0";

/// WIT that is not in `wit/0.2/deps`, with the name that it gets there.
const MORE_WIT: [(&str, &str); 2] = [
    ("guest/store/wit/draft/deps/keyvalue/keyvalue.wit", "keyvalue-0.2.0-draft.wit"),
    ("guest/store/wit/spin/deps/spin/key-value.wit", "spin-2.0.0.wit"),
];

/// Requests one after the other, with `VIA` for the interface, and their responses.
const OPERATIONS: &[(&str, &str)] = &[
    ("/get?via=VIA&key=a", "none"),
    ("/exists?via=VIA&key=a", "false"),
    ("/set?via=VIA&key=a&value=1", "done"),
    ("/get?via=VIA&key=a", "some 1"),
    ("/exists?via=VIA&key=a", "true"),
    ("/set?via=VIA&key=%c3%a9%00%25&value=%e2%82%ac", "done"),
    ("/get?via=VIA&key=%c3%a9%00%25", "some €"),
    ("/set?via=VIA&key=&value=", "done"),
    ("/get?via=VIA&key=", "some "),
    ("/set?via=VIA&key=big&bytes=300000", "done"),
    ("/length?via=VIA&key=big", "300000 bytes"),
    ("/keys?via=VIA", "a,é\0%,,big"),
    ("/delete?via=VIA&key=big", "done"),
    ("/delete?via=VIA&key=", "done"),
    ("/delete?via=VIA&key=%c3%a9%00%25", "done"),
    ("/keys?via=VIA", "a"),
    ("/delete?via=VIA&key=a", "done"),
    ("/delete?via=VIA&key=a", "done"),
    ("/keys?via=VIA", ""),
];

const INCREMENTS: &[(&str, &str)] = &[
    ("/increment?via=VIA&key=n&value=2", "2"),
    ("/increment?via=VIA&key=n&value=40", "42"),
    ("/get?via=VIA&key=n", "some 42"),
    ("/set?via=VIA&key=n&value=9223372036854775807", "done"),
    ("/delete?via=VIA&key=n", "done"),
];

struct Guest {
    name: &'static str,
    build: fn(root: &Path, dir: &Path) -> Result<PathBuf>,
    interfaces: &'static [&'static str],
    with_increments: &'static [&'static str],
    more: &'static [(&'static str, &'static str)],
}

const GUESTS: [Guest; 3] = [
    Guest {
        name: "JavaScript",
        build: in_javascript,
        interfaces: &["draft2", "draft", "spin"],
        with_increments: &["draft2", "draft"],
        more: &[],
    },
    Guest {
        name: "Python",
        build: in_python,
        interfaces: &["draft2", "draft", "spin"],
        with_increments: &["draft2", "draft"],
        more: &[],
    },
    Guest {
        name: "Python with Spin's SDK",
        build: with_spin,
        interfaces: &["spin3"],
        with_increments: &[],
        more: &[("/var?via=spin3&key=who", "you"), ("/var?via=spin3&key=other", "error: Undefined other")],
    },
];

/// # Errors
///
/// When a guest cannot be built or started, or an operation has another result.
pub(super) fn main(root: &Path) -> Result<()> {
    for guest in &GUESTS {
        let dir = root.join(TOOLS).join("stores").join(guest.name.replace([' ', '\''], "-").to_ascii_lowercase());
        fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
        let component =
            (guest.build)(root, &dir).with_context(|| format!("failed to build the guest in {}", guest.name))?;
        let (_server, port) = start(root, &dir, &component)?;
        let mut count = 0;
        let mut check = |rows: &[(&str, &str)], via: &str| -> Result<()> {
            for (target, expected) in rows {
                let target = target.replace("VIA", via);
                let (status, said) = answer(port, &target)?;
                ensure!((status, &*said) == (200, *expected), "{}: {target}: {status} {said:?}", guest.name);
                count += 1;
            }
            Ok(())
        };
        for via in guest.interfaces {
            check(OPERATIONS, via)?;
        }
        for via in guest.with_increments {
            check(INCREMENTS, via)?;
        }
        check(guest.more, "")?;
        say(&format!("{}: {count} operations on stores have the expected results\n", guest.name))?;
    }
    Ok(())
}

fn start(root: &Path, dir: &Path, component: &Path) -> Result<(Running, u16)> {
    let (port, state) = (free_port()?, dir.join("state"));
    if state.exists() {
        fs::remove_dir_all(&state).with_context(|| format!("failed to remove {}", state.display()))?;
    }
    let mut command = Command::new(root.join("target/release/daylily"));
    command.arg("serve").arg(component).args(["--workers", "1", "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--control", "control.sock", "--cache-dir", "cache", "--state-dir", "state"]);
    command.args(["--store", "visits", "--var", "who=you", "--missing-imports", "trap"]);
    command.current_dir(dir);
    process::without_settings(&mut command);
    let mut process = Running::start(command, dir.join("server-log"))?;
    process.prints("Server running", READY_WITHIN)?;
    Ok((process, port))
}

/// Copies the WIT of WASI 0.2 and of the other interfaces into a directory.
fn copy_wit(root: &Path, deps: &Path) -> Result<()> {
    fs::create_dir_all(deps).with_context(|| format!("failed to create {}", deps.display()))?;
    let copy = |from: &Path, name: &Path| {
        fs::copy(from, deps.join(name)).with_context(|| format!("failed to copy {}", from.display())).map(drop)
    };
    for entry in fs::read_dir(root.join("wit/0.2/deps")).context("failed to read wit/0.2/deps")? {
        let path = entry?.path();
        copy(&path, Path::new(path.file_name().context("no name")?))?;
    }
    for (path, name) in MORE_WIT {
        copy(&root.join(path), Path::new(name))?;
    }
    Ok(())
}

fn sources(root: &Path) -> PathBuf {
    root.join("tests/languages/stores")
}

fn in_javascript(root: &Path, dir: &Path) -> Result<PathBuf> {
    let (world, deps) = (sources(root).join("world.wit"), dir.join("wit-deps"));
    copy_wit(root, &deps)?;
    javascript::build(root, dir, &sources(root).join("stores.js"), &deps, Some(&world))
}

fn in_python(root: &Path, dir: &Path) -> Result<PathBuf> {
    let wit = dir.join("wit");
    copy_wit(root, &wit.join("deps"))?;
    fs::copy(sources(root).join("world.wit"), wit.join("world.wit")).context("failed to copy world.wit")?;
    let run = python_environment(dir, &[COMPONENTIZE_PY])?;
    fs::copy(sources(root).join("app.py"), dir.join("app.py")).context("failed to copy app.py")?;
    run("componentize-py", &["-d", "wit", "-w", "stores", "componentize", "app", "-o", "app.wasm"])?;
    Ok(dir.join("app.wasm"))
}

fn with_spin(root: &Path, dir: &Path) -> Result<PathBuf> {
    let run = python_environment(dir, &[COMPONENTIZE_PY, SPIN_SDK])?;
    fs::copy(sources(root).join("spin.py"), dir.join("app.py")).context("failed to copy spin.py")?;
    run("componentize-py", &["-w", SPIN_WORLD, "componentize", "app", "-o", "app.wasm"])?;
    Ok(dir.join("app.wasm"))
}
