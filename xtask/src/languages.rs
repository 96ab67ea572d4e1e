//! What a developer is told of an exception in JavaScript and in Python: with `--dev`, the error response has its message
//! and the line of the source. Guests in these languages bring their own interpreter, and no test of `cargo test` has
//! the tools to build them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::http::{answer, free_port};
use crate::process::{self, Running};
use crate::{cargo_build, javascript, say};

/// The version of docs/guests.md.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";

/// Where tools and components are kept from one run to the next.
const TOOLS: &str = "target/tools";

/// The text in the source whose line the error response must name.
const CULPRIT: &str = "the cart of";

/// Time limit of each build step: downloads may be slow.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long the start may take, which compiles an interpreter.
const READY_WITHIN: Duration = Duration::from_secs(300);

struct Language {
    name: &'static str,
    /// In `tests/languages`.
    source: &'static str,
    build: fn(root: &Path, dir: &Path, source: &Path) -> Result<PathBuf>,
    /// The start of the error response.
    reason: &'static str,
    /// How the stack names a line of the source; `LINE` stands for its number.
    place: &'static str,
}

const LANGUAGES: [Language; 2] = [
    Language {
        name: "JavaScript",
        source: "throws.js",
        build: javascript::build,
        // The engine ends normally, without a response.
        reason: "guest returned an invalid response: ",
        place: "cart@throws.js:LINE:",
    },
    Language {
        name: "Python",
        source: "app.py",
        build: python,
        reason: "guest trapped: ",
        place: "app.py\", line LINE, in cart",
    },
];

/// # Errors
///
/// When a guest cannot be built, or an error response does not say what happened and where.
pub(crate) fn main(root: &Path) -> Result<()> {
    cargo_build(root, &["--release"], &["daylily"])?;
    for language in &LANGUAGES {
        let source = root.join("tests/languages").join(language.source);
        let dir = root.join(TOOLS).join(language.name.to_ascii_lowercase());
        let component = (language.build)(root, &dir, &source)
            .with_context(|| format!("failed to build the guest in {}", language.name))?;
        let said = response(root, &dir, &component)?;
        if let Err(error) = check(language, &source, &said) {
            bail!("{}: {error:#}; the error response was:\n{said}", language.name);
        }
        say(&format!("{}: the error response has the exception and its line\n", language.name))?;
    }
    Ok(())
}

/// The error response to a request for `/shop`.
fn response(root: &Path, dir: &Path, component: &Path) -> Result<String> {
    let port = free_port()?;
    let mut command = Command::new(root.join("target/release/daylily"));
    command.arg("serve").arg(component).args(["--dev", "--workers", "1", "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--control", "control.sock", "--cache-dir", "cache"]).current_dir(dir);
    process::without_settings(&mut command);
    let mut server = Running::start(command, dir.join("log"))?;
    server.prints("Server running", READY_WITHIN)?;
    let (status, said) = answer(port, "/shop")?;
    ensure!(status == 500, "answered {status}: {said}");
    Ok(said)
}

fn check(language: &Language, source: &Path, said: &str) -> Result<()> {
    let text = fs::read_to_string(source).with_context(|| format!("failed to read {}", source.display()))?;
    let line = text.lines().position(|line| line.contains(CULPRIT)).context("the source throws nothing")? + 1;
    let place = language.place.replace("LINE", &line.to_string());
    ensure!(said.starts_with(language.reason), "it does not start with {:?}", language.reason);
    let (_, stderr) = said.split_once("\n\nstderr:\n").context("it has no stderr")?;
    for part in ["the cart of /shop is empty", &place] {
        ensure!(stderr.contains(part), "its stderr has no {part:?}");
    }
    Ok(())
}

/// The component of a Python file, made by componentize-py, which is installed into a virtual environment.
fn python(root: &Path, dir: &Path, source: &Path) -> Result<PathBuf> {
    let python = process::find("python3").context("there is no `python3` on the path to build Python with")?;
    fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    let bin = dir.join("environment/bin");
    let run = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).current_dir(dir);
        process::run(command, PATIENCE, &dir.join("log")).map(drop)
    };
    if !bin.join("pip").is_file() {
        run(&python, &["-m", "venv", "environment"])?;
    }
    // Does nothing if this version is there.
    run(&bin.join("pip"), &["install", "--quiet", "--disable-pip-version-check", COMPONENTIZE_PY])?;
    fs::copy(source, dir.join("app.py")).with_context(|| format!("failed to copy {}", source.display()))?;
    let wit = root.join("wit/0.2").display().to_string();
    run(&bin.join("componentize-py"), &["-d", &wit, "-w", "http", "componentize", "app", "-o", "app.wasm"])?;
    Ok(dir.join("app.wasm"))
}
